/*
 * Answers that cross with requests: which stream belongs to which, and in which order messages are
 * sent.
 */
#include "grpc_mux_fixture.h"

/*
 * An answer is on its way when the next request is sent: each stream goes to the server that it was
 * meant for.
 */
static void
a_late_answer_crosses_with_a_request(void **state)
{
    server_pair to;
    gp__grpc_dial *dial;
    mux_end ends[2];
    int here;

    (void)state;
    for (int from = 0; from < 2; from++) {
        mux_end *dialler = &ends[from];
        mux_end *server = &ends[1 - from];

        mux_pair_open(ends);
        server_pair_open(&to);
        for (uint32_t id = 7; id <= 8; id++) {
            assert_int_equal(gp__grpc_mux_accept(server->mux, id, to.paths[id - 7], NULL), 0);
        }
        hold_messages_back(server, true);
        dial_and_give_up(dialler, 7);
        await_sent(server, 1);
        expire_request(dialler);
        here = dial_either_way(dialler, 8, &dial);
        await_sent(server, 2);
        hold_messages_back(server, false);
        await_dialled(dial);
        expect_hang_up(await_connection(to.listeners[0]));
        expect_hello(here, to.listeners[1]);
        assert_int_equal(server->mux->expected_count, 0);
        server_pair_close(&to);
        mux_pair_close(ends);
    }
}

/* The same when both requests are for one id, and a third one follows. */
static void
a_late_answer_crosses_with_a_request_for_the_same(void **state)
{
    server_pair to;
    gp__grpc_dial *dials[2];
    mux_end ends[2];
    int here[2];

    (void)state;
    mux_pair_open(ends);
    server_pair_open(&to);
    for (uint32_t id = 7; id <= 8; id++) {
        assert_int_equal(gp__grpc_mux_accept(ends[1].mux, id, to.paths[id - 7], NULL), 0);
    }
    hold_messages_back(&ends[1], true);
    dial_and_give_up(&ends[0], 7);
    await_sent(&ends[1], 1);
    expire_request(&ends[0]);
    for (int i = 0; i < 2; i++) {
        here[i] = dial_either_way(&ends[0], (uint32_t)(7 + i), &dials[i]);
        await_sent(&ends[1], 2);
    }
    hold_messages_back(&ends[1], false);
    for (int i = 0; i < 2; i++) {
        await_dialled(dials[i]);
    }
    expect_hang_up(await_connection(to.listeners[0]));
    for (int i = 0; i < 2; i++) {
        expect_hello(here[i], to.listeners[i]);
    }
    server_pair_close(&to);
    mux_pair_close(ends);
}

/* go-plugin's answers have no serial numbers. Late ones get their streams, too. */
static void
answers_without_marks(void **state)
{
    char path[GP__GRPC_MUX_PATH];
    gp__grpc_dial *dial;
    int listener;
    mux_end ends[2];
    int here;

    (void)state;
    mux_pair_open(ends);
    ends[0].without_serials = ends[1].without_serials = true;
    listener = listen_at(path, "without_serials");
    dial_and_give_up(&ends[0], 7);
    expire_request(&ends[0]);
    assert_int_equal(gp__grpc_mux_accept(ends[1].mux, 7, path, NULL), 0);
    expect_hang_up(await_connection(listener));
    here = dial_either_way(&ends[0], 7, &dial);
    await_dialled(dial);
    expect_hello(here, listener);
    assert_int_equal(ends[0].mux->unanswered_count, 0);
    close_listener(listener, path);
    mux_pair_close(ends);
}

/* However many answers there are, a bounded number of streams is expected. */
static void
answers_whose_streams_never_come(void **state)
{
    mux_end ends[2];
    gp_grpc_mux *mux;

    (void)state;
    mux_pair_open(ends);
    mux = ends[1].mux;
    assert_int_equal(gp__grpc_mux_accept(mux, 7, "/nowhere", NULL), 0);
    for (uint32_t serial = 1; serial <= 60; serial++) {
        gp__grpc_mux_requested(mux, 7, serial);
    }
    gp_mutex_lock(&mux->lock);
    assert_int_equal(mux->expected_count, GP__GRPC_MUX_EXPECTED);
    assert_int_equal(mux->expected[0].request.serial, 60 - GP__GRPC_MUX_EXPECTED + 1);
    mux->expected_count = 0;
    gp_mutex_unlock(&mux->lock);
    mux_pair_close(ends);
}

/* Messages that are queued while another is sent keep their order; too many are not sent. */
static void
messages_keep_their_order(void **state)
{
    mux_end ends[2];
    gp_grpc_mux *mux;

    (void)state;
    mux_pair_open(ends);
    mux = ends[1].mux;
    assert_int_equal(gp__grpc_mux_accept(mux, 7, "/nowhere", NULL), 0);
    mux->sending = true;
    for (uint32_t serial = 1; serial <= 2 * GP__GRPC_MUX_MESSAGES; serial++) {
        gp__grpc_mux_requested(mux, 7, serial);
    }
    assert_int_equal(ends[1].sent, 0);
    assert_int_equal(mux->expected[mux->expected_count - 1].request.serial, GP__GRPC_MUX_MESSAGES);
    mux->sending = false;
    gp__grpc_mux_send_messages(mux);
    assert_int_equal(ends[1].sent, GP__GRPC_MUX_MESSAGES);
    for (uint32_t i = 0; i < GP__GRPC_MUX_MESSAGES; i++) {
        assert_int_equal(ends[1].messages[i].serial, i + 1);
    }
    mux->expected_count = 0;
    mux_pair_close(ends);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_late_answer_crosses_with_a_request),
        cmocka_unit_test(a_late_answer_crosses_with_a_request_for_the_same),
        cmocka_unit_test(answers_without_marks),
        cmocka_unit_test(answers_whose_streams_never_come),
        cmocka_unit_test(messages_keep_their_order),
    };

    return cmocka_run_group_tests(tests, NULL, tear_down_reactor);
}
