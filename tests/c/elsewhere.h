/*
 * A runner that runs nothing, and whose plugin ends when it is killed. What addresses become is the
 * test's.
 */
#ifndef GP_TESTS_ELSEWHERE_H
#define GP_TESTS_ELSEWHERE_H

#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include "gp/runner.h"
#include "os/process.h"
#include "support.h"

typedef int translation(void *ctx, gp_runner_address *address, gp_error *err);

typedef struct elsewhere {
    gp__process *process;
    int alive[2]; /* wait_elsewhere() ends when there is something to read */
    int fds[2];
    int answer; /* for the test's own use */
    atomic_int releases;
} elsewhere;

static inline int
start_elsewhere(void *ctx, const char *const *env, int *out_fd, int *err_fd, gp_error *err)
{
    (void)ctx;
    (void)env;
    *out_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    *err_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return *out_fd >= 0 && *err_fd >= 0 ? 0 : gp_error_set(err, GP_ESTART, "no descriptors");
}

static inline int
wait_elsewhere(void *ctx)
{
    char byte;

    assert_int_equal(read(((elsewhere *)ctx)->alive[0], &byte, 1), 1);
    return 0;
}

static inline void
kill_elsewhere(void *ctx)
{
    assert_int_equal(write(((elsewhere *)ctx)->alive[1], "", 1), 1);
}

static inline void
release_elsewhere(void *ctx)
{
    atomic_fetch_add(&((elsewhere *)ctx)->releases, 1);
}

/* |*it| stays where it is until elsewhere_finish(). The translations get it as their context. */
static inline void
elsewhere_begin(elsewhere *it, translation *plugin_to_host, translation *host_to_plugin)
{
    static const char *const env[] = {NULL};
    const gp_runner runner = {.start = start_elsewhere,
                              .wait = wait_elsewhere,
                              .kill = kill_elsewhere,
                              .plugin_to_host = plugin_to_host,
                              .host_to_plugin = host_to_plugin,
                              .release = release_elsewhere,
                              .ctx = it};

    *it = (elsewhere){.releases = 0};
    assert_int_equal(pipe(it->alive), 0);
    assert_int_equal(gp__process_run(&it->process, &runner, env, &it->fds[0], &it->fds[1], NULL),
                     0);
}

static inline void
elsewhere_finish(elsewhere *it)
{
    int64_t deadline = patience();

    gp__process_kill(it->process);
    assert_int_equal(gp__process_wait(it->process, deadline, NULL), 0);
    gp__process_unref(it->process);
    while (atomic_load(&it->releases) == 0) {
        assert_true(gp__now() < deadline);
        sched_yield();
    }
    for (int i = 0; i < 2; i++) {
        close(it->fds[i]);
        close(it->alive[i]);
    }
}

#endif
