/*
 * Layer: base. What a fork means to the parts of the library that belong to the whole process.
 *
 * A child may use the library unless its parent was using it. If the parent was, the child lacks
 * gRPC's threads and shares gRPC's descriptors, so it cannot use the library, and
 * gp_runtime_forked() is true in it. Otherwise the child begins anew: what the parent's threads
 * have left in static variables is reset, and the child waits for none of those threads.
 */
#ifndef GP_BASE_FORK_H
#define GP_BASE_FORK_H

#include <stdbool.h>

/* Things that are counted: those that no child can take over, and those that keep gRPC running. */
typedef enum gp__fork_use {
    GP__FORK_CORE,        /* gRPC runs: no child may use the library */
    GP__FORK_WATCH,       /* the reactor watches a descriptor: no child may use the library */
    GP__FORK_CONNECTION,  /* keeps gRPC running */
    GP__FORK_SERVER,      /* keeps gRPC running */
    GP__FORK_CREDENTIALS, /* keeps gRPC running */
    GP__FORK_ENDING,      /* a connection or a server that is about to end by itself */
    GP__FORK_USES,
} gp__fork_use;

void gp__fork_add(gp__fork_use use);
void gp__fork_drop(gp__fork_use use);
int gp__fork_count(gp__fork_use use);

/* The number of things that keep gRPC running. */
int gp__fork_users(void);

/* Between these two, no other thread forks in any way that runs fork handlers. */
void gp__fork_hold(void);
void gp__fork_release(void);

#endif
