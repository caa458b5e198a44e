#include "yamux_fixture.h"

enum { SECOND = 1000000000 };

static void
opened_and_accepted(void **state)
{
    gp__yamux *session = make_session(&plain[0]);
    gp__yamux_event event;
    gp__yamux_stream *stream;
    int ctx;

    (void)state;
    assert_int_equal(gp__yamux_open(&stream, session, &ctx, NULL), 0);
    assert_int_equal(gp__yamux_stream_id(stream), 1);
    assert_ptr_equal(gp__yamux_stream_ctx(stream), &ctx);
    expect_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_SYN, 1, 0);
    assert_int_equal(write_zeros(stream, 10), 10); /* before the answer */
    expect_frame(session, GP__YAMUX_TYPE_DATA, 0, 1, 10);
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_ACK, 1, 0, &event), 1);
    assert_int_equal(event.kind, GP__YAMUX_ACCEPTED);
    assert_ptr_equal(event.stream, stream);
    expect_no_event(session);

    gp__yamux_stream_shutdown(stream);
    gp__yamux_stream_shutdown(stream);
    expect_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_FIN, 1, 0);
    /* The other direction goes on. */
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_DATA, GP__YAMUX_FIN, 1, 5, &event), 0);
    assert_int_equal(give_bytes(session, 3, &event), 1);
    assert_int_equal(event.kind, GP__YAMUX_DATA);
    assert_int_equal(event.len, 3);
    assert_int_equal(give_bytes(session, 2, &event), 1);
    assert_int_equal(event.len, 2);
    assert_int_equal(give_bytes(session, 0, &event), 1);
    assert_int_equal(event.kind, GP__YAMUX_ENDED);
    assert_int_equal(gp__yamux_count(session), 0);
    gp__yamux_stream_release(stream);
    expect_no_event(session);
    expect_silence(session);
    gp__yamux_free(session);
}

static void
opened_by_the_other_side(void **state)
{
    gp__yamux *session = make_session(&plain[1]);
    gp__yamux_event event;
    gp__yamux_stream *stream;

    (void)state;
    /* Opening, data and end in one frame. */
    assert_int_equal(
        give_frame(session, GP__YAMUX_TYPE_DATA, GP__YAMUX_SYN | GP__YAMUX_FIN, 1, 4, &event), 1);
    assert_int_equal(event.kind, GP__YAMUX_OPENED);
    stream = event.stream;
    gp__yamux_stream_accept(stream, session);
    expect_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_ACK, 1, 0);
    assert_int_equal(give_bytes(session, 4, &event), 1);
    assert_int_equal(event.kind, GP__YAMUX_DATA);
    assert_int_equal(give_bytes(session, 0, &event), 1);
    assert_int_equal(event.kind, GP__YAMUX_ENDED);
    assert_int_equal(write_zeros(stream, 7), 7);
    gp__yamux_stream_shutdown(stream);
    expect_frame(session, GP__YAMUX_TYPE_DATA, 0, 1, 7);
    expect_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_FIN, 1, 0);
    gp__yamux_stream_release(stream);
    assert_int_equal(gp__yamux_count(session), 0);
    /* What was sent before the end arrived is ignored. */
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_WINDOW, 0, 1, 100, &event), 0);
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_DATA, 0, 1, 100, &event), 0);
    assert_int_equal(give_bytes(session, 100, &event), 0);
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_RST, 1, 0, &event), 0);
    expect_silence(session);
    gp__yamux_free(session);
}

