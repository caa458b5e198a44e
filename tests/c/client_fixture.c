#include "client_fixture.h"

#include "gp/listen.h"
#include "gp/server.h"
#include "gp/services.h"

char test_program[500];

static const int versions[] = {1};

/* ---- The plugin ---- */

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

int
serve_as_plugin(const char *manner)
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
    fprintf(stderr, "[INFO] stopped\n");
    while (strcmp(manner, "deaf") == 0) {
        pause();
    }
    gp_server_release(server);
    gp_place_release(place);
    return 0;
}

/* ---- The client ---- */

void
plugin_prepare(plugin *it, const char *program, const char *arg1, const char *arg2)
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
        .protocols = GP_PROTOCOL_GRPC,
        .min_port = 10000,
        .max_port = 25000,
        .start_timeout_ms = PATIENCE_MS,
        .kill_timeout_ms = 2000,
        .log = recorder_sink(&it->rec, false),
    };
}

void
plugin_make(plugin *it)
{
    if (gp_client_new(&it->client, &it->options, &it->err) < 0) {
        fail_msg("%s", gp_error_message(&it->err));
    }
}

void
plugin_make_own(plugin *it, const char *manner)
{
    plugin_prepare(it, test_program, "--plugin", manner);
    plugin_make(it);
}

void
plugin_make_script(plugin *it, const char *script)
{
    plugin_prepare(it, "/bin/sh", "-c", script);
    plugin_make(it);
}

void
plugin_start(plugin *it)
{
    if (gp_client_start(it->client, NULL, &it->err) < 0) {
        fail_msg("%s", gp_error_message(&it->err));
    }
}

void
plugin_release(plugin *it)
{
    gp_client_free(it->client);
    recorder_await_released(&it->rec);
    assert_int_equal(it->rec.released, 1);
    recorder_release(&it->rec);
    gp_error_release(&it->err);
}

void
plugin_ping(plugin *it)
{
    if (gp_client_ping(it->client, PATIENCE_MS, NULL, &it->err) < 0) {
        fail_msg("%s", gp_error_message(&it->err));
    }
}

void
plugin_await_exit(plugin *it)
{
    int64_t deadline = patience();

    while (!gp_client_exited(it->client)) {
        assert_true(gp__now() < deadline);
        sched_yield();
    }
}

/* ---- The group of tests ---- */

int
set_up_clients(void **state)
{
    (void)state;
    assert_true(readlink("/proc/self/exe", test_program, sizeof(test_program) - 1) > 0);
    return setenv("GP_TEST_SOCKETS", make_directory(), 1);
}

int
tear_down_clients(void **state)
{
    (void)state;
    gp_log_shutdown();
    remove_directory();
    return 0;
}
