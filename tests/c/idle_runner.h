/*
 * A runner that runs nothing, and whose plugin ends when it is killed. The test says how it
 * translates addresses.
 */
#ifndef GP_TESTS_IDLE_RUNNER_H
#define GP_TESTS_IDLE_RUNNER_H

#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include "gp/runner.h"
#include "os/process/process.h"
#include "support.h"

typedef int address_translation(void *ctx, gp_runner_address *address, gp_error *err);

typedef struct idle_runner {
    gp__process *process;
    int alive[2]; /* runner_wait() returns when there is something to read */
    int fds[2];
    int answer; /* for the test's own use */
    atomic_int releases;
} idle_runner;

/*
 * |*it| stays where it is until idle_runner_stop(). The translations get it as their context.
 */
void idle_runner_start(idle_runner *it, address_translation *plugin_to_host,
                       address_translation *host_to_plugin);

void idle_runner_stop(idle_runner *it);

#endif
