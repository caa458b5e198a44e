/* The signal masks of the library's threads. */
#include <signal.h>
#include <string.h>

#include "support.h"

enum { SIGNALS = 64 };

static void *
read_mask(void *out)
{
    pthread_sigmask(SIG_SETMASK, NULL, out);
    return NULL;
}

/* The mask of a thread that |starter| starts. */
typedef int starter(pthread_t *, const char *, void *(*)(void *), void *, gp_error *);

static sigset_t
mask_of(starter *start)
{
    gp_error err = GP_ERROR_INIT;
    pthread_t thread;
    sigset_t mask;

    assert_int_equal(start(&thread, "test", read_mask, &mask, &err), 0);
    pthread_join(thread, NULL);
    return mask;
}

static void
assert_same(const sigset_t *one, const sigset_t *other)
{
    for (int number = 1; number <= SIGNALS; number++) {
        assert_int_equal(sigismember(one, number), sigismember(other, number));
    }
}

static sigset_t
set_mask(int number)
{
    sigset_t mask;

    sigemptyset(&mask);
    if (number > 0) {
        sigaddset(&mask, number);
    }
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    return mask;
}

static void
own_threads_block_signals(void **state)
{
    sigset_t before = set_mask(SIGUSR1);
    sigset_t mask = mask_of(gp__thread_start);
    sigset_t after;

    (void)state;
    assert_int_equal(sigismember(&mask, SIGTERM), 1);
    assert_int_equal(sigismember(&mask, SIGCHLD), 1);
    assert_int_equal(sigismember(&mask, SIGSEGV), 0);
    read_mask(&after);
    assert_same(&before, &after);
}

static void
threads_for_the_user_inherit_the_mask(void **state)
{
    static const int chosen[] = {0, SIGUSR1, SIGUSR2};

    (void)state;
    for (size_t i = 0; i < sizeof(chosen) / sizeof(chosen[0]); i++) {
        sigset_t before = set_mask(chosen[i]);
        sigset_t mask = mask_of(gp_user_thread_start);

        assert_same(&before, &mask);
    }
}

static void *
start_another(void *out)
{
    *(sigset_t *)out = mask_of(gp_user_thread_start);
    return NULL;
}

/* This holds whether or not a thread for the user has been started before. */
static void
threads_that_block_signals_do_not_pass_that_on(void **state)
{
    static const int chosen[] = {SIGUSR1, 0};

    (void)state;
    for (size_t i = 0; i < sizeof(chosen) / sizeof(chosen[0]); i++) {
        gp_error err = GP_ERROR_INIT;
        sigset_t before = set_mask(chosen[i]);
        pthread_t thread;
        sigset_t mask;

        assert_int_equal(gp__thread_start(&thread, "test", start_another, &mask, &err), 0);
        pthread_join(thread, NULL);
        assert_same(&before, &mask);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_threads_block_signals),
        cmocka_unit_test(threads_for_the_user_inherit_the_mask),
        cmocka_unit_test(threads_that_block_signals_do_not_pass_that_on),
    };

    return cmocka_run_group_tests_name("runtime", tests, NULL, NULL);
}
