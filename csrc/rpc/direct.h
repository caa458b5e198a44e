/*
 * Layer: rpc. gRPC channels over a socket that is connected already.
 *
 * A channel of gRPC's own resolves its target, connects, waits for the server's SETTINGS, and can
 * do all of that again. One over a socket has none of this: its first call leaves at once, and when
 * the other side has gone it is over for good. Nor does gRPC tell how such a channel is doing. We
 * keep a second descriptor of the socket for that, which nobody looks at before somebody asks. gRPC
 * shuts the socket down when it is done with it, so that both descriptors come to the same end.
 *
 * Threads: any. The lock is held while the reactor's is taken, and never while |then| runs.
 */
#ifndef GP_RPC_DIRECT_H
#define GP_RPC_DIRECT_H

#include <grpc/grpc.h>
#include <stdbool.h>

#include "base/thread.h"

typedef struct gp__direct gp__direct;

/*
 * Make |*channel| (the caller's) over |fd|, a connected, non-blocking socket, which is gRPC's from
 * then on, and closed when this fails. |name| is what it is connected to.
 *
 * Returns: 0, GP_ENOMEM or GP_EOS.
 */
int gp__direct_open(gp__direct **out, grpc_channel **channel, int fd, const char *name,
                    const grpc_channel_args *args, gp_error *err);

/* Before the channel is destroyed, and without a lock that one of |then| takes: they are told. */
void gp__direct_free(gp__direct *direct);

const char *gp__direct_name(const gp__direct *direct);

/* Whether the other side has hung up, or gRPC has. */
bool gp__direct_over(const gp__direct *direct);

/* Wait for that. Returns: 0, GP_ETIMEOUT at |deadline|, or GP_EUSER. */
int gp__direct_wait(const gp__direct *direct, int64_t deadline, const gp_interrupt *interrupt);

/*
 * Have |then| called once: when it is over (|changed|: unless that is known already), when it is
 * freed, or after |timeout_ms|; on the reactor's thread, on this one before this returns, or on the
 * one that frees. It must not block.
 *
 * Returns: 0, or GP_ENOMEM, GP_EOS or GP_EFORKED, and it will not be called.
 */
int gp__direct_then(gp__direct *direct, bool changed, int64_t timeout_ms, void (*then)(void *ctx),
                    void *ctx);

#endif
