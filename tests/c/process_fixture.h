/*
 * Children with the ends of their pipes, for the tests of os/process/process.c and spawn.c.
 */
#ifndef GP_TESTS_PROCESS_FIXTURE_H
#define GP_TESTS_PROCESS_FIXTURE_H

#include <errno.h>
#include <unistd.h>

#include "base/buf.h"
#include "completions.h"
#include "gp/lock.h"
#include "os/fd.h"
#include "os/process/process.h"
#include "os/reactor.h"
#include "support.h"

extern char **environ;

/* A child and the ends of its pipes. */
typedef struct child {
    gp__process *process;
    int out;
    int err;
} child;

/* Returns what gp__process_spawn() returns. */
int child_spawn_with(child *it, const char *const *argv, const char *const *env,
                     const char *directory, gp_error *err);

/*
 * Start a child with the test's environment and directory. Fails the test if it cannot be started.
 */
void child_spawn(child *it, const char *const *argv);

#define SHELL(it, script) child_spawn((it), (const char *const[]){"/bin/sh", "-c", (script), NULL})

void child_await_exit(child *it);
void child_release(child *it);

/* Read |fd| until its end. Returns a string that is valid until the next call. */
const char *read_all(int fd);

/* The output of a shell script, as read_all() returns it. */
const char *output_of(const char *script);

/* For cmocka: stop the reactor and remove the directory. */
int tear_down_processes(void **state);

#endif
