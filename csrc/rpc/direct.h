/*
 * Layer: rpc. gRPC channels over a socket that is connected already.
 *
 * A channel that gRPC connects resolves its target, connects, waits for the server's SETTINGS, and
 * can do all of that again. A channel over a socket does none of this: its first call is sent at
 * once, and when the connection ends it has ended for good. gRPC does not report the state of such
 * a channel, so we keep a second descriptor of the socket, and look at it when the state is asked
 * for. gRPC shuts the socket down when it is done with it, which can be seen on both descriptors.
 *
 * Threads: any. Lock order: the lock of a gp__direct, then the reactor's. No callback runs with the
 * former held.
 */
#ifndef GP_RPC_DIRECT_H
#define GP_RPC_DIRECT_H

#include <stdbool.h>

#include "base/thread.h"
#include "rpc/grpc_symbols.h"

typedef struct gp__direct gp__direct;

/*
 * Make |*channel|, which the caller owns, over |fd|, a connected, non-blocking socket. gRPC owns
 * |fd| from then on; if this fails, |fd| is closed. Messages call the peer |name|.
 *
 * Returns: 0, GP_ENOMEM or GP_EOS.
 */
int gp__direct_open(gp__direct **out, grpc_channel **channel, int fd, const char *name,
                    const grpc_channel_args *args, gp_error *err);

/*
 * To be called before the channel is destroyed. Calls the callbacks of gp__direct_then() that are
 * left, so the caller must hold no lock that these take.
 */
void gp__direct_free(gp__direct *direct);

const char *gp__direct_name(const gp__direct *direct);

/* Whether the connection has been shut down, by the peer or by gRPC. */
bool gp__direct_ended(const gp__direct *direct);

/*
 * Wait until the connection has been shut down. Returns: 0, GP_ETIMEOUT at |deadline|, or GP_EUSER.
 */
int gp__direct_wait(const gp__direct *direct, int64_t deadline, const gp_interrupt *interrupt);

/*
 * Have |then| called once: when the connection has ended, when |direct| is freed, or after
 * |timeout_ms| (negative: never). Without |until_end|, which is for a connection that has ended
 * already, only the latter two count. |then| runs on the reactor's thread, on the thread that frees
 * |direct|, or on this thread before this function returns. It must not block.
 *
 * Returns: 0; or GP_ENOMEM, GP_EOS or GP_EFORKED, and |then| will not be called.
 */
int gp__direct_then(gp__direct *direct, bool until_end, int64_t timeout_ms, void (*then)(void *ctx),
                    void *ctx);

#endif
