#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/fd.h"
#include "os/reactor.h"
#include "pump_fixture.h"

/* ---- One stream ---- */

static void
both_ways(void **state)
{
    side sides[2];

    pump_open_pair(sides, *state != NULL);
    for (int i = 0; i < 2; i++) {
        int here = pump_dial(&sides[i]);
        int there = pump_await_arrival(&sides[1 - i]);

        pump_put(here, "ping", 4);
        pump_expect(there, "ping");
        pump_put(there, "pong", 4);
        pump_expect(here, "pong");
        close(here);
        pump_expect_end(there);
        close(there);
    }
    side_release(&sides[0]);
    side_release(&sides[1]);
}

static void
half_closed(void **state)
{
    static char much[1 << 20];
    side sides[2];
    int here;
    int there;

    pump_open_pair(sides, *state != NULL);
    here = pump_dial(&sides[0]);
    pump_put(here, "question", 8);
    shutdown(here, SHUT_WR);
    there = pump_await_arrival(&sides[1]);
    pump_expect(there, "question");
    pump_expect_end(there);
    for (int i = 0; i < 8; i++) {
        memset(much, 'a' + i, sizeof(much));
        pump_put(there, much, sizeof(much) / 8);
        assert_int_equal(pump_get(here, much, sizeof(much) / 8), sizeof(much) / 8);
        assert_int_equal(much[0], 'a' + i);
    }
    pump_put(there, "bye", 3);
    close(there); /* data first, then the end */
    pump_expect(here, "bye");
    pump_expect_end(here);
    close(here);
    side_release(&sides[0]);
    side_release(&sides[1]);
}

/* The writer learns that the stream is not read, and does not wait without end. */
static void
the_reader_closes(void **state)
{
    static char much[1 << 16];
    side sides[2];
    int here;
    int there;

    pump_open_pair(sides, *state != NULL);
    here = pump_dial(&sides[0]);
    there = pump_await_arrival(&sides[1]);
    close(there);
    pump_expect_end(here);
    for (;;) {
        ssize_t some = send(here, much, sizeof(much), MSG_NOSIGNAL);

        if (some < 0 && errno == EAGAIN) {
            pump_await_fd(here, POLLOUT);
        } else if (some < 0) {
            assert_true(errno == EPIPE || errno == ECONNRESET);
            break;
        }
    }
    close(here);
    side_release(&sides[0]);
    side_release(&sides[1]);
}

static void
refused(void **state)
{
    side sides[2];
    int here;

    pump_open_pair(sides, *state != NULL);
    sides[1].refusing = true;
    here = pump_dial(&sides[0]);
    pump_expect_end(here);
    close(here);
    gp_mutex_lock(&sides[1].lock);
    sides[1].refusing = false;
    gp_mutex_unlock(&sides[1].lock);
    here = pump_dial(&sides[0]);
    close(pump_await_arrival(&sides[1]));
    close(here);
    side_release(&sides[0]);
    side_release(&sides[1]);
}

/* ---- Many ---- */

/* Sends |len| bytes that depend on the seed, and checks that the same come back. */
typedef struct job {
    int fd;
    unsigned seed;
    size_t len;
    size_t sent;
    size_t got;
    bool shut;
} job;

static unsigned char
byte_at(const job *it, size_t offset)
{
    return (unsigned char)(offset * 13 + offset / 255 + it->seed);
}

static void
job_step(job *it)
{
    unsigned char bytes[8192];
    size_t part = it->len - it->sent < sizeof(bytes) ? it->len - it->sent : sizeof(bytes);
    ssize_t some;

    for (size_t i = 0; i < part; i++) {
        bytes[i] = byte_at(it, it->sent + i);
    }
    some = part > 0 ? send(it->fd, bytes, part, MSG_NOSIGNAL) : 0;
    assert_true(some >= 0 || errno == EAGAIN);
    it->sent += some > 0 ? (size_t)some : 0;
    if (it->sent == it->len && !it->shut) {
        it->shut = true;
        shutdown(it->fd, SHUT_WR);
    }
    some = recv(it->fd, bytes, sizeof(bytes), 0);
    if (some > 0) {
        for (ssize_t i = 0; i < some; i++) {
            assert_int_equal(bytes[i], byte_at(it, it->got + (size_t)i));
        }
        it->got += (size_t)some;
    } else if (some == 0) {
        assert_int_equal(it->got, it->len);
        close(it->fd);
        it->fd = -1;
    } else {
        assert_true(errno == EAGAIN);
    }
}