static void
windows_are_kept(void **state)
{
    gp__yamux *session = make_session(&plain[0]);
    gp__yamux_stream *stream;
    gp__yamux_stream *other;
    gp__yamux_event event;

    (void)state;
    assert_int_equal(gp__yamux_open(&stream, session, NULL, NULL), 0);
    assert_int_equal(gp__yamux_open(&other, session, NULL, NULL), 0);
    next_frame(session);
    next_frame(session);
    assert_int_equal(write_zeros(stream, 1000000), GP__YAMUX_WINDOW);
    /* A stream that has to wait does not stall others. */
    while (gp__yamux_full(session)) {
        next_frame(session);
    }
    assert_int_equal(write_zeros(other, 1000), 1000);
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_WINDOW, 0, 3, 5, &event), 0);
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_WINDOW, 0, 1, 0, &event), 0);
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_WINDOW, 0, 1, 5, &event), 1);
    assert_int_equal(event.kind, GP__YAMUX_WRITABLE);
    assert_ptr_equal(event.stream, stream);
    assert_int_equal(write_zeros(stream, 1000000), 5);
    while (next_frame(session).id != 3) {
    }
    expect_frame(session, GP__YAMUX_TYPE_DATA, 0, 1, 5);

    /* In the other direction: once half a window is used up, it is given back. */
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_DATA, 0, 1, GP__YAMUX_WINDOW, &event), 0);
    assert_int_equal(give_bytes(session, GP__YAMUX_WINDOW, &event), 1);
    gp__yamux_stream_consumed(stream, GP__YAMUX_WINDOW / 2 - 1);
    expect_silence(session);
    gp__yamux_stream_consumed(stream, 1);
    expect_frame(session, GP__YAMUX_TYPE_WINDOW, 0, 1, GP__YAMUX_WINDOW / 2);
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_DATA, 0, 1, GP__YAMUX_WINDOW / 2, &event),
                     0);
    assert_int_equal(give_bytes(session, GP__YAMUX_WINDOW / 2, &event), 1);
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_DATA, 0, 1, 1, &event), GP_EPROTOCOL);
    gp__yamux_free(session);
}

static void
larger_windows(void **state)
{
    const gp__yamux_options options = {.client = true, .window = 1 << 20};
    const uint32_t more = (1 << 20) - GP__YAMUX_WINDOW;
    gp__yamux *session = make_session(&options);
    gp__yamux_stream *stream;
    gp__yamux_event event;

    (void)state;
    assert_int_equal(gp__yamux_open(&stream, session, NULL, NULL), 0);
    expect_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_SYN, 1, more);
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_ACK, 1, 1000, &event), 1);
    assert_int_equal(write_zeros(stream, 1000000), GP__YAMUX_WINDOW + 1000);
    while (gp__yamux_output(session, &(size_t){0}) != NULL) {
        next_frame(session);
    }
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_SYN, 2, 0, &event), 1);
    gp__yamux_stream_accept(event.stream, NULL);
    expect_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_ACK, 2, more);
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_DATA, 0, 2, 1 << 20, &event), 0);
    gp__yamux_free(session);
}

static void
resets(void **state)
{
    gp__yamux *session = make_session(&plain[0]);
    gp__yamux_stream *stream;
    gp__yamux_event event;
    unsigned char *room;

    (void)state;
    /* From the other side, even if the stream was not answered. */
    assert_int_equal(gp__yamux_open(&stream, session, NULL, NULL), 0);
    next_frame(session);
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_RST, 1, 0, &event), 1);
    assert_int_equal(event.kind, GP__YAMUX_RESET);
    assert_int_equal(gp__yamux_stream_reserve(stream, &room, 1), GP_ECLOSED);
    gp__yamux_stream_shutdown(stream);
    gp__yamux_stream_consumed(stream, 1 << 20);
    gp__yamux_stream_release(stream);
    expect_silence(session);

    /* Of a stream that was just opened, with data that is not passed on. */
    assert_int_equal(
        give_frame(session, GP__YAMUX_TYPE_DATA, GP__YAMUX_SYN | GP__YAMUX_RST, 2, 9, &event), 1);
    assert_int_equal(event.kind, GP__YAMUX_OPENED);
    stream = event.stream;
    gp__yamux_stream_accept(stream, NULL);
    assert_int_equal(give_bytes(session, 9, &event), 1);
    assert_int_equal(event.kind, GP__YAMUX_RESET);
    gp__yamux_stream_release(stream);
    expect_silence(session);

    /* From this side, in the middle of a frame. */
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_SYN, 4, 0, &event), 1);
    stream = event.stream;
    gp__yamux_stream_accept(stream, NULL);
    next_frame(session);
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_DATA, GP__YAMUX_FIN, 4, 20, &event), 0);
    assert_int_equal(give_bytes(session, 5, &event), 1);
    gp__yamux_stream_release(stream);
    expect_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_RST, 4, 0);
    assert_int_equal(give_bytes(session, 15, &event), 0);
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_PING, GP__YAMUX_SYN, 0, 3, &event), 0);
    expect_frame(session, GP__YAMUX_TYPE_PING, GP__YAMUX_ACK, 0, 3);
    assert_int_equal(gp__yamux_count(session), 0);
    gp__yamux_free(session);
}

