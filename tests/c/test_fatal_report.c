#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gp/fatal_report.h"
#include "os/fatal_report.h"
#include "os/fd.h"
#include "support.h"

/*
 * Start a process that guards a pipe, writes |texts| to it by |say|, and aborts. |found| is what
 * the signal's handler has written.
 */
static void
report_of_abort(char *found, size_t size, bool (*say)(const int *pipe, const char *const *texts),
                const char *const *texts)
{
    const struct rlimit none = {0, 0};
    int from[2];
    int to[2];
    size_t len = 0;
    ssize_t got;
    pid_t pid;
    int status;

    assert_int_equal(pipe(from), 0);
    assert_int_equal(pipe(to), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        fcntl(from[0], F_SETFL, O_NONBLOCK);
        gp__fatal_report_set_pipe(from[0], to[1]);
        if (!say(from, texts)) {
            _exit(1);
        }
        abort();
    }
    close(to[1]);
    while ((got = read(to[0], found + len, size - 1 - len)) > 0) {
        len += (size_t)got;
    }
    found[len] = '\0';
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    close(to[0]);
    close(from[0]);
    close(from[1]);
}

static bool
write_text(int fd, const char *text)
{
    return write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* Write all texts to the pipe, and read each but the last from it. */
static bool
write_and_read(const int *pipe, const char *const *texts)
{
    static char bytes[32768];

    for (; texts[1] != NULL; texts++) {
        if (!write_text(pipe[1], texts[0]) ||
            gp__fatal_report_read(pipe[0], bytes, sizeof(bytes)) < 0) {
            return false;
        }
    }
    return write_text(pipe[1], texts[0]);
}

static void *
read_forever(void *from)
{
    static char bytes[4096];

    while (true) {
        gp__fatal_report_read(*(const int *)from, bytes, sizeof(bytes));
    }
    return NULL;
}

static bool
write_for_a_thread(const int *pipe, const char *const *texts)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, read_forever, (void *)pipe) != 0) {
        return false;
    }
    for (; *texts != NULL; texts++) {
        if (!write_text(pipe[1], *texts)) {
            return false;
        }
    }
    return true;
}

static void
what_was_read_in_pieces_is_reported(void **state)
{
    const char *const texts[] = {"Fatal error\n", "\n", "Current thread:\n", "  File 1\n", NULL};
    char found[200];

    (void)state;
    report_of_abort(found, sizeof(found), write_and_read, texts);
    if (strstr(found, "Fatal error\n\nCurrent thread:\n  File 1\n") != found) {
        fail_msg("%s", found);
    }
}

static void
of_long_output_the_end_is_reported(void **state)
{
    static char much[30000];
    static char found[40000];
    const char *const texts[] = {"begins\n", much, "goes on\n", "ends\n", NULL};

    (void)state;
    memset(much, 'x', sizeof(much) - 1);
    report_of_abort(found, sizeof(found), write_and_read, texts);
    assert_null(strstr(found, "begins"));
    assert_non_null(strstr(found, "xxgoes on\nends\n"));
    assert_in_range(strlen(found), 16000, 17000);
}

/* The thread that reads from the pipe goes on while the process dies. */
static void
what_a_thread_is_reading_is_reported(void **state)
{
    static const char *const texts[] = {"Fatal error: ", "of segments\n", "\n", "File 1\n", NULL};

    (void)state;
    for (int left = rounds(500); left > 0; left--) {
        char found[400];

        report_of_abort(found, sizeof(found), write_for_a_thread, texts);
        if (strstr(found, "Fatal error: of segments\n\nFile 1\n") == NULL) {
            fail_msg("%s", found);
        }
    }
}

/*
 * A child that has inherited the pipe may fill it as fast as it is emptied. Here the copying
 * function fills it itself.
 */
static void
what_is_written_meanwhile_is_not_copied(void **state)
{
    char found[20] = "";
    int from[2];

    (void)state;
    assert_int_equal(pipe(from), 0);
    fcntl(from[0], F_SETFL, O_NONBLOCK);
    assert_true(write_text(from[1], "and so on"));
    gp__fd_copy_available(from[0], from[1], 0);
    assert_int_equal(read(from[0], found, sizeof(found)), 9);
    assert_string_equal(found, "and so on");
    close(from[0]);
    close(from[1]);
}

