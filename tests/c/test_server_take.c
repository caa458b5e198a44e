/* Calls that the application takes, to answer them on its own threads. */
#include "rpc_fixture.h"

/* The call's next message, whether it is there at once or later. */
static void
receive(fixture *self, gp_server_call *call, const char *expected)
{
    gp_message *message;
    int times = self->completions.times;

    if (gp_server_call_receive_then(call, &message, on_received, &self->completions)) {
        on_received(&self->completions, message);
    }
    await_completions(&self->completions, times + 1);
    if (expected != NULL) {
        assert_message(self->completions.message, expected);
    } else {
        assert_null(self->completions.message);
    }
}

static void
answer(gp_server_call *call, const char *reply)
{
    gp_server_call_reply(call, text(reply), 0, text(""), no_metadata());
    gp_server_call_hand_back(call);
}

static void
a_taken_call_is_answered_on_any_thread(void **state)
{
    fixture *self = *state;
    gp_call *call = start_call(self, "/t/Any", "question");
    gp_server_call *taken;

    gp_call_attend(call);
    taken = take_call(self);
    receive(self, taken, "question");
    answer(taken, "answer");
    assert_int_equal(outcome(call), 0);
    assert_reply(call, "answer");
    gp_call_unref(call);
}

static void
a_stream_is_received_to_its_end(void **state)
{
    fixture *self = *state;
    gp_call *call = open_stream(self, "/t/Any", NULL);
    gp_server_call *taken = take_call(self);

    assert_int_equal(gp_call_send(call, text("one"), NULL), 0);
    receive(self, taken, "one");
    assert_int_equal(gp_call_send(call, text("two"), NULL), 0);
    assert_int_equal(gp_call_send_close(call, NULL), 0);
    receive(self, taken, "two");
    receive(self, taken, NULL);
    assert_false(gp_server_call_cancelled(taken));
    answer(taken, "three");
    expect_message(call, "three");
    finish_call(call, 0);
}

static void
what_is_put_back_is_received_again(void **state)
{
    fixture *self = *state;
    gp_call *call = start_call(self, "/t/Any", "again");
    gp_server_call *taken;
    gp_message *message;

    gp_call_attend(call);
    taken = take_call(self);
    assert_int_equal(gp_server_call_receive(taken, &message, NULL), 1);
    gp_server_call_put_back(taken, message);
    receive(self, taken, "again");
    gp_server_call_put_back(taken, NULL);
    receive(self, taken, NULL);
    answer(taken, "");
    finish_call(call, 0);
}

static void
what_has_arrived_is_taken_without_a_wait(void **state)
{
    fixture *self = *state;
    gp_call *call = open_stream(self, "/t/Any", NULL);
    gp_server_call *taken = take_call(self);
    gp_message *message;

    assert_false(gp_server_call_take_arrived(taken, &message)); /* none has been sent */
    assert_null(message);
    assert_int_equal(gp_call_send(call, text("there"), NULL), 0);
    assert_int_equal(gp_call_send_close(call, NULL), 0);
    assert_int_equal(gp_server_call_receive(taken, &message, NULL), 1);
    gp_server_call_put_back(taken, message);
    assert_true(gp_server_call_take_arrived(taken, &message));
    assert_message(message, "there");
    gp_message_free(message);
    assert_false(gp_server_call_take_arrived(taken, &message)); /* no receive is under way */
    assert_int_equal(gp_server_call_receive(taken, &message, NULL), 0);
    gp_server_call_put_back(taken, NULL);
    assert_true(gp_server_call_take_arrived(taken, &message));
    assert_null(message);
    answer(taken, "done");
    expect_message(call, "done");
    finish_call(call, 0);
}

static void
a_delegated_call_is_answered_by_a_worker(void **state)
{
    fixture *self = *state;
    static char echo[] = "/t/Echo";

    for (int put_back = 0; put_back < 2; put_back++) {
        gp_call *call = start_call(self, "/t/Any", "over to you");
        gp_server_call *taken;
        gp_message *message;

        gp_call_attend(call);
        taken = take_call(self);
        if (put_back) {
            assert_int_equal(gp_server_call_receive(taken, &message, NULL), 1);
            gp_server_call_put_back(taken, message);
        }
        gp_server_call_delegate(taken, echo, true);
        assert_int_equal(outcome(call), 0);
        assert_reply(call, "over to you");
        gp_call_unref(call);
    }
}

