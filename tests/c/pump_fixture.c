#include "pump_fixture.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/fd.h"
#include "tls/tls_stream.h"

gp_tls *pump_host_tls;
gp_tls *pump_plugin_tls;

int
pump_make_tls(void **state)
{
    const char *field;

    (void)state;
    assert_int_equal(gp_tls_new_automatic(&pump_host_tls, NULL, NULL), 0);
    assert_int_equal(
        gp_tls_new_automatic(&pump_plugin_tls, gp_tls_certificate(pump_host_tls), NULL), 0);
    field = gp_tls_field(pump_plugin_tls);
    assert_int_equal(gp_tls_trust_field(pump_host_tls, field, strlen(field), NULL), 0);
    return 0;
}

int
pump_free_tls(void **state)
{
    gp_tls_unref(pump_host_tls);
    gp_tls_unref(pump_plugin_tls);
    return tear_down_reactor(state);
}

/* ---- Two sides ------------------------------------------------------------------------------- */

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
on_ended(void *ctx, const gp_error *why)
{
    side *it = ctx;

    gp_mutex_lock(&it->lock);
    assert_int_equal(it->over, 0);
    it->over = why->code;
    snprintf(it->reason, sizeof(it->reason), "%s", gp_error_message(why));
    gp_cond_broadcast(&it->changed);
    gp_mutex_unlock(&it->lock);
}

void
side_init(side *it)
{
    memset(it, 0, sizeof(*it));
    gp_mutex_init(&it->lock);
    gp_cond_init(&it->changed);
}

int
side_open_over(side *it, gp__stream *stream, gp__yamux_options session)
{
    const gp__pump_options options = {session, on_opened, NULL, on_ended, it};

    return gp__pump_open(&it->pump, stream, &options, NULL);
}

int
side_open(side *it, int fd, gp__yamux_options session)
{
    gp__stream *stream;
    int rc = gp__stream_socket_new(&stream, fd, NULL);

    return rc < 0 ? rc : side_open_over(it, stream, session);
}

int
side_open_secure(side *it, int fd, gp_tls *tls, gp__yamux_options session)
{
    const gp__tls_stream_options options = {.server = !session.client};
    gp__stream *below;
    gp__stream *stream;
    int rc = gp__stream_socket_new(&below, fd, NULL);

    if (rc == 0) {
        rc = gp__tls_stream_new(&stream, below, tls, &options, NULL);
    }
    return rc < 0 ? rc : side_open_over(it, stream, session);
}

void
side_release(side *it)
{
    gp__pump_close(it->pump, 0);
    while (it->taken < it->arrived_count) {
        close(it->arrived[it->taken++]);
    }
    gp_cond_release(&it->changed);
    gp_mutex_release(&it->lock);
}

int
pump_try_open_pair(side sides[2], bool secure)
{
    int ends[2];
    int rc = 0;

    assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
    for (int i = 0; i < 2; i++) {
        const gp__yamux_options session = {.client = i == 0};
        int opened;

        side_init(&sides[i]);
        opened = secure ? side_open_secure(&sides[i], ends[i],
                                           i == 0 ? pump_host_tls : pump_plugin_tls, session)
                        : side_open(&sides[i], ends[i], session);
        rc = rc == 0 ? opened : rc;
    }
    return rc;
}

void
pump_open_pair(side sides[2], bool secure)
{
    assert_int_equal(pump_try_open_pair(sides, secure), 0);
}

int
pump_await_arrival(side *it)
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

void
pump_await_over(side *it)
{
    int64_t deadline = patience();

    gp_mutex_lock(&it->lock);
    while (it->over == 0) {
        assert_int_equal(gp_cond_wait_until(&it->changed, &it->lock, deadline), 0);
    }
    gp_mutex_unlock(&it->lock);
}

/* Open a stream; |*out| is the end to use. */
int
pump_try_dial(gp__pump *pump, int *out)
{
    int ends[2];
    int rc;

    assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
    rc = gp__pump_open_stream(pump, ends[0], NULL);
    if (rc < 0) {
        close(ends[1]);
    } else {
        *out = ends[1];
    }
    return rc;
}

int
pump_dial(side *it)
{
    int fd = -1;

    assert_int_equal(pump_try_dial(it->pump, &fd), 0);
    return fd;
}

void
pump_await_fd(int fd, short events)
{
    struct pollfd one = {.fd = fd, .events = events};

    assert_int_equal(gp__fd_poll(&one, 1, patience()), 1);
}

void
pump_put(int fd, const void *bytes, size_t len)
{
    const char *at = bytes;

    while (len > 0) {
        ssize_t some = send(fd, at, len, MSG_NOSIGNAL);

        if (some < 0) {
            assert_true(errno == EAGAIN);
            pump_await_fd(fd, POLLOUT);
            continue;
        }
        at += some;
        len -= (size_t)some;
    }
}

/* Returns how much came before the end, at most |len|. */
size_t
pump_get(int fd, void *bytes, size_t len)
{
    size_t got = 0;

    while (got < len) {
        ssize_t some = recv(fd, (char *)bytes + got, len - got, 0);

        if (some < 0 && errno == EAGAIN) {
            pump_await_fd(fd, POLLIN);
        } else if (some <= 0) {
            break;
        } else {
            got += (size_t)some;
        }
    }
    return got;
}

void
pump_expect(int fd, const char *text)
{
    char bytes[100];

    assert_int_equal(pump_get(fd, bytes, strlen(text)), strlen(text));
    assert_memory_equal(bytes, text, strlen(text));
}

void
pump_expect_end(int fd)
{
    char byte;

    assert_int_equal(pump_get(fd, &byte, 1), 0);
}
