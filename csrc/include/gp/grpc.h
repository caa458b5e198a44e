/*
 * Layer: public. Facts about the gRPC library below, and its log.
 */
#ifndef GP_GRPC_H
#define GP_GRPC_H

#include <stdbool.h>
#include <stdint.h>

/* The version of the gRPC C core that is loaded, as "1.51.1". */
const char *gp_grpc_version(void);

/*
 * Have |line| called for each of gRPC's own log lines, which must not go to stderr: it belongs to
 * the host. |level| is GP_DEBUG, GP_INFO or GP_ERROR. Called on any thread, at any time; must not
 * block. NULL: they are dropped.
 */
void gp_grpc_set_log(void (*line)(int level, const char *text));

/*
 * Have |then| called by each worker, the threads that poll and run handlers, when it ends. At most
 * once, before any server is made.
 */
void gp_grpc_on_worker_exit(void (*then)(void));

/*
 * End the workers, for the end of the process. Idempotent.
 *
 * Returns: whether they have ended within |timeout_ms|. Those that run a handler may not have.
 */
bool gp_grpc_shutdown(int64_t timeout_ms);

/*
 * Before a fork: shut gRPC and all its threads down if each channel has been closed, or its plugin
 * killed, and each server has stopped. Both this process and the child start it again when they
 * need it. Does nothing while gRPC is in use. Blocks for three seconds at most, usually for a few
 * milliseconds.
 */
void gp_grpc_suspend(void);

#endif