static void
a_delegated_call_may_wait_for_its_message(void **state)
{
    fixture *self = *state;
    static char block[] = "/t/Block";
    static char chat[] = "/t/Chat";
    gp_call *waiting = open_stream(self, "/t/Any", NULL);
    gp_call *running;
    gp_message *message;

    gp_server_call_delegate(take_call(self), block, true);
    running = open_stream(self, "/t/Any", NULL);
    gp_server_call_delegate(take_call(self), chat, false);
    assert_int_equal(gp_call_send(running, text("ping"), NULL), 0);
    assert_int_equal(gp_call_receive(running, &message, NULL), 1);
    gp_message_free(message);
    assert_int_equal(gp_call_send_close(running, NULL), 0);
    finish_call(running, 0);

    assert_int_equal(gp_call_send(waiting, text("now"), NULL), 0);
    wait_inside(self, 1);
    open_gate(self);
    expect_message(waiting, "now");
    gp_call_unref(waiting);
}

static void
sends_complete_one_after_the_other(void **state)
{
    fixture *self = *state;
    gp_call *call = open_stream(self, "/t/Any", NULL);
    gp_server_call *taken = take_call(self);
    gp_metadatum item = {text("early"), text("bird")};
    gp_bytes large = {calloc(1, 8 << 20), 8 << 20};
    gp_metadata metadata;

    assert_int_equal(gp_server_call_send_initial_metadata_then(taken, (gp_metadata){&item, 1},
                                                               on_sent, &self->completions),
                     0);
    await_completions(&self->completions, 1);
    assert_int_equal(gp_server_call_send_initial_metadata_then(taken, (gp_metadata){&item, 1},
                                                               on_sent, &self->completions),
                     GP_ECLOSED);
    assert_int_equal(gp_call_initial_metadata(call, &metadata, NULL), 0);
    assert_int_equal(metadata.count, 1);
    assert_int_equal(gp_server_call_send_then(taken, text("small"), on_sent, &self->completions),
                     0);
    await_completions(&self->completions, 2);
    expect_message(call, "small");
    /* The client does not read it: it waits for flow control. */
    assert_int_equal(gp_server_call_send_then(taken, large, on_sent, &self->completions), 0);
    assert_int_equal(gp_server_call_send_then(taken, text("x"), on_sent, &self->completions),
                     GP_EINVAL);
    gp_call_cancel(call, 1, "enough");
    await_completions(&self->completions, 3);
    assert_int_equal(self->completions.failed, 1);
    finish_call(call, 1);
    gp_server_call_finish(taken, 0, text(""), no_metadata());
    gp_server_call_hand_back(taken);
    free((void *)(uintptr_t)large.data);
}

static void
posted_messages_are_sent_before_the_end(void **state)
{
    fixture *self = *state;
    gp_call *call = open_stream(self, "/t/Any", NULL);
    gp_server_call *taken = take_call(self);
    int waits = 0;

    for (unsigned i = 0; i < 1000; i++) {
        int rc = gp_server_call_post(taken, (gp_bytes){&i, sizeof(i)}, on_sent, &self->completions);

        assert_true(rc == 0 || rc == 1);
        if (rc == 0) {
            await_completions(&self->completions, ++waits);
        }
    }
    if (gp_server_call_flush_then(taken, on_sent, &self->completions) == 0) {
        await_completions(&self->completions, ++waits);
    }
    assert_int_equal(gp_server_call_flush_then(taken, on_sent, &self->completions), 1);
    gp_server_call_finish(taken, 0, text(""), no_metadata());
    gp_server_call_hand_back(taken);
    expect_numbers(call, 1000);
    expect_end(call, 0);
    assert_int_equal(self->completions.failed, 0);
    gp_call_unref(call);
}

static void
a_cancellation_is_reported(void **state)
{
    fixture *self = *state;
    gp_call *call = open_stream(self, "/t/Any", NULL);
    gp_server_call *taken = take_call(self);
    gp_message *message;

    assert_int_equal(gp_server_call_receive_then(taken, &message, on_received, &self->completions),
                     0);
    assert_int_equal(gp_server_call_on_cancel(taken, on_completed, &self->completions), 0);
    gp_call_cancel(call, 1, "enough");
    gp_call_unref(call);
    await_completions(&self->completions, 2); /* the receive completes, too */
    assert_int_equal(self->completions.ends, 1);
    assert_true(gp_server_call_cancelled(taken));
    assert_true(gp_server_call_over(taken));
    assert_int_equal(gp_server_call_on_cancel(taken, NULL, NULL), GP_ECLOSED);
    assert_int_equal(gp_server_call_on_cancel(taken, on_completed, &self->completions), GP_ECLOSED);
    gp_server_call_hand_back(taken);
}

static void
an_answered_call_is_not_cancelled(void **state)
{
    fixture *self = *state;
    gp_call *call = start_call(self, "/t/Any", "");
    gp_server_call *taken;

    gp_call_attend(call);
    taken = take_call(self);
    assert_int_equal(gp_server_call_on_cancel(taken, on_completed, &self->completions), 0);
    receive(self, taken, "");
    assert_int_equal(gp_server_call_on_cancel(taken, NULL, NULL), 0);
    answer(taken, "");
    assert_int_equal(outcome(call), 0);
    assert_int_equal(self->completions.times, 1);
    gp_call_unref(call);
}

