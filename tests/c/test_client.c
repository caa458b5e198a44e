#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gp/client.h"
#include "gp/handshake.h"
#include "gp/listen.h"
#include "gp/server.h"
#include "gp/services.h"
#include "support.h"

extern char **environ;

/* ---- This program as a plugin ---------------------------------------------------------------- */

static int
no_method(void *ctx, gp_server_call *call, void **data)
{
    (void)ctx;
    (void)call;
    (void)data;
    return -1;
}

static void
nothing_to_run(void *ctx, gp_server_call *call, void *data)
{
    (void)ctx;
    (void)call;
    (void)data;
}

static void
nothing_to_do(void *ctx)
{
    (void)ctx;
}

/*
 * Serve health and controller on a unix socket. |manner| is "polite", "rude" (no controller), or
 * "deaf": Shutdown stops the server, but not the process.
 */
static int
be_plugin(const char *manner)
{
    const gp_server_options options = {
        .handler = {no_method, nothing_to_run, nothing_to_do, nothing_to_do},
        .max_workers = 1,
    };
    char path[GP_LISTEN_PATH];
    char target[GP_LISTEN_PATH + 5];
    char line[GP_HANDSHAKE_LINE];
    gp_handshake_fields fields = {1, "unix", path, "grpc", NULL, -1};
    gp_server *server;

    if (gp_runtime_init() < 0 || gp_listen_path(path, getenv("GP_TEST_SOCKETS"), NULL) < 0 ||
        gp_server_new(&server, &options, NULL) < 0 ||
        gp_server_add_health(server, "plugin", NULL) < 0 ||
        (strcmp(manner, "rude") != 0 && gp_server_add_controller(server, 0, NULL) < 0)) {
        return 2;
    }
    snprintf(target, sizeof(target), "unix:%s", path);
    if (gp_server_listen(server, target, NULL, NULL) < 0 || gp_server_start(server, NULL) < 0 ||
        gp_handshake_format(line, sizeof(line), &fields, NULL) < 0) {
        return 3;
    }
    fprintf(stderr, "[INFO] serving\n");
    fputs(line, stdout);
    fflush(stdout);
    gp_server_wait(server, -1, NULL);
    fprintf(stderr, "[INFO] goodbye\n");
    while (strcmp(manner, "deaf") == 0) {
        pause();
    }
    gp_server_release(server);
    return 0;
}

/* ---- A client of it -------------------------------------------------------------------------- */

static const int versions[] = {1};

/* This program. Its path, because /proc/self/exe is another one under valgrind. */
static char self[500];

typedef struct plugin {
    const char *argv[4];
    gp_client_options options;
    gp_client *client;
    recorder rec;
    gp_error err;
} plugin;

static void
prepare(plugin *it, const char *program, const char *arg1, const char *arg2)
{
    *it = (plugin){.argv = {program, arg1, arg2, NULL}, .err = GP_ERROR_INIT};
    recorder_init(&it->rec, GP_TRACE);
    it->options = (gp_client_options){
        .argv = it->argv,
        .env = (const char *const *)environ,
        .cookie_key = "COOKIE",
        .cookie_value = "chocolate",
        .versions = versions,
        .versions_count = 1,
        .protocols = GP_PROTOCOL_GRPC | GP_PROTOCOL_NETRPC,
        .min_port = 10000,
        .max_port = 25000,
        .start_timeout_ms = PATIENCE_MS,
        .log = recorder_sink(&it->rec, false),
    };
}

static void
make(plugin *it)
{
    if (gp_client_new(&it->client, &it->options, &it->err) < 0) {
        fail_msg("%s", gp_error_message(&it->err));
    }
}

static void
make_plugin(plugin *it, const char *manner)
{
    prepare(it, self, "--plugin", manner);
    make(it);
}

static void
make_script(plugin *it, const char *script)
{
    prepare(it, "/bin/sh", "-c", script);
    make(it);
}

static void
start(plugin *it)
{
    if (gp_client_start(it->client, NULL, &it->err) < 0) {
        fail_msg("%s", gp_error_message(&it->err));
    }
}

static void
done(plugin *it)
{
    gp_client_free(it->client);
    recorder_await_released(&it->rec);
    assert_int_equal(it->rec.released, 1);
    recorder_release(&it->rec);
    gp_error_release(&it->err);
}

static void
ping(plugin *it)
{
    if (gp_client_ping(it->client, PATIENCE_MS, NULL, &it->err) < 0) {
        fail_msg("%s", gp_error_message(&it->err));
    }
}

