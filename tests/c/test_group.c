#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/fd.h"
#include "os/process/group.h"
#include "os/process/process.h"
#include "os/process/procstat.h"
#include "support.h"

static const char mark[] = GP__GROUP_VARIABLE "=test.1";

static const char *const environment[] = {"PATH=/bin:/usr/bin", mark, NULL};

enum { MOST_PIDS = 5 };

typedef struct family {
    gp__process *process;
    pid_t pids[MOST_PIDS]; /* of the processes that the script has started */
    int out_fd;
    int err_fd;
} family;

/* Read the pids that the script prints, one a line. */
static void
read_pids(family *it, int count)
{
    struct pollfd printed = {.fd = it->out_fd, .events = POLLIN};
    char text[200] = "";
    char *at = text;
    size_t len = 0;
    int lines = 0;

    while (lines < count) {
        assert_true(gp__fd_poll(&printed, 1, patience()) > 0);
        assert_true(gp__fd_read(it->out_fd, text + len, 1) == 1);
        lines += text[len++] == '\n';
    }
    for (int i = 0; i < count; i++) {
        it->pids[i] = (pid_t)strtol(at, &at, 10);
        assert_true(it->pids[i] > 1);
    }
}

/* Start a script in the group, which prints |count| pids and waits. */
static void
start_family(family *it, const char *script, int count)
{
    const char *argv[] = {"/bin/sh", "-c", script, NULL};
    const gp__process_spec spec = {.argv = argv, .env = environment, .group = mark};
    gp_error err = GP_ERROR_INIT;

    *it = (family){.out_fd = -1};
    if (gp__process_spawn(&it->process, &spec, &it->out_fd, &it->err_fd, &err) < 0) {
        fail_msg("%s", gp_error_message(&err));
    }
    assert_true(gp__process_has_group(it->process));
    read_pids(it, count);
}

static void
kill_family(family *it)
{
    gp__process_kill(it->process);
    assert_int_equal(gp__process_wait(it->process, patience(), NULL), 0);
    gp__process_unref(it->process);
    close(it->out_fd);
    close(it->err_fd);
}

static bool
lives(pid_t pid)
{
    gp__procstat at;

    return gp__procstat_read(pid, &at) && !at.dying;
}

static void
expect_alive(pid_t pid, bool alive)
{
    if (lives(pid) != alive) {
        kill(pid, SIGKILL);
        fail_msg("process %ld %s", (long)pid, alive ? "is gone" : "lives on");
    }
}

static void
descendants_are_killed(void **state)
{
    family it;

    (void)state;
    start_family(&it, "sleep 1000 & echo $!; sh -c 'sleep 1000 & echo $!; wait' & wait", 2);
    kill_family(&it);
    expect_alive(it.pids[0], false);
    expect_alive(it.pids[1], false);
}

static void
children_without_the_mark_are_killed(void **state)
{
    family it;

    (void)state;
    start_family(&it, "env -i /bin/sleep 1000 & echo $!; wait", 1);
    kill_family(&it);
    expect_alive(it.pids[0], false);
}

static void
members_are_killed_when_the_root_has_ended(void **state)
{
    family it;

    (void)state;
    start_family(&it, "setsid sleep 1000 & echo $!", 1);
    assert_int_equal(gp__process_wait(it.process, patience(), NULL), 0);
    expect_alive(it.pids[0], true);
    kill_family(&it);
    expect_alive(it.pids[0], false);
}

/* Prints its pid once it has the environment that it was given. */
#define SLEEP "echo $$; exec /bin/sleep 1000"

static void
processes_of_others_are_spared(void **state)
{
    family it;
    pid_t first;

    (void)state;
    /* The root prints its pid when the shells between it and its grandchildren have ended. */
    start_family(&it,
                 "PYGO_PLUGIN_DETACHED=1 sleep 1000 & echo $!;"
                 "env -i PYGO_PLUGIN_DETACHED=1 /bin/sh -c '" SLEEP "' &"
                 "(env -i " GP__GROUP_VARIABLE "=test.11 /bin/sh -c '" SLEEP "' &);"
                 "(env -i X" GP__GROUP_VARIABLE "=test.1 /bin/sh -c '" SLEEP "' &);"
                 "echo $$; wait",
                 5);
    first = (pid_t)gp__process_pid(it.process);
    kill_family(&it);
    expect_alive(it.pids[0], false);
    for (int i = 1; i < 5; i++) {
        expect_alive(it.pids[i], it.pids[i] != first);
        if (it.pids[i] != first) {
            kill(it.pids[i], SIGKILL);
        }
    }
}

static void
without_memory_the_root_is_killed(void **state)
{
    family it;

    (void)state;
    start_family(&it, "echo $$; exec sleep 1000", 1);
    alloc_begin(0);
    gp__process_kill(it.process);
    alloc_end();
    assert_int_equal(gp__process_wait(it.process, patience(), NULL), 0);
    kill_family(&it);
}

/* Where groups are not supported, the root alone is killed. */
static void
the_root_is_killed(void **state)
{
    family it;

    (void)state;
    start_family(&it, "echo $$; exec sleep 1000", 1);
    kill_family(&it);
    expect_alive(it.pids[0], false);
}

int
main(void)
{
    const struct CMUnitTest grouped[] = {
        cmocka_unit_test(descendants_are_killed),
        cmocka_unit_test(children_without_the_mark_are_killed),
        cmocka_unit_test(members_are_killed_when_the_root_has_ended),
        cmocka_unit_test(processes_of_others_are_spared),
        cmocka_unit_test(the_root_is_killed),
        cmocka_unit_test(without_memory_the_root_is_killed),
    };
    const struct CMUnitTest ungrouped[] = {cmocka_unit_test(the_root_is_killed)};

    if (!gp__group_supported()) {
        return cmocka_run_group_tests(ungrouped, NULL, tear_down_reactor);
    }
    return cmocka_run_group_tests(grouped, NULL, tear_down_reactor);
}