static void
a_stop_waits_for_taken_calls(void **state)
{
    fixture *self = *state;
    gp_call *call = start_call(self, "/t/Any", "");
    gp_server_call *taken;

    gp_call_attend(call);
    taken = take_call(self);
    gp_server_stop(self->server, 0);
    assert_int_equal(gp_server_join(self->server, 20, NULL), GP_ETIMEOUT);
    assert_int_not_equal(outcome(call), 0);
    gp_call_unref(call);
    gp_server_call_finish(taken, 0, text("too late"), no_metadata());
    gp_server_call_hand_back(taken);
    assert_int_equal(gp_server_join(self->server, 20000, NULL), 0);
}

static void
too_many_calls_are_not_taken(void **state)
{
    fixture self;
    gp_server_call *taken;
    gp_call *first;
    gp_call *second;

    (void)state;
    fixture_open(&self, 1, 1, fixture_take);
    first = start_call(&self, "/t/Any", "");
    gp_call_attend(first);
    taken = take_call(&self);
    second = start_call(&self, "/t/Any", "");
    finish_call(second, 8);
    answer(taken, "");
    finish_call(first, 0);
    fixture_stop(&self);
}

/* ---- Memory ---- */

static void
take_and_echo(void *ctx, gp_server_call *call)
{
    gp_metadatum item = {text("key"), text("value")};

    (void)ctx;
    gp_server_call_set_compression(call, GP_COMPRESS_GZIP);
    gp_server_call_finish(call, 9, text("as asked"), (gp_metadata){&item, 1});
    gp_server_call_hand_back(call);
}

/* A server, one call, and the end. Returns 0, or the code of what could not be made. */
static int
one_call(gp_channel *channel, const char *target)
{
    static fixture self;
    gp_server_options options = {
        .handler = {fixture_begin, fixture_run, fixture_release, take_and_echo},
        .handler_ctx = &self,
        .max_workers = 1,
    };
    gp_call_options with = options_for("/t/Any");
    int64_t deadline = patience();
    gp_call *call;
    int rc;

    memset(&self, 0, sizeof(self));
    gp_mutex_init(&self.lock);
    gp_cond_init(&self.changed);
    if ((rc = gp_server_new(&self.server, &options, NULL)) < 0) {
        return rc;
    }
    if ((rc = gp_server_listen(self.server, target, NULL, NULL)) == 0 &&
        (rc = gp_server_start(self.server, NULL)) == 0) {
        with.flags = GP_CALL_WAIT_FOR_READY;
        with.timeout_ns = 2000 * GP__MS; /* a server that is out of memory does not answer */
        if ((rc = gp_call_start_unary(&call, channel, &with, text("x"), NULL)) == 0) {
            outcome(call);
            gp_call_unref(call);
        }
        gp_server_stop(self.server, 0);
        assert_int_equal(gp_server_join(self.server, 20000, NULL), 0);
    }
    gp_server_release(self.server);
    gp_mutex_lock(&self.lock);
    while (!self.released) {
        assert_int_equal(gp_cond_wait_until(&self.changed, &self.lock, deadline), 0);
    }
    gp_mutex_unlock(&self.lock);
    return rc;
}

static void
each_allocation_may_fail(void **state)
{
    char target[80];

    (void)state;
    snprintf(target, sizeof(target), "unix:%s/socket", make_directory());
    for (long failing = -1; failing < 0 || alloc_failures() > 0; failing++) {
        gp_channel *channel = NULL;
        int rc;

        alloc_begin(failing);
        rc = gp_channel_open(&channel, target, NULL, NULL);
        if (rc == 0) {
            rc = one_call(channel, target);
            gp_channel_unref(channel);
        }
        assert_true(rc == 0 || rc == GP_ENOMEM);
        alloc_end();
    }
    remove_directory();
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup_taking, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_taken_call_is_answered_on_any_thread),
        TEST(a_stream_is_received_to_its_end),
        TEST(what_is_put_back_is_received_again),
        TEST(what_has_arrived_is_taken_without_a_wait),
        TEST(a_delegated_call_is_answered_by_a_worker),
        TEST(a_delegated_call_may_wait_for_its_message),
        TEST(sends_complete_one_after_the_other),
        TEST(posted_messages_are_sent_before_the_end),
        TEST(a_cancellation_is_reported),
        TEST(an_answered_call_is_not_cancelled),
        TEST(a_stop_waits_for_taken_calls),
        cmocka_unit_test(too_many_calls_are_not_taken),
        cmocka_unit_test(each_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
