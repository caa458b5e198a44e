#include <poll.h>

#include "rpc_fixture.h"

static void
unary_reply(void **state)
{
    gp_call *call = start_call(*state, "/t/Echo", "hello");

    assert_int_equal(outcome(call), GP_GRPC_OK);
    assert_reply(call, "hello");
    assert_null(gp_call_take_reply(call));
    gp_call_unref(call);
}

static void
failure_carries_details_and_trailing_metadata(void **state)
{
    gp_call *call = start_call(*state, "/t/Fail", "");
    const gp_call_status *status;

    assert_int_equal(outcome(call), GP_GRPC_FAILED_PRECONDITION);
    status = gp_call_get_status(call);
    assert_int_equal(status->details.len, 8);
    assert_memory_equal(status->details.data, "as asked", 8);
    assert_int_equal(status->trailing.count, 1);
    assert_memory_equal(status->trailing.items[0].value.data, "because", 7);
    gp_call_unref(call);
}

static void
unknown_method_is_unimplemented(void **state)
{
    gp_call *call = start_call(*state, "/t/Nothing", "");

    finish_call(call, GP_GRPC_UNIMPLEMENTED);
}

static void
deadline_ends_the_call(void **state)
{
    fixture *self = *state;
    gp_call_options options = options_for("/t/Block");
    gp_call *call;

    options.timeout_ns = 50 * GP__MS;
    assert_int_equal(gp_call_start_unary(&call, self->channel, &options, text("x"), NULL), 0);
    assert_int_equal(outcome(call), GP_GRPC_DEADLINE_EXCEEDED);
    assert_true(gp_call_time_remaining(call) == 0.0);
    gp_call_unref(call);
}

static void
cancel_ends_the_call_on_both_sides(void **state)
{
    fixture *self = *state;
    gp_call *call = start_call(self, "/t/Block", "x");
    int64_t deadline = gp_deadline_in(20000);

    wait_inside(self, 1);
    gp_call_cancel(call, GP_GRPC_CANCELLED, "enough");
    finish_call(call, GP_GRPC_CANCELLED);
    /* The handler still blocks: another worker runs its callback. */
    while (atomic_load(&self->finished) == 0) {
        gp_call *other = start_call(self, "/t/Echo", "");

        finish_call(other, GP_GRPC_OK);
        assert_true(gp__now() < deadline);
    }
}

static void
wait_times_out_and_the_call_goes_on(void **state)
{
    fixture *self = *state;
    gp_call *call = start_call(self, "/t/Block", "late");

    assert_int_equal(gp_call_wait(call, 20 * GP__MS, NULL), GP_ETIMEOUT);
    open_gate(self);
    assert_int_equal(outcome(call), GP_GRPC_OK);
    assert_reply(call, "late");
    gp_call_unref(call);
}

static int
stop_at_third(void *ctx)
{
    return ++*(int *)ctx >= 3;
}

static void
an_interrupt_ends_the_wait(void **state)
{
    fixture *self = *state;
    int asked = 0;
    gp_interrupt interrupt = {.check = stop_at_third, .ctx = &asked};
    gp_call *call = start_call(self, "/t/Block", "");

    assert_int_equal(gp_call_wait(call, -1, &interrupt), GP_EUSER);
    assert_int_equal(asked, 3);
    gp_call_unref(call); /* cancels it */
}

/* The state of wait_elsewhere(), which a wait calls instead of blocking its thread. */
typedef struct waiter {
    fixture *fixture;
    int waits;
    int answer;
} waiter;

static int
wait_elsewhere(void *ctx, int fd, int64_t timeout_ns)
{
    waiter *self = ctx;
    struct pollfd ready = {.fd = fd, .events = POLLIN};

    if (++self->waits == 2) {
        open_gate(self->fixture);
    }
    poll(&ready, 1, self->waits < 3 ? 1 : (int)(timeout_ns / GP__MS));
    return self->answer;
}

static void
a_wait_by_the_interrupts_function(void **state)
{
    fixture *self = *state;
    waiter it = {.fixture = self};
    const gp_interrupt interrupt = {.wait = wait_elsewhere, .ctx = &it};
    gp_call *call = start_call(self, "/t/Block", "");

    assert_int_equal(gp_call_wait(call, INT64_C(20000000000), &interrupt), 0);
    assert_true(it.waits >= 2);
    gp_call_unref(call);
}

static void
a_wait_by_the_interrupts_function_can_end(void **state)
{
    fixture *self = *state;
    waiter it = {.fixture = self, .waits = 10};
    const gp_interrupt interrupt = {.wait = wait_elsewhere, .ctx = &it};
    gp_call *call = start_call(self, "/t/Block", "");

    assert_int_equal(gp_call_wait(call, 20 * GP__MS, &interrupt), GP_ETIMEOUT);
    it.answer = GP_EUSER;
    assert_int_equal(gp_call_wait(call, 20 * GP__MS, &interrupt), GP_EUSER);
    gp_call_unref(call); /* cancels it */
}