/* Wait for the plugin's end without the client's help. */
static void
await_death(plugin *it)
{
    int64_t deadline = patience();

    while (!gp_client_exited(it->client)) {
        assert_true(gp__now() < deadline);
        sched_yield();
    }
}

/* ---- Life ---- */

static void
a_life(void **state)
{
    const gp_endpoint *endpoint;
    struct stat file;
    plugin it;

    (void)state;
    make_plugin(&it, "polite");
    assert_null(gp_client_endpoint(it.client));
    assert_null(gp_client_channel(it.client));
    assert_false(gp_client_exited(it.client));
    assert_int_equal(gp_client_pid(it.client), -1);
    assert_int_equal(gp_client_exit_status(it.client), GP_STATUS_UNKNOWN);
    assert_int_equal(gp_client_ping(it.client, 1000, NULL, &it.err), GP_ECLOSED);
    start(&it);
    start(&it);
    endpoint = gp_client_endpoint(it.client);
    assert_string_equal(endpoint->network, "unix");
    assert_int_equal(endpoint->version, 1);
    assert_int_equal(stat(endpoint->address, &file), 0);
    assert_true(gp_client_pid(it.client) > 0);
    assert_non_null(gp_client_channel(it.client));
    assert_false(gp_client_exited(it.client));
    ping(&it);
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    assert_true(gp_client_exited(it.client));
    assert_int_equal(gp_client_exit_status(it.client), 0);
    assert_true(recorder_has(&it.rec, GP_INFO, "[INFO] goodbye"));
    assert_int_equal(stat(endpoint->address, &file), -1);
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    assert_int_equal(gp_client_ping(it.client, 1000, NULL, &it.err), GP_ECLOSED);
    assert_int_equal(gp_client_start(it.client, NULL, &it.err), GP_ECLOSED);
    done(&it);
}

static void
a_plugin_without_controller(void **state)
{
    struct stat file;
    plugin it;

    (void)state;
    make_plugin(&it, "rude");
    start(&it);
    ping(&it);
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    assert_int_equal(gp_client_exit_status(it.client), -SIGKILL);
    assert_int_equal(stat(gp_client_endpoint(it.client)->address, &file), -1);
    done(&it);
}

static void
a_plugin_that_will_not_go(void **state)
{
    plugin it;

    (void)state;
    make_plugin(&it, "deaf");
    start(&it);
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    assert_true(gp_client_exited(it.client));
    assert_int_equal(gp_client_exit_status(it.client), -SIGKILL);
    assert_true(recorder_has(&it.rec, GP_INFO, "[INFO] goodbye"));
    done(&it);
}

static void
a_plugin_that_dies(void **state)
{
    plugin it;

    (void)state;
    for (int i = 0; i < 20; i++) {
        make_plugin(&it, "polite");
        start(&it);
        ping(&it);
        kill(gp_client_pid(it.client), SIGKILL);
        /* The call fails, and by then the client knows why. */
        while (gp_client_ping(it.client, PATIENCE_MS, NULL, &it.err) == 0) {
        }
        assert_true(gp_client_exited(it.client));
        assert_int_equal(gp_client_exit_status(it.client), -SIGKILL);
        assert_int_equal(gp_client_ping(it.client, PATIENCE_MS, NULL, &it.err), GP_ERPC);
        assert_non_null(strstr(gp_error_message(&it.err), "killed by signal 9"));
        assert_int_equal(gp_client_start(it.client, NULL, &it.err), 0);
        assert_int_equal(gp_client_kill(it.client, NULL), 0);
        done(&it);
    }
}

static void
freed_while_it_runs(void **state)
{
    plugin it;
    int pid;

    (void)state;
    make_plugin(&it, "polite");
    start(&it);
    pid = gp_client_pid(it.client);
    done(&it);
    assert_int_equal(kill(pid, 0), -1);
    make_plugin(&it, "polite");
    done(&it);
}

static void
netrpc_has_no_channel(void **state)
{
    plugin it;

    (void)state;
    make_script(&it, "echo '1|1|unix|/nonexistent'; exec sleep 1000");
    start(&it);
    assert_string_equal(gp_client_endpoint(it.client)->protocol, "netrpc");
    assert_null(gp_client_channel(it.client));
    assert_int_equal(gp_client_ping(it.client, 1000, NULL, &it.err), GP_ERPC);
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    assert_int_equal(gp_client_exit_status(it.client), -SIGKILL);
    done(&it);
}

static void
only_its_own_socket_is_removed(void **state)
{
    const char *file = make_file("precious", "", 0600);
    char script[300];
    plugin it;

    (void)state;
    snprintf(script, sizeof(script), "echo '1|1|unix|%s'; exec sleep 1000", file);
    make_script(&it, script);
    start(&it);
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    assert_int_equal(access(file, F_OK), 0);
    done(&it);
}

