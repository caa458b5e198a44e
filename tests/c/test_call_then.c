/* Calls with callbacks instead of waits, and sending while another thread polls. */
#include "rpc_fixture.h"

/* A stream whose reader asks for the next message as soon as one is there. */
typedef struct reader {
    completions *completions;
    gp_call *call;
    int left;
} reader;

static void
then_next(void *ctx, gp_message *message)
{
    reader *self = ctx;

    while (message != NULL && --self->left > 0) {
        gp_message_free(message);
        if (!gp_call_receive_then(self->call, &message, then_next, self)) {
            return;
        }
    }
    on_received(self->completions, message);
}

static void
receives_one_after_the_other_on_the_polling_thread(void **state)
{
    fixture *self = *state;
    gp_call *call = open_stream(self, "/t/Count", "0123456789");
    reader reader_of = {&self->completions, call, 500};
    gp_message *message;

    assert_int_equal(gp_call_receive_then(call, &message, then_next, &reader_of), 0);
    await_completions(&self->completions, 1);
    assert_int_equal(reader_of.left, 0);
    assert_int_equal(gp_message_size(self->completions.message), 10);
    gp_call_unref(call);
}

static void
a_receive_takes_over_one_that_was_interrupted(void **state)
{
    fixture *self = *state;
    gp_call *call = open_stream(self, "/t/Chat", NULL);
    gp_message *message;

    assert_int_equal(gp_call_receive(call, &message, &interrupt_now), GP_EUSER);
    assert_int_equal(gp_call_receive_then(call, &message, on_received, &self->completions), 0);
    assert_int_equal(gp_call_send(call, text("late"), NULL), 0);
    await_completions(&self->completions, 1);
    assert_message(self->completions.message, "late");
    gp_call_unref(call);
}

static void
a_message_that_is_there_is_given_at_once(void **state)
{
    fixture *self = *state;
    gp_call *call = open_stream(self, "/t/Echo", "early");
    gp_message *message;

    /* The status comes after the message. */
    if (gp_call_receive(call, &message, &interrupt_now) == GP_EUSER) {
        assert_int_equal(outcome(call), GP_GRPC_OK);
        assert_int_equal(gp_call_receive_then(call, &message, on_received, &self->completions), 1);
    }
    assert_message(message, "early");
    gp_message_free(message);
    if (gp_call_receive_then(call, &message, on_received, &self->completions)) {
        assert_null(message);
    } else {
        await_completions(&self->completions, 1);
        assert_int_equal(self->completions.ends, 1);
    }
    gp_call_unref(call);
}

static void
cancelling_ends_a_receive(void **state)
{
    fixture *self = *state;
    gp_call *call = open_stream(self, "/t/Block", "x");
    gp_message *message;

    assert_int_equal(gp_call_receive_then(call, &message, on_received, &self->completions), 0);
    gp_call_cancel(call, GP_GRPC_CANCELLED, "enough");
    await_completions(&self->completions, 1);
    assert_int_equal(self->completions.ends, 1);
    finish_call(call, GP_GRPC_CANCELLED);
}

static void
dropping_the_call_ends_a_receive(void **state)
{
    fixture *self = *state;
    gp_call *call = open_stream(self, "/t/Block", "x");
    gp_message *message;

    assert_int_equal(gp_call_receive_then(call, &message, on_received, &self->completions), 0);
    gp_call_unref(call);
    await_completions(&self->completions, 1);
    assert_int_equal(self->completions.ends, 1);
}

static void
a_send_completes_once_and_excludes_another(void **state)
{
    fixture *self = *state;
    gp_call *call = open_stream(self, "/t/Block", NULL);
    gp_bytes small = text("small");
    gp_bytes large = {calloc(1, 8 << 20), 8 << 20};

    assert_int_equal(gp_call_send_then(call, &small, on_sent, &self->completions), 0);
    await_completions(&self->completions, 1);
    assert_int_equal(self->completions.failed, 0);
    wait_inside(self, 1);
    /* The peer does not read it: it waits for flow control. */
    assert_int_equal(gp_call_send_then(call, &large, on_sent, &self->completions), 0);
    assert_int_equal(gp_call_send_then(call, &small, on_sent, &self->completions), GP_EINVAL);
    gp_call_cancel(call, GP_GRPC_CANCELLED, "enough");
    await_completions(&self->completions, 2);
    assert_int_equal(self->completions.failed, 1);
    assert_int_equal(outcome(call), GP_GRPC_CANCELLED);
    assert_int_equal(gp_call_send_then(call, &small, on_sent, &self->completions), GP_ECLOSED);
    assert_int_equal(gp_call_send_then(call, NULL, on_sent, &self->completions), GP_ECLOSED);
    assert_int_equal(self->completions.times, 2);
    gp_call_unref(call);
    free((void *)(uintptr_t)large.data);
}

