/* Layer: services. Making the host's side of GRPCBroker. Everything else is in gp/broker.h. */
#ifndef GP_SERVICES_BROKER_H
#define GP_SERVICES_BROKER_H

#include "gp/broker.h"
#include "os/leftover.h"
#include "os/process/process.h"

/*
 * Open the stream to the plugin's broker. A plugin without that service ends the stream at once,
 * which only users of the broker notice. References are taken of |tls|, of |mux|, and of |process|,
 * whose runner, if it has one, translates addresses. Paths that the plugin announces are relative
 * to |directory|, which is copied. All of these may be NULL. Never blocks.
 *
 * Returns: 0, GP_ENOMEM, GP_ECLOSED or GP_EFORKED.
 */
int gp__broker_open(gp_broker **out, gp_channel *channel, gp_tls *tls, gp_grpc_mux *mux,
                    gp__process *process, const char *directory, gp_error *err);

/* The plugin is dead: remove the sockets that it has announced and not removed. */
void gp__broker_remove_sockets(gp_broker *broker, const gp__leftover *leftover);

#endif
