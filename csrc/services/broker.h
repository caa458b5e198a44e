/*
 * Layer: services. The host's side of GRPCBroker; for the rest see gp/broker.h.
 */
#ifndef GP_SERVICES_BROKER_H
#define GP_SERVICES_BROKER_H

#include "gp/broker.h"
#include "os/leftover.h"
#include "os/process/process.h"

/*
 * Open the plugin's stream. A plugin without the service ends it at once, of which only users of
 * the broker learn. Shared references are taken of |tls|, of |mux|, and of |process|, whose
 * runner, if it has one, translates addresses. Paths that the plugin announces are relative to
 * |directory|, of which a copy is made. All may be NULL. Returns: 0, GP_ENOMEM, GP_ECLOSED or
 * GP_EFORKED. Never blocks.
 */
int gp__broker_open(gp_broker **out, gp_channel *channel, gp_tls *tls, gp_grpc_mux *mux,
                    gp__process *process, const char *directory, gp_error *err);

/* The plugin is dead: remove what it left of the sockets that it has announced. */
void gp__broker_remove_sockets(gp_broker *broker, const gp__leftover *leftover);

#endif
