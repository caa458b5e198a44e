#include "grpc_mux_fixture.h"

/* ---- Diallers that give up ---- */

/* The request may still be answered: the next one waits, and the answer gets its stream. */
static void
a_request_keeps_its_place(void **state)
{
    server_pair to;
    gp__grpc_dial *dial;
    mux_end ends[2];
    int here;

    (void)state;
    for (int from = 0; from < 2; from++) {
        mux_pair_open(ends);
        server_pair_open(&to);
        assert_int_equal(gp__grpc_mux_accept(ends[1 - from].mux, 8, to.paths[1], NULL), 0);
        dial_and_give_up(&ends[from], 7);
        here = dial_either_way(&ends[from], 8, &dial);
        await_sent(&ends[from], 1);
        assert_int_equal(gp__grpc_mux_accept(ends[1 - from].mux, 7, to.paths[0], NULL), 0);
        expect_hang_up(await_connection(to.listeners[0]));
        await_dialled(dial);
        expect_hello(here, to.listeners[1]);
        server_pair_close(&to);
        mux_pair_close(ends);
    }
}

/* A dial that ends before its turn leaves nothing behind. */
static void
given_up_before_its_turn(void **state)
{
    gp__grpc_dial *dial;
    mux_end ends[2];
    int fd;

    (void)state;
    mux_pair_open(ends);
    dial_and_give_up(&ends[0], 7);
    fd = dial_either_way(&ends[0], 8, &dial);
    await_queued(&ends[0], dial);
    assert_int_equal(gp__grpc_dial_await(dial, "the plugin", PATIENCE_MS, &interrupt_now, NULL),
                     GP_EUSER);
    close(fd);
    expire_request(&ends[0]);
    await_sent(&ends[0], 1);
    assert_true(gp_list_is_empty(&ends[0].mux->queue));
    mux_pair_close(ends);
}

/* After five seconds the next request is sent. A late answer still gets its stream. */
static void
an_answer_that_comes_late(void **state)
{
    server_pair to;
    gp__grpc_dial *dial;
    mux_end ends[2];
    int here;

    (void)state;
    mux_pair_open(ends);
    server_pair_open(&to);
    dial_and_give_up(&ends[0], 7);
    expire_request(&ends[0]);
    gp__grpc_mux_answered(ends[0].mux, 99, 0, ""); /* which was not asked for */
    assert_int_equal(gp__grpc_mux_accept(ends[1].mux, 7, to.paths[0], NULL), 0);
    expect_hang_up(await_connection(to.listeners[0]));
    assert_int_equal(ends[0].mux->unanswered_count, 0);
    gp__grpc_mux_answered(ends[0].mux, 7, 0, ""); /* a second time: it was not asked twice */
    assert_int_equal(gp__grpc_mux_accept(ends[1].mux, 8, to.paths[1], NULL), 0);
    here = dial_either_way(&ends[0], 8, &dial);
    await_dialled(dial);
    expect_hello(here, to.listeners[1]);
    /* Requests that are never answered are remembered in a bounded number. */
    hold_messages_back(&ends[0], true);
    for (uint32_t id = 100; id < 100 + 2 * GP__GRPC_MUX_UNANSWERED; id++) {
        gp_mutex_lock(&ends[0].lock);
        ends[0].sent = ends[0].delivered = 0;
        gp_mutex_unlock(&ends[0].lock);
        dial_and_give_up(&ends[0], id);
        expire_request(&ends[0]);
    }
    assert_int_equal(ends[0].mux->unanswered_count, GP__GRPC_MUX_UNANSWERED);
    assert_int_equal(ends[0].mux->unanswered[0].id, 100 + GP__GRPC_MUX_UNANSWERED);
    server_pair_close(&to);
    mux_pair_close(ends);
}

/* A dialler that still waits sends its request again, after the others'. */
static void
a_request_is_repeated(void **state)
{
    gp__grpc_dial *dial;
    char path[GP__GRPC_MUX_PATH];
    int listener;
    mux_end ends[2];
    int here;

    (void)state;
    mux_pair_open(ends);
    listener = listen_at(path, "late");
    hold_messages_back(&ends[0], true);
    here = dial_either_way(&ends[0], 7, &dial);
    await_sent(&ends[0], 1);
    expire_request(&ends[0]);
    await_sent(&ends[0], 2);
    assert_int_equal(gp__grpc_mux_accept(ends[1].mux, 7, path, NULL), 0);
    hold_messages_back(&ends[0], false);
    await_dialled(dial);
    expect_hang_up(await_connection(listener)); /* the first request gets an answer, too */
    expect_hello(here, listener);
    close_listener(listener, path);
    mux_pair_close(ends);
}

static void *
await_for_a_moment(void *dial)
{
    assert_int_equal(gp__grpc_dial_await(dial, "the plugin", 1, NULL, NULL), GP_EBROKER);
    return NULL;
}