/* Echoes everything that arrives, until the session is over. */
static void *
echo(void *arg)
{
    side *it = arg;
    struct pollfd fds[MOST_ARRIVED];
    size_t count = 0;
    bool over = false;

    while (!over || count > 0) {
        gp_mutex_lock(&it->lock);
        while (it->taken < it->arrived_count) {
            fds[count++] = (struct pollfd){.fd = it->arrived[it->taken++], .events = POLLIN};
        }
        over = it->over != 0;
        if (!over && count == 0) {
            gp_cond_wait_until(&it->changed, &it->lock, gp_deadline_in(100));
        }
        gp_mutex_unlock(&it->lock);
        poll(fds, (nfds_t)count, 20);
        for (size_t i = count; i-- > 0;) {
            char bytes[16384];
            ssize_t some = fds[i].revents != 0 ? recv(fds[i].fd, bytes, sizeof(bytes), 0) : -1;

            if (some > 0) {
                pump_put(fds[i].fd, bytes, (size_t)some);
            } else if (some == 0 || over) {
                close(fds[i].fd);
                fds[i] = fds[--count];
            }
        }
    }
    return NULL;
}

static void
run_jobs(side *from, job *jobs, size_t count)
{
    static struct pollfd fds[1000];
    bool busy = true;

    for (size_t i = 0; i < count; i++) {
        jobs[i].fd = pump_dial(from);
    }
    while (busy) {
        busy = false;
        for (size_t i = 0; i < count; i++) {
            fds[i] = (struct pollfd){
                .fd = jobs[i].fd,
                .events = (short)(POLLIN | (jobs[i].sent < jobs[i].len ? POLLOUT : 0))};
        }
        assert_true(gp__fd_poll(fds, (nfds_t)count, patience()) > 0);
        for (size_t i = 0; i < count; i++) {
            if (jobs[i].fd >= 0 && (fds[i].revents != 0 || !jobs[i].shut)) {
                job_step(&jobs[i]);
            }
            busy = busy || jobs[i].fd >= 0;
        }
    }
}

static void
a_thousand_streams(void **state)
{
    static job jobs[1000];
    side sides[2];
    pthread_t echoing;

    pump_open_pair(sides, *state != NULL);
    assert_int_equal(pthread_create(&echoing, NULL, echo, &sides[1]), 0);
    srand(7);
    for (size_t i = 0; i < 1000; i++) {
        jobs[i] = (job){.seed = (unsigned)i, .len = (size_t)rand() % (i % 50 == 0 ? 400000 : 4000)};
    }
    run_jobs(&sides[0], jobs, under_valgrind() ? 50 : 1000);
    gp__pump_close(sides[0].pump, 0);
    sides[0].pump = NULL;
    pump_await_over(&sides[1]);
    pthread_join(echoing, NULL);
    side_release(&sides[0]);
    side_release(&sides[1]);
}

/* What is not read is bounded by the windows, and stalls no other stream. */
static void
stalled(void **state)
{
    static char chunk[1 << 16];
    side sides[2];
    int stalled_fds[20];
    size_t most = 0;

    pump_open_pair(sides, *state != NULL);
    for (int i = 0; i < 20; i++) {
        size_t written = 0;
        struct pollfd one;

        stalled_fds[i] = pump_dial(&sides[0]);
        one = (struct pollfd){.fd = stalled_fds[i], .events = POLLOUT};
        while (poll(&one, 1, 200) > 0) {
            ssize_t some = send(stalled_fds[i], chunk, sizeof(chunk), MSG_NOSIGNAL);

            written += some > 0 ? (size_t)some : 0;
            assert_true(written < 4 << 20);
        }
        most = written > most ? written : most;
        (void)pump_await_arrival(&sides[1]);
        sides[1].arrived[i] = sides[1].arrived[sides[1].taken - 1];
    }
    assert_true(most >= GP__YAMUX_WINDOW);
    for (int i = 0; i < 20; i++) {
        int here = pump_dial(&sides[i % 2]);
        int there = pump_await_arrival(&sides[1 - i % 2]);

        pump_put(here, "still there?", 12);
        pump_expect(there, "still there?");
        close(here);
        close(there);
    }
    for (int i = 0; i < 20; i++) {
        close(stalled_fds[i]);
        close(sides[1].arrived[i]);
    }
    side_release(&sides[0]);
    side_release(&sides[1]);
}

/* ---- Ends ---- */

static void *
close_pump(void *pump)
{
    gp__pump_close(pump, 0);
    return NULL;
}

static void
closing_waits_for_callbacks(void **state)
{
    side sides[2];
    pthread_t closer;
    int here;

    pump_open_pair(sides, *state != NULL);
    sides[1].held = true;
    here = pump_dial(&sides[0]);
    gp_mutex_lock(&sides[1].lock);
    while (!sides[1].in_callback) {
        assert_int_equal(gp_cond_wait_until(&sides[1].changed, &sides[1].lock, patience()), 0);
    }
    gp_mutex_unlock(&sides[1].lock);
    assert_int_equal(pthread_create(&closer, NULL, close_pump, sides[1].pump), 0);
    gp_mutex_lock(&sides[1].lock);
    sides[1].held = false;
    gp_cond_broadcast(&sides[1].changed);
    gp_mutex_unlock(&sides[1].lock);
    pthread_join(closer, NULL);
    assert_false(sides[1].in_callback);
    assert_int_equal(sides[1].over, 0);
    sides[1].pump = NULL;
    pump_expect_end(here);
    close(here);
    side_release(&sides[0]);
    side_release(&sides[1]);
}

