/*
 * Layer: services. What the broker needs of gp/grpc_mux.h's object: knocks in both directions.
 */
#ifndef GP_SERVICES_GRPC_MUX_H
#define GP_SERVICES_GRPC_MUX_H

#include "gp/grpc_mux.h"
#include "rpc/channel.h"

/*
 * How knocks and answers get to the other side, in the order in which they are said. Called without
 * a lock, on any thread, one at a time; may not block. Each returns 0, or another value: it has not
 * been said, and won't be.
 *
 * A knock has a mark, and its answer the same one: what is answered is this knock, and not another
 * one for the same id. go-plugin knows no marks: 0 is none.
 */
typedef struct gp__grpc_mux_post {
    int (*knock)(void *ctx, uint32_t id, uint32_t mark);
    int (*answer)(void *ctx, uint32_t id, uint32_t mark, const char *error); /* "" is yes */
    void (*ref)(void *ctx); /* keeps |ctx| while it is used; with the lock of the mux held */
    void (*unref)(void *ctx);
    void *ctx;
} gp__grpc_mux_post;

/*
 * Remove what processes of this user's that were killed have left where gp_grpc_mux_new() makes its
 * directories.
 */
void gp__grpc_mux_sweep(const char *base);

/*
 * Set by the broker. NULL takes it back, before the owner's reference to |ctx| goes: nothing new is
 * said from then on.
 */
void gp__grpc_mux_set_post(gp_grpc_mux *mux, const gp__grpc_mux_post *post);

/*
 * Have |tell| called on the reactor's thread, once at most, with what gp_grpc_mux_why() says. With the
 * mux's lock held: it may not block, nor call the mux. NULL takes it back.
 */
void gp__grpc_mux_on_why(gp_grpc_mux *mux, void (*tell)(void *ctx, const char *why), void *ctx);

/*
 * |channel| goes through |mux|, or leads to |process|, or both: its calls that fail for want of a
 * connection say why it has ended. References are taken; either may be NULL. Call it before the
 * channel's first call.
 */
void gp__grpc_mux_explain(gp_grpc_mux *mux, gp_channel *channel, gp__process *process);

/* The other side knocks, or answers. */
void gp__grpc_mux_knocked(gp_grpc_mux *mux, uint32_t id, uint32_t mark);
void gp__grpc_mux_answered(gp_grpc_mux *mux, uint32_t id, uint32_t mark, const char *error);

/*
 * Streams that the other side knocks for by |id| are connected to |path|. Returns 0, GP_EBROKER
 * (the session is over) or GP_ENOMEM.
 */
int gp__grpc_mux_accept(gp_grpc_mux *mux, uint32_t id, const char *path, gp_error *err);
void gp__grpc_mux_forget(gp_grpc_mux *mux, uint32_t id);

/*
 * Listen for one connection that becomes a stream for |id|. |*out| is the caller's, until it awaits
 * it.
 * Returns: 0, GP_ENOMEM, GP_EOS or GP_ECLOSED.
 */
enum { GP__GRPC_MUX_PATH = 108 };
typedef struct gp__grpc_mux_local gp__grpc_mux_local;
int gp__grpc_mux_dial(gp_grpc_mux *mux, uint32_t id, gp__grpc_mux_local **out, gp_error *err);
const char *gp__grpc_mux_local_path(const gp__grpc_mux_local *local);

/*
 * The same without listening: |*fd|, the caller's, is one end of a pair of sockets, connected and
 * non-blocking, whose other end becomes the stream, and which is closed if it does not.
 */
int gp__grpc_mux_dial_pair(gp_grpc_mux *mux, uint32_t id, gp__grpc_mux_local **out, int *fd,
                           gp_error *err);

/*
 * Wait until that stream is open: |timeout_ms| from when it was its turn to knock. |who| names the
 * other side. Either way the listening is over, and |local| gone.
 *
 * Returns: 0, GP_EBROKER (refused, no answer, the session is over) or GP_EUSER.
 */
int gp__grpc_mux_await(gp__grpc_mux_local *local, const char *who, int64_t timeout_ms,
                       const gp_interrupt *interrupt, gp_error *err);

#endif
