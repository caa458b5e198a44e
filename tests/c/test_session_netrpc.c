#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

#include "client_fixture.h"
#include "gen/libraries.h"
#include "netrpc_plugin_fixture.h"

/* A host that joins the plugin. */
static void
join_plugin(plugin *host, const netrpc_plugin *it, bool test)
{
    plugin_prepare(host, NULL, NULL, NULL);
    host->options.argv = NULL;
    host->options.protocols = GP_PROTOCOL_NETRPC;
    host->options.reattach_network = "unix";
    host->options.reattach_address = it->path;
    host->options.reattach_protocol = "";
    host->options.reattach_version = 1;
    host->options.reattach_pid = -1;
    host->options.reattach_test = test;
    plugin_make(host);
    plugin_start(host);
}

static gp_netrpc_client *
dispense_echo(plugin *host)
{
    gp_netrpc_client *client;

    assert_int_equal(
        gp_client_dispense(host->client, "echo", NULL, patience(), NULL, &client, &host->err), 0);
    return client;
}

static void
assert_echoes(gp_netrpc_client *client)
{
    char *reply = call_text(client, "Plugin.Echo", "hello", NULL);

    assert_non_null(reply);
    assert_string_equal(reply, "hello");
    free(reply);
}

static void *
call_hold(void *client)
{
    char *reply = call_text(client, "Plugin.Hold", "held", NULL);

    assert_non_null(reply);
    assert_string_equal(reply, "held");
    free(reply);
    return NULL;
}

static void
a_plugin_is_called(void **state)
{
    gp_netrpc_client *first;
    gp_netrpc_client *second;
    netrpc_plugin it;
    plugin host;

    (void)state;
    netrpc_plugin_start(&it);
    join_plugin(&host, &it, true);
    assert_string_equal(gp_client_endpoint(host.client)->protocol, "netrpc");
    assert_null(gp_client_channel(host.client));
    assert_null(gp_client_broker(host.client));
    assert_non_null(gp_client_mux_broker(host.client));
    plugin_ping(&host);
    first = dispense_echo(&host);
    second = dispense_echo(&host);
    assert_echoes(first);
    assert_echoes(second);
    assert_echoes(first);
    gp_netrpc_client_unref(first);
    assert_echoes(second);
    gp_netrpc_client_unref(second);
    plugin_release(&host);
    netrpc_plugin_finish(&it);
    assert_int_equal(it.made, 2);
}

static void
an_unknown_name_is_refused_with_the_plugins_text(void **state)
{
    gp_netrpc_client *client;
    netrpc_plugin it;
    plugin host;

    (void)state;
    netrpc_plugin_start(&it);
    join_plugin(&host, &it, true);
    assert_int_equal(
        gp_client_dispense(host.client, "nothing", NULL, patience(), NULL, &client, &host.err),
        GP_ESERVER);
    assert_non_null(strstr(gp_error_message(&host.err), "unknown plugin type"));
    plugin_release(&host);
    netrpc_plugin_finish(&it);
}

static void
several_hosts_are_served_at_once(void **state)
{
    gp_netrpc_client *clients[3];
    netrpc_plugin it;
    plugin hosts[3];

    (void)state;
    netrpc_plugin_start(&it);
    for (int i = 0; i < 3; i++) {
        join_plugin(&hosts[i], &it, true);
        clients[i] = dispense_echo(&hosts[i]);
    }
    for (int i = 0; i < 3; i++) {
        assert_echoes(clients[i]);
        gp_netrpc_client_unref(clients[i]);
        plugin_release(&hosts[i]);
    }
    netrpc_plugin_finish(&it);
}

static void
quit_stops_the_plugin(void **state)
{
    gp_netrpc_client *client;
    netrpc_plugin it;
    plugin host;

    (void)state;
    netrpc_plugin_start(&it);
    join_plugin(&host, &it, false);
    client = dispense_echo(&host);
    assert_echoes(client);
    assert_int_equal(gp_client_kill(host.client, NULL), 0);
    assert_int_equal(gp_netrpc_plugin_wait(it.server, PATIENCE_MS, NULL), 0);
    assert_true(gp_netrpc_plugin_stopping(it.server));
    assert_null(call_text(client, "Plugin.Echo", "late", &host.err));
    assert_int_equal(host.err.code, GP_ECLOSED);
    gp_netrpc_client_unref(client);
    plugin_release(&host);
    netrpc_plugin_finish(&it);
}

static void
a_stop_waits_for_handlers(void **state)
{
    gp_netrpc_client *client;
    pthread_t thread;
    netrpc_plugin it;
    plugin host;

    (void)state;
    netrpc_plugin_start(&it);
    join_plugin(&host, &it, true);
    client = dispense_echo(&host);
    assert_int_equal(pthread_create(&thread, NULL, call_hold, client), 0);
    netrpc_plugin_await_held(&it);
    gp_netrpc_plugin_stop(it.server, PATIENCE_MS);
    assert_int_equal(gp_netrpc_plugin_wait(it.server, 50, NULL), GP_ETIMEOUT);
    netrpc_plugin_answer_held(&it);
    assert_int_equal(gp_netrpc_plugin_wait(it.server, PATIENCE_MS, NULL), 0);
    pthread_join(thread, NULL);
    gp_netrpc_client_unref(client);
    plugin_release(&host);
    netrpc_plugin_finish(&it);
}

static void
a_stop_gives_handlers_up_after_its_grace(void **state)
{
    gp_netrpc_client *client;
    pthread_t thread;
    netrpc_plugin it;
    plugin host;

    (void)state;
    netrpc_plugin_start(&it);
    join_plugin(&host, &it, true);
    client = dispense_echo(&host);
    assert_int_equal(pthread_create(&thread, NULL, call_hold, client), 0);
    netrpc_plugin_await_held(&it);
    gp_netrpc_plugin_stop(it.server, 20);
    assert_int_equal(gp_netrpc_plugin_wait(it.server, PATIENCE_MS, NULL), 0);
    netrpc_plugin_answer_held(&it);
    pthread_join(thread, NULL);
    gp_netrpc_client_unref(client);
    plugin_release(&host);
    netrpc_plugin_finish(&it);
}

/* The last test: neither side of the others has loaded it. */
static void
grpc_is_not_loaded(void **state)
{
    (void)state;
    assert_null(dlopen(GP__GRPC_FILE, RTLD_NOW | RTLD_NOLOAD));
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plugin_is_called),
        cmocka_unit_test(an_unknown_name_is_refused_with_the_plugins_text),
        cmocka_unit_test(several_hosts_are_served_at_once),
        cmocka_unit_test(quit_stops_the_plugin),
        cmocka_unit_test(a_stop_waits_for_handlers),
        cmocka_unit_test(a_stop_gives_handlers_up_after_its_grace),
        cmocka_unit_test(grpc_is_not_loaded),
    };

    return plugin_main(tests, argc, argv);
}
