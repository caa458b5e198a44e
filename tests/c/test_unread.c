/*
 * Calls to a peer that does not read: a write to it ends only when the connection does, a call must
 * not.
 */
#include <sys/socket.h>
#include <sys/un.h>

#include "rpc_fixture.h"

enum { BIG = 4 * 1024 * 1024 }; /* far more than a socket takes */

/* A server that takes one connection, announces the largest windows, and reads nothing. */
typedef struct unreading_server {
    int listener;
    int connection;
    char target[64];
    gp_channel *channel;
    char *big;
} unreading_server;

static void *
take_connection(void *arg)
{
    /*
     * SETTINGS with the largest window for streams, WINDOW_UPDATE with the largest for the
     * connection.
     */
    static const unsigned char frames[] = {0,    0, 6, 4, 0, 0, 0, 0, 0, 0, 4,    0x7f, 0xff, 0xff,
                                           0xff, 0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0xff, 0,    0};
    unreading_server *self = arg;

    self->connection = accept(self->listener, NULL, NULL);
    assert_true(self->connection >= 0);
    assert_int_equal(write(self->connection, frames, sizeof(frames)), sizeof(frames));
    return NULL;
}

static gp_call *
start_big(unreading_server *self, int64_t timeout_ms)
{
    gp_call_options options = options_for("/t/Echo");
    gp_call *call;

    options.timeout_ns = timeout_ms < 0 ? -1 : timeout_ms * GP__MS;
    assert_int_equal(
        gp_call_start_unary(&call, self->channel, &options, (gp_bytes){self->big, BIG}, NULL), 0);
    return call;
}

/* With a first call that fills the connection. */
static int
setup(void **state)
{
    static atomic_int number;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    unreading_server *self = calloc(1, sizeof(*self));
    pthread_t thread;
    gp_call *call;

    snprintf(self->target, sizeof(self->target), "unix:/tmp/gp-unread-%d-%d", (int)getpid(),
             atomic_fetch_add(&number, 1));
    strcpy(address.sun_path, self->target + 5);
    self->listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(self->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(self->listener, 1), 0);
    self->big = calloc(1, BIG);
    assert_int_equal(gp_channel_open(&self->channel, self->target, NULL, NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, take_connection, self), 0);
    call = start_big(self, 200);
    pthread_join(thread, NULL);
    finish_call(call, GP_GRPC_DEADLINE_EXCEEDED);
    *state = self;
    return 0;
}

static int
teardown(void **state)
{
    unreading_server *self = *state;

    gp_channel_close(self->channel);
    gp_channel_unref(self->channel);
    close(self->connection);
    close(self->listener);
    unlink(self->target + 5);
    free(self->big);
    free(self);
    return 0;
}

static gp_call *
open_chat(unreading_server *self, int64_t timeout_ms)
{
    gp_call_options options = options_for("/t/Chat");
    gp_call *call;

    options.timeout_ns = timeout_ms < 0 ? -1 : timeout_ms * GP__MS;
    assert_int_equal(gp_call_start_stream(&call, self->channel, &options, NULL, NULL), 0);
    return call;
}

static void
deadlines_end_calls(void **state)
{
    for (int i = 0; i < 20; i++) {
        gp_call *call = start_big(*state, 5);

        assert_int_equal(outcome(call), GP_GRPC_DEADLINE_EXCEEDED);
        assert_null(gp_call_take_reply(call));
        gp_call_unref(call);
    }
}

static void
cancelling_ends_calls(void **state)
{
    gp_call *call = start_big(*state, -1);

    gp_call_cancel(call, GP_GRPC_CANCELLED, "enough");
    finish_call(call, GP_GRPC_CANCELLED);
}

static void
closing_the_channel_ends_calls(void **state)
{
    unreading_server *self = *state;
    gp_channel *view;
    gp_channel *own = self->channel;
    gp_call *call;

    assert_int_equal(gp_channel_view(&view, own, NULL), 0);
    self->channel = view;
    call = start_big(self, -1);
    self->channel = own;
    gp_channel_close(view);
    finish_call(call, GP_GRPC_CANCELLED);
    gp_channel_unref(view);
}

static void
a_callback_replaces_waiting(void **state)
{
    gp_call *call = start_big(*state, 20);
    completions events;

    completions_init(&events);
    gp_call_on_done(call, on_completed, &events);
    await_completions(&events, 1);
    assert_int_equal(gp_call_get_status(call)->code, GP_GRPC_DEADLINE_EXCEEDED);
    gp_call_unref(call);
    completions_release(&events);
}

static void
a_blocked_sender_sees_the_end_of_the_call(void **state)
{
    unreading_server *self = *state;
    gp_call *call = open_chat(self, 100);
    int rc = 0;

    while (rc == 0) {
        rc = gp_call_send(call, (gp_bytes){self->big, 1000}, NULL);
    }
    assert_int_equal(rc, GP_ECLOSED);
    assert_int_equal(gp_call_send_close(call, NULL), GP_ECLOSED);
    finish_call(call, GP_GRPC_DEADLINE_EXCEEDED);
}

static void
a_posting_sender_sees_the_end_of_the_call(void **state)
{
    unreading_server *self = *state;
    const gp_bytes message = {self->big, 1000};
    gp_call *call = open_chat(self, 100);
    int sends = 0;
    completions events;
    int rc = 1;

    completions_init(&events);
    gp_call_attend(call);
    while (rc == 1) {
        rc = gp_call_post(call, &message, on_sent, &events);
        sends++;
    }
    assert_true(rc == 0 || rc == GP_ECLOSED);
    await_completions(&events, rc == 0);
    assert_int_equal(events.failed, rc == 0);
    assert_int_equal(outcome(call), GP_GRPC_DEADLINE_EXCEEDED);
    assert_int_equal(gp_call_post(call, &message, on_sent, &events), GP_ECLOSED);
    gp_call_unref(call);
    completions_release(&events);
}

static void
waiting_for_initial_metadata_ends_with_the_call(void **state)
{
    gp_call *call = open_chat(*state, 50);
    gp_metadata metadata;

    assert_int_equal(gp_call_initial_metadata(call, &metadata, NULL), 0);
    assert_int_equal(metadata.count, 0);
    finish_call(call, GP_GRPC_DEADLINE_EXCEEDED);
}

static void
everything_is_freed_with_the_connection(void **state)
{
    unreading_server *self = *state;

    alloc_begin(-1);
    deadlines_end_calls(state);
    cancelling_ends_calls(state);
    a_blocked_sender_sees_the_end_of_the_call(state);
    a_posting_sender_sees_the_end_of_the_call(state);
    shutdown(self->connection, SHUT_RDWR);
    assert_true(alloc_end() > 20);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(deadlines_end_calls),
        TEST(cancelling_ends_calls),
        TEST(closing_the_channel_ends_calls),
        TEST(a_callback_replaces_waiting),
        TEST(a_blocked_sender_sees_the_end_of_the_call),
        TEST(a_posting_sender_sees_the_end_of_the_call),
        TEST(waiting_for_initial_metadata_ends_with_the_call),
        TEST(everything_is_freed_with_the_connection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
