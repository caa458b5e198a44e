/* For RTLD_NEXT. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <dlfcn.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gp/listen.h"
#include "os/fd.h"
#include "os/offload.h"
#include "os/socket.h"
#include "support.h"

/*
 * A name server that does not answer until |answer| is closed: what the library calls is this one.
 */
static int answer[2];
static atomic_int asked;
static atomic_int answered;

int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
            struct addrinfo **out)
{
    typedef int lookup(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    union {
        void *symbol;
        lookup *function;
    } real = {dlsym(RTLD_NEXT, "getaddrinfo")};
    char byte;

    if (node != NULL && strcmp(node, "slow.example") == 0 &&
        (hints->ai_flags & AI_NUMERICHOST) == 0) {
        atomic_fetch_add(&asked, 1);
        while (read(answer[0], &byte, 1) > 0) {
        }
        atomic_fetch_add(&answered, 1);
        return EAI_AGAIN;
    }
    return real.function(node, service, hints, out);
}

static int
setup(void **state)
{
    (void)state;
    assert_int_equal(pipe(answer), 0);
    atomic_store(&asked, 0);
    atomic_store(&answered, 0);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    gp__fd_close(&answer[1]);
    while (atomic_load(&answered) < atomic_load(&asked)) {
        gp__fd_poll(NULL, 0, gp_deadline_in(1));
    }
    gp__fd_close(&answer[0]);
    return 0;
}

static void
the_deadline_holds(void **state)
{
    gp_error err = GP_ERROR_INIT;
    int fd = -1;

    (void)state;
    assert_int_equal(gp__socket_reach(&fd, "tcp", "slow.example:1", gp_deadline_in(20), NULL, &err),
                     GP_ETIMEOUT);
    assert_string_equal(gp_error_message(&err), "cannot connect to slow.example:1: timed out");
    assert_int_equal(
        gp__socket_probe("tcp", "slow.example:1", NULL, gp_deadline_in(20), NULL, &err),
        GP_EREATTACH);
    assert_non_null(strstr(gp_error_message(&err), "slow.example:1: timed out"));
    assert_int_equal(fd, -1);
    gp_error_release(&err);
}

static void
so_does_an_interrupt(void **state)
{
    gp_error err = GP_ERROR_INIT;
    int fd = -1;

    (void)state;
    assert_int_equal(
        gp__socket_reach(&fd, "tcp", "slow.example:1", patience(), &interrupt_now, &err), GP_EUSER);
    assert_int_equal(
        gp__socket_probe("tcp", "slow.example:1", NULL, patience(), &interrupt_now, &err),
        GP_EUSER);
    gp_error_release(&err);
}

/* Connections to addresses and to other names do not wait for a slow lookup. */
static void
other_connections_do_not_wait(void **state)
{
    char address[40];
    int fd = -1;
    int listener;
    int port;

    (void)state;
    assert_int_equal(gp__socket_reach(&fd, "tcp", "slow.example:1", gp_deadline_in(1), NULL, NULL),
                     GP_ETIMEOUT);
    assert_int_equal(gp__socket_listen(&listener, "tcp", "127.0.0.1:0", &port, NULL), 0);
    for (int i = 0; i < 3; i++) {
        static const char *const formats[] = {"127.0.0.1:%d", "localhost:%d", ":%d"};

        snprintf(address, sizeof(address), formats[i], port);
        assert_int_equal(gp__socket_reach(&fd, "tcp", address, patience(), NULL, NULL), 0);
        gp__fd_close(&fd);
    }
    gp__fd_close(&listener);
}

/* A peer cannot make this process start threads without end. */
static void
not_any_number_of_threads(void **state)
{
    gp_error err = GP_ERROR_INIT;
    int timed_out = 0;
    int fd = -1;
    int rc;

    (void)state;
    do {
        rc = gp__socket_reach(&fd, "tcp", "slow.example:1", gp__now(), NULL, &err);
        timed_out += rc == GP_ETIMEOUT;
    } while (rc == GP_ETIMEOUT && timed_out < 1000);
    assert_int_equal(rc, GP_EOS);
    assert_in_range(timed_out, 16, 128);
    gp_error_release(&err);
}

/* ---- What it is made of ---- */

static atomic_int released;

static void
wait_for_answer(void *ctx)
{
    char byte;

    (void)ctx;
    atomic_fetch_add(&asked, 1);
    while (read(answer[0], &byte, 1) > 0) {
    }
}

static void
release(void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&released, 1);
    atomic_fetch_add(&answered, 1);
}

static void
what_is_left_behind_is_released(void **state)
{
    (void)state;
    atomic_store(&released, 0);
    assert_int_equal(gp__offload(wait_for_answer, release, NULL, gp_deadline_in(10), NULL, NULL),
                     GP_ETIMEOUT);
    assert_int_equal(atomic_load(&released), 0);
    gp__fd_close(&answer[1]);
    while (atomic_load(&released) == 0) {
        gp__fd_poll(NULL, 0, gp_deadline_in(1));
    }
    assert_int_equal(gp__offload(wait_for_answer, release, NULL, patience(), NULL, NULL), 0);
    assert_int_equal(atomic_load(&released), 1); /* the caller's again */
    atomic_fetch_add(&answered, 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_deadline_holds, setup, teardown),
        cmocka_unit_test_setup_teardown(so_does_an_interrupt, setup, teardown),
        cmocka_unit_test_setup_teardown(other_connections_do_not_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(not_any_number_of_threads, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_left_behind_is_released, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
