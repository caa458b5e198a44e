#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "client_fixture.h"
#include "gp/call.h"

/* ---- Life ---- */

static void
a_client_starts_and_ends_its_plugin(void **state)
{
    const gp_endpoint *endpoint;
    struct stat file;
    plugin it;

    (void)state;
    plugin_make_own(&it, "polite");
    assert_null(gp_client_endpoint(it.client));
    assert_null(gp_client_channel(it.client));
    assert_false(gp_client_exited(it.client));
    assert_int_equal(gp_client_pid(it.client), -1);
    assert_int_equal(gp_client_exit_status(it.client), GP_STATUS_UNKNOWN);
    assert_int_equal(gp_client_ping(it.client, 1000, NULL, &it.err), GP_ECLOSED);
    plugin_start(&it);
    plugin_start(&it);
    endpoint = gp_client_endpoint(it.client);
    assert_string_equal(endpoint->network, "unix");
    assert_int_equal(endpoint->version, 1);
    assert_int_equal(stat(endpoint->address, &file), 0);
    assert_true(gp_client_pid(it.client) > 0);
    assert_non_null(gp_client_channel(it.client));
    assert_false(gp_client_exited(it.client));
    plugin_ping(&it);
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    assert_true(gp_client_exited(it.client));
    assert_int_equal(gp_client_exit_status(it.client), 0);
    assert_true(recorder_has(&it.rec, GP_INFO, "[INFO] stopped"));
    assert_int_equal(stat(endpoint->address, &file), -1);
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    assert_int_equal(gp_client_ping(it.client, 1000, NULL, &it.err), GP_ECLOSED);
    assert_int_equal(gp_client_start(it.client, NULL, &it.err), GP_ECLOSED);
    plugin_release(&it);
}

static void
a_plugin_without_controller_is_killed(void **state)
{
    struct stat file;
    plugin it;

    (void)state;
    plugin_make_own(&it, "rude");
    plugin_start(&it);
    plugin_ping(&it);
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    assert_int_equal(gp_client_exit_status(it.client), -SIGKILL);
    assert_int_equal(stat(gp_client_endpoint(it.client)->address, &file), -1);
    plugin_release(&it);
}

static void
a_plugin_that_does_not_exit_is_killed(void **state)
{
    plugin it;

    (void)state;
    plugin_make_own(&it, "deaf");
    plugin_start(&it);
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    assert_true(gp_client_exited(it.client));
    assert_int_equal(gp_client_exit_status(it.client), -SIGKILL);
    assert_true(recorder_has(&it.rec, GP_INFO, "[INFO] stopped"));
    plugin_release(&it);
}

static void
a_dead_plugin_is_noticed(void **state)
{
    plugin it;

    (void)state;
    for (int i = 0; i < 20; i++) {
        plugin_make_own(&it, "polite");
        plugin_start(&it);
        plugin_ping(&it);
        kill(gp_client_pid(it.client), SIGKILL);
        /* When the call fails, the client knows why. */
        while (gp_client_ping(it.client, PATIENCE_MS, NULL, &it.err) == 0) {
        }
        assert_true(gp_client_exited(it.client));
        assert_int_equal(gp_client_exit_status(it.client), -SIGKILL);
        assert_int_equal(gp_client_ping(it.client, PATIENCE_MS, NULL, &it.err), GP_ERPC);
        assert_non_null(strstr(gp_error_message(&it.err), "killed by signal 9"));
        assert_int_equal(gp_client_start(it.client, NULL, &it.err), 0);
        assert_int_equal(gp_client_kill(it.client, NULL), 0);
        plugin_release(&it);
    }
}

static void
freeing_kills_the_plugin(void **state)
{
    plugin it;
    int pid;

    (void)state;
    plugin_make_own(&it, "polite");
    plugin_start(&it);
    pid = gp_client_pid(it.client);
    plugin_release(&it);
    assert_int_equal(kill(pid, 0), -1);
    plugin_make_own(&it, "polite");
    plugin_release(&it);
}

static void
a_protocol_that_is_not_allowed_is_refused(void **state)
{
    plugin it;

    (void)state;
    plugin_make_script(&it, "echo '1|1|unix|/nonexistent'; exec sleep 1000");
    assert_int_equal(gp_client_start(it.client, NULL, &it.err), GP_EHANDSHAKE);
    assert_non_null(strstr(gp_error_message(&it.err), "the plugin speaks net/rpc"));
    assert_true(gp_client_exited(it.client));
    plugin_release(&it);
}

