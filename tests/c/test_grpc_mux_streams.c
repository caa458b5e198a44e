/* Streams that the other side does not accept, and the requests that wait for that. */
#include "grpc_mux_fixture.h"

/*
 * A multiplexed connection whose other end is yamux alone, and sends nothing by itself. It stands
 * for go-plugin's, whose streams wait until they are accepted.
 */
typedef struct slow_end {
    mux_end it; /* ours; its messages go nowhere */
    int fd;
    gp__yamux *session;
    gp__yamux_stream *streams[600];
    size_t count;
} slow_end;

static void
begin_slow(slow_end *slow)
{
    const gp__grpc_mux_sender how = {send_request, send_answer, count_ref, count_unref, &slow->it};
    const gp__yamux_options options = {.client = false};
    char address[200];
    int listener;

    memset(slow, 0, sizeof(*slow));
    assert_int_equal(gp_grpc_mux_new(&slow->it.mux, NULL, NULL), 0);
    gp_mutex_init(&slow->it.lock);
    gp_cond_init(&slow->it.changed);
    gp__grpc_mux_set_sender(slow->it.mux, &how);
    snprintf(address, sizeof(address), "%s/slow", make_directory());
    assert_int_equal(gp__socket_listen(&listener, "unix", address, NULL, NULL), 0);
    assert_int_equal(gp_grpc_mux_connect(slow->it.mux, "unix", address, PATIENCE_MS, NULL, NULL),
                     0);
    slow->fd = await_connection(listener);
    close_listener(listener, address);
    assert_int_equal(gp__yamux_new(&slow->session, &options, gp__now(), NULL), 0);
}

static void
finish_slow(slow_end *slow)
{
    gp_grpc_mux_close(slow->it.mux);
    gp_grpc_mux_unref(slow->it.mux);
    gp_mutex_release(&slow->it.lock);
    gp_cond_release(&slow->it.changed);
    gp__yamux_free(slow->session);
    close(slow->fd);
    remove_directory();
}

/* Read until so many streams have been opened. */
static void
await_streams(slow_end *slow, size_t count)
{
    struct pollfd ready = {.fd = slow->fd, .events = POLLIN};
    unsigned char bytes[4096];
    gp__yamux_event event;

    while (slow->count < count) {
        const unsigned char *at = bytes;
        ssize_t got;
        size_t len;

        assert_int_equal(gp__fd_poll(&ready, 1, patience()), 1);
        got = recv(slow->fd, bytes, sizeof(bytes), 0);
        assert_true(got > 0);
        len = (size_t)got;
        while (gp__yamux_receive(slow->session, &at, &len, &event, NULL) > 0) {
            if (event.kind == GP__YAMUX_OPENED) {
                slow->streams[slow->count++] = event.stream;
            }
        }
    }
    assert_int_equal(slow->count, count);
}

static void
accept_stream(slow_end *slow, size_t index)
{
    const unsigned char *bytes;
    size_t len;

    gp__yamux_stream_accept(slow->streams[index], NULL);
    while ((bytes = gp__yamux_output(slow->session, &len)) != NULL) {
        ssize_t sent = send(slow->fd, bytes, len, MSG_NOSIGNAL);

        assert_true(sent > 0);
        gp__yamux_sent(slow->session, (size_t)sent);
    }
}

/* Dial |id|, have it answered, and wait for the stream. */
static int
dial_and_answer(slow_end *slow, uint32_t id)
{
    size_t before = slow->it.sent;
    gp__grpc_dial *dial;
    int fd = dial_either_way(&slow->it, id, &dial);

    await_sent(&slow->it, before + 1);
    gp__grpc_mux_answered(slow->it.mux, id, 0, "");
    await_dialled(dial);
    return fd;
}

