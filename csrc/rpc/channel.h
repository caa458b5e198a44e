/*
 * Layer: rpc. What calls need of a channel.
 */
#ifndef GP_RPC_CHANNEL_H
#define GP_RPC_CHANNEL_H

#include <grpc/grpc.h>

#include "gp/channel.h"
#include "os/process.h"
#include "rpc/poller.h"

/* The place of a call in its channel's list of running calls. */
typedef struct gp__call_link {
    struct gp__call_link *next;
    struct gp__call_link *prev;
} gp__call_link;

/*
 * A channel over |fd|, a connected, non-blocking socket without TLS, which is the channel's, also
 * when this fails. It is ready at once, and at the end of the connection shut down for good: calls
 * end with UNAVAILABLE then. |name| is what it is connected to, for people; |authority| goes to the
 * other side. |args| may be NULL.
 *
 * Returns: 0, GP_ENOMEM, GP_EOS or GP_EFORKED.
 */
int gp__channel_open_over(gp_channel **out, int fd, const char *name, const char *authority,
                          const gp_channel_args *args, gp_error *err);

/*
 * |*fd| (-1: none), which the channel's target refers to, is the channel's from now on. Before the
 * first call.
 */
void gp__channel_keep(gp_channel *channel, int *fd);

/*
 * What a channel's connection is part of, and ends with: it knows why it has ended. Called on any
 * thread.
 */
typedef struct gp__carrier {
    /*
     * Returns a GP_E* code with the reason in |why|; or 0 if it has not ended, or for no other
     * reason than that the other side has closed it.
     */
    int (*why)(void *ctx, gp_error *why);
    void (*unref)(void *ctx);
    void *ctx; /* shared: ref; NULL: the connection is part of nothing */
} gp__carrier;

/*
 * Calls on |channel| that fail for want of a connection say why it has ended: what |carrier| knows,
 * whose reference becomes the channel's, and what has become of |process|, of which a reference is
 * taken. Either may be NULL. Call it before the first call.
 */
void gp__channel_explain(gp_channel *channel, const gp__carrier *carrier, gp__process *process);

/*
 * A call that has failed for want of a connection, and waits to be told why. |told| is called once,
 * with no lock held, on the reactor's thread.
 */
typedef struct gp__inquiry {
    struct gp__inquiry *next;
    void (*told)(struct gp__inquiry *inquiry);
} gp__inquiry;

/*
 * Whether the process at the other end is about to end, so that what became of it is known soon;
 * then |inquiry| is told. A process closes its connections some moments before it can be waited
 * for.
 */
bool gp__channel_inquire(gp_channel *channel, gp__inquiry *inquiry);

/*
 * Add what is known of the reason to |details|, the ones of a call that failed for want of a
 * connection.
 */
void gp__channel_add_reason(const gp_channel *channel, grpc_slice *details);

/* What its calls say that they are connected to; NULL: gRPC knows. */
const char *gp__channel_peer(const gp_channel *channel);

/*
 * gRPC's channel, which stays until gp__channel_unuse(), to be called in any case; NULL: the
 * channel has been retired, and counts as closed.
 */
grpc_channel *gp__channel_use(gp_channel *channel);
void gp__channel_unuse(gp_channel *channel);

/*
 * Nothing will be reached over the channel's connection any more: it may be retired with all its
 * views.
 */
void gp__channel_over(gp_channel *channel);

/*
 * Let go of gRPC's channels that are over, or closed in all views, and have no calls left. Their
 * views stay. Returns whether one still has calls.
 */
bool gp__channels_retire(void);

gp__poller *gp__channel_poller(const gp_channel *channel);

/* For gp__unpack(). */
size_t gp__channel_unpack_limit(const gp_channel *channel);

/* Enter a call to the running ones. Returns 0, or GP_ECLOSED. */
int gp__channel_enter(gp_channel *channel, gp__call_link *link, gp_error *err);
void gp__channel_leave(gp_channel *channel, gp__call_link *link);

/* call.c: cancel the call that |link| is part of because its channel was closed. */
void gp__call_cancel_link(gp__call_link *link);

#endif
