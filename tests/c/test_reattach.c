#include <signal.h>

#include "client_fixture.h"

/* ---- Joining ---- */

static void
prepare_joined(plugin *it, const plugin *running, bool with_pid, bool test)
{
    const gp_endpoint *endpoint = gp_client_endpoint(running->client);

    plugin_prepare(it, NULL, NULL, NULL);
    it->options.argv = NULL;
    it->options.reattach_network = endpoint->network;
    it->options.reattach_address = endpoint->address;
    it->options.reattach_protocol = endpoint->protocol;
    it->options.reattach_version = endpoint->version;
    it->options.reattach_pid = with_pid ? gp_client_pid(running->client) : -1;
    it->options.reattach_test = test;
}

static void
make_joined(plugin *it, const plugin *running, bool with_pid, bool test)
{
    prepare_joined(it, running, with_pid, test);
    plugin_make(it);
}

static void
a_joined_plugin_can_be_killed(void **state)
{
    plugin first;
    plugin second;

    (void)state;
    for (int with_pid = 0; with_pid < 2; with_pid++) {
        plugin_make_own(&first, "polite");
        plugin_start(&first);
        make_joined(&second, &first, with_pid, false);
        assert_false(gp_client_exited(second.client));
        plugin_start(&second);
        assert_string_equal(gp_client_endpoint(second.client)->address,
                            gp_client_endpoint(first.client)->address);
        assert_int_equal(gp_client_pid(second.client), with_pid ? gp_client_pid(first.client) : -1);
        plugin_ping(&second);
        assert_false(gp_client_exited(second.client));
        assert_int_equal(gp_client_kill(second.client, NULL), 0);
        assert_true(gp_client_exited(second.client));
        plugin_await_exit(&first);
        assert_int_equal(gp_client_exit_status(first.client), 0);
        plugin_release(&second);
        plugin_release(&first);
    }
}

static void
a_plugin_joined_for_a_test_is_not_killed(void **state)
{
    plugin first;
    plugin second;

    (void)state;
    plugin_make_own(&first, "polite");
    plugin_start(&first);
    make_joined(&second, &first, true, true);
    plugin_start(&second);
    plugin_ping(&second);
    assert_int_equal(gp_client_kill(second.client, NULL), 0);
    plugin_release(&second);
    plugin_ping(&first);
    assert_false(gp_client_exited(first.client));
    /* Freeing the client does not end a joined plugin either. */
    make_joined(&second, &first, true, false);
    plugin_start(&second);
    plugin_release(&second);
    plugin_ping(&first);
    assert_int_equal(gp_client_kill(first.client, NULL), 0);
    plugin_release(&first);
}

static void
the_end_of_a_joined_plugin_is_noticed(void **state)
{
    plugin first;
    plugin second;

    (void)state;
    for (int with_pid = 0; with_pid < 2; with_pid++) {
        plugin_make_own(&first, "polite");
        plugin_start(&first);
        make_joined(&second, &first, with_pid, false);
        plugin_start(&second);
        plugin_ping(&second);
        assert_int_equal(gp_client_kill(first.client, NULL), 0);
        plugin_await_exit(&second);
        assert_int_equal(gp_client_exit_status(second.client), GP_STATUS_UNKNOWN);
        assert_int_equal(gp_client_kill(second.client, NULL), 0);
        plugin_release(&second);
        plugin_release(&first);
    }
}

static void
joining_a_dead_plugin_fails(void **state)
{
    plugin first;
    plugin second;

    (void)state;
    plugin_make_own(&first, "polite");
    plugin_start(&first);
    for (int with_pid = 0; with_pid < 2; with_pid++) {
        make_joined(&second, &first, with_pid, false);
        assert_int_equal(gp_client_kill(first.client, NULL), 0);
        assert_int_equal(gp_client_start(second.client, NULL, &second.err), GP_EREATTACH);
        assert_non_null(strstr(gp_error_message(&second.err), "process not found"));
        assert_false(gp_client_exited(second.client));
        assert_int_equal(gp_client_kill(second.client, NULL), 0);
        plugin_release(&second);
    }
    plugin_release(&first);
}

/* The process that has the pid now must not be signalled. */
static void
a_reused_pid_is_not_signalled(void **state)
{
    plugin first;
    plugin second;
    plugin stranger;

    (void)state;
    plugin_make_own(&first, "deaf");
    plugin_start(&first);
    plugin_make_own(&stranger, "polite");
    plugin_start(&stranger);
    prepare_joined(&second, &first, true, false);
    second.options.reattach_pid = gp_client_pid(stranger.client);
    plugin_make(&second);
    plugin_start(&second);
#ifndef GP_PORTABLE /* there the listener's pid is unknown */
    assert_int_equal(gp_client_pid(second.client), -1);
#endif
    assert_int_equal(gp_client_kill(second.client, NULL), 0);
    plugin_ping(&stranger);
    assert_false(gp_client_exited(stranger.client));
    plugin_release(&second);
    /* With another start time, the process counts as dead. */
    prepare_joined(&second, &first, true, false);
    second.options.reattach_start_time = gp_client_start_time(first.client) + 1;
    plugin_make(&second);
    assert_int_equal(gp_client_start(second.client, NULL, &second.err), GP_EREATTACH);
    plugin_release(&second);
    plugin_release(&first);
    plugin_release(&stranger);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_joined_plugin_can_be_killed),
        cmocka_unit_test(a_plugin_joined_for_a_test_is_not_killed),
        cmocka_unit_test(the_end_of_a_joined_plugin_is_noticed),
        cmocka_unit_test(joining_a_dead_plugin_fails),
        cmocka_unit_test(a_reused_pid_is_not_signalled),
    };

    return plugin_main(tests, argc, argv);
}