static void
released_after_its_own_end(void **state)
{
    gp__yamux *session = make_session(&plain[0]);
    gp__yamux_stream *streams[4];
    gp__yamux_event event;

    (void)state;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(gp__yamux_open(&streams[i], session, NULL, NULL), 0);
        gp__yamux_stream_shutdown(streams[i]);
        gp__yamux_stream_release(streams[i]);
        next_frame(session);
        next_frame(session);
    }
    assert_int_equal(gp__yamux_count(session), 4);
    /* The other side answers, which causes no event, and ends the stream too. */
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_ACK, 1, 9, &event), 0);
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_FIN, 1, 0, &event), 0);
    assert_int_equal(gp__yamux_count(session), 3);
    /* It sends data, which is not read any more. */
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_DATA, GP__YAMUX_FIN, 3, 9, &event), 0);
    assert_int_equal(give_bytes(session, 9, &event), 0);
    expect_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_RST, 3, 0);
    /* It resets the stream. */
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_RST, 5, 0, &event), 0);
    assert_int_equal(gp__yamux_count(session), 1);
    /* It does nothing at all. */
    assert_int_equal(gp__yamux_tick(session, INT64_C(299) * SECOND, NULL), 0);
    assert_int_equal(gp__yamux_count(session), 1);
    assert_int_equal(gp__yamux_tick(session, INT64_C(300) * SECOND, NULL), 0);
    assert_int_equal(gp__yamux_count(session), 0);
    expect_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_RST, 7, 0);
    expect_silence(session);
    gp__yamux_free(session);
}

static void
opening_waits_in_line(void **state)
{
    const gp__yamux_options options = {.client = true, .backlog = 2};
    gp__yamux *session = make_session(&options);
    gp__yamux_stream *streams[6];
    gp__yamux_event event;
    unsigned char *room;
    size_t unsent;

    (void)state;
    for (int i = 0; i < 6; i++) {
        assert_int_equal(gp__yamux_open(&streams[i], session, NULL, NULL), 0);
    }
    expect_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_SYN, 1, 0);
    expect_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_SYN, 3, 0);
    expect_silence(session);
    assert_int_equal(gp__yamux_waiting(session, &unsent), 6);
    assert_int_equal(unsent, 4);
    assert_int_equal(gp__yamux_stream_reserve(streams[2], &room, 1), 0);
    gp__yamux_stream_release(streams[3]); /* which the other side does not learn of */
    assert_int_equal(gp__yamux_waiting(session, &unsent), 5);
    assert_int_equal(unsent, 3);
    gp__yamux_stream_shutdown(streams[4]);
    expect_silence(session);
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_ACK, 3, 0, &event), 1);
    assert_int_equal(event.kind, GP__YAMUX_WRITABLE);
    assert_ptr_equal(event.stream, streams[2]);
    assert_int_equal(give_bytes(session, 0, &event), 1);
    assert_int_equal(event.kind, GP__YAMUX_ACCEPTED);
    assert_ptr_equal(event.stream, streams[1]);
    expect_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_SYN, 5, 0);
    expect_silence(session);
    assert_int_equal(gp__yamux_waiting(session, &unsent), 4);
    assert_int_equal(unsent, 2);
    /* A stream that is refused, or given up, also makes room. */
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_RST, 1, 0, &event), 1);
    assert_int_equal(event.kind, GP__YAMUX_RESET);
    expect_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_SYN, 9, 0);
    expect_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_FIN, 9, 0);
    gp__yamux_stream_release(streams[2]);
    expect_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_RST, 5, 0);
    expect_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_SYN, 11, 0);
    expect_no_event(session);
    gp__yamux_free(session);
}

