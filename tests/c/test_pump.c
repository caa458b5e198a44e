#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "gp/lock.h"
#include "mux/pump.h"
#include "os/fd.h"
#include "os/reactor.h"
#include "support.h"

enum { MOST_ARRIVED = 1200 };

/* One side: a pump, the streams that the other side has opened, and how it ended. */
typedef struct side {
    gp__pump *pump;
    gp_mutex lock;
    gp_cond changed;
    int arrived[MOST_ARRIVED];
    size_t arrived_count;
    size_t taken;
    bool refusing;
    bool held; /* |opened| waits while it is set */
    bool in_callback;
    int over; /* code */
    char reason[200];
} side;

static int
on_opened(void *ctx)
{
    side *it = ctx;
    int ends[2] = {-1, -1};

    gp_mutex_lock(&it->lock);
    it->in_callback = true;
    gp_cond_broadcast(&it->changed);
    while (it->held) {
        gp_cond_wait(&it->changed, &it->lock);
    }
    if (!it->refusing && it->arrived_count < MOST_ARRIVED && gp__fd_socketpair(ends, NULL) == 0) {
        it->arrived[it->arrived_count++] = ends[1];
    }
    it->in_callback = false;
    gp_cond_broadcast(&it->changed);
    gp_mutex_unlock(&it->lock);
    return ends[0];
}

static void
on_over(void *ctx, const gp_error *why)
{
    side *it = ctx;

    gp_mutex_lock(&it->lock);
    assert_int_equal(it->over, 0);
    it->over = why->code;
    snprintf(it->reason, sizeof(it->reason), "%s", gp_error_message(why));
    gp_cond_broadcast(&it->changed);
    gp_mutex_unlock(&it->lock);
}

static void
side_init(side *it)
{
    memset(it, 0, sizeof(*it));
    gp_mutex_init(&it->lock);
    gp_cond_init(&it->changed);
}

static int
side_open(side *it, int fd, gp__yamux_options session)
{
    const gp__pump_options options = {session, on_opened, NULL, on_over, it};

    return gp__pump_open(&it->pump, fd, &options, NULL);
}

static void
side_release(side *it)
{
    gp__pump_close(it->pump, 0);
    while (it->taken < it->arrived_count) {
        close(it->arrived[it->taken++]);
    }
    gp_cond_release(&it->changed);
    gp_mutex_release(&it->lock);
}

static void
open_pair(side sides[2])
{
    int ends[2];

    assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
    for (int i = 0; i < 2; i++) {
        side_init(&sides[i]);
        assert_int_equal(side_open(&sides[i], ends[i], (gp__yamux_options){.client = i == 0}), 0);
    }
}

static int
await_arrival(side *it)
{
    int64_t deadline = patience();
    int fd;

    gp_mutex_lock(&it->lock);
    while (it->taken == it->arrived_count) {
        assert_int_equal(gp_cond_wait_until(&it->changed, &it->lock, deadline), 0);
    }
    fd = it->arrived[it->taken++];
    gp_mutex_unlock(&it->lock);
    return fd;
}

static void
await_over(side *it)
{
    int64_t deadline = patience();

    gp_mutex_lock(&it->lock);
    while (it->over == 0) {
        assert_int_equal(gp_cond_wait_until(&it->changed, &it->lock, deadline), 0);
    }
    gp_mutex_unlock(&it->lock);
}

/* Open a stream; |*out| is the end to use. */
static int
try_dial(gp__pump *pump, int *out)
{
    int ends[2];
    int rc;

    assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
    rc = gp__pump_dial(pump, ends[0], NULL);
    if (rc < 0) {
        close(ends[1]);
    } else {
        *out = ends[1];
    }
    return rc;
}

static int
dial(side *it)
{
    int fd = -1;

    assert_int_equal(try_dial(it->pump, &fd), 0);
    return fd;
}

