#include "transport_fixture.h"

#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "netrpc/transport_state.h"
#include "os/fd.h"
#include "tls/tls_stream.h"

gp_tls *transport_tls[2];

int
transport_make_tls(void **state)
{
    const char *field;

    (void)state;
    assert_int_equal(gp_tls_new_automatic(&transport_tls[0], NULL, NULL), 0);
    assert_int_equal(
        gp_tls_new_automatic(&transport_tls[1], gp_tls_certificate(transport_tls[0]), NULL), 0);
    field = gp_tls_field(transport_tls[1]);
    assert_int_equal(gp_tls_trust_field(transport_tls[0], field, strlen(field), NULL), 0);
    return 0;
}

int
transport_free_tls(void **state)
{
    gp_tls_unref(transport_tls[0]);
    gp_tls_unref(transport_tls[1]);
    return tear_down_reactor(state);
}

/* ---- Lines ----------------------------------------------------------------------------------- */

static size_t
on_received(void *ctx, const unsigned char *bytes, size_t len)
{
    line *it = ctx;

    it->calls++;
    gp__transport_gate_open_locked(it->transport, &it->news);
    if (it->idle || gp__buf_append(&it->in, bytes, len) < 0) {
        return 0;
    }
    return len;
}

static void
on_ended(void *ctx, const gp_error *why)
{
    line *it = ctx;

    it->ended++;
    gp__transport_copy_error(&it->why, why);
    gp__transport_gate_open_locked(it->transport, &it->news);
}

static void
on_writable(void *ctx)
{
    line *it = ctx;

    it->writable++;
    gp__transport_gate_open_locked(it->transport, &it->news);
}

static const gp__transport_stream_ops line_ops = {on_received, on_ended, on_writable};

static size_t
ignore_data(void *ctx, const unsigned char *bytes, size_t len)
{
    (void)ctx;
    (void)bytes;
    return len;
}

static void
ignore_end(void *ctx, const gp_error *why)
{
    (void)ctx;
    (void)why;
}

const gp__transport_stream_ops ignoring_ops = {ignore_data, ignore_end, NULL};

void
line_use_locked(line *it, gp__transport_stream *stream)
{
    gp__transport_stream_use_locked(stream, &line_ops, it);
}

static void
free_line(line *it)
{
    gp__buf_release(&it->in);
    gp_error_release(&it->why);
    gp__free(it);
}

line *
line_open(end *it)
{
    line *opened = gp__calloc(1, sizeof(*opened));

    assert_non_null(opened);
    opened->transport = it->transport;
    gp_mutex_lock(&it->transport->lock);
    assert_int_equal(
        gp__transport_stream_open_locked(&opened->stream, it->transport, &line_ops, opened, NULL),
        0);
    gp__transport_flush_locked(it->transport);
    gp_mutex_unlock(&it->transport->lock);
    return opened;
}

line *
line_arrive(end *it)
{
    line *arrived;

    gp_mutex_lock(&it->transport->lock);
    while (it->taken == it->arrived_count) {
        it->arrival.open = false;
        assert_int_equal(gp__transport_wait_locked(it->transport, &it->arrival, patience(), NULL),
                         0);
    }
    arrived = it->arrived[it->taken++];
    gp_mutex_unlock(&it->transport->lock);
    return arrived;
}

void
lines_open(end ends[2], line *lines[2])
{
    lines[0] = line_open(&ends[0]);
    lines[1] = ends[1].transport->options.raw ? line_open(&ends[1]) : line_arrive(&ends[1]);
}

static void
release_line(line *it, bool shut)
{
    gp__transport *transport = it->transport;

    gp_mutex_lock(&transport->lock);
    if (shut) {
        gp__transport_stream_shutdown_locked(it->stream);
    }
    gp__transport_stream_release_locked(it->stream);
    gp__transport_flush_locked(transport);
    gp_mutex_unlock(&transport->lock);
    free_line(it);
}

void
line_close(line *it)
{
    release_line(it, true);
}

void
line_abort(line *it)
{
    release_line(it, false);
}

void
line_send(line *it, const void *bytes, size_t len)
{
    gp_mutex_lock(&it->transport->lock);
    assert_int_equal(gp__transport_stream_send_locked(it->stream, bytes, len, NULL), 0);
    gp__transport_flush_locked(it->transport);
    gp_mutex_unlock(&it->transport->lock);
}

void
line_shutdown(line *it)
{
    gp_mutex_lock(&it->transport->lock);
    gp__transport_stream_shutdown_locked(it->stream);
    gp__transport_flush_locked(it->transport);
    gp_mutex_unlock(&it->transport->lock);
}