/* Room for two streams is made before the next event is taken. */
static void
all_who_leave_the_line_are_told(void **state)
{
    const gp__yamux_options two = {.client = true, .backlog = 2};
    gp__yamux *session = make_session(&two);
    gp__yamux_stream *streams[5];
    gp__yamux_event event;
    unsigned char *room;

    (void)state;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(gp__yamux_open(&streams[i], session, NULL, NULL), 0);
        if (i >= 2) {
            assert_int_equal(gp__yamux_stream_reserve(streams[i], &room, 10), 0);
        }
    }
    gp__yamux_stream_release(streams[0]);
    gp__yamux_stream_release(streams[1]);
    gp__yamux_stream_release(streams[2]); /* which makes room for the last one */
    for (int i = 3; i < 5; i++) {
        assert_int_equal(give_bytes(session, 0, &event), 1);
        assert_int_equal(event.kind, GP__YAMUX_WRITABLE);
        assert_ptr_equal(event.stream, streams[i]);
    }
    expect_no_event(session);
    gp__yamux_free(session);
}

static void
memory_for_data_runs_short(void **state)
{
    gp__yamux *session = make_session(&plain[0]);
    gp__yamux_stream *stream;
    gp__yamux_event event;
    unsigned char *room;
    const unsigned char *at = NULL;
    size_t len = 0;

    (void)state;
    assert_int_equal(gp__yamux_open(&stream, session, NULL, NULL), 0);
    alloc_begin(0);
    assert_int_equal(gp__yamux_stream_reserve(stream, &room, GP__YAMUX_FRAME_MOST), GP_ENOMEM);
    /* Otherwise the stream would wait for memory without end. */
    assert_int_equal(gp__yamux_receive(session, &at, &len, &event, NULL), GP_ENOMEM);
    gp__yamux_free(session);
    alloc_end();
}

static void
too_many_streams_are_refused(void **state)
{
    const gp__yamux_options options = {.client = false, .max_streams = 3};
    gp__yamux *session = make_session(&options);
    gp__yamux_event event;

    (void)state;
    for (uint32_t id = 1; id <= 5; id += 2) {
        assert_int_equal(give_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_SYN, id, 0, &event),
                         1);
        gp__yamux_stream_accept(event.stream, NULL);
        next_frame(session);
    }
    for (uint32_t id = 7; id <= 2001; id += 2) {
        assert_int_equal(give_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_SYN, id, 0, &event),
                         0);
        expect_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_RST, id, 0);
    }
    assert_int_equal(gp__yamux_count(session), 3);
    /* Data of a stream that is refused is skipped. */
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_DATA, GP__YAMUX_SYN, 9001, 99, &event), 0);
    assert_int_equal(give_bytes(session, 99, &event), 0);
    gp__yamux_stream_release(event.stream);
    next_frame(session);
    next_frame(session);
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_SYN, 9003, 0, &event), 1);
    gp__yamux_free(session);
}

static void
going_away(void **state)
{
    gp__yamux *session = make_session(&plain[0]);
    gp__yamux_stream *stream;
    gp__yamux_stream *refused = NULL;
    gp__yamux_event event;

    (void)state;
    assert_int_equal(gp__yamux_open(&stream, session, NULL, NULL), 0);
    next_frame(session);
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_GO_AWAY, 0, 0, 0, &event), 1);
    assert_int_equal(event.kind, GP__YAMUX_GO_AWAY);
    assert_int_equal(gp__yamux_open(&refused, session, NULL, NULL), GP_ECLOSED);
    assert_int_equal(write_zeros(stream, 10), 10); /* streams that exist go on */
    next_frame(session);
    gp__yamux_go_away(session, GP__YAMUX_NORMAL);
    gp__yamux_go_away(session, GP__YAMUX_NORMAL);
    expect_frame(session, GP__YAMUX_TYPE_GO_AWAY, 0, 0, GP__YAMUX_NORMAL);
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_SYN, 2, 0, &event), 0);
    expect_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_RST, 2, 0);
    expect_silence(session);
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_GO_AWAY, 0, 0, 2, &event), GP_ECLOSED);
    assert_int_equal(gp__yamux_open(&refused, session, NULL, NULL), GP_ECLOSED);
    expect_silence(session); /* no answer to that */
    gp__yamux_free(session);
}

