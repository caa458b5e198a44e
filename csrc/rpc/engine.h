/*
 * Layer: rpc. The engine of a process, which runs all of its calls: the completion queue with its
 * poller (rpc/poller.h), and the workers (rpc/worker_pool.h). It is made on first use and lives
 * until the process ends. Before a fork that finds it unused it is suspended, together with gRPC.
 */
#ifndef GP_RPC_ENGINE_H
#define GP_RPC_ENGINE_H

#include "gp/error.h"
#include "rpc/poller.h"

/*
 * Start the engine, and gRPC, if they do not run. |*out| is the process's poller, borrowed.
 *
 * Returns: 0, or a code of gp__grpc_start().
 */
int gp__engine_start(gp__poller **out, gp_error *err);

/*
 * End the workers and the completion queue, until the next gp__engine_start(). To be called while
 * no other thread uses them. Returns false if that was not possible by |deadline|.
 */
bool gp__engine_suspend(int64_t deadline);

#endif
