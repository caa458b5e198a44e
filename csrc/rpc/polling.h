/*
 * Layer: rpc. What gRPC keeps of its polling beyond its own shutdown, on Linux.
 */
#ifndef GP_RPC_POLLING_H
#define GP_RPC_POLLING_H

#include <stdbool.h>

/*
 * In a forked child, before gRPC is started there. gRPC 1.51 makes its epoll set, with the eventfd
 * that wakes its pollers in it, once in the life of a process and does not close it on shutdown, so
 * that the child would share both with its parent, and each would get the other's events. Put new
 * ones in their places.
 */
void gp__polling_renew(void);

/* Whether threads of gRPC are left, which shutting it down should have ended. */
bool gp__polling_threads(void);

#endif
