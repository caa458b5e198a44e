/*
 * Two ends of a multiplexed connection in one process, for the tests of mux/mux*.c.
 */
#ifndef GP_TESTS_MUX_FIXTURE_H
#define GP_TESTS_MUX_FIXTURE_H

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gp/lock.h"
#include "mux/mux_state.h"
#include "os/fd.h"
#include "os/reactor.h"
#include "os/socket.h"
#include "support.h"

enum { LONG = 60000 };

/*
 * Two ends of a multiplexed connection. Their knocks and answers go through the connection of the
 * start, as with a broker, so that they keep their order among the streams.
 */
typedef struct letter {
    uint32_t id;
    uint32_t mark;
    bool ack;
    char error[100];
} letter;

typedef struct end {
    gp_mux *mux;
    int wire; /* of letters */
    gp_mutex lock;
    gp_cond changed;
    letter letters[64];
    size_t sent;
    size_t on_their_way;
    bool stop;
    bool silent;   /* they stay where they are */
    bool deaf;     /* none can be sent */
    bool unmarked; /* as go-plugin's */
    atomic_int uses;
    pthread_t sender;
    pthread_t receiver;
} end;

static inline int
post(end *it, uint32_t id, uint32_t mark, bool ack, const char *error)
{
    assert_true(atomic_load(&it->uses) > 0);
    gp_mutex_lock(&it->lock);
    if (it->deaf) {
        gp_mutex_unlock(&it->lock);
        return GP_ENOMEM;
    }
    assert_true(it->sent < 64);
    it->letters[it->sent] = (letter){.id = id, .mark = it->unmarked ? 0 : mark, .ack = ack};
    snprintf(it->letters[it->sent++].error, sizeof(it->letters[0].error), "%s", error);
    gp_cond_broadcast(&it->changed);
    gp_mutex_unlock(&it->lock);
    return 0;
}

static inline int
post_knock(void *ctx, uint32_t id, uint32_t mark)
{
    return post(ctx, id, mark, false, "");
}

static inline int
post_answer(void *ctx, uint32_t id, uint32_t mark, const char *error)
{
    return post(ctx, id, mark, true, error);
}

static inline void
count_ref(void *ctx)
{
    atomic_fetch_add(&((end *)ctx)->uses, 1);
}

static inline void
count_unref(void *ctx)
{
    atomic_fetch_sub(&((end *)ctx)->uses, 1);
}

static inline int
connect_to(const char *path)
{
    int fd;

    assert_int_equal(gp__socket_connect(&fd, "unix", path, patience(), NULL, NULL), 0);
    return fd;
}

static inline int
await_connection(int listener)
{
    struct pollfd one = {.fd = listener, .events = POLLIN};
    int fd;

    assert_int_equal(gp__fd_poll(&one, 1, patience()), 1);
    fd = accept(listener, NULL, NULL);
    assert_true(fd >= 0);
    return fd;
}

static inline void
expect_text(int from, int to, const char *text)
{
    struct pollfd one = {.fd = to, .events = POLLIN};
    char bytes[64];

    assert_int_equal(send(from, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    assert_int_equal(gp__fd_poll(&one, 1, patience()), 1);
    assert_int_equal(recv(to, bytes, sizeof(bytes), 0), (ssize_t)strlen(text));
    assert_memory_equal(bytes, text, strlen(text));
}

static inline void *
send_letters(void *arg)
{
    end *it = arg;

    gp_mutex_lock(&it->lock);
    while (!it->stop) {
        if (it->on_their_way < it->sent && !it->silent) {
            const letter one = it->letters[it->on_their_way++];

            gp_mutex_unlock(&it->lock);
            send(it->wire, &one, sizeof(one), MSG_NOSIGNAL);
            gp_mutex_lock(&it->lock);
        } else {
            gp_cond_wait(&it->changed, &it->lock);
        }
    }
    gp_mutex_unlock(&it->lock);
    return NULL;
}

static inline void *
receive_letters(void *arg)
{
    struct pollfd ready = {.events = POLLIN};
    end *it = arg;
    letter one;

    ready.fd = it->wire;
    while (poll(&ready, 1, -1) >= 0 &&
           recv(it->wire, &one, sizeof(one), MSG_WAITALL) == (ssize_t)sizeof(one)) {
        if (one.ack) {
            gp__mux_answered(it->mux, one.id, one.mark, one.error);
        } else {
            gp__mux_knocked(it->mux, one.id, one.mark);
        }
    }
    return NULL;
}

/* The server of the connection of the start, at the plugin's end. */
static int main_listener;

static inline void
begin(end ends[2])
{
    char address[200];

    memset(ends, 0, 2 * sizeof(*ends));
    for (int i = 0; i < 2; i++) {
        const gp__mux_post how = {post_knock, post_answer, count_ref, count_unref, &ends[i]};

        assert_int_equal(gp_mux_new(&ends[i].mux, NULL, NULL), 0);
        gp_mutex_init(&ends[i].lock);
        gp_cond_init(&ends[i].changed);
        gp__mux_set_post(ends[i].mux, &how);
    }
    assert_int_equal(
        gp__socket_listen(&main_listener, "unix", gp_mux_path(ends[1].mux), NULL, NULL), 0);
    snprintf(address, sizeof(address), "%s/host", make_directory());
    assert_int_equal(gp_mux_listen(ends[1].mux, "unix", address, NULL, NULL), 0);
    assert_int_equal(gp_mux_connect(ends[0].mux, "unix", address, LONG, NULL, NULL), 0);
    ends[0].wire = connect_to(gp_mux_path(ends[0].mux));
    ends[1].wire = await_connection(main_listener);
    for (int i = 0; i < 2; i++) {
        fcntl(ends[i].wire, F_SETFL, 0); /* blocking: letters are whole */
        assert_int_equal(pthread_create(&ends[i].sender, NULL, send_letters, &ends[i]), 0);
        assert_int_equal(pthread_create(&ends[i].receiver, NULL, receive_letters, &ends[i]), 0);
    }
}

static inline void
end_letters(end ends[2])
{
    for (int i = 0; i < 2; i++) {
        gp_mutex_lock(&ends[i].lock);
        ends[i].stop = true;
        gp_cond_broadcast(&ends[i].changed);
        gp_mutex_unlock(&ends[i].lock);
        pthread_join(ends[i].sender, NULL);
        shutdown(ends[i].wire, SHUT_RDWR);
        pthread_join(ends[i].receiver, NULL);
        close(ends[i].wire);
    }
    close(main_listener);
}

static inline void
finish(end ends[2])
{
    struct stat status;
    char path[200];

    end_letters(ends);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s", gp_mux_directory(ends[i].mux));
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_mode & 0777, 0700);
        gp_mux_close(ends[i].mux);
        gp_mux_unref(ends[i].mux);
        assert_true(stat(path, &status) < 0);
        assert_int_equal(atomic_load(&ends[i].uses), 0);
        gp_mutex_release(&ends[i].lock);
        gp_cond_release(&ends[i].changed);
    }
    remove_directory();
}

