/*
 * Layer: services. What the broker and the host need of a gp_grpc_mux (gp/grpc_mux.h). Before a
 * side opens a stream for an id, it asks the other side to accept it: the broker carries these
 * requests and their answers (go-plugin's ConnInfo.Knock).
 */
#ifndef GP_SERVICES_GRPC_MUX_H
#define GP_SERVICES_GRPC_MUX_H

#include "gp/grpc_mux.h"
#include "rpc/channel.h"

/*
 * How requests to accept a stream, and the answers to them, are sent to the other side. Called
 * without a lock, on any thread, one at a time, in the order in which they are to be sent; must not
 * block. Each returns 0, or another value if the message has not been sent and never will be.
 *
 * A request has a serial number, and its answer the same number, so that it is not taken for the
 * answer to another request for the same id. go-plugin has no serial numbers: 0 is none.
 */
typedef struct gp__grpc_mux_sender {
    int (*send_request)(void *ctx, uint32_t id, uint32_t serial);
    int (*send_answer)(void *ctx, uint32_t id, uint32_t serial, const char *error); /* "" is yes */
    void (*ref)(void *ctx); /* keeps |ctx| while it is used; called with the mux's lock held */
    void (*unref)(void *ctx);
    void *ctx;
} gp__grpc_mux_sender;

/* Remove the directories of gp_grpc_mux_new() that killed processes of this user have left. */
void gp__grpc_mux_sweep(const char *base);

/*
 * Called by the broker. NULL removes the sender, before the owner drops its reference to |ctx|: no
 * new message is sent from then on.
 */
void gp__grpc_mux_set_sender(gp_grpc_mux *mux, const gp__grpc_mux_sender *sender);

/*
 * Have |report| called on the reactor's thread, once at most, with the reason of gp_grpc_mux_why().
 * It is called with the mux's lock held: it must not block, nor call the mux. NULL removes it.
 */
void gp__grpc_mux_on_failure(gp_grpc_mux *mux, void (*report)(void *ctx, const char *why),
                             void *ctx);

/*
 * Have calls on |channel| that fail for want of a connection say why it has ended: the channel goes
 * through |mux|, or leads to |process|, or both. References are taken; either may be NULL. To be
 * called before the channel's first call.
 */
void gp__grpc_mux_explain(gp_grpc_mux *mux, gp_channel *channel, gp__process *process);

/* The other side asks this side to accept a stream, or answers such a request. */
void gp__grpc_mux_requested(gp_grpc_mux *mux, uint32_t id, uint32_t serial);
void gp__grpc_mux_answered(gp_grpc_mux *mux, uint32_t id, uint32_t serial, const char *error);

/*
 * From now on, accept streams for |id|, and connect them to |path|. Returns 0, GP_EBROKER (the
 * session is over) or GP_ENOMEM.
 */
int gp__grpc_mux_accept(gp_grpc_mux *mux, uint32_t id, const char *path, gp_error *err);

/* Do not accept streams for |id| any more. */
void gp__grpc_mux_forget(gp_grpc_mux *mux, uint32_t id);

/*
 * A stream for an id that is being dialled. gp__grpc_dial_start() makes a path at which this
 * process listens for one connection, which becomes the stream. |*out| is the caller's until
 * gp__grpc_dial_await().
 *
 * Returns: 0, GP_ENOMEM, GP_EOS or GP_ECLOSED.
 */
enum { GP__GRPC_MUX_PATH = 108 };
typedef struct gp__grpc_dial gp__grpc_dial;
int gp__grpc_dial_start(gp_grpc_mux *mux, uint32_t id, gp__grpc_dial **out, gp_error *err);
const char *gp__grpc_dial_path(const gp__grpc_dial *dial);

/*
 * Dial without listening: |*fd|, owned by the caller, is one end of a pair of connected,
 * non-blocking sockets. The other end becomes the stream, or is closed if it cannot. Returns as
 * gp__grpc_dial_start().
 */
int gp__grpc_dial_start_pair(gp_grpc_mux *mux, uint32_t id, gp__grpc_dial **out, int *fd,
                             gp_error *err);

/*
 * Wait until the stream is open, for at most |timeout_ms| after the request to accept it was sent.
 * |who| names the other side in messages. Stops listening, and frees |dial|, in any case.
 *
 * Returns: 0, GP_EBROKER (refused, no answer, the session is over) or GP_EUSER.
 */
int gp__grpc_dial_await(gp__grpc_dial *dial, const char *who, int64_t timeout_ms,
                        const gp_interrupt *interrupt, gp_error *err);

#endif