/* If two ids waited for the next stream, go-plugin's host would give it to either. */
static void
a_request_waits_until_the_stream_before_is_taken(void **state)
{
    gp__grpc_dial *dial;
    slow_end slow;
    int fds[2];

    (void)state;
    begin_slow(&slow);
    fds[0] = dial_and_answer(&slow, 7);
    await_streams(&slow, 1);
    fds[1] = dial_either_way(&slow.it, 8, &dial);
    await_queued(&slow.it, dial);
    gp__grpc_mux_tick(slow.it.mux);
    assert_int_equal(slow.it.sent, 1);
    accept_stream(&slow, 0);
    await_sent(&slow.it, 2);
    gp__grpc_mux_answered(slow.it.mux, 8, 0, "");
    await_dialled(dial);
    await_streams(&slow, 2);
    close(fds[0]);
    close(fds[1]);
    finish_slow(&slow);
}

/* The other side may take as long as for an answer. */
static void
a_stream_that_is_never_taken(void **state)
{
    gp__grpc_dial *dial;
    slow_end slow;
    int fds[3];

    (void)state;
    begin_slow(&slow);
    fds[0] = dial_and_answer(&slow, 7);
    fds[1] = dial_either_way(&slow.it, 8, &dial);
    await_queued(&slow.it, dial);
    gp_mutex_lock(&slow.it.mux->lock);
    assert_true(slow.it.mux->accept_until <= gp_deadline_in(gp__grpc_mux_answer_ms));
    slow.it.mux->accept_until = 0;
    gp_mutex_unlock(&slow.it.mux->lock);
    gp__grpc_mux_tick(slow.it.mux);
    await_sent(&slow.it, 2);
    gp__grpc_mux_answered(slow.it.mux, 8, 0, "");
    await_dialled(dial);
    /* Afterwards it does not delay other dials. */
    await_streams(&slow, 2);
    accept_stream(&slow, 1);
    fds[2] = dial_and_answer(&slow, 9);
    for (int i = 0; i < 3; i++) {
        close(fds[i]);
    }
    finish_slow(&slow);
}

/* So many streams wait that the next one is not sent yet: a request would overtake it. */
static void
more_streams_than_may_wait(void **state)
{
    enum { BACKLOG = 256 };
    gp_error err = GP_ERROR_INIT;
    gp__grpc_dial *dial;
    slow_end slow;
    int fds[BACKLOG + 2];

    (void)state;
    begin_slow(&slow);
    for (int i = 0; i < BACKLOG; i++) {
        fds[i] = connect_to(gp_grpc_mux_path(slow.it.mux));
    }
    await_streams(&slow, BACKLOG);
    slow.it.mux->given_up = BACKLOG;
    fds[BACKLOG] = dial_and_answer(&slow, 7);
    fds[BACKLOG + 1] = dial_either_way(&slow.it, 8, &dial);
    await_queued(&slow.it, dial);
    gp_mutex_lock(&slow.it.mux->lock);
    slow.it.mux->accept_until = 0;
    gp_mutex_unlock(&slow.it.mux->lock);
    gp__grpc_mux_tick(slow.it.mux);
    assert_int_equal(slow.it.sent, 1);
    assert_int_equal(gp__grpc_dial_await(dial, "the plugin", PATIENCE_MS, NULL, &err), GP_EBROKER);
    assert_non_null(strstr(gp_error_message(&err), "it has not accepted the connections before"));
    gp_error_release(&err);
    close(fds[BACKLOG + 1]);
    /* Once they are accepted, dials go on. */
    for (size_t i = 0; i < BACKLOG; i++) {
        accept_stream(&slow, i);
    }
    await_streams(&slow, BACKLOG + 1);
    accept_stream(&slow, BACKLOG);
    fds[BACKLOG + 1] = dial_and_answer(&slow, 9);
    for (int i = 0; i < BACKLOG + 2; i++) {
        close(fds[i]);
    }
    finish_slow(&slow);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_waits_until_the_stream_before_is_taken),
        cmocka_unit_test(a_stream_that_is_never_taken),
        cmocka_unit_test(more_streams_than_may_wait),
    };

    return cmocka_run_group_tests(tests, NULL, tear_down_reactor);
}
