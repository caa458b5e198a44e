/*
 * Layer: public. The gRPC library below, as the whole process has it: its log, its threads, forks.
 */
#ifndef GP_GRPC_H
#define GP_GRPC_H

#include <stdbool.h>
#include <stdint.h>

#include "gp/error.h"

/*
 * Load gRPC's library, which is loaded at its first use otherwise, without starting it.
 *
 * Returns: 0 or GP_ELIBRARY.
 */
int gp_grpc_load(gp_error *err);

/*
 * Have |line| called for each line that gRPC logs; NULL drops them. (gRPC must not write to stderr,
 * which the host reads.) |level| is GP_DEBUG, GP_INFO or GP_ERROR. Called on any thread, at any
 * time; must not block.
 */
void gp_grpc_set_log(void (*line)(int level, const char *text));

/*
 * Have |then| called on each worker thread just before it ends. (Workers poll and run handlers.) To
 * be called at most once, before any server is made.
 */
void gp_grpc_on_worker_exit(void (*then)(void));

/*
 * End the worker threads, before the process ends. Idempotent.
 *
 * Returns: whether all have ended within |timeout_ms|. A worker that runs a handler ends only after
 * the handler has returned.
 */
bool gp_grpc_shutdown(int64_t timeout_ms);

/*
 * To be called before a fork: shut gRPC and all its threads down if each channel has been closed,
 * or its plugin killed, and each server has stopped. Parent and child both start gRPC again when
 * they need it. Does nothing while gRPC is in use. Blocks for three seconds at most, usually for a
 * few milliseconds.
 */
void gp_grpc_suspend(void);

#endif