static void
await_fd(int fd, short events)
{
    struct pollfd one = {.fd = fd, .events = events};

    assert_int_equal(gp__fd_poll(&one, 1, patience()), 1);
}

static void
put(int fd, const void *bytes, size_t len)
{
    const char *at = bytes;

    while (len > 0) {
        ssize_t some = send(fd, at, len, MSG_NOSIGNAL);

        if (some < 0) {
            assert_true(errno == EAGAIN);
            await_fd(fd, POLLOUT);
            continue;
        }
        at += some;
        len -= (size_t)some;
    }
}

/* Returns how much came before the end, at most |len|. */
static size_t
get(int fd, void *bytes, size_t len)
{
    size_t got = 0;

    while (got < len) {
        ssize_t some = recv(fd, (char *)bytes + got, len - got, 0);

        if (some < 0 && errno == EAGAIN) {
            await_fd(fd, POLLIN);
        } else if (some <= 0) {
            break;
        } else {
            got += (size_t)some;
        }
    }
    return got;
}

static void
expect(int fd, const char *text)
{
    char bytes[100];

    assert_int_equal(get(fd, bytes, strlen(text)), strlen(text));
    assert_memory_equal(bytes, text, strlen(text));
}

static void
expect_end(int fd)
{
    char byte;

    assert_int_equal(get(fd, &byte, 1), 0);
}

/* ---- One stream ---- */