static void
the_end_of_the_requests_is_sent(void **state)
{
    fixture *self = *state;
    gp_call *call = open_stream(self, "/t/Chat", NULL);

    assert_int_equal(gp_call_send_then(call, NULL, on_sent, &self->completions), 0);
    await_completions(&self->completions, 1);
    expect_end(call, GP_GRPC_OK);
    gp_call_unref(call);
}

static void
initial_metadata_call_back(void **state)
{
    fixture *self = *state;
    gp_call *call = open_stream(self, "/t/Chat", NULL);
    gp_metadata metadata;
    int known = gp_call_initial_metadata_then(call, on_completed, &self->completions);

    assert_int_equal(gp_call_send(call, text("x"), NULL), 0);
    if (!known) {
        await_completions(&self->completions, 1);
    }
    assert_int_equal(gp_call_initial_metadata_then(call, on_completed, &self->completions), 1);
    assert_int_equal(gp_call_initial_metadata(call, &metadata, NULL), 0);
    gp_call_unref(call);
}

/* ---- Sending while another thread polls ---- */

enum { SENDS = 3000 };

static void *
send_numbers(void *arg)
{
    for (unsigned i = 0; i < SENDS; i++) {
        assert_int_equal(gp_call_send(arg, (gp_bytes){&i, sizeof(i)}, NULL), 0);
    }
    assert_int_equal(gp_call_send_close(arg, NULL), 0);
    return NULL;
}

static void
messages_stay_in_order_between_threads(void **state)
{
    fixture *self = *state;
    gp_call *call = open_stream(self, "/t/Chat", NULL);
    pthread_t sender;

    pthread_create(&sender, NULL, send_numbers, call);
    expect_numbers(call, SENDS);
    expect_end(call, GP_GRPC_OK);
    pthread_join(sender, NULL);
    gp_call_unref(call);
}

/* Sends until it would wait, or until the call has ended. */
typedef struct flood {
    gp_call *call;
    bool patient; /* waits, for as long as the call lives */
    int sent;
    int rc;
} flood;

static void *
send_flood(void *arg)
{
    static const char bytes[16384];
    flood *self = arg;

    while (self->rc == 0) {
        self->rc = gp_call_send(self->call, (gp_bytes){bytes, sizeof(bytes)},
                                self->patient ? NULL : &interrupt_now);
        self->sent += self->rc == 0;
    }
    return NULL;
}

static void
a_reader_that_does_not_read_blocks_the_sender(void **state)
{
    fixture *self = *state;
    gp_call *call = open_stream(self, "/t/Block", NULL);
    flood all = {.call = call};
    pthread_t sender;

    assert_int_equal(gp_call_send(call, text("x"), NULL), 0);
    wait_inside(self, 1);
    pthread_create(&sender, NULL, send_flood, &all);
    pthread_join(sender, NULL);
    assert_int_equal(all.rc, GP_EUSER);
    assert_true(all.sent * 16384 < 8 << 20);
    gp_call_unref(call);
}

static void
cancelling_drops_what_is_queued(void **state)
{
    fixture *self = *state;
    gp_call *call = open_stream(self, "/t/Block", NULL);
    flood all = {.call = call, .patient = true};
    pthread_t sender;

    assert_int_equal(gp_call_send(call, text("x"), NULL), 0);
    wait_inside(self, 1);
    pthread_create(&sender, NULL, send_flood, &all);
    assert_int_equal(gp_call_wait(call, 50 * GP__MS, NULL), GP_ETIMEOUT); /* polling */
    gp_call_cancel(call, GP_GRPC_CANCELLED, "enough");
    assert_int_equal(outcome(call), GP_GRPC_CANCELLED);
    pthread_join(sender, NULL);
    assert_int_equal(all.rc, GP_ECLOSED);
    assert_true(all.sent * 16384 < 8 << 20);
    gp_call_unref(call);
}

/* ---- Sending many without waiting ---- */

