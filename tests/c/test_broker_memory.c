/*
 * What the broker does when memory is short, and how much it stores for a peer that sends requests
 * and does not read the answers.
 */
#include "rpc_fixture.h"

#include "base/alloc.h"
#include "rpc/convert.h"
#include "services/broker.h"
#include "services/broker_state.h"

/* ---- Memory ---- */

static gp_server_options
idle_server(void)
{
    const gp_server_options options = {
        .handler = {fixture_begin, fixture_run, NULL, NULL},
        .max_workers = 1,
    };

    return options;
}

/* Whatever fails, each function returns that, and nothing leaks. */
static void
a_plugins_broker(void)
{
    const gp_server_options options = idle_server();
    gp_error err = GP_ERROR_INIT;
    gp_channel *channel;
    gp_broker *broker;
    gp_server *server;
    int rc;

    if (gp_server_new(&server, &options, &err) < 0) {
        assert_int_equal(err.code, GP_ENOMEM);
        gp_error_release(&err);
        return;
    }
    rc = gp_server_add_broker(server, NULL, NULL, &broker, &err);
    if (rc == 0) {
        rc = gp_broker_announce(broker, 1, "unix", "/nowhere", &err);
        assert_true(rc == 0 || rc == GP_ENOMEM);
        gp__broker_send_answer(broker, 2, 3, "");
        assert_int_equal(gp_broker_dial(broker, 4, 0, NULL, &channel, NULL), GP_EBROKER);
        gp_broker_close(broker);
        gp_broker_unref(broker);
    } else {
        assert_int_equal(rc, GP_ENOMEM);
    }
    gp_error_release(&err);
    gp_server_release(server);
}

/* A message of the other side's, or NULL. */
static gp_message *
message_of(const Plugin__ConnInfo *info)
{
    unsigned char bytes[200];
    size_t len = plugin__conn_info__pack(info, bytes);
    grpc_slice slice = grpc_slice_from_copied_buffer((const char *)bytes, len);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);

    grpc_slice_unref(slice);
    return gp__message_from_buffer(buffer);
}

/* The plugin does not exist: the test makes its messages. */
static void
a_hosts_broker(void)
{
    Plugin__ConnInfo info = PLUGIN__CONN_INFO__INIT;
    Plugin__ConnInfo__Knock knock = PLUGIN__CONN_INFO__KNOCK__INIT;
    gp_channel *channel = NULL;
    gp_channel *dialled;
    gp_broker *broker;
    gp_error err = GP_ERROR_INIT;
    int rc = gp_channel_open(&channel, "unix:/nonexistent/socket", NULL, &err);

    if (rc == 0 && (rc = gp__broker_open(&broker, channel, NULL, NULL, NULL, NULL, &err)) == 0) {
        info.service_id = 7;
        info.network = (char *)(uintptr_t)"unix";
        info.address = (char *)(uintptr_t)"/nonexistent/other";
        gp__broker_handle_message(broker, message_of(&info));
        rc = gp_broker_dial(broker, 7, 0, NULL, &dialled, &err);
        assert_true(rc == 0 || rc == GP_ENOMEM || rc == GP_EBROKER);
        if (rc == 0) {
            gp_channel_close(dialled);
            gp_channel_unref(dialled);
        }
        knock.knock = true;
        info.knock = &knock;
        gp__broker_handle_message(broker, message_of(&info)); /* which is ignored here */
        gp_broker_close(broker);
        gp_broker_unref(broker);
        rc = 0;
    }
    assert_true(rc == 0 || rc == GP_ENOMEM);
    if (channel != NULL) {
        gp_channel_close(channel);
        gp_channel_unref(channel);
    }
    gp_error_release(&err);
}

static void
each_allocation_may_fail(void (*use)(void))
{
    long failing = -1;

    gp_runtime_init();
    use(); /* for what the process keeps allocated */
    do {
        alloc_begin(failing++);
        use();
        assert_true(alloc_end() > 0);
    } while (failing == 0 || alloc_failures() > 0);
}

static void
each_allocation_of_a_plugin_may_fail(void **state)
{
    (void)state;
    each_allocation_may_fail(a_plugins_broker);
}

static void
each_allocation_of_a_host_may_fail(void **state)
{
    (void)state;
    each_allocation_may_fail(a_hosts_broker);
}

/* If memory is short, an announcement is lost, and nothing else. */
static void
an_announcement_is_lost(void **state)
{
    Plugin__ConnInfo info = PLUGIN__CONN_INFO__INIT;
    gp_broker *broker = gp__broker_new(NULL, NULL);
    gp__broker_address where;

    (void)state;
    info.network = (char *)(uintptr_t)"unix";
    info.address = (char *)(uintptr_t)"/there";
    for (long failing = 0; failing < 3; failing++) {
        info.service_id = (uint32_t)failing;
        alloc_begin(failing);
        gp__broker_add_announcement(broker, &info);
        assert_int_equal(alloc_failures(), 1);
        alloc_end();
    }
    info.service_id = 3;
    gp__broker_add_announcement(broker, &info);
    for (uint32_t id = 0; id < 4; id++) {
        assert_int_equal(gp__broker_claim(broker, id, 0, NULL, &where, NULL),
                         id == 3 ? 0 : GP_EBROKER);
    }
    assert_string_equal(where.address, "/there");
    gp__broker_address_release(&where);
    gp_broker_unref(broker);
}

/* ---- Answers that are not taken ---- */

/* Answers to a peer that does not read them are bounded; announcements are still sent. */
static void
answers_without_end(void **state)
{
    enum { MOST = 1024 };
    gp_channel *dialled;
    gp_broker *host;
    fixture rpc;

    (void)state;
    fixture_start(&rpc, 2, 0);
    for (uint32_t id = 0; id < MOST; id++) { /* there is no stream to send them on yet */
        assert_int_equal(gp__broker_send_answer(rpc.broker, id, id, "not now"), 0);
    }
    assert_int_equal(gp__broker_send_answer(rpc.broker, MOST, MOST, ""), GP_EBROKER);
    assert_int_equal(gp__broker_send_request(rpc.broker, MOST, MOST), GP_EBROKER);
    assert_int_equal(rpc.broker->messages_count, MOST);
    assert_int_equal(gp_broker_announce(rpc.broker, 7, "unix", rpc.target + 5, NULL), 0);
    assert_int_equal(gp__broker_open(&host, rpc.channel, NULL, NULL, NULL, NULL, NULL), 0);
    assert_int_equal(gp_broker_dial(host, 7, PATIENCE_MS, NULL, &dialled, NULL), 0);
    gp_channel_close(dialled);
    gp_channel_unref(dialled);
    assert_int_equal(gp__broker_send_answer(rpc.broker, MOST, MOST, ""), 0);
    gp_broker_close(host);
    gp_broker_unref(host);
    fixture_stop(&rpc);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_allocation_of_a_plugin_may_fail),
        cmocka_unit_test(each_allocation_of_a_host_may_fail),
        cmocka_unit_test(an_announcement_is_lost),
        cmocka_unit_test(answers_without_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