static void
both_ways(void **state)
{
    side sides[2];

    (void)state;
    open_pair(sides);
    for (int i = 0; i < 2; i++) {
        int here = dial(&sides[i]);
        int there = await_arrival(&sides[1 - i]);

        put(here, "ping", 4);
        expect(there, "ping");
        put(there, "pong", 4);
        expect(here, "pong");
        close(here);
        expect_end(there);
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

    (void)state;
    open_pair(sides);
    here = dial(&sides[0]);
    put(here, "question", 8);
    shutdown(here, SHUT_WR);
    there = await_arrival(&sides[1]);
    expect(there, "question");
    expect_end(there);
    for (int i = 0; i < 8; i++) {
        memset(much, 'a' + i, sizeof(much));
        put(there, much, sizeof(much) / 8);
        assert_int_equal(get(here, much, sizeof(much) / 8), sizeof(much) / 8);
        assert_int_equal(much[0], 'a' + i);
    }
    put(there, "bye", 3);
    close(there); /* data first, then the end */
    expect(here, "bye");
    expect_end(here);
    close(here);
    side_release(&sides[0]);
    side_release(&sides[1]);
}

/* The writer learns that nobody reads, and is not stuck for ever. */
static void
nobody_reads(void **state)
{
    static char much[1 << 16];
    side sides[2];
    int here;
    int there;

    (void)state;
    open_pair(sides);
    here = dial(&sides[0]);
    there = await_arrival(&sides[1]);
    close(there);
    expect_end(here);
    for (;;) {
        ssize_t some = send(here, much, sizeof(much), MSG_NOSIGNAL);

        if (some < 0 && errno == EAGAIN) {
            await_fd(here, POLLOUT);
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

    (void)state;
    open_pair(sides);
    sides[1].refusing = true;
    here = dial(&sides[0]);
    expect_end(here);
    close(here);
    gp_mutex_lock(&sides[1].lock);
    sides[1].refusing = false;
    gp_mutex_unlock(&sides[1].lock);
    here = dial(&sides[0]);
    close(await_arrival(&sides[1]));
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
                put(fds[i].fd, bytes, (size_t)some);
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
        jobs[i].fd = dial(from);
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

    (void)state;
    open_pair(sides);
    assert_int_equal(pthread_create(&echoing, NULL, echo, &sides[1]), 0);
    srand(7);
    for (size_t i = 0; i < 1000; i++) {
        jobs[i] = (job){.seed = (unsigned)i, .len = (size_t)rand() % (i % 50 == 0 ? 400000 : 4000)};
    }
    run_jobs(&sides[0], jobs, under_valgrind() ? 50 : 1000);
    gp__pump_close(sides[0].pump, 0);
    sides[0].pump = NULL;
    await_over(&sides[1]);
    pthread_join(echoing, NULL);
    side_release(&sides[0]);
    side_release(&sides[1]);
}

/* What nobody reads is bounded by the windows, and stalls nobody. */
static void
stalled(void **state)
{
    static char chunk[1 << 16];
    side sides[2];
    int stalled_fds[20];
    size_t most = 0;

    (void)state;
    open_pair(sides);
    for (int i = 0; i < 20; i++) {
        size_t written = 0;
        struct pollfd one;

        stalled_fds[i] = dial(&sides[0]);
        one = (struct pollfd){.fd = stalled_fds[i], .events = POLLOUT};
        while (poll(&one, 1, 200) > 0) {
            ssize_t some = send(stalled_fds[i], chunk, sizeof(chunk), MSG_NOSIGNAL);

            written += some > 0 ? (size_t)some : 0;
            assert_true(written < 4 << 20);
        }
        most = written > most ? written : most;
        (void)await_arrival(&sides[1]);
        sides[1].arrived[i] = sides[1].arrived[sides[1].taken - 1];
    }
    assert_true(most >= GP__YAMUX_WINDOW);
    for (int i = 0; i < 20; i++) {
        int here = dial(&sides[i % 2]);
        int there = await_arrival(&sides[1 - i % 2]);

        put(here, "still there?", 12);
        expect(there, "still there?");
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

static void
put_frame(int fd, uint8_t type, uint16_t flags, uint32_t id, uint32_t length)
{
    const gp__yamux_header header = {type, flags, id, length};
    unsigned char bytes[GP__YAMUX_HEADER];

    gp__yamux_header_write(bytes, &header);
    put(fd, bytes, sizeof(bytes));
}

/* A session's end does not take away what came before it, wherever that is stored. */
static void
what_has_come_is_delivered(void **state)
{
    static char much[300000];
    int streams[2];
    int ends[2];
    side it;

    (void)state;
    assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
    side_init(&it);
    assert_int_equal(side_open(&it, ends[0], (gp__yamux_options){.client = false}), 0);
    memset(much, 'x', sizeof(much));
    for (uint32_t id = 1; id <= 3; id += 2) {
        put_frame(ends[1], GP__YAMUX_TYPE_DATA, GP__YAMUX_SYN, id, GP__YAMUX_WINDOW);
        put(ends[1], much, GP__YAMUX_WINDOW);
    }
    put_frame(ends[1], GP__YAMUX_TYPE_WINDOW, GP__YAMUX_FIN, 1, 0);
    close(ends[1]);
    await_over(&it);
    assert_int_equal(it.over, GP_ECLOSED);
    assert_int_equal(try_dial(it.pump, &streams[0]), GP_ECLOSED);
    for (int i = 0; i < 2; i++) {
        streams[i] = await_arrival(&it);
        memset(much, 0, sizeof(much));
        assert_int_equal(get(streams[i], much, sizeof(much)), GP__YAMUX_WINDOW);
        assert_int_equal(much[GP__YAMUX_WINDOW - 1], 'x');
        close(streams[i]);
    }
    side_release(&it);
}

static void
hostile(void **state)
{
    side it;
    int ends[2];
    int fds[3];
    unsigned char answer[200];
    size_t len;

    (void)state;
    assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
    side_init(&it);
    assert_int_equal(side_open(&it, ends[0], (gp__yamux_options){.client = true}), 0);
    for (int i = 0; i < 3; i++) {
        fds[i] = dial(&it);
    }
    put(ends[1], "HTTP/1.1 400 Bad Request\r\n", 26);
    await_over(&it);
    assert_int_equal(it.over, GP_EPROTOCOL);
    assert_non_null(strstr(it.reason, "yamux version 0, found 72"));
    for (int i = 0; i < 3; i++) {
        expect_end(fds[i]);
        close(fds[i]);
    }
    len = get(ends[1], answer, sizeof(answer));
    assert_int_equal(len, 4 * GP__YAMUX_HEADER); /* three that open, and the reason */
    assert_memory_equal(answer + 3 * GP__YAMUX_HEADER, "\0\3\0\0\0\0\0\0\0\0\0\1", 12);
    close(ends[1]);
    side_release(&it);
}

static void
silent(void **state)
{
    const gp__yamux_options options = {
        .client = true, .keepalive = 20 * GP__MS, .timeout = 20 * GP__MS};
    side it;
    int ends[2];

    (void)state;
    assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
    side_init(&it);
    assert_int_equal(side_open(&it, ends[0], options), 0);
    await_over(&it);
    assert_int_equal(it.over, GP_ETIMEOUT);
    close(ends[1]);
    side_release(&it);
}

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

    (void)state;
    open_pair(sides);
    sides[1].held = true;
    here = dial(&sides[0]);
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
    expect_end(here);
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
        if (try_dial(it->from->pump, &fd) < 0) {
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
    (void)state;
    for (int turn = 0; turn < 20; turn++) {
        side sides[2];
        dialler both[2] = {{.from = &sides[0]}, {.from = &sides[0]}};
        pthread_t threads[2];

        open_pair(sides);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, dial_and_close, &both[i]), 0);
        }
        close(await_arrival(&sides[1]));
        gp__pump_close(sides[1].pump, 0);
        sides[1].pump = NULL;
        await_over(&sides[0]);
        for (int i = 0; i < 2; i++) {
            atomic_store(&both[i].stop, true);
            pthread_join(threads[i], NULL);
        }
        side_release(&sides[0]);
        side_release(&sides[1]);
    }
}

static void
nothing_in_a_forked_child(void **state)
{
    side sides[2];
    int status;
    pid_t pid;
    int fd;

    (void)state;
    assert_int_equal(gp_runtime_init(), 0);
    open_pair(sides);
    pid = fork();
    if (pid == 0) {
        int rc = try_dial(sides[0].pump, &fd);

        gp__pump_close(sides[0].pump, 0);
        _exit(rc == GP_EFORKED ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(dial(&sides[0]));
    close(await_arrival(&sides[1]));
    side_release(&sides[0]);
    side_release(&sides[1]);
}

static void
every_allocation_fails(void **state)
{
    long failing = 0;
    bool failed;

    (void)state;
    do {
        side sides[2];
        int ends[2];
        int fd = -1;
        int rc;

        gp__reactor_stop();
        assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
        alloc_begin(failing++);
        side_init(&sides[0]);
        side_init(&sides[1]);
        rc = side_open(&sides[0], ends[0], (gp__yamux_options){.client = true});
        assert_true(rc == 0 || rc == GP_ENOMEM);
        rc = side_open(&sides[1], ends[1], (gp__yamux_options){.client = false});
        assert_true(rc == 0 || rc == GP_ENOMEM);
        if (sides[0].pump != NULL && sides[1].pump != NULL && try_dial(sides[0].pump, &fd) == 0) {
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ways),
        cmocka_unit_test(half_closed),
        cmocka_unit_test(nobody_reads),
        cmocka_unit_test(refused),
        cmocka_unit_test(a_thousand_streams),
        cmocka_unit_test(stalled),
        cmocka_unit_test(what_has_come_is_delivered),
        cmocka_unit_test(hostile),
        cmocka_unit_test(silent),
        cmocka_unit_test(closing_waits_for_callbacks),
        cmocka_unit_test(ends_while_threads_dial),
        cmocka_unit_test(nothing_in_a_forked_child),
        cmocka_unit_test(every_allocation_fails),
    };

    return cmocka_run_group_tests(tests, NULL, tear_down_reactor);
}
