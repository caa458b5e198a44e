/*
 * Layer: rpc. What gRPC leaves behind when it is shut down, on Linux: an epoll set, and for some
 * moments threads.
 */
#ifndef GP_RPC_GRPC_LEFTOVERS_H
#define GP_RPC_GRPC_LEFTOVERS_H

#include <stdbool.h>

/*
 * To be called in a forked child, before gRPC is started there. gRPC 1.51 makes its epoll set, and
 * the eventfd in it that wakes its pollers, once in the life of a process, and does not close them
 * on shutdown: the child would share both with its parent, and each would get the other's events.
 * This puts new ones in their places.
 */
void gp__grpc_renew_epoll_set(void);

/* Whether there are threads of gRPC, all of which should end when it is shut down. */
bool gp__grpc_has_threads(void);

#endif
