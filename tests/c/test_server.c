#include "rpc_fixture.h"

#include "base/alloc.h"
#include "rpc/server.h"
#include "services/controller.h"
#include "services/health.h"
#include "services/request.h"

static void
health_knows_the_plugin_and_the_server(void **state)
{
    gp_error err = GP_ERROR_INIT;
    fixture self;

    (void)state;
    fixture_start(&self, 2, 0);
    assert_int_equal(gp__health_check(self.channel, "plugin", 20000, NULL, &err), 0);
    assert_int_equal(gp__health_check(self.channel, "", 20000, NULL, &err), 0);
    assert_int_equal(gp__health_check(self.channel, "other", 20000, NULL, &err), GP_ERPC);
    assert_int_equal(err.number, 5);
    gp_error_release(&err);
    fixture_stop(&self);
}

static void
shutdown_answers_and_stops_an_idle_server(void **state)
{
    fixture self;

    (void)state;
    fixture_start(&self, 2, 0);
    assert_int_equal(gp__controller_shutdown(self.channel, 20000, NULL, NULL), 0);
    assert_true(gp_server_stopping(self.server));
    /* The server stops although the client keeps its connection open. */
    assert_int_equal(gp_server_wait(self.server, 20000, NULL), 0);
    fixture_stop(&self);
}

static void
a_running_call_gets_its_grace(void **state)
{
    fixture self;
    gp_call *call;

    (void)state;
    fixture_start(&self, 2, 0);
    call = start_call(&self, "/t/Block", "patience");
    wait_inside(&self, 1);
    gp_server_stop(self.server, 20000);
    assert_int_equal(gp_server_wait(self.server, 20, NULL), GP_ETIMEOUT);
    open_gate(&self);
    finish_call(call, 0);
    assert_int_equal(gp_server_wait(self.server, 20000, NULL), 0);
    fixture_stop(&self);
}

static void
grace_runs_out(void **state)
{
    fixture self;
    gp_call *call;

    (void)state;
    fixture_start(&self, 1, 0);
    call = start_call(&self, "/t/Block", "");
    wait_inside(&self, 1);
    gp_server_stop(self.server, 30);
    assert_int_not_equal(outcome(call), 0);
    gp_call_unref(call);
    assert_int_equal(gp_server_wait(self.server, 20000, NULL), 0);
    assert_int_equal(gp_server_join(self.server, 20, NULL), GP_ETIMEOUT);
    fixture_stop(&self);
}

static void
short_calls_pass_long_ones(void **state)
{
    fixture self;
    gp_call *blocked[3];

    (void)state;
    fixture_start(&self, 4, 0);
    for (int i = 0; i < 3; i++) {
        blocked[i] = start_call(&self, "/t/Block", "long");
    }
    wait_inside(&self, 3);
    for (int i = 0; i < 50; i++) {
        gp_call *call = start_call(&self, "/t/Echo", "short");

        finish_call(call, 0);
    }
    open_gate(&self);
    for (int i = 0; i < 3; i++) {
        finish_call(blocked[i], 0);
    }
    fixture_stop(&self);
}

static void
many_long_calls_begin_without_waiting_for_each_other(void **state)
{
    enum { CALLS = 20 };
    gp_call *blocked[CALLS];
    unsigned long before;
    unsigned long waits;
    fixture self;

    (void)state;
    fixture_start(&self, CALLS, 0);
    gp_mutex_lock(&gp__engine_lock);
    before = self.server->dispatch.owner.poller->takeovers;
    gp_mutex_unlock(&gp__engine_lock);
    for (int i = 0; i < CALLS; i++) {
        blocked[i] = start_call(&self, "/t/Block", "long");
    }
    wait_inside(&self, CALLS);
    gp_mutex_lock(&gp__engine_lock);
    waits = self.server->dispatch.owner.poller->takeovers - before;
    gp_mutex_unlock(&gp__engine_lock);
    open_gate(&self);
    for (int i = 0; i < CALLS; i++) {
        finish_call(blocked[i], 0);
    }
    fixture_stop(&self);
    /* One takeover teaches that the method is slow; on a busy machine there may be a few more. */
    assert_in_range(waits, 1, CALLS / 2);
}

/* Echoes one after the other; returns how many failed. */
static void *
call_many_times(void *arg)
{
    uintptr_t failures = 0;

    for (int i = 0; i < 500; i++) {
        gp_call *call = start_call(arg, "/t/Echo", "x");

        failures += outcome(call) != 0;
        gp_call_unref(call);
    }
    return (void *)failures;
}

static void
many_calls_at_once(void **state)
{
    pthread_t threads[8];
    fixture self;

    (void)state;
    fixture_start(&self, 4, 0);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, call_many_times, &self), 0);
    }
    for (int i = 0; i < 8; i++) {
        void *failures;

        pthread_join(threads[i], &failures);
        assert_null(failures);
    }
    fixture_stop(&self);
}

static void
services_in_c_answer_while_every_worker_is_busy(void **state)
{
    fixture self;
    gp_call *blocked;
    gp_call *queued;

    (void)state;
    fixture_start(&self, 1, 0);
    blocked = start_call(&self, "/t/Block", "");
    wait_inside(&self, 1);
    queued = start_call(&self, "/t/Echo", "");
    assert_int_equal(gp__health_check(self.channel, "plugin", 20000, NULL, NULL), 0);
    assert_int_equal(gp_call_wait(queued, 20 * GP__MS, NULL), GP_ETIMEOUT);
    open_gate(&self);
    assert_int_equal(outcome(blocked), 0);
    assert_int_equal(outcome(queued), 0);
    gp_call_unref(blocked);
    gp_call_unref(queued);
    fixture_stop(&self);
}