/* ---- Failures ---- */

static void
a_failure_is_remembered(void **state)
{
    plugin it;

    (void)state;
    make_script(&it, "echo why >&2; exit 5");
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
    done(&it);
}

static void
a_program_that_is_not_there(void **state)
{
    plugin it;

    (void)state;
    prepare(&it, "/nonexistent/kv-plugin", NULL, NULL);
    make(&it);
    assert_int_equal(gp_client_start(it.client, NULL, &it.err), GP_ESTART);
    assert_int_equal(strncmp(gp_error_message(&it.err), "kv-plugin: cannot start", 23), 0);
    assert_false(gp_client_exited(it.client));
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    done(&it);
}

static void
an_interrupted_start(void **state)
{
    plugin it;

    (void)state;
    make_script(&it, "exec sleep 1000");
    assert_int_equal(gp_client_start(it.client, &interrupt_now, &it.err), GP_EUSER);
    assert_true(gp_client_exited(it.client));
    assert_int_equal(gp_client_start(it.client, NULL, &it.err), GP_ECLOSED);
    assert_non_null(strstr(gp_error_message(&it.err), "interrupted"));
    done(&it);
}

static void
options_that_make_no_sense(void **state)
{
    static const char *const none[] = {NULL};
    plugin it;

    (void)state;
    prepare(&it, "/bin/true", NULL, NULL);
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
    assert_int_equal(it.rec.released, 7); /* taken over each time */
    recorder_release(&it.rec);
    gp_error_release(&it.err);
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
    make_plugin(&it, "polite");
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, start_it, &it), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
    }
    ping(&it);
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    assert_int_equal(it.rec.count, 2); /* one process served and said goodbye */
    done(&it);
}

static void *
kill_it(void *arg)
{
    plugin *it = arg;

    assert_int_equal(gp_client_kill(it->client, NULL), 0);
    assert_true(gp_client_exited(it->client));
    return NULL;
}

static void
many_threads_kill_it(void **state)
{
    pthread_t threads[8];
    plugin it;

    (void)state;
    make_plugin(&it, "polite");
    start(&it);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, kill_it, &it), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(gp_client_exit_status(it.client), 0);
    done(&it);
}

typedef struct attempt {
    plugin *it;
    int rc;
} attempt;

static void *
try_to_start(void *arg)
{
    attempt *one = arg;

    one->rc = gp_client_start(one->it->client, NULL, &one->it->err);
    return NULL;
}

static void
killed_while_it_starts(void **state)
{
    pthread_t thread;
    attempt one;
    plugin it;

    (void)state;
    make_script(&it, "echo started >&2; exec sleep 1000");
    one.it = &it;
    assert_int_equal(pthread_create(&thread, NULL, try_to_start, &one), 0);
    recorder_await_count(&it.rec, 1);
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    pthread_join(thread, NULL);
    assert_int_equal(one.rc, GP_ECLOSED);
    assert_true(gp_client_exited(it.client));
    assert_int_equal(gp_client_start(it.client, NULL, &it.err), GP_ECLOSED);
    done(&it);
}

static void
killed_at_any_moment(void **state)
{
    (void)state;
    for (int i = 0; i < 30; i++) {
        pthread_t starter;
        attempt one;
        plugin it;

        make_plugin(&it, "polite");
        one.it = &it;
        assert_int_equal(pthread_create(&starter, NULL, try_to_start, &one), 0);
        for (int spin = 0; spin < i * 1000; spin++) {
            sched_yield();
        }
        assert_int_equal(gp_client_kill(it.client, NULL), 0);
        pthread_join(starter, NULL);
        assert_true(one.rc == 0 || one.rc == GP_ECLOSED);
        done(&it);
    }
}

static void
killed_before_it_starts(void **state)
{
    plugin it;

    (void)state;
    make_plugin(&it, "polite");
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    assert_false(gp_client_exited(it.client));
    assert_int_equal(gp_client_start(it.client, NULL, &it.err), GP_ECLOSED);
    assert_int_equal(it.rec.count, 0);
    done(&it);
}

static void
an_interrupt_cuts_the_patience(void **state)
{
    plugin it;

    (void)state;
    make_plugin(&it, "deaf");
    start(&it);
    assert_int_equal(gp_client_kill(it.client, &interrupt_now), GP_EUSER);
    assert_true(gp_client_exited(it.client));
    assert_int_equal(gp_client_exit_status(it.client), -SIGKILL);
    done(&it);
}

