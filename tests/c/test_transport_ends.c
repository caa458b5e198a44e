#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "gp/container.h"
#include "os/fd.h"
#include "transport_fixture.h"
#include "wire/yamux_frame.h"

static carrier
carrier_of(void **state)
{
    return *(const carrier *)*state;
}

static void
expect_reason(const end *it, const char *text)
{
    if (strstr(gp_error_message(&it->why), text) == NULL) {
        fail_msg("'%s' lacks '%s'", gp_error_message(&it->why), text);
    }
}

/* ---- The other side goes --------------------------------------------------------------------- */

static void
the_other_side_closes(void **state)
{
    end ends[2];
    line *lines[2];
    line *late;

    ends_open(ends, carrier_of(state), NULL);
    lines_open(ends, lines);
    late = line_open(&ends[1]);
    line_send(lines[1], "last words", 10);
    gp__transport_close(ends[1].transport, NULL, PATIENCE_MS);
    assert_int_equal(line_await_end(lines[0]), GP_ECLOSED);
    line_expect(lines[0], "last words");
    assert_int_equal(end_await_over(&ends[0]), GP_ECLOSED);
    expect_reason(&ends[0], "the other side has closed the connection");
    assert_int_equal(line_await_end(lines[1]), GP_ECLOSED);
    assert_int_equal(line_await_end(late), GP_ECLOSED);
    assert_int_equal(end_await_over(&ends[1]), GP_ECLOSED);
    expect_reason(&ends[1], "this side has closed the connection");
    line_close(late);
    line_close(lines[0]);
    line_close(lines[1]);
    ends_release(ends);
}

/* Killed: the socket is closed, with data in both directions. */
static void
the_other_side_dies(void **state)
{
    const size_t len = 2 * 1024 * 1024;
    char *bytes = gp__calloc(1, len);
    carrier how = carrier_of(state);
    end it;
    int fd = end_open_alone(&it, how, &(gp__transport_options){.client = true});
    line *opened = line_open(&it);

    line_send(opened, bytes, len);
    close(fd);
    assert_true(line_await_end(opened) < 0);
    assert_true(end_await_over(&it) < 0);
    gp_mutex_lock(&it.transport->lock);
    assert_int_equal(gp__transport_stream_send_locked(opened->stream, "x", 1, NULL), GP_ECLOSED);
    assert_int_equal(gp__transport_stream_stored_locked(opened->stream), 0);
    gp_mutex_unlock(&it.transport->lock);
    line_close(opened);
    end_release(&it);
    gp__free(bytes);
}

/* A raw connection whose other side has ended its direction, and then dies. */
static void
a_half_closed_connection_dies(void **state)
{
    const size_t len = 2 * 1024 * 1024;
    char *bytes = gp__calloc(1, len);
    end it;
    int fd = end_open_alone(&it, RAW, NULL);
    line *opened = line_open(&it);

    (void)state;
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    assert_int_equal(line_await_end(opened), 0);
    line_send(opened, bytes, len);
    close(fd);
    assert_int_equal(end_await_over(&it), GP_ECLOSED);
    line_close(opened);
    end_release(&it);
    gp__free(bytes);
}

/* ---- Garbage --------------------------------------------------------------------------------- */

