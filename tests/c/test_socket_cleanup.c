#include "support.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gp/listen.h"
#include "gp/socket_cleanup.h"

static const int signals[] = {SIGTERM, SIGHUP, SIGQUIT};

static void *
raise_signal(void *number)
{
    kill(getpid(), *(int *)number);
    return NULL;
}

/* Call |child|(|number|) in a process of its own. Returns its wait status. */
static int
status_of(void (*child)(int number), int number)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        child(number);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static const char *first;
static const char *second;

static int
setup(void **state)
{
    (void)state;
    first = make_file("first", "", 0600);
    second = make_file("second", "", 0600);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    remove_directory();
    return 0;
}

static void
signal_a_thread(int number)
{
    pthread_t thread;

    if (gp_socket_cleanup_add(first, NULL, NULL) < 0 ||
        gp_socket_cleanup_add(second, NULL, NULL) < 0) {
        _exit(1);
    }
    pthread_create(&thread, NULL, raise_signal, &number);
    pthread_join(thread, NULL);
    for (;;) {
        pause();
    }
}

static void
signals_end_the_process_after_the_files_are_gone(void **state)
{
    for (int i = 0; i < 3; i++) {
        int status = status_of(signal_a_thread, signals[i]);

        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), signals[i]);
        assert_int_not_equal(access(first, F_OK), 0);
        assert_int_not_equal(access(second, F_OK), 0);
        setup(state);
    }
}

static void
drop_and_die(int number)
{
    gp_socket_cleanup_drop(gp_socket_cleanup_add(first, NULL, NULL));
    raise(number);
}

static void
a_dropped_socket_stays(void **state)
{
    struct sigaction action;
    int status = status_of(drop_and_die, SIGTERM);

    (void)state;
    assert_true(WIFSIGNALED(status));
    assert_int_equal(access(first, F_OK), 0);
    gp_socket_cleanup_drop(gp_socket_cleanup_add(first, NULL, NULL));
    sigaction(SIGTERM, NULL, &action);
    assert_true(action.sa_handler == SIG_DFL);
}

static void
drop_twice_and_die(int number)
{
    int number_of_first = gp_socket_cleanup_add(first, NULL, NULL);

    gp_socket_cleanup_add(second, NULL, NULL);
    gp_socket_cleanup_drop(number_of_first);
    gp_socket_cleanup_drop(number_of_first); /* as two threads that stop one server do */
    raise(number);
}

static void
dropping_twice_keeps_the_other_sockets(void **state)
{
    int status = status_of(drop_twice_and_die, SIGTERM);

    (void)state;
    assert_true(WIFSIGNALED(status));
    assert_int_equal(access(first, F_OK), 0);
    assert_int_not_equal(access(second, F_OK), 0);
}

static void
die_in_a_fork(int number)
{
    int status;
    pid_t pid;

    gp_socket_cleanup_add(first, NULL, NULL);
    pid = fork();
    if (pid == 0) {
        raise(number);
    }
    waitpid(pid, &status, 0);
    _exit(WIFSIGNALED(status) && access(first, F_OK) == 0 ? 7 : 1);
}

static void
a_forked_child_removes_nothing(void **state)
{
    int status = status_of(die_in_a_fork, SIGTERM);

    (void)state;
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
}

static volatile sig_atomic_t handled;

static void
handle(int number)
{
    handled = number;
}

static void
handlers_of_others_stay(void **state)
{
    int number_of_first;

    (void)state;
    signal(SIGTERM, handle);
    signal(SIGHUP, SIG_IGN);
    number_of_first = gp_socket_cleanup_add(first, NULL, NULL);
    raise(SIGTERM);
    raise(SIGHUP);
    assert_int_equal(handled, SIGTERM);
    assert_int_equal(access(first, F_OK), 0);
    gp_socket_cleanup_drop(number_of_first);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
}

static void
there_is_room_for_sixteen(void **state)
{
    char long_path[GP_LISTEN_PATH + 1];
    gp_error err = GP_ERROR_INIT;
    int numbers[16];

    (void)state;
    for (int i = 0; i < 16; i++) {
        numbers[i] = gp_socket_cleanup_add(first, NULL, NULL);
        assert_true(numbers[i] >= 0);
    }
    assert_int_equal(gp_socket_cleanup_add(second, NULL, &err), GP_ENOMEM);
    gp_error_release(&err);
    for (int i = 0; i < 16; i++) {
        gp_socket_cleanup_drop(numbers[i]);
    }
    memset(long_path, 'x', GP_LISTEN_PATH);
    long_path[GP_LISTEN_PATH] = '\0';
    assert_int_equal(gp_socket_cleanup_add(long_path, NULL, &err), GP_EINVAL);
    gp_error_release(&err);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(signals_end_the_process_after_the_files_are_gone),
        TEST(a_dropped_socket_stays),
        TEST(dropping_twice_keeps_the_other_sockets),
        TEST(a_forked_child_removes_nothing),
        TEST(handlers_of_others_stay),
        TEST(there_is_room_for_sixteen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