/* What becomes the stream of a dial: one end of a pair, and what connects to a path, by turns. */
static inline int
dial(end *it, uint32_t id, gp__mux_local **local)
{
    static atomic_uint dialled;
    int fd;

    if (atomic_fetch_add(&dialled, 1) % 2 == 0) {
        assert_int_equal(gp__mux_dial_pair(it->mux, id, local, &fd, NULL), 0);
        return fd;
    }
    assert_int_equal(gp__mux_dial(it->mux, id, local, NULL), 0);
    return connect_to(gp__mux_local_path(*local));
}

static inline int
listen_at(char path[GP__MUX_PATH], const char *name)
{
    int listener;

    snprintf(path, GP__MUX_PATH, "%s/%s", make_directory(), name);
    assert_int_equal(gp__socket_listen(&listener, "unix", path, NULL, NULL), 0);
    return listener;
}

static inline void
close_listener(int listener, const char *path)
{
    close(listener);
    unlink(path);
}

/* Two servers that streams may be meant for. */
typedef struct servers {
    char paths[2][GP__MUX_PATH];
    int listeners[2];
} servers;

static inline void
begin_servers(servers *it)
{
    for (int i = 0; i < 2; i++) {
        it->listeners[i] = listen_at(it->paths[i], i == 0 ? "first" : "second");
    }
}

static inline void
finish_servers(servers *it)
{
    for (int i = 0; i < 2; i++) {
        close_listener(it->listeners[i], it->paths[i]);
    }
}

/* Wait until this end has posted so many letters. */
static inline void
await_sent(end *it, size_t count)
{
    gp_mutex_lock(&it->lock);
    while (it->sent < count) {
        assert_int_equal(gp__cond_wait_until(&it->changed, &it->lock, patience()), 0);
    }
    assert_int_equal(it->sent, count);
    gp_mutex_unlock(&it->lock);
}

static inline void
set_silent(end *it, bool silent)
{
    gp_mutex_lock(&it->lock);
    it->silent = silent;
    gp_cond_broadcast(&it->changed);
    gp_mutex_unlock(&it->lock);
}

/* The five seconds of the knock on its way are over. */
static inline void
expire_knock(end *it)
{
    gp_mutex_lock(&it->mux->lock);
    assert_non_null(it->mux->knocking);
    it->mux->knocked_until = 0;
    gp_mutex_unlock(&it->mux->lock);
    gp__mux_tick(it->mux);
}

static inline void
await_open(gp__mux_local *local)
{
    assert_int_equal(gp__mux_await(local, "the other side", LONG, NULL, NULL), 0);
}

/* |here| says hello to what has connected to |listener|, and both hang up. */
static inline void
expect_hello(int here, int listener)
{
    int there = await_connection(listener);

    expect_text(here, there, "hello");
    close(here);
    close(there);
}

/* Dial, and give up when the knock is on its way. */
static inline void
give_up(end *it, uint32_t id)
{
    size_t sent = it->sent;
    gp__mux_local *local;
    int fd = dial(it, id, &local);

    await_sent(it, sent + 1);
    assert_int_equal(gp__mux_await(local, "the plugin", LONG, &interrupt_now, NULL), GP_EUSER);
    close(fd);
}

/* Wait until the connection of |local| has to wait for its turn. */
static inline void
await_queued(end *it, const gp__mux_local *local)
{
    bool queued = false;

    while (!queued) {
        gp_mutex_lock(&it->mux->lock);
        queued = local->queued;
        gp_mutex_unlock(&it->mux->lock);
        sched_yield();
    }
}

/* The other end has nothing to say, and has closed. */
static inline void
expect_end(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    char byte;

    assert_int_equal(gp__fd_poll(&one, 1, patience()), 1);
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    close(fd);
}

static inline void
expect_failure(end *it, int64_t timeout_ms, const char *reason)
{
    gp_error err = GP_ERROR_INIT;
    gp__mux_local *local;
    int fd = dial(it, 7, &local);

    assert_int_equal(gp__mux_await(local, "the plugin", timeout_ms, NULL, &err), GP_EBROKER);
    if (strstr(gp_error_message(&err), reason) == NULL) {
        fail_msg("%s", gp_error_message(&err));
    }
    gp_error_release(&err);
    close(fd);
}

static inline int
stop_reactor(void **state)
{
    (void)state;
    gp__reactor_stop();
    return 0;
}

#endif