/* A log handler that kills the plugin it hears from. */
typedef struct suicide {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    gp_client *client;
    bool killed;
} suicide;

static int
kill_from_deliver(void *ctx, const gp_log_batch *batch)
{
    suicide *it = ctx;

    (void)batch;
    pthread_mutex_lock(&it->lock);
    while (it->client == NULL) {
        pthread_cond_wait(&it->changed, &it->lock);
    }
    pthread_mutex_unlock(&it->lock);
    assert_int_equal(gp_client_kill(it->client, NULL), 0);
    pthread_mutex_lock(&it->lock);
    it->killed = true;
    pthread_cond_broadcast(&it->changed);
    pthread_mutex_unlock(&it->lock);
    return GP_TRACE;
}

static void
killed_from_its_log(void **state)
{
    suicide ctx = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, false};
    plugin it;

    (void)state;
    prepare(&it, self, "--plugin", "polite");
    it.options.log = (gp_log_sink){kill_from_deliver, NULL, &ctx, false, GP_TRACE};
    make(&it);
    start(&it);
    pthread_mutex_lock(&ctx.lock);
    ctx.client = it.client;
    pthread_cond_broadcast(&ctx.changed);
    while (!ctx.killed) {
        pthread_cond_wait(&ctx.changed, &ctx.lock);
    }
    pthread_mutex_unlock(&ctx.lock);
    assert_true(gp_client_exited(it.client));
    gp_client_free(it.client);
    gp_log_shutdown();
    recorder_release(&it.rec);
    gp_error_release(&it.err);
}

/* ---- Joining ---- */

static void
make_joined(plugin *it, const plugin *running, bool with_pid, bool test)
{
    const gp_endpoint *endpoint = gp_client_endpoint(running->client);

    prepare(it, NULL, NULL, NULL);
    it->options.argv = NULL;
    it->options.reattach_network = endpoint->network;
    it->options.reattach_address = endpoint->address;
    it->options.reattach_protocol = endpoint->protocol;
    it->options.reattach_version = endpoint->version;
    it->options.reattach_pid = with_pid ? gp_client_pid(running->client) : -1;
    it->options.reattach_test = test;
    make(it);
}

static void
joined_and_killed(void **state)
{
    plugin first;
    plugin second;

    (void)state;
    for (int with_pid = 0; with_pid < 2; with_pid++) {
        make_plugin(&first, "polite");
        start(&first);
        make_joined(&second, &first, with_pid, false);
        assert_false(gp_client_exited(second.client));
        start(&second);
        assert_string_equal(gp_client_endpoint(second.client)->address,
                            gp_client_endpoint(first.client)->address);
        assert_int_equal(gp_client_pid(second.client), with_pid ? gp_client_pid(first.client) : -1);
        ping(&second);
        assert_false(gp_client_exited(second.client));
        assert_int_equal(gp_client_kill(second.client, NULL), 0);
        assert_true(gp_client_exited(second.client));
        await_death(&first);
        assert_int_equal(gp_client_exit_status(first.client), 0);
        done(&second);
        done(&first);
    }
}

static void
joined_for_a_test(void **state)
{
    plugin first;
    plugin second;

    (void)state;
    make_plugin(&first, "polite");
    start(&first);
    make_joined(&second, &first, true, true);
    start(&second);
    ping(&second);
    assert_int_equal(gp_client_kill(second.client, NULL), 0);
    done(&second);
    ping(&first);
    assert_false(gp_client_exited(first.client));
    /* Freeing lets go of what was joined, too. */
    make_joined(&second, &first, true, false);
    start(&second);
    done(&second);
    ping(&first);
    assert_int_equal(gp_client_kill(first.client, NULL), 0);
    done(&first);
}

static void
the_joined_plugin_dies(void **state)
{
    plugin first;
    plugin second;

    (void)state;
    for (int with_pid = 0; with_pid < 2; with_pid++) {
        make_plugin(&first, "polite");
        start(&first);
        make_joined(&second, &first, with_pid, false);
        start(&second);
        ping(&second);
        assert_int_equal(gp_client_kill(first.client, NULL), 0);
        await_death(&second);
        assert_int_equal(gp_client_exit_status(second.client), GP_STATUS_UNKNOWN);
        assert_int_equal(gp_client_kill(second.client, NULL), 0);
        done(&second);
        done(&first);
    }
}