/*
 * The time of a dial is the other side's: it does not begin before the other side is asked, however
 * many requests come before.
 */
static void
patience_begins_with_the_turn(void **state)
{
    gp__grpc_dial *dial;
    pthread_t thread;
    mux_end ends[2];
    int fd;

    (void)state;
    mux_pair_open(ends);
    dial_and_give_up(&ends[0], 7);
    fd = dial_either_way(&ends[0], 8, &dial);
    await_queued(&ends[0], dial);
    assert_int_equal(pthread_create(&thread, NULL, await_for_a_moment, dial), 0);
    expire_request(&ends[0]);
    pthread_join(thread, NULL);
    await_sent(&ends[0], 2);
    close(fd);
    mux_pair_close(ends);
}

/* Two dials of one id at the same time are two streams. */
static void
two_diallers_of_one_id(void **state)
{
    gp__grpc_dial *dials[2];
    char path[GP__GRPC_MUX_PATH];
    int listener;
    mux_end ends[2];
    int here[2];

    (void)state;
    mux_pair_open(ends);
    listener = listen_at(path, "popular");
    for (int i = 0; i < 2; i++) {
        here[i] = dial_either_way(&ends[0], 7, &dials[i]);
    }
    assert_int_equal(gp__grpc_mux_accept(ends[1].mux, 7, path, NULL), 0);
    for (int i = 1; i >= 0; i--) {
        await_dialled(dials[i]);
    }
    for (int i = 0; i < 2; i++) {
        close(await_connection(listener));
        close(here[i]);
    }
    close_listener(listener, path);
    mux_pair_close(ends);
}

static void
a_request_that_cannot_be_sent(void **state)
{
    mux_end ends[2];

    (void)state;
    mux_pair_open(ends);
    ends[0].failing = true;
    expect_dial_failure(&ends[0], PATIENCE_MS, "the request could not be sent");
    mux_pair_close(ends);
}

/* ---- Doors that open in vain ---- */

/* go-plugin's dialler gives up and asks for another id: the last request counts. */
static void
two_requests_and_one_stream(void **state)
{
    char paths[2][GP__GRPC_MUX_PATH];
    int listeners[3];
    mux_end ends[2];
    int here;

    (void)state;
    mux_pair_open(ends);
    listeners[0] = listen_at(paths[0], "first");
    listeners[1] = listen_at(paths[1], "second");
    listeners[2] = main_listener;
    for (uint32_t id = 1; id <= 2; id++) {
        assert_int_equal(gp__grpc_mux_accept(ends[1].mux, id, paths[id - 1], NULL), 0);
    }
    gp__grpc_mux_requested(ends[1].mux, 1, 0);
    gp__grpc_mux_requested(ends[1].mux, 2, 0);
    await_sent(&ends[1], 2);
    for (int i = 1; i <= 2; i++) { /* the second one is a main connection again */
        here = connect_to(gp_grpc_mux_path(ends[0].mux));
        expect_hello(here, listeners[i]);
    }
    for (int i = 0; i < 2; i++) {
        close_listener(listeners[i], paths[i]);
    }
    mux_pair_close(ends);
}

/* If an expected stream does not come in time, the next stream is not taken for it. */
static void
a_stream_that_never_comes(void **state)
{
    char path[GP__GRPC_MUX_PATH];
    int listener;
    mux_end ends[2];
    int here;

    (void)state;
    mux_pair_open(ends);
    listener = listen_at(path, "expecting");
    assert_int_equal(gp__grpc_mux_accept(ends[1].mux, 1, path, NULL), 0);
    gp__grpc_mux_requested(ends[1].mux, 1, 0);
    gp_mutex_lock(&ends[1].mux->lock);
    assert_int_equal(ends[1].mux->expected_count, 1);
    assert_true(ends[1].mux->expected[0].until <= gp_deadline_in(gp__grpc_mux_answer_ms));
    ends[1].mux->expected[0].until = 0;
    gp_mutex_unlock(&ends[1].mux->lock);
    here = connect_to(gp_grpc_mux_path(ends[0].mux));
    expect_hello(here, main_listener);
    /* The same, if the answer could not be sent. */
    ends[1].failing = true;
    gp__grpc_mux_requested(ends[1].mux, 1, 0);
    assert_int_equal(ends[1].mux->expected_count, 0);
    close_listener(listener, path);
    mux_pair_close(ends);
}

