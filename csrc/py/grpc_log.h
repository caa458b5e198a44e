/*
 * Layer: py. gRPC's own log, to logging.getLogger("pygo_plugin.grpc").
 */
#ifndef PYGO_GRPC_LOG_H
#define PYGO_GRPC_LOG_H

/*
 * Take one line, for gp_grpc_set_log(): on the callback thread it goes to _log.grpc.line. No GIL
 * needed. Never blocks; while many lines wait already, it is left out and counted.
 */
void pygo_grpc_log(int level, const char *text);

#endif
