/*
 * Layer: public. Launching a plugin elsewhere than in a child of this process: in a container, in
 * a sandbox, on another machine.
 */
#ifndef GP_RUNNER_H
#define GP_RUNNER_H

#include <stddef.h>

#include "gp/error.h"

/* Room for "unix" or "tcp", and for a path or host:port. */
typedef struct gp_runner_address {
    char network[8];
    char address[256];
} gp_runner_address;

/*
 * A way to run one plugin once. All functions may block, and are called with no lock held: |start|
 * on the thread that starts the client; |plugin_to_host| and |host_to_plugin| on threads that start
 * it or use its broker; |wait| and |kill| on threads of their own, while other functions run.
 * gp_client_new() takes the runner over; |release| is called last, and exactly once.
 */
typedef struct gp_runner {
    /*
     * Start the plugin with |env|, a NULL-terminated array. |*out_fd| and |*err_fd| become the
     * reading ends of its stdout and stderr, the caller's to close. Returns 0, or a GP_E* code with
     * nothing left running.
     */
    int (*start)(void *ctx, const char *const *env, int *out_fd, int *err_fd, gp_error *err);
    /* Block until it has ended. Returns the exit status, -N for signal N, or GP_STATUS_UNKNOWN. */
    int (*wait)(void *ctx);
    /* End it by force, so that wait returns. At most once. */
    void (*kill)(void *ctx);
    /* Write to |out|, of |size| bytes, what may explain a failed start. |out| holds "" before. */
    void (*diagnose)(void *ctx, char *out, size_t size);
    /* Replace an address of the plugin's by the one for the host. Returns 0 or a GP_E* code. */
    int (*plugin_to_host)(void *ctx, gp_runner_address *address, gp_error *err);
    /* The reverse, for an address at which the host accepts the plugin's connections. */
    int (*host_to_plugin)(void *ctx, gp_runner_address *address, gp_error *err);
    void (*release)(void *ctx);
    void *ctx;
} gp_runner;

#endif
