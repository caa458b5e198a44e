/*
 * Layer: services. What the broker and the host need of gp/grpc_mux.h's object. Before a side opens
 * a stream for an id, it asks the other side to accept it: the broker carries these requests and
 * their answers (go-plugin's ConnInfo.Knock).
 */
#ifndef GP_SERVICES_GRPC_MUX_H
#define GP_SERVICES_GRPC_MUX_H

#include "gp/grpc_mux.h"
#include "rpc/channel.h"

/*
 * How requests to accept a stream, and answers to such requests, reach the other side, in the order
 * in which they are sent. Called without a lock, on any thread, one at a time; may not block. Each
 * returns 0, or another value if the message has not been sent, and will not be.
 *
 * A request has a serial number, and its answer the same one, so that it answers this request and
 * not another one for the same id. go-plugin knows no serial numbers: 0 is none.
 */
typedef struct gp__grpc_mux_sender {
    int (*send_request)(void *ctx, uint32_t id, uint32_t serial);
    int (*send_answer)(void *ctx, uint32_t id, uint32_t serial, const char *error); /* "" is yes */
    void (*ref)(void *ctx); /* keeps |ctx| while it is used; with the lock of the mux held */
    void (*unref)(void *ctx);
    void *ctx;
} gp__grpc_mux_sender;

/*
 * Remove what processes of this user's that were killed have left where gp_grpc_mux_new() makes its
 * directories.
 */
void gp__grpc_mux_sweep(const char *base);

/*
 * Set by the broker. NULL takes it back, before the owner's reference to |ctx| goes: no new message
 * is sent from then on.
 */
void gp__grpc_mux_set_sender(gp_grpc_mux *mux, const gp__grpc_mux_sender *sender);

/*
 * Have |report| called on the reactor's thread, once at most, with what gp_grpc_mux_why() says. It
 * is called with the mux's lock held: it may not block, nor call the mux. NULL takes it back.
 */
void gp__grpc_mux_on_failure(gp_grpc_mux *mux, void (*report)(void *ctx, const char *why),
                             void *ctx);

/*
 * |channel| goes through |mux|, or leads to |process|, or both: its calls that fail for want of a
 * connection say why it has ended. References are taken; either may be NULL. Call it before the
 * channel's first call.
 */
void gp__grpc_mux_explain(gp_grpc_mux *mux, gp_channel *channel, gp__process *process);

/* The other side asks this one to accept a stream, or answers such a request. */
void gp__grpc_mux_requested(gp_grpc_mux *mux, uint32_t id, uint32_t serial);
void gp__grpc_mux_answered(gp_grpc_mux *mux, uint32_t id, uint32_t serial, const char *error);

/*
 * Connect streams that the other side asks for by |id| to |path|. Returns 0, GP_EBROKER (the
 * session is over) or GP_ENOMEM.
 */
int gp__grpc_mux_accept(gp_grpc_mux *mux, uint32_t id, const char *path, gp_error *err);
void gp__grpc_mux_forget(gp_grpc_mux *mux, uint32_t id);

/*
 * A stream for an id that is being dialled. Starting makes a path at which this process listens for
 * one connection, which becomes the stream. |*out| is the caller's until it awaits it.
 *
 * Returns: 0, GP_ENOMEM, GP_EOS or GP_ECLOSED.
 */
enum { GP__GRPC_MUX_PATH = 108 };
typedef struct gp__grpc_dial gp__grpc_dial;
int gp__grpc_dial_start(gp_grpc_mux *mux, uint32_t id, gp__grpc_dial **out, gp_error *err);
const char *gp__grpc_dial_path(const gp__grpc_dial *dial);

/*
 * The same without listening: |*fd|, the caller's, is one end of a pair of sockets, connected and
 * non-blocking, whose other end becomes the stream, and which is closed if it does not.
 */
int gp__grpc_dial_start_pair(gp_grpc_mux *mux, uint32_t id, gp__grpc_dial **out, int *fd,
                             gp_error *err);

/*
 * Wait until the stream is open, for |timeout_ms| from when the other side was asked to accept it.
 * |who| names the other side in messages. In any case the listening is over then, and |dial| gone.
 *
 * Returns: 0, GP_EBROKER (refused, no answer, the session is over) or GP_EUSER.
 */
int gp__grpc_dial_await(gp__grpc_dial *dial, const char *who, int64_t timeout_ms,
                        const gp_interrupt *interrupt, gp_error *err);

#endif
