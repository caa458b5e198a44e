/*
 * Layer: py. gRPC's own log, to logging.getLogger("pygo_plugin.grpc").
 */
#ifndef PYGO_GRPC_LOG_H
#define PYGO_GRPC_LOG_H

/*
 * For gp_grpc_set_log(): log_line() of the package gets the line on the thread for callbacks. No
 * GIL needed. Never blocks. While many lines are waiting already, the line is left out and counted.
 */
void pygo_grpc_log(int level, const char *text);

#endif