static void
posted_messages_arrive_in_order_before_the_end(void **state)
{
    fixture *self = *state;
    gp_call *call = open_stream(self, "/t/Chat", NULL);
    int waits = 0;

    for (unsigned i = 0; i < SENDS; i++) {
        gp_bytes bytes = {&i, sizeof(i)};
        int rc = gp_call_post(call, &bytes, on_sent, &self->completions);

        assert_true(rc == 0 || rc == 1);
        if (rc == 0) {
            await_completions(&self->completions, ++waits);
            assert_int_equal(self->completions.failed, 0);
        }
    }
    assert_int_not_equal(gp_call_post(call, NULL, on_sent, &self->completions), GP_ECLOSED);
    expect_numbers(call, SENDS);
    expect_end(call, GP_GRPC_OK);
    assert_int_equal(gp_call_post(call, NULL, on_sent, &self->completions), GP_ECLOSED);
    gp_call_unref(call);
}

static void
a_full_queue_calls_back_when_there_is_room(void **state)
{
    fixture *self = *state;
    gp_call *call = open_stream(self, "/t/Block", NULL);
    gp_bytes small = text("small");
    gp_bytes large = {calloc(1, 8 << 20), 8 << 20};
    int waiting = 0;
    int waits = 0;
    int rc;

    assert_int_equal(gp_call_send(call, text("x"), NULL), 0);
    wait_inside(self, 1);
    /* The peer does not read it: it waits for flow control, and what follows waits for it. */
    if (gp_call_post(call, &large, on_sent, &self->completions) ==
        0) { /* the first one is on its way */
        await_completions(&self->completions, ++waits);
    }
    while ((rc = gp_call_post(call, &small, on_sent, &self->completions)) == 1) {
        assert_true(++waiting < 1000);
    }
    assert_int_equal(rc, 0);
    assert_int_equal(gp_call_post(call, &small, on_sent, &self->completions), GP_EINVAL);
    assert_int_equal(self->completions.times, waits);
    gp_call_cancel(call, GP_GRPC_CANCELLED, "enough");
    await_completions(&self->completions, waits + 1);
    assert_int_equal(self->completions.failed, 1);
    assert_int_equal(outcome(call), GP_GRPC_CANCELLED);
    assert_int_equal(gp_call_post(call, &small, on_sent, &self->completions), GP_ECLOSED);
    gp_call_unref(call);
    free((void *)(uintptr_t)large.data);
}

/* ---- Memory ---- */

static void
each_allocation_may_fail(void **state)
{
    gp_metadatum item = {text("key"), text("value")};
    gp_call_options options = options_for("/t/Echo");
    gp_metadata metadata;
    gp_channel *channel;
    gp_call *call;
    long count;

    (void)state;
    options.metadata = (gp_metadata){&item, 1};
    options.compression = GP_COMPRESS_GZIP;
    for (long failing = -1; failing < 0 || alloc_failures() > 0; failing++) {
        gp_error err = GP_ERROR_INIT;
        int rc;

        alloc_begin(failing);
        rc = gp_channel_open(&channel, "unix:/nonexistent/socket", NULL, &err);
        if (rc == 0) {
            rc = gp_call_start_stream(&call, channel, &options, NULL, &err);
            if (rc == 0) {
                assert_int_equal(gp_call_initial_metadata(call, &metadata, NULL), 0);
                finish_call(call, GP_GRPC_UNAVAILABLE);
            }
            gp_channel_unref(channel);
        }
        assert_true(rc == 0 || rc == GP_ENOMEM);
        gp_error_release(&err);
        count = alloc_end();
        assert_true(count > 0);
    }
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(receives_one_after_the_other_on_the_polling_thread),
        TEST(a_receive_takes_over_one_that_was_interrupted),
        TEST(a_message_that_is_there_is_given_at_once),
        TEST(cancelling_ends_a_receive),
        TEST(dropping_the_call_ends_a_receive),
        TEST(a_send_completes_once_and_excludes_another),
        TEST(the_end_of_the_requests_is_sent),
        TEST(initial_metadata_call_back),
        TEST(messages_stay_in_order_between_threads),
        TEST(a_reader_that_does_not_read_blocks_the_sender),
        TEST(cancelling_drops_what_is_queued),
        TEST(posted_messages_arrive_in_order_before_the_end),
        TEST(a_full_queue_calls_back_when_there_is_room),
        cmocka_unit_test(each_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
