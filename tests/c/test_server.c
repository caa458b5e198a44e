#include "rpc_fixture.h"

#include "base/alloc.h"
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
    /* The client keeps its connection open: that must not matter. */
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
    call = start(&self, "/t/Block", "patience");
    wait_inside(&self, 1);
    gp_server_stop(self.server, 20000);
    assert_int_equal(gp_server_wait(self.server, 20, NULL), GP_ETIMEOUT);
    open_gate(&self);
    assert_int_equal(outcome(call), 0);
    gp_call_unref(call);
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
    call = start(&self, "/t/Block", "");
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
        blocked[i] = start(&self, "/t/Block", "long");
    }
    wait_inside(&self, 3);
    for (int i = 0; i < 50; i++) {
        gp_call *call = start(&self, "/t/Echo", "short");

        assert_int_equal(outcome(call), 0);
        gp_call_unref(call);
    }
    open_gate(&self);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(outcome(blocked[i]), 0);
        gp_call_unref(blocked[i]);
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
    blocked = start(&self, "/t/Block", "");
    wait_inside(&self, 1);
    queued = start(&self, "/t/Echo", "");
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
    first = start(&self, "/t/Block", "");
    wait_inside(&self, 1);
    second = start(&self, "/t/Echo", "");
    assert_int_equal(outcome(second), 8);
    gp_call_unref(second);
    open_gate(&self);
    assert_int_equal(outcome(first), 0);
    gp_call_unref(first);
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(health_knows_the_plugin_and_the_server),
        cmocka_unit_test(shutdown_answers_and_stops_an_idle_server),
        cmocka_unit_test(a_running_call_gets_its_grace),
        cmocka_unit_test(grace_runs_out),
        cmocka_unit_test(short_calls_pass_long_ones),
        cmocka_unit_test(services_in_c_answer_while_every_worker_is_busy),
        cmocka_unit_test(too_many_calls_are_refused),
        cmocka_unit_test(a_watch_does_not_hold_up_the_stop),
        cmocka_unit_test(a_server_that_never_started_is_released),
        cmocka_unit_test(an_address_in_use_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
