/*
 * Layer: rpc. What gRPC leaves behind when it is shut down, on Linux: an epoll set, and for some
 * moments threads.
 */
#ifndef GP_RPC_GRPC_LEFTOVERS_H
#define GP_RPC_GRPC_LEFTOVERS_H

#include <stdbool.h>

/*
 * To be called in a forked child, before gRPC is started there. gRPC 1.51 makes its epoll set, with
 * the eventfd in it that wakes its pollers, once in the life of a process, and does not close them
 * on shutdown: the child would share both with its parent, and each would get the other's events.
 * Put new ones in their places.
 */
void gp__grpc_renew_epoll_set(void);

/* Whether threads of gRPC are left, which shutting it down should have ended. */
bool gp__grpc_has_threads(void);

#endif