static void
joining_nobody(void **state)
{
    plugin first;
    plugin second;

    (void)state;
    make_plugin(&first, "polite");
    start(&first);
    for (int with_pid = 0; with_pid < 2; with_pid++) {
        make_joined(&second, &first, with_pid, false);
        assert_int_equal(gp_client_kill(first.client, NULL), 0);
        assert_int_equal(gp_client_start(second.client, NULL, &second.err), GP_EREATTACH);
        assert_non_null(strstr(gp_error_message(&second.err), "process not found"));
        assert_false(gp_client_exited(second.client));
        assert_int_equal(gp_client_kill(second.client, NULL), 0);
        done(&second);
    }
    done(&first);
}

/* ---- All of them ---- */

static void
all_are_killed(void **state)
{
    enum { PLUGINS = 6 };
    plugin them[PLUGINS];

    (void)state;
    for (int i = 0; i < PLUGINS; i++) {
        prepare(&them[i], self, "--plugin", i == 0 ? "rude" : "polite");
        them[i].options.managed = i < 3;
        make(&them[i]);
        if (i != 5) {
            start(&them[i]);
        }
    }
    assert_int_equal(gp_client_kill_all(true, NULL), 0);
    for (int i = 0; i < PLUGINS; i++) {
        assert_int_equal(gp_client_exited(them[i].client), i < 3);
    }
    assert_int_equal(gp_client_kill_all(true, NULL), 0);
    assert_int_equal(gp_client_kill_all(false, NULL), 0);
    for (int i = 0; i < PLUGINS; i++) {
        assert_int_equal(gp_client_exited(them[i].client), i != 5);
    }
    start(&them[5]); /* it was not started, so it was not killed */
    for (int i = 0; i < PLUGINS; i++) {
        done(&them[i]);
    }
}

static void
all_are_killed_in_a_hurry(void **state)
{
    plugin them[3];

    (void)state;
    for (int i = 0; i < 3; i++) {
        make_plugin(&them[i], "deaf");
        start(&them[i]);
    }
    assert_int_equal(gp_client_kill_all(false, &interrupt_now), GP_EUSER);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(gp_client_exit_status(them[i].client), -SIGKILL);
        done(&them[i]);
    }
}

static void
nothing_in_a_forked_child(void **state)
{
    plugin it;
    int status;
    pid_t pid;

    (void)state;
    if (under_valgrind()) {
        skip(); /* for it the child leaks all that is the parent's */
    }
    make_plugin(&it, "polite");
    start(&it);
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
    ping(&it);
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    done(&it);
}

static void
every_allocation_fails(void **state)
{
    long failing = 0;
    bool failed;

    (void)state;
    gp_log_shutdown();
    do {
        plugin it;

        prepare(&it, "/bin/sh", "-c",
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

static int
prepare_sockets(void **state)
{
    (void)state;
    return setenv("GP_TEST_SOCKETS", make_directory(), 1);
}

static int
finish(void **state)
{
    (void)state;
    gp_client_kill_all(false, NULL);
    gp_log_shutdown();
    remove_directory();
    return 0;
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_life),
        cmocka_unit_test(a_plugin_without_controller),
        cmocka_unit_test(a_plugin_that_will_not_go),
        cmocka_unit_test(a_plugin_that_dies),
        cmocka_unit_test(freed_while_it_runs),
        cmocka_unit_test(netrpc_has_no_channel),
        cmocka_unit_test(only_its_own_socket_is_removed),
        cmocka_unit_test(a_failure_is_remembered),
        cmocka_unit_test(a_program_that_is_not_there),
        cmocka_unit_test(an_interrupted_start),
        cmocka_unit_test(options_that_make_no_sense),
        cmocka_unit_test(many_threads_start_it_once),
        cmocka_unit_test(many_threads_kill_it),
        cmocka_unit_test(killed_while_it_starts),
        cmocka_unit_test(killed_at_any_moment),
        cmocka_unit_test(killed_before_it_starts),
        cmocka_unit_test(an_interrupt_cuts_the_patience),
        cmocka_unit_test(killed_from_its_log),
        cmocka_unit_test(joined_and_killed),
        cmocka_unit_test(joined_for_a_test),
        cmocka_unit_test(the_joined_plugin_dies),
        cmocka_unit_test(joining_nobody),
        cmocka_unit_test(all_are_killed),
        cmocka_unit_test(all_are_killed_in_a_hurry),
        cmocka_unit_test(nothing_in_a_forked_child),
        cmocka_unit_test(every_allocation_fails),
    };

    if (argc == 3 && strcmp(argv[1], "--plugin") == 0) {
        return be_plugin(argv[2]);
    }
    if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0) {
        return 4;
    }
    return cmocka_run_group_tests(tests, prepare_sockets, finish);
}
