#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "os/fd.h"
#include "transport_fixture.h"

static carrier
carrier_of(void **state)
{
    return *(const carrier *)*state;
}

static unsigned char
byte_at(size_t at)
{
    return (unsigned char)(at * 31 + at / 251);
}

/* |len| bytes, each of which differs from its neighbours. Owned by the caller. */
static unsigned char *
make_bytes(size_t len)
{
    unsigned char *bytes = gp__malloc(len);

    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = byte_at(i);
    }
    return bytes;
}

static void
expect_bytes(const line *it, size_t len)
{
    assert_int_equal(it->in.len, len);
    for (size_t i = 0; i < len; i++) {
        assert_int_equal((unsigned char)it->in.data[i], byte_at(i));
    }
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

static void
bytes_go_both_ways(void **state)
{
    end ends[2];
    line *lines[2];

    ends_open(ends, carrier_of(state), NULL);
    lines_open(ends, lines);
    for (int i = 0; i < rounds(200); i++) {
        line_send(lines[0], "there", 5);
        line_expect(lines[1], "there");
        line_send(lines[1], "back", 4);
        line_expect(lines[0], "back");
    }
    line_shutdown(lines[0]);
    assert_int_equal(line_await_end(lines[1]), 0);
    line_send(lines[1], "still", 5);
    line_expect(lines[0], "still");
    line_close(lines[1]);
    assert_int_equal(line_await_end(lines[0]), 0);
    line_close(lines[0]);
    ends_release(ends);
}

/* More than the window, the output and the sockets hold: in both directions at once. */
static void
large_data_arrives_whole(void **state)
{
    const size_t len = 3 * 1024 * 1024 + 17;
    unsigned char *bytes = make_bytes(len);
    end ends[2];
    line *lines[2];

    ends_open(ends, carrier_of(state), NULL);
    lines_open(ends, lines);
    for (int i = 0; i < 2; i++) {
        line_send(lines[i], bytes, len);
    }
    for (int i = 0; i < 2; i++) {
        line_shutdown(lines[i]);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(line_await_end(lines[i]), 0);
        expect_bytes(lines[i], len);
    }
    line_close(lines[0]);
    line_close(lines[1]);
    ends_release(ends);
    gp__free(bytes);
}

/* What was stored is sent after the user has released the stream. */
static void
a_released_stream_sends_what_is_stored(void **state)
{
    const size_t len = 1024 * 1024;
    unsigned char *bytes = make_bytes(len);
    end ends[2];
    line *lines[2];

    ends_open(ends, carrier_of(state), NULL);
    lines_open(ends, lines);
    line_send(lines[0], bytes, len);
    line_close(lines[0]);
    assert_int_equal(line_await_end(lines[1]), 0);
    expect_bytes(lines[1], len);
    line_close(lines[1]);
    ends_release(ends);
    gp__free(bytes);
}

/* ---- Streams --------------------------------------------------------------------------------- */

static void
many_streams_at_once(void **state)
{
    enum { STREAMS = 300 }; /* more than may be unanswered */
    line *opened[2][STREAMS];
    line *arrived[2][STREAMS];
    end ends[2];

    ends_open(ends, carrier_of(state), NULL);
    for (int i = 0; i < STREAMS; i++) {
        for (int side = 0; side < 2; side++) {
            unsigned char id[2] = {(unsigned char)i, (unsigned char)(i >> 8)};

            opened[side][i] = line_open(&ends[side]);
            line_send(opened[side][i], id, 2);
        }
    }
    for (int i = 0; i < STREAMS; i++) {
        for (int side = 0; side < 2; side++) {
            arrived[side][i] = line_arrive(&ends[1 - side]);
            line_await(arrived[side][i], 2);
            assert_int_equal((unsigned char)arrived[side][i]->in.data[0] |
                                 (unsigned char)arrived[side][i]->in.data[1] << 8,
                             i);
            line_send(arrived[side][i], "ok", 2);
        }
    }
    for (int i = 0; i < STREAMS; i++) {
        for (int side = 0; side < 2; side++) {
            line_expect(opened[side][i], "ok");
            line_close(opened[side][i]);
            assert_int_equal(line_await_end(arrived[side][i]), 0);
            line_close(arrived[side][i]);
        }
    }
    ends_release(ends);
}

static void
a_refused_or_aborted_stream_is_reset(void **state)
{
    end ends[2];
    line *lines[2];

    ends_open(ends, carrier_of(state), NULL);
    lines_open(ends, lines);
    line_abort(lines[1]);
    assert_int_equal(line_await_end(lines[0]), GP_ECLOSED);
    line_close(lines[0]);
    ends[1].refusing = true;
    lines[0] = line_open(&ends[0]);
    assert_int_equal(line_await_end(lines[0]), GP_ECLOSED);
    gp_mutex_lock(&ends[0].transport->lock);
    assert_int_equal(gp__transport_stream_send_locked(lines[0]->stream, "x", 1, NULL), GP_ECLOSED);
    gp_mutex_unlock(&ends[0].transport->lock);
    line_close(lines[0]);
    ends_release(ends);
}

/* The user of one stream uses nothing: its sender is blocked, others are not. */
static void
an_idle_user_blocks_its_sender_alone(void **state)
{
    const size_t len = 1024 * 1024;
    unsigned char *bytes = make_bytes(len);
    end ends[2];
    line *idle[2];
    line *lines[2];
    ptrdiff_t taken;

    ends_open(ends, carrier_of(state), NULL);
    lines_open(ends, idle);
    lines_open(ends, lines);
    gp_mutex_lock(&ends[1].transport->lock);
    idle[1]->idle = true;
    gp_mutex_unlock(&ends[1].transport->lock);
    gp_mutex_lock(&ends[0].transport->lock);
    taken = gp__transport_stream_write_locked(idle[0]->stream, bytes, len, NULL);
    assert_int_equal(taken, GP__YAMUX_WINDOW);
    taken = gp__transport_stream_write_locked(idle[0]->stream, bytes, len, NULL);
    assert_int_equal(taken, 0);
    gp__transport_flush_locked(ends[0].transport);
    gp_mutex_unlock(&ends[0].transport->lock);
    line_send(lines[0], "others", 6);
    line_expect(lines[1], "others");
    assert_int_equal(idle[0]->writable, 0);

    /* Everything has come by now. Once it is used, the sender goes on. */
    gp_mutex_lock(&ends[1].transport->lock);
    assert_int_equal(gp__transport_stream_unused_locked(idle[1]->stream), GP__YAMUX_WINDOW);
    idle[1]->idle = false;
    gp__transport_stream_resume_locked(idle[1]->stream);
    gp__transport_flush_locked(ends[1].transport);
    gp_mutex_unlock(&ends[1].transport->lock);
    expect_bytes(idle[1], GP__YAMUX_WINDOW);
    gp_mutex_lock(&ends[0].transport->lock);
    while (idle[0]->writable == 0) {
        idle[0]->news.open = false;
        assert_int_equal(
            gp__transport_wait_locked(ends[0].transport, &idle[0]->news, patience(), NULL), 0);
    }
    gp_mutex_unlock(&ends[0].transport->lock);
    for (int i = 0; i < 2; i++) {
        line_close(idle[i]);
        line_close(lines[i]);
    }
    ends_release(ends);
    gp__free(bytes);
}

/* ---- One user after another ------------------------------------------------------------------ */

typedef struct first_user {
    line *next;
    bool in_callback; /* hand the stream over in |received|, else leave it */
    bool waiting;
    int ends;
} first_user;

static size_t
take_four_bytes(void *ctx, const unsigned char *bytes, size_t len)
{
    first_user *it = ctx;

    if (len < 4) {
        return 0;
    }
    assert_memory_equal(bytes, "id00", 4);
    it->waiting = true;
    if (!it->in_callback) {
        return 0;
    }
    line_use_locked(it->next, it->next->stream);
    return 4;
}

/* The next user is told again. */
static void
note_end(void *ctx, const gp_error *why)
{
    first_user *it = ctx;

    (void)why;
    assert_false(it->in_callback);
    it->ends++;
}

static const gp__transport_stream_ops first_ops = {take_four_bytes, note_end, NULL};

static void
hand_over(carrier how, bool in_callback)
{
    end ends[2];
    line *lines[2];
    first_user first = {.in_callback = in_callback};
    char id[4];

    ends_open(ends, how, NULL);
    lines_open(ends, lines);
    first.next = lines[1];
    gp_mutex_lock(&ends[1].transport->lock);
    gp__transport_stream_use_locked(lines[1]->stream, &first_ops, &first);
    gp_mutex_unlock(&ends[1].transport->lock);
    line_send(lines[0], "id", 2);
    line_send(lines[0], "00and more", 10);
    if (in_callback) {
        line_expect(lines[1], "and more");
        line_close(lines[0]);
    } else {
        line_close(lines[0]);
        gp_mutex_lock(&ends[1].transport->lock);
        while (first.ends == 0) {
            assert_int_equal(gp__transport_wait_locked(ends[1].transport, &lines[1]->news,
                                                       gp_deadline_in(1), NULL),
                             GP_ETIMEOUT);
        }
        assert_true(first.waiting);
        assert_int_equal(gp__transport_stream_read_locked(lines[1]->stream, id, 4), 4);
        line_use_locked(lines[1], lines[1]->stream);
        gp_mutex_unlock(&ends[1].transport->lock);
        line_expect(lines[1], "and more");
    }
    assert_int_equal(line_await_end(lines[1]), 0);
    line_close(lines[1]);
    ends_release(ends);
}

static void
a_stream_is_handed_over_with_its_data(void **state)
{
    hand_over(carrier_of(state), true);
}

static void
a_stream_is_handed_over_later(void **state)
{
    hand_over(carrier_of(state), false);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static void
exchange(carrier how)
{
    gp__transport_options options = {.client = true};
    int fds[2];
    end ends[2];
    gp__transport_stream *stream = NULL;

    memset(ends, 0, sizeof(ends));
    assert_int_equal(gp__fd_socketpair(fds, NULL), 0);
    if (end_try_open(&ends[0], fds[0], how, &options) < 0) {
        close(fds[1]);
        gp__reactor_stop();
        return;
    }
    options.client = false;
    if (end_try_open(&ends[1], fds[1], how, &options) == 0) {
        gp_mutex_lock(&ends[0].transport->lock);
        if (gp__transport_stream_open_locked(&stream, ends[0].transport, &ignoring_ops, NULL,
                                             NULL) == 0) {
            gp__transport_stream_send_locked(stream, "x", 1, NULL);
            gp__transport_flush_locked(ends[0].transport);
            gp__transport_stream_shutdown_locked(stream);
            gp__transport_stream_release_locked(stream);
        }
        gp_mutex_unlock(&ends[0].transport->lock);
        end_release(&ends[1]);
    }
    end_release(&ends[0]);
    gp__reactor_stop(); /* it frees its watches */
}

static void
every_allocation_fails(void **state)
{
    long count;

    alloc_begin(-1);
    exchange(carrier_of(state));
    count = alloc_end();
    assert_true(count > 0);
    for (long i = 0; i < count; i++) {
        alloc_begin(i);
        exchange(carrier_of(state));
        alloc_end();
    }
}

#define WITH(test, how)                               \
    {                                                 \
        #test ": " #how, test, NULL, NULL, &(carrier) \
        {                                             \
            how                                       \
        }                                             \
    }
#define MUX(test) WITH(test, PLAIN), WITH(test, SECURE)
#define ALL(test) MUX(test), WITH(test, RAW), WITH(test, RAW_SECURE)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        ALL(bytes_go_both_ways),
        ALL(large_data_arrives_whole),
        ALL(a_released_stream_sends_what_is_stored),
        MUX(many_streams_at_once),
        MUX(a_refused_or_aborted_stream_is_reset),
        MUX(an_idle_user_blocks_its_sender_alone),
        MUX(a_stream_is_handed_over_with_its_data),
        MUX(a_stream_is_handed_over_later),
        ALL(every_allocation_fails),
    };

    return cmocka_run_group_tests(tests, transport_make_tls, transport_free_tls);
}