typedef struct dialler {
    side *from;
    atomic_bool stop;
} dialler;

static void *
dial_and_close(void *arg)
{
    dialler *it = arg;
    int fd;

    while (!atomic_load(&it->stop)) {
        if (pump_try_dial(it->from->pump, &fd) < 0) {
            break;
        }
        (void)!send(fd, "x", 1, MSG_NOSIGNAL);
        close(fd);
    }
    return NULL;
}

static void
ends_while_threads_dial(void **state)
{
    for (int turn = 0; turn < 20; turn++) {
        side sides[2];
        dialler both[2] = {{.from = &sides[0]}, {.from = &sides[0]}};
        pthread_t threads[2];

        pump_open_pair(sides, *state != NULL);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, dial_and_close, &both[i]), 0);
        }
        close(pump_await_arrival(&sides[1]));
        gp__pump_close(sides[1].pump, 0);
        sides[1].pump = NULL;
        pump_await_over(&sides[0]);
        for (int i = 0; i < 2; i++) {
            atomic_store(&both[i].stop, true);
            pthread_join(threads[i], NULL);
        }
        side_release(&sides[0]);
        side_release(&sides[1]);
    }
}

/*
 * The child says through a pipe what it got: its exit status is valgrind's, which finds there what
 * OpenSSL had for a thread of the parent.
 */
static void
nothing_in_a_forked_child(void **state)
{
    side sides[2];
    int result[2];
    int rc = 0;
    pid_t pid;
    int fd;

    assert_int_equal(gp_runtime_init(), 0);
    assert_int_equal(pipe(result), 0);
    pump_open_pair(sides, *state != NULL);
    pid = fork();
    if (pid == 0) {
        rc = pump_try_dial(sides[0].pump, &fd);
        gp__pump_close(sides[0].pump, 0);
        _exit(write(result[1], &rc, sizeof(rc)) == sizeof(rc) ? 0 : 1);
    }
    close(result[1]);
    assert_int_equal(read(result[0], &rc, sizeof(rc)), sizeof(rc));
    assert_int_equal(rc, GP_EFORKED);
    close(result[0]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(pump_dial(&sides[0]));
    close(pump_await_arrival(&sides[1]));
    side_release(&sides[0]);
    side_release(&sides[1]);
}

static void
every_allocation_fails(void **state)
{
    long failing = 0;
    bool failed;

    do {
        side sides[2];
        int fd = -1;
        int rc;

        gp__reactor_stop();
        alloc_begin(failing++);
        rc = pump_try_open_pair(sides, *state != NULL);
        assert_true(rc == 0 || rc == GP_ENOMEM);
        if (sides[0].pump != NULL && sides[1].pump != NULL &&
            pump_try_dial(sides[0].pump, &fd) == 0) {
            char bytes[600];

            memset(bytes, 'x', sizeof(bytes));
            (void)!send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL);
            shutdown(fd, SHUT_WR);
            if (alloc_failures() == 0) {
                gp_mutex_lock(&sides[1].lock);
                while (sides[1].arrived_count == 0 && sides[1].over == 0 && alloc_failures() == 0) {
                    gp_cond_wait_until(&sides[1].changed, &sides[1].lock, gp_deadline_in(10));
                }
                gp_mutex_unlock(&sides[1].lock);
            }
        }
        failed = alloc_failures() > 0;
        side_release(&sides[0]);
        failed = failed || alloc_failures() > 0;
        side_release(&sides[1]);
        if (fd >= 0) {
            close(fd);
        }
        gp__reactor_stop();
        alloc_end();
    } while (failed);
    assert_true(failing > 8);
}

static bool secure = true;

/* The same over a pair of sockets, and over TLS. */
#define BOTH(function)                                       \
    cmocka_unit_test(function),                              \
    {                                                        \
        #function " over TLS", function, NULL, NULL, &secure \
    }

int
main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(both_ways),
        BOTH(half_closed),
        BOTH(the_reader_closes),
        BOTH(refused),
        BOTH(a_thousand_streams),
        BOTH(stalled),
        BOTH(closing_waits_for_callbacks),
        BOTH(ends_while_threads_dial),
        BOTH(nothing_in_a_forked_child),
        BOTH(every_allocation_fails),
    };

    return cmocka_run_group_tests(tests, pump_make_tls, pump_free_tls);
}
