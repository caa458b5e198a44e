#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>

#include "os/process/procstat.h"
#include "process_fixture.h"

/* ---- Ending ---- */

static void
a_killed_child_has_its_signal_as_status(void **state)
{
    child it;
    char text[96];

    (void)state;
    SHELL(&it, "exec sleep 1000");
    assert_false(gp__process_gone(it.process));
    assert_int_equal(gp__process_status(it.process), GP_STATUS_UNKNOWN);
    gp__process_kill(it.process);
    child_await_exit(&it);
    assert_int_equal(gp__process_status(it.process), -SIGKILL);
    assert_non_null(strstr(gp__process_describe_exit(-SIGKILL, text, sizeof(text)),
                           "killed by signal 9 (SIGKILL)"));
    gp__process_kill(it.process); /* it has ended: this does nothing */
    child_release(&it);
}

static void
waits_have_a_deadline_and_an_interrupt(void **state)
{
    child it;

    (void)state;
    SHELL(&it, "exec sleep 1000");
    assert_int_equal(gp__process_wait(it.process, gp_deadline_in(20), NULL), GP_ETIMEOUT);
    assert_int_equal(gp__process_wait(it.process, patience(), &interrupt_now), GP_EUSER);
    gp__process_kill(it.process);
    assert_int_equal(gp__process_wait(it.process, GP__FOREVER, NULL), 0);
    child_release(&it);
}

static void
a_host_that_ignores_sigchld(void **state)
{
    child it;
    char text[96];

    (void)state;
    signal(SIGCHLD, SIG_IGN);
    SHELL(&it, "exit 3");
    child_await_exit(&it);
    signal(SIGCHLD, SIG_DFL);
    assert_int_equal(gp__process_status(it.process), GP_STATUS_UNKNOWN);
    assert_non_null(
        strstr(gp__process_describe_exit(GP_STATUS_UNKNOWN, text, sizeof(text)), "unknown"));
    gp__process_kill(it.process);
    child_release(&it);
}

static void
a_host_that_reaps_our_children(void **state)
{
    child it;

    (void)state;
    SHELL(&it, "exec sleep 1000");
    kill(gp__process_pid(it.process), SIGKILL);
    assert_int_equal(waitpid(gp__process_pid(it.process), NULL, 0), gp__process_pid(it.process));
    gp__process_kill(it.process);
    child_await_exit(&it);
    assert_int_equal(gp__process_status(it.process), GP_STATUS_UNKNOWN);
    child_release(&it);
}

static void
a_dying_child_is_known_as_such(void **state)
{
    gp__process *joined;
    gp__procstat own;
    child it;

    (void)state;
    SHELL(&it, "exec sleep 1000");
    assert_int_equal(gp__process_inspect(it.process), GP__PROCESS_RUNNING);
    /* The joined process is the same child, and does not reap it. */
    assert_int_equal(gp__process_attach(&joined, gp__process_pid(it.process), 0, NULL), 0);
    gp__process_kill(it.process);
    while (gp__process_inspect(joined) == GP__PROCESS_RUNNING) {
        sched_yield();
    }
    child_await_exit(&it);
    assert_int_equal(gp__process_wait(joined, patience(), NULL), 0);
    gp__process_unref(joined);
    assert_int_equal(gp__process_inspect(it.process), GP__PROCESS_GONE);
    child_release(&it);
    assert_true(gp__procstat_read(getpid(), &own));
    assert_false(own.dying);
    assert_true(own.start_time > 0);
}

/* ---- Watching ---- */

static void
deaths_are_noticed(void **state)
{
    child children[20];
    completions seen[20];

    (void)state;
    for (int i = 0; i < 20; i++) {
        completions_init(&seen[i]);
        SHELL(&children[i], i % 2 == 0 ? "exit 5" : "exec sleep 1000");
        assert_int_equal(gp__process_watch(children[i].process, on_completed, &seen[i], NULL), 0);
    }
    for (int i = 1; i < 20; i += 2) {
        gp__process_kill(children[i].process);
    }
    for (int i = 0; i < 20; i++) {
        await_completions(&seen[i], 1);
        assert_int_equal(gp__process_status(children[i].process), i % 2 == 0 ? 5 : -SIGKILL);
        gp__process_unwatch(children[i].process);
        assert_int_equal(seen[i].times, 1);
        child_release(&children[i]);
    }
}

