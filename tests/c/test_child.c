#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gp/process.h"
#include "os/fd.h"
#include "support.h"

extern char **environ;

/* Start a child that runs |script|, which prints nothing. */
static gp_process *
start_script(const char *script)
{
    const char *const argv[] = {"/bin/sh", "-c", script, NULL};
    gp_error err = GP_ERROR_INIT;
    gp_process *process;
    int out;
    int errors;

    if (gp_process_start(&process, argv, (const char *const *)environ, &out, &errors, &err) < 0) {
        fail_msg("%s", gp_error_message(&err));
    }
    close(out);
    close(errors);
    return process;
}

static void
it_ends_by_itself(void **state)
{
    gp_process *process = start_script("exit 3");

    (void)state;
    assert_int_equal(gp_process_wait(process, PATIENCE_MS, NULL), 0);
    assert_int_equal(gp_process_status(process), 3);
    gp_process_kill(process);
    gp_process_free(process);
    gp_process_free(NULL);
}

static void
it_is_killed(void **state)
{
    gp_process *process = start_script("exec sleep 1000");
    pid_t pid = gp_process_pid(process);

    (void)state;
    assert_int_equal(gp_process_wait(process, 10, NULL), GP_ETIMEOUT);
    assert_int_equal(gp_process_wait(process, -1, &interrupt_now), GP_EUSER);
    assert_int_equal(gp_process_status(process), GP_STATUS_UNKNOWN);
    gp_process_kill(process);
    assert_int_equal(gp_process_wait(process, PATIENCE_MS, NULL), 0);
    assert_int_equal(gp_process_status(process), -SIGKILL);
    gp_process_free(process);
    assert_int_equal(kill(pid, 0), -1); /* it has been reaped */
}

/* The fork is not the child's parent: it cannot wait for it, and its locks may be held. */
static void
a_forked_child_may_not_use_it(void **state)
{
    gp_process *process = start_script("exec sleep 1000");
    int status;
    pid_t pid = fork();

    (void)state;
    assert_true(pid >= 0);
    if (pid == 0) {
        bool waited = gp_process_wait(process, PATIENCE_MS, NULL) == GP_EFORKED;
        bool unknown = gp_process_status(process) == GP_STATUS_UNKNOWN;

        gp_process_kill(process);
        gp_process_free(process);
        _exit(waited && unknown ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(gp_process_wait(process, 10, NULL), GP_ETIMEOUT);
    gp_process_kill(process);
    assert_int_equal(gp_process_wait(process, PATIENCE_MS, NULL), 0);
    gp_process_free(process);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_ends_by_itself),
        cmocka_unit_test(it_is_killed),
        cmocka_unit_test(a_forked_child_may_not_use_it),
    };

    return cmocka_run_group_tests(tests, NULL, tear_down_reactor);
}
