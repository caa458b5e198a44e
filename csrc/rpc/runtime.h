/*
 * Layer: rpc. gRPC itself, started on first use.
 */
#ifndef GP_RPC_RUNTIME_H
#define GP_RPC_RUNTIME_H

#include "gp/error.h"

/*
 * Start gRPC if it is not running. It is never shut down: that would have to wait for every object
 * that Python may still hold, and a process about to end has nothing to gain from it.
 *
 * Returns: 0, GP_EFORKED in a forked child, or GP_ENOMEM.
 */
int gp__grpc_start(gp_error *err);

#endif
