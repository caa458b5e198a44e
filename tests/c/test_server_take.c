/* Calls that the application takes, to answer them elsewhere. */
#include "rpc_fixture.h"
#include "support.h"
#include "told.h"

typedef struct context {
    fixture fixture;
    told told;
} context;

static int
setup(void **state)
{
    context *self = calloc(1, sizeof(*self));

    fixture_open(&self->fixture, 2, 0, fixture_take);
    told_init(&self->told);
    *state = self;
    return 0;
}

static int
teardown(void **state)
{
    context *self = *state;

    fixture_stop(&self->fixture);
    told_release(&self->told);
    free(self);
    return 0;
}

static gp_call *
open_stream(fixture *self, const char *method)
{
    gp_call_options options = options_for(method);
    gp_call *call;

    assert_int_equal(gp_call_start_stream(&call, self->channel, &options, NULL, NULL), 0);
    gp_call_attend(call);
    return call;
}

/* The call's next message, whether it is there at once or later. */
static void
receive(context *self, gp_server_call *call, const char *expected)
{
    gp_message *message;
    int times = self->told.times;

    if (gp_server_call_receive_then(call, &message, then_received, &self->told)) {
        then_received(&self->told, message);
    }
    await_told(&self->told, times + 1);
    if (expected != NULL) {
        assert_message(self->told.message, expected);
    } else {
        assert_null(self->told.message);
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
    context *self = *state;
    gp_call *call = start(&self->fixture, "/t/Any", "question");
    gp_server_call *taken;

    gp_call_attend(call);
    taken = take_call(&self->fixture);
    receive(self, taken, "question");
    answer(taken, "answer");
    assert_int_equal(outcome(call), 0);
    assert_reply(call, "answer");
    gp_call_unref(call);
}

static void
a_stream_is_received_to_its_end(void **state)
{
    context *self = *state;
    gp_call *call = open_stream(&self->fixture, "/t/Any");
    gp_server_call *taken = take_call(&self->fixture);
    gp_message *message;

    assert_int_equal(gp_call_send(call, text("one"), NULL), 0);
    receive(self, taken, "one");
    assert_int_equal(gp_call_send(call, text("two"), NULL), 0);
    assert_int_equal(gp_call_send_close(call, NULL), 0);
    receive(self, taken, "two");
    receive(self, taken, NULL);
    assert_false(gp_server_call_cancelled(taken));
    answer(taken, "three");
    assert_int_equal(gp_call_receive(call, &message, NULL), 1);
    assert_message(message, "three");
    gp_message_free(message);
    assert_int_equal(outcome(call), 0);
    gp_call_unref(call);
}

static void
what_is_put_back_is_received_again(void **state)
{
    context *self = *state;
    gp_call *call = start(&self->fixture, "/t/Any", "again");
    gp_server_call *taken;
    gp_message *message;

    gp_call_attend(call);
    taken = take_call(&self->fixture);
    assert_int_equal(gp_server_call_receive(taken, &message, NULL), 1);
    gp_server_call_put_back(taken, message);
    receive(self, taken, "again");
    gp_server_call_put_back(taken, NULL);
    receive(self, taken, NULL);
    answer(taken, "");
    assert_int_equal(outcome(call), 0);
    gp_call_unref(call);
}

static void
a_delegated_call_is_answered_by_a_worker(void **state)
{
    context *self = *state;
    static char echo[] = "/t/Echo";

    for (int put_back = 0; put_back < 2; put_back++) {
        gp_call *call = start(&self->fixture, "/t/Any", "over to you");
        gp_server_call *taken;
        gp_message *message;

        gp_call_attend(call);
        taken = take_call(&self->fixture);
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
    context *self = *state;
    static char block[] = "/t/Block";
    static char chat[] = "/t/Chat";
    gp_call *waiting = open_stream(&self->fixture, "/t/Any");
    gp_call *running;
    gp_message *message;

    gp_server_call_delegate(take_call(&self->fixture), block, true);
    running = open_stream(&self->fixture, "/t/Any");
    gp_server_call_delegate(take_call(&self->fixture), chat, false);
    assert_int_equal(gp_call_send(running, text("ping"), NULL), 0);
    assert_int_equal(gp_call_receive(running, &message, NULL), 1);
    gp_message_free(message);
    assert_int_equal(gp_call_send_close(running, NULL), 0);
    assert_int_equal(outcome(running), 0);
    gp_call_unref(running);

    assert_int_equal(gp_call_send(waiting, text("now"), NULL), 0);
    wait_inside(&self->fixture, 1);
    open_gate(&self->fixture);
    assert_int_equal(gp_call_receive(waiting, &message, NULL), 1);
    assert_message(message, "now");
    gp_message_free(message);
    gp_call_unref(waiting);
}

static void
sends_are_told_and_have_their_turn(void **state)
{
    context *self = *state;
    gp_call *call = open_stream(&self->fixture, "/t/Any");
    gp_server_call *taken = take_call(&self->fixture);
    gp_metadatum item = {text("early"), text("bird")};
    gp_bytes large = {calloc(1, 8 << 20), 8 << 20};
    gp_metadata metadata;
    gp_message *message;

    assert_int_equal(gp_server_call_send_initial_metadata_then(taken, (gp_metadata){&item, 1},
                                                               then_sent, &self->told),
                     0);
    await_told(&self->told, 1);
    assert_int_equal(gp_server_call_send_initial_metadata_then(taken, (gp_metadata){&item, 1},
                                                               then_sent, &self->told),
                     GP_ECLOSED);
    assert_int_equal(gp_call_initial_metadata(call, &metadata, NULL), 0);
    assert_int_equal(metadata.count, 1);
    assert_int_equal(gp_server_call_send_then(taken, text("small"), then_sent, &self->told), 0);
    await_told(&self->told, 2);
    assert_int_equal(gp_call_receive(call, &message, NULL), 1);
    assert_message(message, "small");
    gp_message_free(message);
    /* Nobody reads it: it waits for flow control. */
    assert_int_equal(gp_server_call_send_then(taken, large, then_sent, &self->told), 0);
    assert_int_equal(gp_server_call_send_then(taken, text("x"), then_sent, &self->told), GP_EINVAL);
    gp_call_cancel(call, 1, "enough");
    await_told(&self->told, 3);
    assert_int_equal(self->told.failed, 1);
    assert_int_equal(outcome(call), 1);
    gp_call_unref(call);
    gp_server_call_finish(taken, 0, text(""), no_metadata());
    gp_server_call_hand_back(taken);
    free((void *)(uintptr_t)large.data);
}

static void
what_is_posted_has_gone_out_before_the_end(void **state)
{
    context *self = *state;
    gp_call *call = open_stream(&self->fixture, "/t/Any");
    gp_server_call *taken = take_call(&self->fixture);
    gp_message *message;
    int waits = 0;
    unsigned number;

    for (unsigned i = 0; i < 1000; i++) {
        int rc = gp_server_call_post(taken, (gp_bytes){&i, sizeof(i)}, then_sent, &self->told);

        assert_true(rc == 0 || rc == 1);
        if (rc == 0) {
            await_told(&self->told, ++waits);
        }
    }
    if (gp_server_call_flush_then(taken, then_sent, &self->told) == 0) {
        await_told(&self->told, ++waits);
    }
    assert_int_equal(gp_server_call_flush_then(taken, then_sent, &self->told), 1);
    gp_server_call_finish(taken, 0, text(""), no_metadata());
    gp_server_call_hand_back(taken);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(gp_call_receive(call, &message, NULL), 1);
        gp_message_copy(message, &number);
        assert_int_equal(number, i);
        gp_message_free(message);
    }
    assert_int_equal(gp_call_receive(call, &message, NULL), 0);
    assert_int_equal(outcome(call), 0);
    assert_int_equal(self->told.failed, 0);
    gp_call_unref(call);
}

static void
a_cancelled_call_is_told(void **state)
{
    context *self = *state;
    gp_call *call = open_stream(&self->fixture, "/t/Any");
    gp_server_call *taken = take_call(&self->fixture);
    gp_message *message;

    assert_int_equal(gp_server_call_receive_then(taken, &message, then_received, &self->told), 0);
    assert_int_equal(gp_server_call_on_cancel(taken, then, &self->told), 0);
    gp_call_cancel(call, 1, "enough");
    gp_call_unref(call);
    await_told(&self->told, 2); /* the receive is, too */
    assert_int_equal(self->told.ends, 1);
    assert_true(gp_server_call_cancelled(taken));
    assert_true(gp_server_call_over(taken));
    assert_int_equal(gp_server_call_on_cancel(taken, NULL, NULL), GP_ECLOSED);
    assert_int_equal(gp_server_call_on_cancel(taken, then, &self->told), GP_ECLOSED);
    gp_server_call_hand_back(taken);
}

static void
an_answered_call_is_not_cancelled(void **state)
{
    context *self = *state;
    gp_call *call = start(&self->fixture, "/t/Any", "");
    gp_server_call *taken;

    gp_call_attend(call);
    taken = take_call(&self->fixture);
    assert_int_equal(gp_server_call_on_cancel(taken, then, &self->told), 0);
    receive(self, taken, "");
    assert_int_equal(gp_server_call_on_cancel(taken, NULL, NULL), 0);
    answer(taken, "");
    assert_int_equal(outcome(call), 0);
    assert_int_equal(self->told.times, 1);
    gp_call_unref(call);
}

static void
a_stop_waits_for_what_was_taken(void **state)
{
    context *self = *state;
    gp_call *call = start(&self->fixture, "/t/Any", "");
    gp_server_call *taken;

    gp_call_attend(call);
    taken = take_call(&self->fixture);
    gp_server_stop(self->fixture.server, 0);
    assert_int_equal(gp_server_join(self->fixture.server, 20, NULL), GP_ETIMEOUT);
    assert_int_not_equal(outcome(call), 0);
    gp_call_unref(call);
    gp_server_call_finish(taken, 0, text("too late"), no_metadata());
    gp_server_call_hand_back(taken);
    assert_int_equal(gp_server_join(self->fixture.server, 20000, NULL), 0);
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
    first = start(&self, "/t/Any", "");
    gp_call_attend(first);
    taken = take_call(&self);
    second = start(&self, "/t/Any", "");
    assert_int_equal(outcome(second), 8);
    gp_call_unref(second);
    answer(taken, "");
    assert_int_equal(outcome(first), 0);
    gp_call_unref(first);
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
        assert_int_equal(gp__cond_wait_until(&self.changed, &self.lock, deadline), 0);
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
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_taken_call_is_answered_on_any_thread),
        TEST(a_stream_is_received_to_its_end),
        TEST(what_is_put_back_is_received_again),
        TEST(a_delegated_call_is_answered_by_a_worker),
        TEST(a_delegated_call_may_wait_for_its_message),
        TEST(sends_are_told_and_have_their_turn),
        TEST(what_is_posted_has_gone_out_before_the_end),
        TEST(a_cancelled_call_is_told),
        TEST(an_answered_call_is_not_cancelled),
        TEST(a_stop_waits_for_what_was_taken),
        cmocka_unit_test(too_many_calls_are_not_taken),
        cmocka_unit_test(each_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
