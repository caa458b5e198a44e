/* gRPC is shut down before a fork if it is unused, and started again in parent and child. */
#include "rpc_fixture.h"

#include <sys/wait.h>

#include "base/fork.h"
#include "base/thread.h"
#include "gp/grpc.h"
#include "gp/runtime.h"

static bool
runs(void)
{
    return gp__fork_count(GP__FORK_CORE) > 0;
}

/* Whether gRPC can be shut down. On a busy machine the first try may give up too early. */
static bool
can_be_suspended(void)
{
    int64_t deadline = gp_deadline_in(PATIENCE_MS);

    do {
        gp_grpc_suspend();
    } while (runs() && gp__now() < deadline);
    return !runs();
}

static void
echo(fixture *self)
{
    gp_call *call = start_call(self, "/t/Echo", "x");

    assert_int_equal(outcome(call), 0);
    assert_reply(call, "x");
    gp_call_unref(call);
}

static void
grpc_runs_on_while_it_is_used(void **state)
{
    fixture self;
    gp_call *call;

    (void)state;
    fixture_start(&self, 2, 0);
    echo(&self);
    gp_grpc_suspend();
    assert_true(runs());
    call = start_call(&self, "/t/Block", "");
    wait_inside(&self, 1);
    gp_channel_close(self.channel);
    gp_grpc_suspend();
    assert_true(runs());
    open_gate(&self);
    outcome(call);
    gp_call_unref(call);
    fixture_stop(&self);
}

static void
grpc_ends_and_starts_again(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        fixture self;

        fixture_start(&self, 2, 0);
        echo(&self);
        fixture_stop(&self);
        assert_true(can_be_suspended());
        gp_grpc_suspend();
        assert_false(runs());
    }
}

/* References to channels and servers that are over do not keep gRPC running. */
static void
what_is_over_needs_no_grpc(void **state)
{
    gp_call_options options = options_for("/t/Echo");
    gp_error err = GP_ERROR_INIT;
    gp_channel *view;
    fixture self;
    gp_call *call;

    (void)state;
    fixture_start(&self, 2, 0);
    assert_int_equal(gp_channel_view(&view, self.channel, &err), 0);
    echo(&self);
    gp_server_stop(self.server, 0);
    assert_int_equal(gp_server_join(self.server, 20000, NULL), 0);
    gp_channel_close(self.channel);
    gp_grpc_suspend();
    assert_true(runs()); /* a view is open */
    gp_channel_close(view);
    assert_true(can_be_suspended());

    assert_int_equal(gp_channel_state(view, true), GP_SHUTDOWN);
    assert_int_equal(gp_channel_wait_state(view, 0, 20000, NULL), GP_SHUTDOWN);
    assert_int_equal(gp_call_start_unary(&call, view, &options, text("x"), &err), GP_ECLOSED);
    gp_error_release(&err);
    gp_channel_unref(view);
    assert_int_equal(gp_channel_view(&view, self.channel, &err), 0);
    assert_int_equal(gp_channel_state(view, true), GP_SHUTDOWN);
    gp_channel_unref(view);
    gp_server_stop(self.server, 0);
    assert_int_equal(gp_server_wait(self.server, 0, NULL), 0);
    fixture_stop(&self);
    assert_false(runs());
}

/* Without exit(): what only the parent's threads refer to would be reported as a leak. */
static void
end_child(bool well)
{
    execl(well ? "/bin/true" : "/bin/false", "", (char *)NULL);
    _exit(2);
}

/* One child after the other uses everything while its parent does, and ends. */
static void
children_may_use_the_library(void **state)
{
    enum { CHILDREN = 3 };
    pid_t pids[CHILDREN];
    fixture self;

    (void)state;
    fixture_start(&self, 2, 0);
    fixture_stop(&self);
    assert_true(can_be_suspended());
    for (int i = 0; i < CHILDREN; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            bool forked = gp_runtime_forked();

            fixture_start(&self, 2, 0);
            for (int calls = 0; calls < 100; calls++) {
                echo(&self);
            }
            fixture_stop(&self);
            end_child(!forked);
        }
    }
    fixture_start(&self, 2, 0);
    for (int calls = 0; calls < 100; calls++) {
        echo(&self);
    }
    fixture_stop(&self);
    for (int i = 0; i < CHILDREN; i++) {
        int status;

        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
}

static void
children_of_a_process_that_uses_grpc_are_refused(void **state)
{
    gp_error err = GP_ERROR_INIT;
    fixture self;
    int status;
    pid_t pid;

    (void)state;
    fixture_start(&self, 2, 0);
    gp_grpc_suspend();
    pid = fork();
    if (pid == 0) {
        gp_channel *channel;
        int rc = gp_channel_open(&channel, self.target, NULL, &err);

        end_child(rc == GP_EFORKED &&
                  strstr(gp_error_message(&err), "connections: 1, servers: 1") != NULL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    echo(&self);
    fixture_stop(&self);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grpc_runs_on_while_it_is_used),
        cmocka_unit_test(grpc_ends_and_starts_again),
        cmocka_unit_test(what_is_over_needs_no_grpc),
        cmocka_unit_test(children_may_use_the_library),
        cmocka_unit_test(children_of_a_process_that_uses_grpc_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