static void
only_its_own_socket_is_removed(void **state)
{
    const char *file = make_file("precious", "", 0600);
    char script[300];
    plugin it;

    (void)state;
    snprintf(script, sizeof(script), "echo '1|1|unix|%s|grpc'; exec sleep 1000", file);
    plugin_prepare(&it, "/bin/sh", "-c", script);
    it.options.kill_timeout_ms = 100;
    plugin_make(&it);
    plugin_start(&it);
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    assert_int_equal(access(file, F_OK), 0);
    plugin_release(&it);
}

/* ---- Threads ---- */

static void *
start_it(void *arg)
{
    plugin *it = arg;

    assert_int_equal(gp_client_start(it->client, NULL, NULL), 0);
    return NULL;
}

static void
many_threads_start_it_once(void **state)
{
    pthread_t threads[8];
    plugin it;

    (void)state;
    plugin_make_own(&it, "polite");
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, start_it, &it), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
    }
    plugin_ping(&it);
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    assert_int_equal(it.rec.count, 2); /* what one process logs from its start to its end */
    plugin_release(&it);
}

/* ---- Failures ---- */

static void
a_call_says_how_the_plugin_has_ended(void **state)
{
    const gp_call_options options = {.method = {"/grpc.health.v1.Health/Watch", 28},
                                     .timeout_ns = -1};
    const gp_bytes everything = {"", 0};
    gp_message *message;
    gp_call *calls[3];
    char details[200];
    plugin it;

    (void)state;
    plugin_make_own(&it, "polite");
    plugin_start(&it);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(gp_call_start_stream(&calls[i], gp_client_channel(it.client), &options,
                                              &everything, &it.err),
                         0);
        assert_int_equal(gp_call_receive(calls[i], &message, NULL), 1);
        gp_message_free(message);
    }
    kill(gp_client_pid(it.client), SIGKILL);
    for (int i = 0; i < 3; i++) {
        const gp_call_status *status;

        assert_int_equal(gp_call_wait(calls[i], -1, NULL), 0);
        status = gp_call_get_status(calls[i]);
        assert_int_equal(status->code, 14);
        snprintf(details, sizeof(details), "%.*s", (int)status->details.len,
                 (const char *)status->details.data);
        assert_non_null(strstr(details, "test_client: was killed by signal 9"));
        gp_call_unref(calls[i]);
    }
    plugin_release(&it);
}

static void
a_failure_is_remembered(void **state)
{
    plugin it;

    (void)state;
    plugin_make_script(&it, "echo why >&2; exit 5");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(gp_client_start(it.client, NULL, &it.err), GP_EEXITED);
        assert_int_equal(it.err.number, 5);
        assert_string_equal(it.err.detail, "why");
        assert_int_equal(strncmp(gp_error_message(&it.err), "sh: the plugin exited", 21), 0);
    }
    assert_true(gp_client_exited(it.client));
    assert_int_equal(gp_client_exit_status(it.client), 5);
    assert_null(gp_client_endpoint(it.client));
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    assert_int_equal(gp_client_start(it.client, NULL, &it.err), GP_EEXITED);
    plugin_release(&it);
}

static void
a_given_name_begins_messages(void **state)
{
    plugin it;

    (void)state;
    plugin_prepare(&it, "/nonexistent/kv-plugin", NULL, NULL);
    it.options.name = "kv";
    plugin_make(&it);
    assert_int_equal(gp_client_start(it.client, NULL, &it.err), GP_ESTART);
    assert_int_equal(strncmp(gp_error_message(&it.err), "kv: cannot start", 16), 0);
    plugin_release(&it);
}

static void
a_missing_program_is_reported(void **state)
{
    plugin it;

    (void)state;
    plugin_prepare(&it, "/nonexistent/kv-plugin", NULL, NULL);
    plugin_make(&it);
    assert_int_equal(gp_client_start(it.client, NULL, &it.err), GP_ESTART);
    assert_int_equal(strncmp(gp_error_message(&it.err), "kv-plugin: cannot start", 23), 0);
    assert_false(gp_client_exited(it.client));
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    plugin_release(&it);
}

static void
a_start_can_be_interrupted(void **state)
{
    plugin it;

    (void)state;
    plugin_make_script(&it, "exec sleep 1000");
    assert_int_equal(gp_client_start(it.client, &interrupt_now, &it.err), GP_EUSER);
    assert_true(gp_client_exited(it.client));
    assert_int_equal(gp_client_start(it.client, NULL, &it.err), GP_ECLOSED);
    assert_non_null(strstr(gp_error_message(&it.err), "interrupted"));
    plugin_release(&it);
}