static void wait_for_news_locked(line *it) GP_REQUIRES(&it->transport->lock);

static void
wait_for_news_locked(line *it)
{
    it->news.open = false;
    assert_int_equal(gp__transport_wait_locked(it->transport, &it->news, patience(), NULL), 0);
}

void
line_await(line *it, size_t len)
{
    gp_mutex_lock(&it->transport->lock);
    while (it->in.len < len) {
        assert_int_equal(it->ended, 0);
        wait_for_news_locked(it);
    }
    gp_mutex_unlock(&it->transport->lock);
}

void
line_expect(line *it, const char *text)
{
    size_t len = strlen(text);

    line_await(it, len);
    gp_mutex_lock(&it->transport->lock);
    assert_int_equal(it->in.len, len);
    assert_memory_equal(it->in.data, text, len);
    gp__buf_consume(&it->in, len);
    gp_mutex_unlock(&it->transport->lock);
}

int
line_await_end(line *it)
{
    int code;

    gp_mutex_lock(&it->transport->lock);
    while (it->ended == 0) {
        wait_for_news_locked(it);
    }
    assert_int_equal(it->ended, 1);
    code = it->why.code;
    gp_mutex_unlock(&it->transport->lock);
    return code;
}

/* ---- Ends ------------------------------------------------------------------------------------ */

static void
on_accept(void *ctx, gp__transport_stream *stream)
{
    end *it = ctx;
    line *arrived = it->refusing ? NULL : gp__calloc(1, sizeof(*arrived));

    if (arrived == NULL) {
        gp__transport_stream_release_locked(stream);
        return;
    }
    assert_true(it->arrived_count < MOST_LINES);
    it->arrived[it->arrived_count++] = arrived;
    arrived->stream = stream;
    arrived->transport = stream->transport;
    gp__transport_stream_use_locked(stream, &line_ops, arrived);
    gp__transport_gate_open_locked(stream->transport, &it->arrival);
}

static void
on_over(void *ctx, const gp_error *why)
{
    end *it = ctx;

    it->over_calls++;
    gp__transport_copy_error(&it->why, why);
    gp__transport_gate_open_locked(it->transport, &it->over);
}

int
end_try_open(end *it, int fd, carrier how, const gp__transport_options *options)
{
    gp__transport_options mine = options != NULL ? *options : (gp__transport_options){0};
    const gp__tls_stream_options tls = {.server = !mine.client};
    gp__stream *stream;
    int rc = gp__stream_socket_new(&stream, fd, NULL);

    mine.raw = how == RAW || how == RAW_SECURE;
    mine.accept = on_accept;
    mine.over = on_over;
    mine.ctx = it;
    if (rc == 0 && (how == SECURE || how == RAW_SECURE)) {
        rc = gp__tls_stream_new(&stream, stream, transport_tls[mine.client ? 0 : 1], &tls, NULL);
    }
    return rc < 0 ? rc : gp__transport_open(&it->transport, stream, &mine, NULL);
}

void
ends_open(end ends[2], carrier how, const gp__transport_options *options)
{
    gp__transport_options mine = options != NULL ? *options : (gp__transport_options){0};
    int fds[2];

    memset(ends, 0, 2 * sizeof(end));
    assert_int_equal(gp__fd_socketpair(fds, NULL), 0);
    for (int i = 0; i < 2; i++) {
        mine.client = i == 0;
        assert_int_equal(end_try_open(&ends[i], fds[i], how, &mine), 0);
    }
}

int
end_open_alone(end *it, carrier how, const gp__transport_options *options)
{
    int fds[2];

    memset(it, 0, sizeof(*it));
    assert_int_equal(gp__fd_socketpair(fds, NULL), 0);
    assert_int_equal(end_try_open(it, fds[0], how, options), 0);
    return fds[1];
}

void
end_release(end *it)
{
    gp__transport_close(it->transport, NULL, 0);
    while (it->taken < it->arrived_count) {
        line_abort(it->arrived[it->taken++]);
    }
    gp__transport_unref(it->transport);
    gp_error_release(&it->why);
}

void
ends_release(end ends[2])
{
    end_release(&ends[0]);
    end_release(&ends[1]);
}

int
end_await_over(end *it)
{
    int code;

    gp_mutex_lock(&it->transport->lock);
    while (!it->over.open) {
        int rc = gp__transport_wait_locked(it->transport, &it->over, patience(), NULL);

        assert_int_equal(rc, 0);
    }
    assert_int_equal(it->over_calls, 1);
    code = it->why.code;
    gp_mutex_unlock(&it->transport->lock);
    return code;
}
