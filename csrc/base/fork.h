/*
 * Layer: base. What a fork means to the parts of the library that belong to the whole process.
 *
 * A child may use the library unless its parent was using it: then gRPC's threads, which did not
 * come along, and its descriptors, which both would share, make that impossible, and
 * gp_runtime_forked() is true in the child. Otherwise the child begins anew: what the parent's
 * threads left behind in static variables is reset, and none of them is waited for.
 */
#ifndef GP_BASE_FORK_H
#define GP_BASE_FORK_H

#include <stdbool.h>

/* What a process has that no child can take over, or that keeps it. */
typedef enum gp__fork_use {
    GP__FORK_CORE,        /* gRPC runs: no child may use the library */
    GP__FORK_WATCH,       /* the reactor watches something: likewise */
    GP__FORK_CONNECTION,  /* keeps gRPC running */
    GP__FORK_SERVER,      /* likewise */
    GP__FORK_CREDENTIALS, /* likewise */
    GP__FORK_ENDING, /* connections and servers that will be gone in a moment, without a user's doing */
    GP__FORK_USES,
} gp__fork_use;

void gp__fork_add(gp__fork_use use);
void gp__fork_drop(gp__fork_use use);
int gp__fork_count(gp__fork_use use);

/* How much there is that keeps gRPC running. */
int gp__fork_users(void);

/* No other thread forks, by any way that runs fork handlers, between these two. */
void gp__fork_hold(void);
void gp__fork_release(void);

#endif