static void
too_many_calls_are_refused(void **state)
{
    fixture self;
    gp_call *first;
    gp_call *second;

    (void)state;
    fixture_start(&self, 4, 1);
    first = start_call(&self, "/t/Block", "");
    wait_inside(&self, 1);
    second = start_call(&self, "/t/Echo", "");
    finish_call(second, 8);
    open_gate(&self);
    finish_call(first, 0);
    fixture_stop(&self);
}

static void
a_watch_does_not_hold_up_the_stop(void **state)
{
    gp_call_options options = options_for("/grpc.health.v1.Health/Watch");
    gp_bytes request = text("");
    gp_message *message;
    gp_call *watch;
    fixture self;

    (void)state;
    fixture_start(&self, 2, 0);
    assert_int_equal(gp_call_start_stream(&watch, self.channel, &options, &request, NULL), 0);
    assert_int_equal(gp_call_receive(watch, &message, NULL), 1);
    gp_message_free(message);
    gp_server_stop(self.server, 1000000);
    assert_int_equal(gp_server_wait(self.server, 20000, NULL), 0);
    assert_int_not_equal(outcome(watch), 0);
    gp_call_unref(watch);
    fixture_stop(&self);
}

static void
a_server_that_never_started_is_released(void **state)
{
    gp_server_options options = {.max_workers = 1};
    gp_server *server;

    (void)state;
    assert_int_equal(gp_server_new(&server, &options, NULL), 0);
    gp_server_release(server);
}

static void
an_address_in_use_is_an_error(void **state)
{
    gp_server_options options = {.max_workers = 1};
    gp_error err = GP_ERROR_INIT;
    gp_server *server;
    gp_server *second;
    char address[32];
    int port;

    (void)state;
    assert_int_equal(gp_server_new(&server, &options, NULL), 0);
    assert_int_equal(gp_server_new(&second, &options, NULL), 0);
    assert_int_equal(gp_server_listen(server, "127.0.0.1:0", &port, NULL), 0);
    snprintf(address, sizeof(address), "127.0.0.1:%d", port);
    assert_int_equal(gp_server_listen(second, address, NULL, &err), GP_EOS);
    assert_non_null(strstr(gp_error_message(&err), address));
    gp_error_release(&err);
    gp_server_release(second);
    gp_server_release(server);
}

/* An allocator that has no memory for what is as large as a server's call. */
static atomic_bool short_of_calls;
static _Thread_local bool spared; /* this thread allocates clients' calls, which are as large */

static void *
realloc_unless_short(void *ptr, size_t size)
{
    return ptr == NULL && size == sizeof(gp_server_call) && !spared && atomic_load(&short_of_calls)
               ? NULL
               : realloc(ptr, size);
}

static void
slots_come_back_when_memory_does(void **state)
{
    static const gp__allocator allocator = {realloc_unless_short, free};
    fixture self;

    (void)state;
    gp__set_allocator(&allocator);
    spared = true;
    fixture_start(&self, 2, 0);
    for (int i = 0; i < 20; i++) { /* more than there are slots */
        gp_call *call = start_call(&self, "/t/Block", "");

        wait_inside(&self, 1);
        atomic_store(&short_of_calls, true);
        gp_call *other = start_call(&self, "/t/Echo", "x");
        finish_call(other, 0);
        atomic_store(&short_of_calls, false);
        open_gate(&self);
        finish_call(call, 0);
        gp_mutex_lock(&self.lock);
        self.gate_open = false;
        gp_mutex_unlock(&self.lock);
    }
    fixture_stop(&self);
    spared = false;
    gp__set_allocator(NULL);
}

static void
a_server_without_memory_for_calls_does_not_start(void **state)
{
    static const gp__allocator allocator = {realloc_unless_short, free};
    gp_server_options options = {.max_workers = 1};
    gp_server *server;

    (void)state;
    gp__set_allocator(&allocator);
    atomic_store(&short_of_calls, true);
    assert_int_equal(gp_server_new(&server, &options, NULL), 0);
    assert_int_equal(gp_server_start(server, NULL), GP_ENOMEM);
    gp_server_release(server);
    atomic_store(&short_of_calls, false);
    gp__set_allocator(NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(health_knows_the_plugin_and_the_server),
        cmocka_unit_test(shutdown_answers_and_stops_an_idle_server),
        cmocka_unit_test(a_running_call_gets_its_grace),
        cmocka_unit_test(grace_runs_out),
        cmocka_unit_test(short_calls_pass_long_ones),
        cmocka_unit_test(many_long_calls_begin_without_waiting_for_each_other),
        cmocka_unit_test(many_calls_at_once),
        cmocka_unit_test(services_in_c_answer_while_every_worker_is_busy),
        cmocka_unit_test(too_many_calls_are_refused),
        cmocka_unit_test(a_watch_does_not_hold_up_the_stop),
        cmocka_unit_test(a_server_that_never_started_is_released),
        cmocka_unit_test(an_address_in_use_is_an_error),
        cmocka_unit_test(slots_come_back_when_memory_does),
        cmocka_unit_test(a_server_without_memory_for_calls_does_not_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