static void
wrong_options_are_refused(void **state)
{
    static const char *const none[] = {NULL};
    plugin it;

    (void)state;
    plugin_prepare(&it, "/bin/true", NULL, NULL);
    it.options.min_port = 30000;
    assert_int_equal(gp_client_new(&it.client, &it.options, &it.err), GP_EINVAL);
    it.options.min_port = 10000;
    it.options.argv = none;
    assert_int_equal(gp_client_new(&it.client, &it.options, &it.err), GP_EINVAL);
    it.options.argv = NULL;
    assert_int_equal(gp_client_new(&it.client, &it.options, &it.err), GP_EINVAL);
    it.options.argv = it.argv;
    it.options.start_timeout_ms = 0;
    assert_int_equal(gp_client_new(&it.client, &it.options, &it.err), GP_EINVAL);
    it.options.start_timeout_ms = 1000;
    it.options.cookie_key = "a=b";
    assert_int_equal(gp_client_new(&it.client, &it.options, &it.err), GP_EINVAL);
    it.options.reattach_network = "udp";
    it.options.reattach_address = "x";
    assert_int_equal(gp_client_new(&it.client, &it.options, &it.err), GP_EINVAL);
    it.options.reattach_network = "tcp";
    assert_int_equal(gp_client_new(&it.client, &it.options, &it.err), GP_EINVAL);
    assert_int_equal(it.rec.released, 7); /* each time, although the client could not be made */
    recorder_release(&it.rec);
    gp_error_release(&it.err);
}

/* ---- Forks and allocation ---- */

static void
a_forked_child_can_do_nothing(void **state)
{
    plugin it;
    int status;
    pid_t pid;

    (void)state;
    if (under_valgrind()) {
        skip(); /* it takes what the parent has allocated for leaks of the child */
    }
    plugin_make_own(&it, "polite");
    plugin_start(&it);
    pid = fork();
    if (pid == 0) {
        gp_client *client;
        bool refused = gp_client_start(it.client, NULL, NULL) == GP_EFORKED &&
                       gp_client_ping(it.client, 1000, NULL, NULL) == GP_EFORKED &&
                       gp_client_kill(it.client, NULL) == GP_EFORKED &&
                       gp_client_kill_all(false, NULL) == GP_EFORKED &&
                       gp_client_endpoint(it.client) == NULL && gp_client_pid(it.client) == -1;

        it.options.log = (gp_log_sink){0};
        refused = refused && gp_client_new(&client, &it.options, NULL) == GP_EFORKED;
        gp_client_free(it.client);
        gp_log_shutdown();
        _exit(refused ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    plugin_ping(&it);
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    plugin_release(&it);
}

static void
every_allocation_may_fail(void **state)
{
    long failing = 0;
    bool failed;

    (void)state;
    gp_log_shutdown();
    do {
        plugin it;

        plugin_prepare(&it, "/bin/sh", "-c",
                       "echo log >&2; echo '1|1|unix|/nonexistent'; exec sleep 1000");
        it.client = NULL;
        alloc_begin(failing++);
        if (gp_client_new(&it.client, &it.options, &it.err) == 0) {
            gp_client_start(it.client, NULL, &it.err);
            assert_int_equal(gp_client_kill(it.client, NULL), 0);
        }
        gp_client_free(it.client);
        gp_error_release(&it.err);
        gp_log_shutdown();
        failed = alloc_failures() > 0;
        alloc_end();
        assert_int_equal(it.rec.released, 1);
        recorder_release(&it.rec);
    } while (failed);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_starts_and_ends_its_plugin),
        cmocka_unit_test(a_plugin_without_controller_is_killed),
        cmocka_unit_test(a_plugin_that_does_not_exit_is_killed),
        cmocka_unit_test(a_dead_plugin_is_noticed),
        cmocka_unit_test(freeing_kills_the_plugin),
        cmocka_unit_test(a_protocol_that_is_not_allowed_is_refused),
        cmocka_unit_test(only_its_own_socket_is_removed),
        cmocka_unit_test(many_threads_start_it_once),
        cmocka_unit_test(a_call_says_how_the_plugin_has_ended),
        cmocka_unit_test(a_failure_is_remembered),
        cmocka_unit_test(a_given_name_begins_messages),
        cmocka_unit_test(a_missing_program_is_reported),
        cmocka_unit_test(a_start_can_be_interrupted),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(a_forked_child_can_do_nothing),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return plugin_main(tests, argc, argv);
}
