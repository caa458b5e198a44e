/*
 * Layer: public. How a host and its plugin make further connections, each of which has a number,
 * its id (protocol: "Broker"). Either side starts a server and announces its address under an id;
 * the other side, which has learned the id in some call, dials it. The broker does not own the
 * server.
 *
 * Shared by reference. Threads: any, unless a comment says otherwise.
 */
#ifndef GP_BROKER_H
#define GP_BROKER_H

#include <stdbool.h>
#include <stdint.h>

#include "gp/channel.h"
#include "gp/error.h"
#include "gp/grpc_mux.h"
#include "gp/runtime.h"
#include "gp/server.h"
#include "gp/tls.h"

typedef struct gp_broker gp_broker;

/*
 * Add the broker to a plugin's server, before the server's start. References are taken of |tls| and
 * |mux|; NULL: none. Returns: 0 or GP_ENOMEM.
 */
int gp_server_add_broker(gp_server *server, gp_tls *tls, gp_grpc_mux *mux, gp_broker **out,
                         gp_error *err);

/*
 * Set the arguments of the channels that gp_broker_dial() makes; NULL: none. A reference is taken.
 * To be called at most once, before anything is dialled.
 */
void gp_broker_use_args(gp_broker *broker, gp_channel_args *args);

/* A broker that has been used has to be closed before its last reference is dropped. */
gp_broker *gp_broker_ref(gp_broker *broker);
void gp_broker_unref(gp_broker *broker);

/* An id that this side has not given out before, from 1 on; 0 when all are used up. */
uint32_t gp_broker_next_id(gp_broker *broker);

/*
 * Tell the other side that a server for |id| listens at |address|. If the plugin has a runner, it
 * translates the address for the plugin. Only the runner may block: the message is stored until the
 * host has opened its stream.
 *
 * Returns: 0, GP_EBROKER (the other side has gone or has no broker, or the runner has failed),
 * GP_ENOMEM, GP_EFORKED.
 */
int gp_broker_announce(gp_broker *broker, uint32_t id, const char *network, const char *address,
                       gp_error *err);

/*
 * Stop accepting connections for |id|: the server that was announced under it does not listen any
 * more.
 */
void gp_broker_forget(gp_broker *broker, uint32_t id);

/* Whether all connections are multiplexed over one, so that only unix sockets may be announced. */
bool gp_broker_multiplexed(const gp_broker *broker);

/*
 * The directory in which such sockets have to be. Borrowed; NULL if the broker is not multiplexed.
 */
const char *gp_broker_directory(const gp_broker *broker);

/*
 * Wait until the other side has announced |id|, and make a channel to the address. Each
 * announcement can be dialled once. Blocks.
 *
 * Returns: 0, GP_EBROKER (there was no announcement within |timeout_ms|, the other side has gone or
 * has no broker, or the runner cannot translate the address), GP_EUSER, GP_ENOMEM, GP_EFORKED.
 */
int gp_broker_dial(gp_broker *broker, uint32_t id, int64_t timeout_ms,
                   const gp_interrupt *interrupt, gp_channel **out, gp_error *err);

/* The TLS of brokered connections, for the servers that listen. Borrowed; NULL: no TLS. */
gp_tls *gp_broker_tls(const gp_broker *broker);

/*
 * Have |then| called when the other side has gone: on a host once, on a plugin for each host that
 * goes. |then| runs on the polling thread and must not block. |release| is called when |ctx| is no
 * longer used. To be called at most once. Returns whether the other side is still there; if not,
 * |then| is not called.
 */
bool gp_broker_on_gone(gp_broker *broker, gp_then *then, gp_then *release, void *ctx);

/*
 * Close the broker: threads that wait return with an error, and messages are ignored. Idempotent.
 */
void gp_broker_close(gp_broker *broker);

#endif
