#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "process_fixture.h"

static void
joining_a_process(void **state)
{
    gp__process *joined;
    completions seen;
    child it;

    (void)state;
    completions_init(&seen);
    SHELL(&it, "exec sleep 1000");
    assert_int_equal(gp__process_attach(&joined, gp__process_pid(it.process), 0, NULL), 0);
    assert_int_equal(gp__process_watch(joined, on_completed, &seen, NULL), 0);
    assert_false(gp__process_gone(joined));
    assert_int_equal(gp__process_wait(joined, gp_deadline_in(10), NULL), GP_ETIMEOUT);
    gp__process_kill(joined); /* does nothing before it is recognised */
    assert_int_equal(gp__process_wait(joined, gp_deadline_in(10), NULL), GP_ETIMEOUT);
    assert_false(gp__process_recognise(joined, getpid()));
    assert_true(gp__process_recognise(joined, gp__process_pid(it.process)));
    gp__process_kill(joined);
    child_await_exit(&it);
    assert_int_equal(gp__process_status(it.process), -SIGKILL); /* reaped as our child */
    assert_int_equal(gp__process_wait(joined, patience(), NULL), 0);
    await_completions(&seen, 1);
    assert_int_equal(gp__process_status(joined), GP_STATUS_UNKNOWN);
    gp__process_kill(joined);
    gp__process_unwatch(joined);
    gp__process_unref(joined);
    child_release(&it);
}

static void
a_pid_with_its_start_time(void **state)
{
    gp_error err = GP_ERROR_INIT;
    gp__process *joined;
    unsigned long long started;
    child it;

    (void)state;
    SHELL(&it, "exec sleep 1000");
    started = gp__process_start_time(it.process);
    assert_true(started > 0);
    assert_int_equal(gp__process_attach(&joined, gp__process_pid(it.process), started + 1, &err),
                     GP_EREATTACH);
    assert_non_null(strstr(gp_error_message(&err), "another process"));
    assert_int_equal(gp__process_attach(&joined, gp__process_pid(it.process), started, &err), 0);
    assert_int_equal(gp__process_start_time(joined), started);
    gp__process_kill(joined);
    child_await_exit(&it);
    assert_int_equal(gp__process_wait(joined, patience(), NULL), 0);
    gp__process_unref(joined);
    child_release(&it);
    gp_error_release(&err);
}

/* The launched process is a wrapper, and its child is the plugin. */
static void
a_descendant_is_recognised(void **state)
{
    gp__process *joined;
    child it;
    char line[32] = "";
    size_t len = 0;

    (void)state;
    SHELL(&it, "sh -c 'echo $$; exec sleep 1000'; :");
    while (strchr(line, '\n') == NULL) {
        ssize_t got = read(it.out, line + len, sizeof(line) - 1 - len);

        len += got > 0 ? (size_t)got : 0;
        sched_yield();
    }
    assert_int_equal(gp__process_attach(&joined, gp__process_pid(it.process), 0, NULL), 0);
    assert_true(gp__process_recognise(joined, atoi(line)));
    gp__process_kill(joined);
    child_await_exit(&it);
    assert_int_equal(kill(atoi(line), SIGKILL), 0);
    gp__process_unref(joined);
    child_release(&it);
}

static void
joining_a_process_that_does_not_exist(void **state)
{
    gp_error err = GP_ERROR_INIT;
    gp__process *joined;
    child it;
    int pid;

    (void)state;
    SHELL(&it, "exit 0");
    child_await_exit(&it);
    pid = gp__process_pid(it.process);
    child_release(&it);
    assert_int_equal(gp__process_attach(&joined, pid, 0, &err), GP_EREATTACH);
    assert_non_null(strstr(gp_error_message(&err), "process not found"));
    assert_int_equal(gp__process_attach(&joined, 0, 0, &err), GP_EREATTACH);
    assert_int_equal(gp__process_attach(&joined, -1, 0, &err), GP_EREATTACH);
    gp_error_release(&err);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joining_a_process),
        cmocka_unit_test(a_pid_with_its_start_time),
        cmocka_unit_test(a_descendant_is_recognised),
        cmocka_unit_test(joining_a_process_that_does_not_exist),
    };

    return cmocka_run_group_tests(tests, NULL, tear_down_processes);
}
