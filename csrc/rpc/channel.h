/*
 * Layer: rpc. Channels as calls, the broker and sessions see them.
 */
#ifndef GP_RPC_CHANNEL_H
#define GP_RPC_CHANNEL_H

#include "gp/channel.h"
#include "gp/list.h"
#include "os/process/process.h"
#include "rpc/grpc_symbols.h"
#include "rpc/poller.h"

/*
 * Make a channel over |fd|, a connected, non-blocking socket without TLS. The channel owns |fd|,
 * which is closed if this fails. The channel is ready at once. When the connection ends, the
 * channel is shut down for good, and calls end with UNAVAILABLE. Messages call the peer |name|; the
 * peer sees |authority|. |args| may be NULL.
 *
 * Returns: 0, GP_ENOMEM, GP_EOS or GP_EFORKED.
 */
int gp__channel_open_over(gp_channel **out, int fd, const char *name, const char *authority,
                          const gp_channel_args *args, gp_error *err);

/*
 * Have the channel own |*fd| (-1: none), which its target refers to; |*fd| becomes -1. To be called
 * before the first call.
 */
void gp__channel_keep(gp_channel *channel, int *fd);

/*
 * What carries a connection (the multiplexed connection of which it is a stream), and knows why it
 * has ended. Called on any thread.
 */
typedef struct gp__carrier {
    /*
     * Returns a GP_E* code with the reason in |why|; or 0 if the carrier has not ended, or only
     * because the peer has closed it.
     */
    int (*why)(void *ctx, gp_error *why);
    void (*unref)(void *ctx);
    void *ctx; /* shared: ref; NULL: the connection has no carrier */
} gp__carrier;

/*
 * Have calls on |channel| that fail because the connection is missing say why it has ended: the
 * reason that |carrier| knows, and how |process| has ended. Either may be NULL. The channel owns
 * the carrier's reference, and takes a reference to the process. To be called before the first
 * call.
 */
void gp__channel_explain(gp_channel *channel, const gp__carrier *carrier, gp__process *process);

/*
 * A call that has failed because the connection is missing, and waits until the reason is known.
 * |on_known| is called once, with no lock held, on the reactor's thread.
 */
typedef struct gp__reason_waiter {
    gp_link link;
    int64_t deadline; /* when to call |on_known| at the latest; on CLOCK_MONOTONIC, in ns */
    void (*on_known)(struct gp__reason_waiter *waiter);
} gp__reason_waiter;

/*
 * If how the process at the other end has ended will perhaps be known soon, queue |waiter| and
 * return true. The kernel closes a process's connections some moments before the process can be
 * waited for, the process may itself close them before it exits, and the last of what it has
 * written to stderr may not have been read. |broken|: the call's status says that the connection
 * has ended.
 */
bool gp__channel_await_reason(gp_channel *channel, gp__reason_waiter *waiter, bool broken);

/*
 * Add what is known about the missing connection to |details|, the status details of a call that
 * has failed because of it. Returns whether the process at the other end has ended.
 */
bool gp__channel_add_reason(const gp_channel *channel, grpc_slice *details);

/* The process at the other end; NULL if it is not known. Borrowed. */
gp__process *gp__channel_process(const gp_channel *channel);

/* The name of the peer as its calls report it; NULL: ask gRPC. */
const char *gp__channel_peer(const gp_channel *channel);

/*
 * gRPC's channel, or NULL if it has been retired, which counts as closed. In both cases
 * gp__channel_unuse() has to be called; gRPC's channel exists until then.
 */
grpc_channel *gp__channel_use(gp_channel *channel);
void gp__channel_unuse(gp_channel *channel);

/*
 * Record that the connection has ended and will not be made again, so that it may be retired with
 * all its views.
 */
void gp__channel_mark_ended(gp_channel *channel);

/*
 * Retire connections: free gRPC's channel of each connection that has ended, or all of whose views
 * are closed or disconnected, and that has no calls left. The views stay, closed. Returns whether
 * there is such a connection that still has calls.
 */
bool gp__channels_retire(void);

gp__poller *gp__channel_poller(const gp_channel *channel);

/* The limit for gp__unpack(). */
size_t gp__channel_unpack_limit(const gp_channel *channel);

/*
 * Add a call to the channel's list before its first batch is started, or remove it. If the channel
 * has been disconnected, the added call is ended at once. Returns: 0 or GP_ECLOSED.
 */
int gp__channel_add_call(gp_channel *channel, gp_link *link, gp_error *err);
void gp__channel_remove_call(gp_channel *channel, gp_link *link);

/* End the call that |link| is part of, because its channel is closed. (In call.c.) */
void gp__call_cancel_closed(gp_link *link);

/* The same because its channel has been disconnected. (In call.c.) */
void gp__call_cancel_disconnected(gp_link *link);

#endif