static void
garbage_ends_the_connection(void **state)
{
    static const char garbage[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    carrier how = carrier_of(state);
    end it;
    int fd = end_open_alone(&it, how, &(gp__transport_options){.client = true});
    line *opened = line_open(&it);

    assert_int_equal(write(fd, garbage, sizeof(garbage) - 1), sizeof(garbage) - 1);
    assert_int_equal(end_await_over(&it), how == PLAIN ? GP_EPROTOCOL : GP_ETLS);
    assert_int_equal(line_await_end(opened), how == PLAIN ? GP_EPROTOCOL : GP_ETLS);
    if (how == SECURE) {
        assert_non_null(it.why.detail);
        expect_reason(&it, "the connection is lost");
    }
    line_close(opened);
    end_release(&it);
    close(fd);
}

/* A user ends the connection in |received|, as one who cannot read what has come. */
static size_t
refuse_data(void *ctx, const unsigned char *bytes, size_t len)
{
    line *it = ctx;
    gp_error why = GP_ERROR_INIT;

    (void)bytes;
    gp_mutex_assert_held(&it->transport->lock);
    gp_error_set(&why, GP_EPROTOCOL, "this is no request");
    gp__transport_end_locked(it->transport, &why);
    gp_error_release(&why);
    return len;
}

static void
free_when_ended(void *ctx, const gp_error *why)
{
    line *it = ctx;

    gp_mutex_assert_held(&it->transport->lock);
    assert_string_equal(gp_error_message(why), "this is no request");
    gp__transport_stream_release_locked(it->stream);
    gp__free(it);
}

static const gp__transport_stream_ops refusing_ops = {refuse_data, free_when_ended, NULL};

static void
a_user_ends_the_connection_in_a_callback(void **state)
{
    end ends[2];
    line *lines[2];
    line *others[2];

    ends_open(ends, carrier_of(state), NULL);
    lines_open(ends, lines);
    lines_open(ends, others);
    gp_mutex_lock(&ends[1].transport->lock);
    gp__transport_stream_use_locked(lines[1]->stream, &refusing_ops, lines[1]);
    gp_mutex_unlock(&ends[1].transport->lock);
    line_send(lines[0], "what?", 5);
    assert_int_equal(end_await_over(&ends[1]), GP_EPROTOCOL);
    assert_int_equal(line_await_end(others[1]), GP_EPROTOCOL);
    assert_int_equal(line_await_end(lines[0]), GP_ECLOSED);
    line_close(lines[0]);
    line_close(others[0]);
    line_close(others[1]);
    ends_release(ends);
}

/* ---- A peer that does not read --------------------------------------------------------------- */

/* Memory is bounded, other connections go on, and closing does not wait for ever. */
static void
a_peer_that_does_not_read(void **state)
{
    const size_t len = 1024 * 1024;
    unsigned char *bytes = gp__calloc(1, len);
    carrier how = carrier_of(state);
    end it;
    int fd = end_open_alone(&it, how, &(gp__transport_options){.client = true});
    line *opened[16];
    size_t taken = 0;
    int count = how == RAW ? 1 : 16;
    int64_t began;

    for (int i = 0; i < count; i++) {
        ptrdiff_t some;

        opened[i] = line_open(&it);
        gp_mutex_lock(&it.transport->lock);
        while ((some = gp__transport_stream_write_locked(opened[i]->stream, bytes, len, NULL)) >
               0) {
            taken += (size_t)some;
            gp__transport_flush_locked(it.transport);
        }
        assert_int_equal(some, 0);
        gp_mutex_unlock(&it.transport->lock);
    }
    assert_true(taken > 0);
    assert_true(taken < 16 * (size_t)GP__YAMUX_WINDOW);
    began = gp__now();
    gp__transport_close(it.transport, NULL, 30);
    assert_true(gp__now() - began >= 30 * GP__MS);
    for (int i = 0; i < count; i++) {
        assert_int_equal(line_await_end(opened[i]), GP_ECLOSED);
        line_close(opened[i]);
    }
    end_release(&it);
    close(fd);
    gp__free(bytes);
}

/* What the connection does not take for |timeout| ends it. */
static void
a_peer_that_never_reads_is_given_up(void **state)
{
    const size_t len = 1024 * 1024;
    const int least = 1; /* so that the socket does not hold a whole window */
    unsigned char *bytes = gp__calloc(1, len);
    const gp__transport_options options = {.client = true, .keepalive = -1, .timeout = 50 * GP__MS};
    end it;
    int fd = end_open_alone(&it, PLAIN, &options);
    line *opened = line_open(&it);

    (void)state;
    assert_int_equal(setsockopt(gp__stream_fd(it.transport->channel.stream), SOL_SOCKET, SO_SNDBUF,
                                &least, sizeof(least)),
                     0);
    line_send(opened, bytes, len);
    assert_int_equal(end_await_over(&it), GP_ETIMEOUT);
    expect_reason(&it, "the other side has read nothing for 0.");
    line_close(opened);
    end_release(&it);
    close(fd);
    gp__free(bytes);
}

static void
a_peer_that_answers_no_ping_is_given_up(void **state)
{
    const gp__transport_options options = {
        .client = true, .keepalive = 20 * GP__MS, .timeout = 20 * GP__MS};
    unsigned char bytes[GP__YAMUX_HEADER];
    gp__yamux_header header;
    end it;
    int fd = end_open_alone(&it, PLAIN, &options);
    struct pollfd readable = {.fd = fd, .events = POLLIN};

    (void)state;
    assert_int_equal(gp__fd_poll(&readable, 1, patience()), 1);
    assert_int_equal(read(fd, bytes, sizeof(bytes)), sizeof(bytes));
    assert_int_equal(gp__yamux_header_read(&header, bytes, NULL), 0);
    assert_int_equal(header.type, GP__YAMUX_TYPE_PING);
    assert_int_equal(end_await_over(&it), GP_ETIMEOUT);
    expect_reason(&it, "has not answered a ping");
    end_release(&it);
    close(fd);
}

/* No thread waits on either side: the reactor answers. */
static void
pings_are_answered(void **state)
{
    const gp__transport_options options = {.keepalive = 5 * GP__MS, .timeout = 10000 * GP__MS};
    end ends[2];
    line *lines[2];

    ends_open(ends, carrier_of(state), &options);
    lines_open(ends, lines);
    for (int i = 0; i < 5; i++) {
        gp_mutex_lock(&ends[0].transport->lock);
        assert_int_equal(
            gp__transport_wait_locked(ends[0].transport, &ends[0].over, gp_deadline_in(10), NULL),
            GP_ETIMEOUT);
        gp_mutex_unlock(&ends[0].transport->lock);
    }
    line_send(lines[0], "alive", 5);
    line_expect(lines[1], "alive");
    line_close(lines[0]);
    line_close(lines[1]);
    ends_release(ends);
}

/* ---- Closing --------------------------------------------------------------------------------- */

static void
closing_sends_what_was_written(void **state)
{
    const size_t len = 2 * 1024 * 1024;
    char *bytes = gp__calloc(1, len);
    end ends[2];
    line *lines[2];

    ends_open(ends, carrier_of(state), NULL);
    lines_open(ends, lines);
    line_send(lines[0], bytes, len);
    gp__transport_close(ends[0].transport, NULL, PATIENCE_MS);
    line_await(lines[1], len);
    assert_int_equal(line_await_end(lines[1]), GP_ECLOSED);
    line_close(lines[0]);
    line_close(lines[1]);
    ends_release(ends);
    gp__free(bytes);
}

/* A deferred task closes the connection that it was called for, and drops the last reference. */
typedef struct closer {
    gp__task task;
    gp__transport *transport; /* shared: ref */
    gp__transport_stream *stream;
    gp_mutex lock;
    gp_cond changed;
    bool closed GP_GUARDED_BY(&lock);
} closer;

static void
close_transport(gp__task *task)
{
    closer *it = gp_container_of(task, closer, task);

    gp_mutex_lock(&it->transport->lock);
    gp__transport_stream_release_locked(it->stream);
    gp_mutex_unlock(&it->transport->lock);
    gp__transport_close(it->transport, NULL, 0);
    gp__transport_unref(it->transport);
    gp_mutex_lock(&it->lock);
    it->closed = true;
    gp_cond_broadcast(&it->changed);
    gp_mutex_unlock(&it->lock);
}

static size_t
close_later(void *ctx, const unsigned char *bytes, size_t len)
{
    closer *it = ctx;

    (void)bytes;
    gp_mutex_assert_held(&it->transport->lock);
    if (!gp_link_is_linked(&it->task.link)) {
        gp__transport_defer_locked(it->transport, &it->task);
    }
    return len;
}

static void
ignore_end(void *ctx, const gp_error *why)
{
    (void)ctx;
    (void)why;
}

static const gp__transport_stream_ops closing_ops = {close_later, ignore_end, NULL};

static void
a_deferred_task_closes_its_transport(void **state)
{
    int64_t deadline = patience();
    gp__transport_options options = {.client = true};
    closer it = {.task = {.run = close_transport}};
    gp__stream *stream;
    end other;
    line *arrived;
    int fd = end_open_alone(&other, PLAIN, NULL);

    (void)state;
    gp_mutex_init(&it.lock);
    gp_cond_init(&it.changed);
    assert_int_equal(gp__stream_socket_new(&stream, fd, NULL), 0);
    assert_int_equal(gp__transport_open(&it.transport, stream, &options, NULL), 0);
    gp_mutex_lock(&it.transport->lock);
    assert_int_equal(
        gp__transport_stream_open_locked(&it.stream, it.transport, &closing_ops, &it, NULL), 0);
    gp__transport_flush_locked(it.transport);
    gp_mutex_unlock(&it.transport->lock);
    arrived = line_arrive(&other);
    line_send(arrived, "close", 5);
    gp_mutex_lock(&it.lock);
    while (!it.closed) {
        assert_int_equal(gp_cond_wait_until(&it.changed, &it.lock, deadline), 0);
    }
    gp_mutex_unlock(&it.lock);
    assert_int_equal(end_await_over(&other), GP_ECLOSED);
    line_close(arrived);
    end_release(&other);
    gp_cond_release(&it.changed);
    gp_mutex_release(&it.lock);
}

static void *
wait_for_end(void *arg)
{
    assert_int_equal(line_await_end(arg), GP_ECLOSED);
    return NULL;
}

static void
closing_releases_threads_that_wait(void **state)
{
    pthread_t threads[4];
    line *lines[4][2];
    end ends[2];

    ends_open(ends, carrier_of(state), NULL);
    for (int i = 0; i < 4; i++) {
        lines_open(ends, lines[i]);
        pthread_create(&threads[i], NULL, wait_for_end, lines[i][0]);
    }
    gp__transport_close(ends[0].transport, NULL, 0);
    gp__transport_close(ends[0].transport, NULL, PATIENCE_MS);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        line_close(lines[i][0]);
        line_close(lines[i][1]);
    }
    ends_release(ends);
}

#define WITH(test, how)                               \
    {                                                 \
        #test ": " #how, test, NULL, NULL, &(carrier) \
        {                                             \
            how                                       \
        }                                             \
    }
#define MUX(test) WITH(test, PLAIN), WITH(test, SECURE)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        MUX(the_other_side_closes),
        WITH(the_other_side_dies, PLAIN),
        WITH(the_other_side_dies, SECURE),
        WITH(the_other_side_dies, RAW),
        cmocka_unit_test(a_half_closed_connection_dies),
        MUX(garbage_ends_the_connection),
        MUX(a_user_ends_the_connection_in_a_callback),
        WITH(a_peer_that_does_not_read, PLAIN),
        WITH(a_peer_that_does_not_read, RAW),
        cmocka_unit_test(a_peer_that_never_reads_is_given_up),
        cmocka_unit_test(a_peer_that_answers_no_ping_is_given_up),
        MUX(pings_are_answered),
        MUX(closing_sends_what_was_written),
        cmocka_unit_test(a_deferred_task_closes_its_transport),
        MUX(closing_releases_threads_that_wait),
    };

    return cmocka_run_group_tests(tests, transport_make_tls, transport_free_tls);
}
