/*
 * This program as a plugin, and clients of it, for the tests of plugin/. A test's main() is
 * plugin_main().
 */
#ifndef CLIENT_FIXTURE_H
#define CLIENT_FIXTURE_H

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gp/client.h"
#include "gp/handshake.h"
#include "gp/listen.h"
#include "gp/server.h"
#include "gp/services.h"
#include "support.h"

extern char **environ;

/* ---- This program as a plugin ---------------------------------------------------------------- */

static inline int
no_method(void *ctx, gp_server_call *call, void **data)
{
    (void)ctx;
    (void)call;
    (void)data;
    return -1;
}

static inline void
nothing_to_run(void *ctx, gp_server_call *call, void *data)
{
    (void)ctx;
    (void)call;
    (void)data;
}

static inline void
nothing_to_do(void *ctx)
{
    (void)ctx;
}

/*
 * Serve health and controller on a unix socket. |manner| is "polite", "rude" (no controller), or
 * "deaf": Shutdown stops the server, but not the process.
 */
static inline int
be_plugin(const char *manner)
{
    const gp_server_options options = {
        .handler = {.begin = no_method, .run = nothing_to_run, .release = nothing_to_do},
        .max_workers = 1,
    };
    char line[GP_HANDSHAKE_LINE];
    gp_handshake_fields fields = {1, "unix", NULL, "grpc", NULL, -1};
    gp_server *server;
    gp_place *place;

    alarm(120); /* whatever becomes of the test */
    if (gp_runtime_init() < 0 || gp_place_new(&place, getenv("GP_TEST_SOCKETS"), NULL, NULL) < 0 ||
        gp_server_new(&server, &options, NULL) < 0 ||
        gp_server_add_health(server, "plugin", NULL) < 0 ||
        (strcmp(manner, "rude") != 0 && gp_server_add_controller(server, 0, NULL) < 0)) {
        return 2;
    }
    fields.address = gp_place_path(place);
    if (gp_server_listen(server, gp_place_target(place), NULL, NULL) < 0 ||
        gp_place_publish(place, NULL) < 0 || gp_server_start(server, NULL) < 0 ||
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
    gp_place_release(place);
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

static inline void
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
        .kill_timeout_ms = 2000,
        .log = recorder_sink(&it->rec, false),
    };
}

static inline void
make(plugin *it)
{
    if (gp_client_new(&it->client, &it->options, &it->err) < 0) {
        fail_msg("%s", gp_error_message(&it->err));
    }
}

static inline void
make_plugin(plugin *it, const char *manner)
{
    prepare(it, self, "--plugin", manner);
    make(it);
}

static inline void
make_script(plugin *it, const char *script)
{
    prepare(it, "/bin/sh", "-c", script);
    make(it);
}

static inline void
start(plugin *it)
{
    if (gp_client_start(it->client, NULL, &it->err) < 0) {
        fail_msg("%s", gp_error_message(&it->err));
    }
}

static inline void
done(plugin *it)
{
    gp_client_free(it->client);
    recorder_await_released(&it->rec);
    assert_int_equal(it->rec.released, 1);
    recorder_release(&it->rec);
    gp_error_release(&it->err);
}

static inline void
ping(plugin *it)
{
    if (gp_client_ping(it->client, PATIENCE_MS, NULL, &it->err) < 0) {
        fail_msg("%s", gp_error_message(&it->err));
    }
}

/* Wait for the plugin's end without the client's help. */
static inline void
await_death(plugin *it)
{
    int64_t deadline = patience();

    while (!gp_client_exited(it->client)) {
        assert_true(gp__now() < deadline);
        sched_yield();
    }
}

/* ---- The test program ------------------------------------------------------------------------ */

static inline int
prepare_sockets(void **state)
{
    (void)state;
    return setenv("GP_TEST_SOCKETS", make_directory(), 1);
}

static inline int
finish(void **state)
{
    (void)state;
    gp_log_shutdown();
    remove_directory();
    return 0;
}

/* Be the plugin, or run the tests. */
#define plugin_main(tests, argc, argv)                                        \
    ((argc) == 3 && strcmp((argv)[1], "--plugin") == 0 ? be_plugin((argv)[2]) \
     : readlink("/proc/self/exe", self, sizeof(self) - 1) < 0                 \
         ? 4                                                                  \
         : cmocka_run_group_tests(tests, prepare_sockets, finish))

#endif
