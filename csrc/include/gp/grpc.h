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
 * Where gRPC's own log lines go instead of stderr, which belongs to the host. |level| is one of
 * GP_DEBUG, GP_INFO, GP_ERROR. Called on any thread, at any time, and must not block. NULL:
 * dropped.
 */
void gp_grpc_set_log(void (*line)(int level, const char *text));

/*
 * End the threads that see to calls and run handlers, for the end of the process. Idempotent.
 *
 * Returns: whether they have gone within |timeout_ms|; those that are in a handler may not have.
 */
bool gp_grpc_shutdown(int64_t timeout_ms);

/*
 * Before a fork: shut gRPC down, threads and all, if every channel has been closed, or its plugin
 * killed, and every server has stopped. It is started again when it is needed, here and in the
 * child. Does nothing while it is in use. Blocks for three seconds at most, usually for a few
 * milliseconds.
 */
void gp_grpc_rest(void);

#endif
