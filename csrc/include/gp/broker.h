/*
 * Layer: public. How host and plugin make further connections, which have numbers (protocol:
 * "Broker"). Either side listens somewhere and announces it under an id; the other side, which has
 * received the id in some call, dials it. The server that listens is the caller's.
 *
 * Shared by reference. Threads: any, but for what a function says.
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
 * Have a plugin's server take part, before its start. Shared references are taken of |tls| and
 * |mux|; NULL: none. Returns: 0 or GP_ENOMEM.
 */
int gp_server_add_broker(gp_server *server, gp_tls *tls, gp_grpc_mux *mux, gp_broker **out,
                         gp_error *err);

/*
 * The arguments of its channels; NULL: none. A reference is taken. To be called once at most,
 * before anything is dialled.
 */
void gp_broker_use_args(gp_broker *broker, gp_channel_args *args);

/* The broker has to be closed before the last reference goes, unless it was never used. */
gp_broker *gp_broker_ref(gp_broker *broker);
void gp_broker_unref(gp_broker *broker);

/* A number that this side has not given out before, from 1; 0 when all are used up. */
uint32_t gp_broker_next_id(gp_broker *broker);

/*
 * Tell the other side that a server for |id| listens at |address|, which the plugin's runner, if it
 * has one, translates into the plugin's terms. Only the runner may block: until the host has opened
 * its stream, the message is stored.
 *
 * Returns: 0, GP_EBROKER (the other side has gone or has no broker, or the runner has failed),
 * GP_ENOMEM, GP_EFORKED.
 */
int gp_broker_announce(gp_broker *broker, uint32_t id, const char *network, const char *address,
                       gp_error *err);

/* The server that was announced under |id| does not listen any more. */
void gp_broker_forget(gp_broker *broker, uint32_t id);

/* Whether all connections share one, so that only unix sockets may be announced. */
bool gp_broker_multiplexed(const gp_broker *broker);

/* The directory that these sockets have to be in. Borrowed; NULL if it is not multiplexed. */
const char *gp_broker_directory(const gp_broker *broker);

/*
 * Wait until the other side has announced |id|, and make a channel to what it has announced. Each
 * announcement can be dialled once.
 *
 * Returns: 0, GP_EBROKER (there was no announcement within |timeout_ms|, the other side has gone,
 * or has no broker, or the runner cannot translate the address), GP_EUSER, GP_ENOMEM, GP_EFORKED.
 * Blocks.
 */
int gp_broker_dial(gp_broker *broker, uint32_t id, int64_t timeout_ms,
                   const gp_interrupt *interrupt, gp_channel **out, gp_error *err);

/* How its connections are secured, for the servers that listen. Borrowed; NULL: not at all. */
gp_tls *gp_broker_tls(const gp_broker *broker);

/*
 * Have |then| called when the other side goes: on a host once, on a plugin for each host that does.
 * It runs on the polling thread and must not block. |release| is called when |ctx| is no longer
 * used. At most once. Returns: whether the other side is still there; if not, |then| is not called.
 */
bool gp_broker_on_gone(gp_broker *broker, gp_then *then, gp_then *release, void *ctx);

/* End it: threads that wait return with an error, and messages are ignored. Idempotent. */
void gp_broker_close(gp_broker *broker);

#endif