static void
requests_for_what_is_closed(void **state)
{
    char path[GP__GRPC_MUX_PATH];
    int listener;
    mux_end ends[2];

    (void)state;
    mux_pair_open(ends);
    listener = listen_at(path, "closing");
    for (uint32_t id = 6; id <= 7; id++) {
        assert_int_equal(gp__grpc_mux_accept(ends[1].mux, id, path, NULL), 0);
    }
    gp__grpc_mux_requested(ends[1].mux, 6, 0);
    gp__grpc_mux_forget(ends[1].mux, 6);
    gp__grpc_mux_forget(ends[1].mux, 7);
    close_listener(listener, path);
    /* The expected stream connects to no server, rather than to another one. */
    expect_hang_up(connect_to(gp_grpc_mux_path(ends[0].mux)));
    /* Requests for an id that was forgotten are refused at once. */
    expect_dial_failure(&ends[0], PATIENCE_MS,
                        "refused by the plugin: it is not accepted any more");
    /* An id that was never accepted is waited for; any number of ids may be forgotten. */
    for (uint32_t id = 100; id < 100 + 2 * GP__GRPC_MUX_FORGOTTEN; id++) {
        assert_int_equal(gp__grpc_mux_accept(ends[1].mux, id, path, NULL), 0);
        gp__grpc_mux_forget(ends[1].mux, id);
    }
    gp__grpc_mux_requested(ends[1].mux, 7, 0);
    assert_true(ends[1].mux->early_until > 0);
    assert_int_equal(ends[1].mux->early_request.id, 7);
    mux_pair_close(ends);
}

/* go-plugin's host refuses a request that comes before its accept: it is sent again. */
static void
refused_for_coming_early(void **state)
{
    gp_error err = GP_ERROR_INIT;
    char path[GP__GRPC_MUX_PATH];
    gp__grpc_dial *dial;
    int listener;
    mux_end ends[2];
    int fd;

    (void)state;
    mux_pair_open(ends);
    listener = listen_at(path, "late");
    fd = dial_either_way(&ends[0], 7, &dial);
    await_sent(&ends[0], 1);
    gp__grpc_mux_answered(ends[0].mux, 7, 0, "no listener for id 7");
    await_sent(&ends[0], 2);
    assert_int_equal(gp__grpc_mux_accept(ends[1].mux, 7, path, NULL), 0);
    await_dialled(dial);
    expect_hello(fd, listener);
    close_listener(listener, path);
    /* But not without end. */
    hold_messages_back(&ends[0], true);
    fd = dial_either_way(&ends[0], 8, &dial);
    for (size_t i = 3; i < 12; i++) {
        await_sent(&ends[0], i);
        gp__grpc_mux_answered(ends[0].mux, 8, 0, "no listener for id 8");
    }
    assert_int_equal(gp__grpc_dial_await(dial, "the plugin", PATIENCE_MS, NULL, &err), GP_EBROKER);
    assert_non_null(strstr(gp_error_message(&err), "refused by the plugin: no listener for id 8"));
    gp_error_release(&err);
    close(fd);
    mux_pair_close(ends);
}

/* ---- Floods, and early requests ---- */

/* By another request the dialler gives up the one before: the last request counts. */
static void
early_requests(void **state)
{
    char path[GP__GRPC_MUX_PATH] = "/nowhere";
    gp_grpc_mux *mux;
    mux_end ends[2];

    (void)state;
    mux_pair_open(ends);
    mux = ends[1].mux;
    for (uint32_t id = 1; id < 10000; id++) {
        gp__grpc_mux_requested(mux, id, id);
        gp__grpc_mux_requested(mux, id, id + 1);
    }
    assert_int_equal(gp__grpc_mux_accept(mux, 9998, path, NULL), 0);
    assert_int_equal(ends[1].sent, 0);
    /* It is dropped before its dialler gives up. */
    gp_mutex_lock(&mux->lock);
    assert_true(mux->early_until < gp_deadline_in(gp__grpc_mux_answer_ms));
    gp_mutex_unlock(&mux->lock);
    assert_int_equal(gp__grpc_mux_accept(mux, 9999, path, NULL), 0);
    assert_int_equal(ends[1].sent, 1);
    assert_int_equal(ends[1].messages[0].serial, 10000);
    gp__grpc_mux_requested(mux, 10001, 1);
    gp_mutex_lock(&mux->lock);
    mux->early_until = 1;
    gp_mutex_unlock(&mux->lock);
    assert_int_equal(gp__grpc_mux_accept(mux, 10001, path, NULL), 0);
    assert_int_equal(ends[1].sent, 1);
    mux_pair_close(ends);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_keeps_its_place),
        cmocka_unit_test(given_up_before_its_turn),
        cmocka_unit_test(an_answer_that_comes_late),
        cmocka_unit_test(a_request_is_repeated),
        cmocka_unit_test(patience_begins_with_the_turn),
        cmocka_unit_test(two_diallers_of_one_id),
        cmocka_unit_test(a_request_that_cannot_be_sent),
        cmocka_unit_test(two_requests_and_one_stream),
        cmocka_unit_test(a_stream_that_never_comes),
        cmocka_unit_test(requests_for_what_is_closed),
        cmocka_unit_test(refused_for_coming_early),
        cmocka_unit_test(early_requests),
    };

    return cmocka_run_group_tests(tests, NULL, tear_down_reactor);
}
