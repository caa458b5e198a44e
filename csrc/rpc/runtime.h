/*
 * Layer: rpc. gRPC itself, started on first use, and the poller that all client calls share.
 */
#ifndef GP_RPC_RUNTIME_H
#define GP_RPC_RUNTIME_H

#include "gp/error.h"
#include "rpc/poller.h"

/*
 * Start gRPC if it is not running. It is never shut down: that would have to wait for every object
 * that Python may still hold, and a process about to end has nothing to gain from it.
 *
 * Returns: 0, GP_EFORKED in a forked child, or GP_ENOMEM.
 */
int gp__grpc_start(gp_error *err);

/* As gp__grpc_start; |out| is the poller of all client channels. It lives until the process ends. */
int gp__client_poller(gp__poller **out, gp_error *err);

/*
 * Make sure that the client poller's standby thread runs, for calls that nobody may be waiting for.
 * Returns: 0 or GP_EOS.
 */
int gp__client_standby(gp_error *err);

#endif