static void
deaths_after_unwatch_are_not_noticed(void **state)
{
    child it;
    completions seen;

    (void)state;
    completions_init(&seen);
    SHELL(&it, "exec sleep 1000");
    assert_int_equal(gp__process_watch(it.process, on_completed, &seen, NULL), 0);
    gp__process_unwatch(it.process);
    gp__process_unwatch(it.process);
    gp__process_kill(it.process);
    child_await_exit(&it);
    assert_int_equal(seen.times, 0);
    child_release(&it);
}

/* ---- Elsewhere ---- */

/* A runner without a process: it counts as ended once a byte, the status, is written to |end|. */
typedef struct fake {
    int end[2];
    int fails;
    int kills;
    atomic_int releases; /* counted last, by any thread */
} fake;

static int
start_fake(void *ctx, const char *const *env, int *out_fd, int *err_fd, gp_error *err)
{
    const fake *it = ctx;

    assert_string_equal(env[0], "A=b");
    if (it->fails) {
        return gp_error_set(err, GP_ESTART, "refused");
    }
    *out_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    *err_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return 0;
}

static int
wait_for_fake(void *ctx)
{
    const fake *it = ctx;
    char status = 0;

    assert_int_equal(read(it->end[0], &status, 1), 1);
    return status;
}

static void
kill_fake(void *ctx)
{
    fake *it = ctx;

    it->kills++;
    assert_int_equal(write(it->end[1], "\x07", 1), 1);
}

static void
release_fake(void *ctx)
{
    fake *it = ctx;

    gp__fd_close(&it->end[0]);
    gp__fd_close(&it->end[1]);
    atomic_fetch_add(&it->releases, 1);
}

static void
a_runner_starts_waits_and_kills(void **state)
{
    static const char *const env[] = {"A=b", NULL};

    (void)state;
    for (int fails = 0; fails < 2; fails++) {
        fake it = {.fails = fails};
        const gp_runner runner = {.start = start_fake,
                                  .wait = wait_for_fake,
                                  .kill = kill_fake,
                                  .release = release_fake,
                                  .ctx = &it};
        gp_error err = GP_ERROR_INIT;
        gp__process *process;
        child fds = {NULL, -1, -1};
        completions seen;
        int rc;

        completions_init(&seen);
        assert_int_equal(gp__fd_pipe(it.end, NULL), 0);
        rc = gp__process_run(&process, &runner, env, &fds.out, &fds.err, &err);
        assert_int_equal(rc, fails ? GP_ESTART : 0);
        if (rc == 0) {
            assert_ptr_equal(gp__process_runner(process)->ctx, &it);
            assert_int_equal(gp__process_pid(process), -1);
            assert_int_equal(gp__process_watch(process, on_completed, &seen, NULL), 0);
            assert_false(gp__process_gone(process));
            assert_int_equal(gp__process_wait(process, gp_deadline_in(10), NULL), GP_ETIMEOUT);
            gp__process_kill(process);
            gp__process_kill(process);
            assert_int_equal(gp__process_wait(process, patience(), NULL), 0);
            await_completions(&seen, 1);
            assert_int_equal(gp__process_status(process), 7);
            gp__process_unwatch(process);
            gp__process_unref(process);
            gp__fd_close(&fds.out);
            gp__fd_close(&fds.err);
        }
        /* A thread that is about to end may have the last reference. */
        for (int64_t deadline = patience(); atomic_load(&it.releases) == 0;) {
            assert_true(gp__now() < deadline);
            sched_yield();
        }
        assert_int_equal(it.kills, fails ? 0 : 1);
        gp_error_release(&err);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_child_has_its_signal_as_status),
        cmocka_unit_test(waits_have_a_deadline_and_an_interrupt),
        cmocka_unit_test(a_host_that_ignores_sigchld),
        cmocka_unit_test(a_host_that_reaps_our_children),
        cmocka_unit_test(a_dying_child_is_known_as_such),
        cmocka_unit_test(deaths_are_noticed),
        cmocka_unit_test(deaths_after_unwatch_are_not_noticed),
        cmocka_unit_test(a_runner_starts_waits_and_kills),
    };

    return cmocka_run_group_tests(tests, NULL, tear_down_processes);
}