static bool
announce_and_write(const int *pipe, const char *const *texts)
{
    gp_fatal_report_enable();
    gp_fatal_report_enable();
    return write_and_read(pipe, texts);
}

static void
the_announcement_comes_before_the_output(void **state)
{
    const char *const texts[] = {"read\n", "left in the pipe\n", NULL};
    char found[200];

    (void)state;
    report_of_abort(found, sizeof(found), announce_and_write, texts);
    assert_string_equal(found, "panic: SIGABRT: aborted\nread\nleft in the pipe\n");
}

static const struct {
    int number;
    const char *announcement;
} announced[] = {
    {SIGSEGV, "panic: SIGSEGV: segmentation fault\n"},
    {SIGABRT, "panic: SIGABRT: aborted\n"},
    {SIGBUS, "panic: SIGBUS: bus error\n"},
    {SIGFPE, "panic: SIGFPE: arithmetic error\n"},
    {SIGILL, "panic: SIGILL: illegal instruction\n"},
};
enum { ANNOUNCED = sizeof(announced) / sizeof(announced[0]) };

/*
 * Start a process that enables announcements, calls |first|, and raises |number|. |expected| is
 * what it writes to standard error.
 */
static void
assert_announced(int number, void (*first)(void), const char *expected)
{
    const struct rlimit none = {0, 0};
    char found[200];
    int ends[2];
    ssize_t got;
    pid_t pid;
    int status;

    assert_int_equal(pipe(ends), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &none);
        for (size_t i = 0; i < ANNOUNCED; i++) {
            signal(announced[i].number, SIG_DFL); /* cmocka's, or a sanitizer's */
        }
        dup2(ends[1], STDERR_FILENO);
        gp_fatal_report_enable();
        first();
        raise(number);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), number);
    close(ends[1]);
    got = read(ends[0], found, sizeof(found) - 1);
    assert_true(got >= 0);
    found[got] = '\0';
    assert_string_equal(found, expected);
    close(ends[0]);
}

static void
do_nothing(void)
{
}

/* As a plugin does that goes on after it has served. */
static void
set_and_clear_pipe(void)
{
    int from[2];
    int to[2];

    if (pipe(from) == 0 && pipe(to) == 0) {
        gp__fatal_report_set_pipe(from[0], to[1]);
        gp__fatal_report_clear_pipe();
    }
}

/* The death of a plugin's child is not announced. */
static void
have_a_child_die(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        raise(SIGSEGV);
    }
    waitpid(pid, NULL, 0);
}

static struct sigaction replaced;

static void
write_trace(int number)
{
    write_text(STDERR_FILENO, "trace\n");
    sigaction(number, &replaced, NULL);
    raise(number);
}

/* As faulthandler does. */
static void
trace_segfaults(void)
{
    struct sigaction tracing = {.sa_handler = write_trace};

    sigemptyset(&tracing.sa_mask);
    sigaction(SIGSEGV, &tracing, &replaced);
    gp_fatal_report_enable();
    gp_fatal_report_enable();
}

/* As the interpreter does before it aborts. */
static void
trace_no_segfaults(void)
{
    trace_segfaults();
    sigaction(SIGSEGV, &replaced, NULL);
}

static void
handlers_that_come_later_run_after_ours(void **state)
{
    (void)state;
    assert_announced(SIGSEGV, trace_segfaults, "panic: SIGSEGV: segmentation fault\ntrace\n");
    assert_announced(SIGSEGV, trace_no_segfaults, "panic: SIGSEGV: segmentation fault\n");
}

static void
fatal_signals_are_announced(void **state)
{
    static void (*const first[])(void) = {do_nothing, set_and_clear_pipe, have_a_child_die};

    (void)state;
    for (size_t i = 0; i < ANNOUNCED; i++) {
        for (size_t j = 0; j < sizeof(first) / sizeof(first[0]); j++) {
            assert_announced(announced[i].number, first[j], announced[i].announcement);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_read_in_pieces_is_reported),
        cmocka_unit_test(of_long_output_the_end_is_reported),
        cmocka_unit_test(what_a_thread_is_reading_is_reported),
        cmocka_unit_test(what_is_written_meanwhile_is_not_copied),
        cmocka_unit_test(the_announcement_comes_before_the_output),
        cmocka_unit_test(fatal_signals_are_announced),
        cmocka_unit_test(handlers_that_come_later_run_after_ours),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
