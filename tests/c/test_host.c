/*
 * A plugin whose host dies. Three processes: the test, a host that it forks and kills, and this
 * program again as the plugin, perhaps below a shell.
 */
#include "gp/host.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gp/log.h"
#include "gp/runtime.h"
#include "support.h"

/* The descriptor to which the plugin writes its reports. */
enum { REPORT = 9 };

static char self[500];

/* ---- The plugin ------------------------------------------------------------------------------ */

static void
on_host_gone(void *ctx)
{
    (void)!write(REPORT, ctx, 1);
}

static int
be_plugin(const char *patience_ms)
{
    static char note = 'g';

    alarm(120); /* in case the test fails */
    if (gp_runtime_init() < 0 || gp_host_watch(on_host_gone, &note, atoi(patience_ms), NULL) < 0 ||
        gp_host_watch(on_host_gone, &note, 0, NULL) < 0 || write(REPORT, "r", 1) != 1) {
        return 2;
    }
    for (;;) {
        pause();
    }
}

/* ---- The test -------------------------------------------------------------------------------- */

typedef struct family {
    pid_t host;
    int report;
    int outputs[2][2];
} family;

/* In the host, which has one thread: start the plugin, directly or below a shell. */
static _Noreturn void
be_host(const family *it, int report, bool wrapped)
{
    char command[600];
    pid_t child = fork();

    if (child == 0) {
        dup2(report, REPORT);
        dup2(it->outputs[0][1], STDOUT_FILENO);
        dup2(it->outputs[1][1], STDERR_FILENO);
        for (int fd = 3; fd < REPORT; fd++) {
            close(fd);
        }
        for (int fd = REPORT + 1; fd < 64; fd++) {
            close(fd);
        }
        snprintf(command, sizeof(command), "%s --plugin 100; :", self);
        if (wrapped) {
            execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        } else {
            execl(self, self, "--plugin", "100", (char *)NULL);
        }
        _exit(127);
    }
    close(it->outputs[0][1]);
    close(it->outputs[1][1]);
    for (;;) {
        pause();
    }
}

/* Read a byte of the plugin's report; 0 at its end. */
static char
read_report(const family *it)
{
    char byte = 0;
    ssize_t got;

    do {
        got = read(it->report, &byte, 1);
    } while (got < 0 && errno == EINTR);
    assert_true(got >= 0);
    return got == 1 ? byte : '\0';
}

static void
begin(family *it, bool wrapped)
{
    int report[2];

    assert_int_equal(pipe(report), 0);
    assert_int_equal(pipe(it->outputs[0]), 0);
    assert_int_equal(pipe(it->outputs[1]), 0);
    it->report = report[0];
    it->host = fork();
    if (it->host == 0) {
        be_host(it, report[1], wrapped);
    }
    /* The host is to be the only process with the reading ends. */
    for (int i = 0; i < 2; i++) {
        close(it->outputs[i][0]);
        close(it->outputs[i][1]);
    }
    close(report[1]);
    assert_int_equal(read_report(it), 'r');
}

static void
end(family *it)
{
    int status;

    assert_int_equal(kill(it->host, SIGKILL), 0);
    assert_int_equal(waitpid(it->host, &status, 0), it->host);
    assert_int_equal(read_report(it), 'g');
    assert_int_equal(read_report(it), '\0'); /* it has been ended after its patience */
    close(it->report);
}

static void
the_end_of_the_parent_is_noticed(void **state)
{
    family it;

    (void)state;
    begin(&it, false);
    end(&it);
}

/* The shell in between goes on: the plugin can only notice that its output is not read. */
static void
the_end_of_a_host_above_a_wrapper_is_noticed(void **state)
{
    family it;

    (void)state;
    begin(&it, true);
    end(&it);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_end_of_the_parent_is_noticed),
        cmocka_unit_test(the_end_of_a_host_above_a_wrapper_is_noticed),
    };

    if (argc == 3 && strcmp(argv[1], "--plugin") == 0) {
        return be_plugin(argv[2]);
    }
    if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0) {
        return 4;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