static void
pings(void **state)
{
    const gp__yamux_options options = {
        .client = true, .keepalive = INT64_C(30) * SECOND, .timeout = INT64_C(10) * SECOND};
    gp__yamux *session = make_session(&options);
    gp__yamux_event event;
    gp_error err = GP_ERROR_INIT;

    (void)state;
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_PING, GP__YAMUX_SYN, 0, 77, &event), 0);
    expect_frame(session, GP__YAMUX_TYPE_PING, GP__YAMUX_ACK, 0, 77);
    assert_int_equal(gp__yamux_tick(session, INT64_C(29) * SECOND, NULL), 0);
    expect_silence(session);
    assert_int_equal(gp__yamux_tick(session, INT64_C(30) * SECOND, NULL), 0);
    expect_frame(session, GP__YAMUX_TYPE_PING, GP__YAMUX_SYN, 0, 1);
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_PING, GP__YAMUX_ACK, 0, 1, &event), 0);
    assert_int_equal(gp__yamux_tick(session, INT64_C(41) * SECOND, NULL), 0);
    expect_silence(session);
    assert_int_equal(gp__yamux_tick(session, INT64_C(60) * SECOND, NULL), 0);
    expect_frame(session, GP__YAMUX_TYPE_PING, GP__YAMUX_SYN, 0, 2);
    /* A peer that sends anything is alive, even if its answer is late. */
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_PING, GP__YAMUX_SYN, 0, 5, &event), 0);
    next_frame(session);
    assert_int_equal(gp__yamux_tick(session, INT64_C(75) * SECOND, NULL), 0);
    assert_int_equal(gp__yamux_tick(session, INT64_C(90) * SECOND, NULL), 0);
    expect_frame(session, GP__YAMUX_TYPE_PING, GP__YAMUX_SYN, 0, 3);
    assert_int_equal(gp__yamux_tick(session, INT64_C(99) * SECOND, NULL), 0);
    assert_int_equal(gp__yamux_tick(session, INT64_C(100) * SECOND, &err), GP_ETIMEOUT);
    assert_non_null(strstr(gp_error_message(&err), "has not answered a ping for 10 s"));
    gp_error_release(&err);
    gp__yamux_free(session);
}

/* Go's yamux sends such data when one goroutine closes the stream that another one writes to. */
static void
data_after_the_end_is_dropped(void **state)
{
    gp__yamux *session = make_session(&plain[0]);
    gp__yamux_event event;

    (void)state;
    assert_int_equal(
        give_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_SYN | GP__YAMUX_FIN, 2, 0, &event), 1);
    gp__yamux_stream_accept(event.stream, NULL);
    next_frame(session);
    assert_int_equal(give_bytes(session, 0, &event), 1);
    assert_int_equal(event.kind, GP__YAMUX_ENDED);
    assert_int_equal(give_frame(session, GP__YAMUX_TYPE_DATA, 0, 2, 30, &event), 0);
    assert_int_equal(give_bytes(session, 30, &event), 0);
    assert_int_equal(write_zeros(event.stream, 10), 10); /* our direction goes on */
    expect_frame(session, GP__YAMUX_TYPE_DATA, 0, 2, 10);
    gp__yamux_stream_shutdown(event.stream);
    expect_frame(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_FIN, 2, 0);
    assert_int_equal(gp__yamux_count(session), 0);
    gp__yamux_stream_release(event.stream);
    expect_silence(session);
    gp__yamux_free(session);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opened_and_accepted),
        cmocka_unit_test(opened_by_the_other_side),
        cmocka_unit_test(windows_are_kept),
        cmocka_unit_test(larger_windows),
        cmocka_unit_test(resets),
        cmocka_unit_test(released_after_its_own_end),
        cmocka_unit_test(opening_waits_in_line),
        cmocka_unit_test(all_who_leave_the_line_are_told),
        cmocka_unit_test(memory_for_data_runs_short),
        cmocka_unit_test(too_many_streams_are_refused),
        cmocka_unit_test(going_away),
        cmocka_unit_test(pings),
        cmocka_unit_test(data_after_the_end_is_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