static void
server_stream_is_read_and_dropped_half_way(void **state)
{
    fixture *self = *state;
    gp_call_options options = options_for("/t/Count");
    gp_bytes request = text("0123456789");
    gp_message *message;
    gp_call *call;

    assert_int_equal(gp_call_start_stream(&call, self->channel, &options, &request, NULL), 0);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(gp_call_receive(call, &message, NULL), 1);
        assert_int_equal(gp_message_size(message), 10);
        gp_message_free(message);
    }
    gp_call_unref(call);
}

static void
chat_both_ways(void **state)
{
    fixture *self = *state;
    gp_call_options options = options_for("/t/Chat");
    gp_message *message;
    gp_call *call;

    assert_int_equal(gp_call_start_stream(&call, self->channel, &options, NULL, NULL), 0);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(gp_call_send(call, text("ping"), NULL), 0);
        assert_int_equal(gp_call_receive(call, &message, NULL), 1);
        gp_message_free(message);
    }
    assert_int_equal(gp_call_send_close(call, NULL), 0);
    expect_end(call, GP_GRPC_OK);
    assert_int_equal(gp_call_send(call, text("too late"), NULL), GP_ECLOSED);
    gp_call_unref(call);
}

static void
a_view_closes_its_own_calls_only(void **state)
{
    fixture *self = *state;
    gp_call_options options = options_for("/t/Block");
    gp_error err = GP_ERROR_INIT;
    gp_channel *view;
    gp_call *theirs = start_call(self, "/t/Block", "theirs");
    gp_call *ours;

    assert_int_equal(gp_channel_view(&view, self->channel, NULL), 0);
    assert_int_equal(gp_call_start_unary(&ours, view, &options, text("ours"), NULL), 0);
    gp_channel_close(view);
    assert_int_equal(outcome(ours), GP_GRPC_CANCELLED);
    assert_int_equal(gp_channel_state(view, false), GP_SHUTDOWN);
    gp_call_unref(ours);
    assert_int_equal(gp_call_start_unary(&ours, view, &options, text("x"), &err), GP_ECLOSED);
    gp_error_release(&err);
    gp_channel_unref(view);

    open_gate(self);
    finish_call(theirs, GP_GRPC_OK);
}

static void
on_done_runs_once_without_a_waiter(void **state)
{
    fixture *self = *state;
    atomic_int done = 0;
    gp_call *call = start_call(self, "/t/Echo", "x");
    int64_t deadline = gp_deadline_in(20000);

    gp_call_on_done(call, count_finished, &done);
    while (atomic_load(&done) == 0) {
        assert_true(gp__now() < deadline);
    }
    assert_true(gp_call_done(call));
    gp_call_on_done(call, count_finished, &done); /* at once, as it has ended */
    assert_int_equal(atomic_load(&done), 2);
    gp_call_unref(call);
}

static void *
echo_many(void *arg)
{
    for (int i = 0; i < 300; i++) {
        gp_call *call = start_call(arg, "/t/Echo", "from a thread");

        assert_int_equal(outcome(call), GP_GRPC_OK);
        assert_reply(call, "from a thread");
        gp_call_unref(call);
    }
    return NULL;
}

static void
eight_threads(void **state)
{
    pthread_t threads[8];

    for (int i = 0; i < 8; i++) {
        pthread_create(&threads[i], NULL, echo_many, *state);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void
waiting_for_states(void **state)
{
    fixture *self = *state;

    assert_int_equal(gp_channel_state(self->channel, true), GP_IDLE);
    while (gp_channel_state(self->channel, false) != GP_READY) {
        int now = gp_channel_state(self->channel, false);

        assert_true(gp_channel_wait_state(self->channel, now, 20000, NULL) >= 0);
    }
    assert_int_equal(gp_channel_wait_state(self->channel, GP_READY, 20, NULL), GP_ETIMEOUT);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(unary_reply),
        TEST(failure_carries_details_and_trailing_metadata),
        TEST(unknown_method_is_unimplemented),
        TEST(deadline_ends_the_call),
        TEST(cancel_ends_the_call_on_both_sides),
        TEST(wait_times_out_and_the_call_goes_on),
        TEST(an_interrupt_ends_the_wait),
        TEST(a_wait_by_the_interrupts_function),
        TEST(a_wait_by_the_interrupts_function_can_end),
        TEST(server_stream_is_read_and_dropped_half_way),
        TEST(chat_both_ways),
        TEST(a_view_closes_its_own_calls_only),
        TEST(on_done_runs_once_without_a_waiter),
        TEST(eight_threads),
        TEST(waiting_for_states),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
