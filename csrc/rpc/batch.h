/*
 * Layer: rpc. How the inbox and the outbox of a call start gRPC's operations.
 */
#ifndef GP_RPC_BATCH_H
#define GP_RPC_BATCH_H

#include <stddef.h>

#include "rpc/grpc_symbols.h"
#include "rpc/poller.h"

/*
 * Start a batch of |call|, which holds a reference to itself until |event| is complete.
 *
 * Returns: 0 or GP_EINVAL.
 */
typedef int gp__start_batch(void *call, const grpc_op *ops, size_t count, gp__event *event);

/* What an outbox needs of its call. */
typedef struct gp__sending_call {
    gp__start_batch *start_batch;
    void (*ref)(void *call); /* may be called with gp__engine_lock held */
    void (*unref)(void *call);
} gp__sending_call;

#endif
