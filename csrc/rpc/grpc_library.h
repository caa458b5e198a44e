/*
 * Layer: rpc. The gRPC library: loaded and started on first use, and shut down before a fork
 * that finds it unused.
 */
#ifndef GP_RPC_GRPC_LIBRARY_H
#define GP_RPC_GRPC_LIBRARY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fork.h"
#include "gp/error.h"

/*
 * Start gRPC if it is not running.
 *
 * Returns: 0; GP_EFORKED in a forked child whose parent was running gRPC; GP_EOS when descriptors
 * are short; GP_ELIBRARY if gRPC's library cannot be loaded.
 */
int gp__grpc_start(gp_error *err);

/* Start gRPC if it is not running, and keep it running until gp__grpc_drop(). */
int gp__grpc_use(gp__fork_use use, gp_error *err);
void gp__grpc_drop(gp__fork_use use);

/*
 * Shut gRPC down by |deadline|, if it runs and nothing uses it. |suspend_engine| is called first:
 * it ends the completion queue and its threads, and returns whether it could. Threads that begin to
 * use gRPC meanwhile wait.
 */
void gp__grpc_stop(bool (*suspend_engine)(int64_t deadline), int64_t deadline);

#endif
