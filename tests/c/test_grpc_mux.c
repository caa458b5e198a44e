#include "gp/lock.h"
#include "grpc_mux_fixture.h"

static void
streams_without_a_request_are_main_connections(void **state)
{
    mux_end ends[2];
    int here;
    int there;

    (void)state;
    mux_pair_open(ends);
    for (int i = 0; i < 2; i++) {
        here = connect_to(gp_grpc_mux_path(ends[0].mux));
        there = await_connection(main_listener);
        expect_text(here, there, "hello");
        expect_text(there, here, "welcome");
        close(here);
        close(there);
    }
    mux_pair_close(ends);
}

static void
each_stream_finds_its_server(void **state)
{
    mux_end ends[2];
    int listeners[2];
    char paths[2][GP__GRPC_MUX_PATH];

    (void)state;
    mux_pair_open(ends);
    for (int i = 0; i < 2; i++) {
        snprintf(paths[i], sizeof(paths[i]), "%s/server-%d", make_directory(), i);
        assert_int_equal(gp__socket_listen(&listeners[i], "unix", paths[i], NULL, NULL), 0);
    }
    for (int from = 0; from < 2; from++) {
        for (uint32_t id = 1; id <= 6; id++) {
            int which = (int)(id % 2);
            gp__grpc_dial *dial;
            int here;
            int there;

            if (id > 3) { /* others are asked for before they are accepted */
                assert_int_equal(gp__grpc_mux_accept(ends[1 - from].mux, id, paths[which], NULL),
                                 0);
            }
            here = dial_either_way(&ends[from], id, &dial);
            if (id <= 3) {
                assert_int_equal(gp__grpc_mux_accept(ends[1 - from].mux, id, paths[which], NULL),
                                 0);
            }
            await_dialled(dial);
            there = await_connection(listeners[which]);
            expect_text(here, there, "question");
            expect_text(there, here, "answer");
            close(here);
            close(there);
            gp__grpc_mux_forget(ends[1 - from].mux, id);
        }
    }
    close(listeners[0]);
    close(listeners[1]);
    mux_pair_close(ends);
}

static void
what_cannot_be_dialled(void **state)
{
    mux_end ends[2];

    (void)state;
    mux_pair_open(ends);
    expect_dial_failure(&ends[0], 10, "the plugin did not accept it within 0.01 s");
    mux_pair_close(ends);

    mux_pair_open(ends);
    ends[0].held_back = true; /* its request does not arrive, but an answer does */
    {
        gp_error err = GP_ERROR_INIT;
        gp__grpc_dial *dial;
        int fd = dial_either_way(&ends[0], 7, &dial);

        await_sent(&ends[0], 1);
        gp__grpc_mux_answered(ends[0].mux, 8, 0, "not that one");
        gp__grpc_mux_answered(ends[0].mux, 7, 0, "no such thing");
        assert_int_equal(gp__grpc_dial_await(dial, "the plugin", PATIENCE_MS, NULL, &err),
                         GP_EBROKER);
        assert_non_null(strstr(gp_error_message(&err), "refused by the plugin: no such thing"));
        gp_error_release(&err);
        close(fd);
    }
    mux_pair_close(ends);
}

static void
the_other_side_goes(void **state)
{
    mux_end ends[2];

    (void)state;
    mux_pair_open(ends);
    gp_grpc_mux_close(ends[1].mux);
    expect_dial_failure(&ends[0], PATIENCE_MS, "");
    mux_pair_stop_messages(ends);
    for (int i = 0; i < 2; i++) {
        gp_grpc_mux_close(ends[i].mux);
        gp_grpc_mux_unref(ends[i].mux);
        gp_mutex_release(&ends[i].lock);
        gp_cond_release(&ends[i].changed);
    }
    remove_directory();
}

static void
nothing_after_the_end(void **state)
{
    gp_error err = GP_ERROR_INIT;
    gp__grpc_dial *dial;
    gp_grpc_mux *mux;
    int fd;

    (void)state;
    assert_int_equal(gp_grpc_mux_new(&mux, make_directory(), NULL), 0);
    gp_grpc_mux_close(mux);
    gp_grpc_mux_close(mux);
    assert_int_equal(gp__grpc_mux_accept(mux, 1, "/nowhere", &err), GP_EBROKER);
    assert_non_null(strstr(gp_error_message(&err), "the connection has ended"));
    gp_error_release(&err);
    assert_true(gp__grpc_dial_start(mux, 1, &dial, NULL) < 0);
    assert_int_equal(gp__grpc_dial_start_pair(mux, 1, &dial, &fd, NULL), GP_ECLOSED);
    gp__grpc_mux_requested(mux, 1, 0);
    gp__grpc_mux_answered(mux, 1, 0, "");
    gp_grpc_mux_unref(mux);
    remove_directory();
}

/* ---- Why it has ended ---- */

typedef struct failures {
    gp_mutex lock;
    gp_cond changed;
    int count;
    char why[200];
} failures;

static void
record_failure(void *ctx, const char *why)
{
    failures *it = ctx;

    gp_mutex_lock(&it->lock);
    it->count++;
    snprintf(it->why, sizeof(it->why), "%s", why);
    gp_cond_broadcast(&it->changed);
    gp_mutex_unlock(&it->lock);
}

/* Connect a host's end, whose failures |it| records. Returns: the plugin's end. */
static int
connect_and_record(gp_grpc_mux **mux, failures *it)
{
    char address[200];
    int listener;
    int fd;

    memset(it, 0, sizeof(*it));
    gp_mutex_init(&it->lock);
    gp_cond_init(&it->changed);
    assert_int_equal(gp_grpc_mux_new(mux, make_directory(), NULL), 0);
    gp__grpc_mux_on_failure(*mux, record_failure, it);
    snprintf(address, sizeof(address), "%s/plugin", make_directory());
    assert_int_equal(gp__socket_listen(&listener, "unix", address, NULL, NULL), 0);
    assert_int_equal(gp_grpc_mux_connect(*mux, "unix", address, PATIENCE_MS, NULL, NULL), 0);
    fd = await_connection(listener);
    close_listener(listener, address);
    return fd;
}

static void
close_and_release(gp_grpc_mux *mux, failures *it)
{
    gp_grpc_mux_close(mux);
    gp_grpc_mux_unref(mux);
    gp_mutex_release(&it->lock);
    gp_cond_release(&it->changed);
    remove_directory();
}

static void
await_end(gp_grpc_mux *mux)
{
    bool over = false;

    while (!over) {
        gp_mutex_lock(&mux->lock);
        over = mux->over;
        gp_mutex_unlock(&mux->lock);
        sched_yield();
    }
}

static void
a_fault_of_the_other_side(void **state)
{
    static const char rubbish[] = "what is this, then?";
    gp_error err = GP_ERROR_INIT;
    gp__grpc_dial *dial;
    gp_grpc_mux *mux;
    failures it;
    int fd;

    (void)state;
    fd = connect_and_record(&mux, &it);
    assert_int_equal(gp_grpc_mux_why(mux, &err), 0);
    assert_int_equal(send(fd, rubbish, sizeof(rubbish), MSG_NOSIGNAL), (ssize_t)sizeof(rubbish));
    gp_mutex_lock(&it.lock);
    while (it.count == 0) {
        assert_int_equal(gp_cond_wait_until(&it.changed, &it.lock, patience()), 0);
    }
    assert_non_null(strstr(it.why, "found 119"));
    gp_mutex_unlock(&it.lock);
    assert_int_equal(gp_grpc_mux_why(mux, &err), GP_EPROTOCOL);
    assert_string_equal(gp_error_message(&err), it.why);
    assert_int_equal(gp__grpc_mux_accept(mux, 1, "/nowhere", &err), GP_EBROKER);
    assert_non_null(strstr(gp_error_message(&err), "has ended: "));
    assert_non_null(strstr(gp_error_message(&err), it.why));
    assert_int_equal(gp__grpc_dial_start(mux, 7, &dial, NULL), 0);
    assert_int_equal(gp__grpc_dial_await(dial, "the plugin", PATIENCE_MS, NULL, &err), GP_EBROKER);
    assert_non_null(strstr(gp_error_message(&err), "the plugin has gone: "));
    assert_non_null(strstr(gp_error_message(&err), it.why));
    gp_error_release(&err);
    close(fd);
    close_and_release(mux, &it);
}

static void
a_plain_end_needs_no_reason(void **state)
{
    gp_error err = GP_ERROR_INIT;
    gp_grpc_mux *mux;
    failures it;

    (void)state;
    close(connect_and_record(&mux, &it));
    await_end(mux);
    assert_int_equal(gp_grpc_mux_why(mux, &err), 0);
    assert_int_equal(it.count, 0);
    assert_int_equal(gp__grpc_mux_accept(mux, 1, "/nowhere", &err), GP_EBROKER);
    assert_non_null(strstr(gp_error_message(&err), "the connection has ended"));
    gp_error_release(&err);
    close_and_release(mux, &it);
}

/* A plugin's reason goes to the log of its host, unless the host does not read it. */
static void
a_line_for_the_log(void **state)
{
    char address[200];
    char line[300] = "";
    gp_grpc_mux *mux;
    int pipes[2];

    (void)state;
    for (int full = 0; full < 2; full++) {
        int fd;

        assert_int_equal(pipe(pipes), 0);
        assert_int_equal(gp_grpc_mux_new(&mux, make_directory(), NULL), 0);
        assert_int_equal(gp_grpc_mux_log_to(mux, -1, NULL), GP_EOS);
        assert_int_equal(gp_grpc_mux_log_to(mux, pipes[1], NULL), 0);
        fcntl(pipes[1], F_SETFL, O_NONBLOCK);
        while (full == 1 && write(pipes[1], "x", 1) == 1) {
        }
        fcntl(pipes[1], F_SETFL, 0);
        snprintf(address, sizeof(address), "%s/plugin", make_directory());
        assert_int_equal(gp_grpc_mux_listen(mux, "unix", address, NULL, NULL), 0);
        fd = connect_to(address);
        assert_int_equal(send(fd, "rubbish rubbish", 15, MSG_NOSIGNAL), 15);
        await_end(mux);
        if (full == 0) {
            assert_true(read(pipes[0], line, sizeof(line) - 1) > 0);
            assert_memory_equal(line, "[WARN] plugin: the connection to the host has ended: ", 53);
            assert_non_null(strstr(line, "found 114"));
            assert_int_equal(line[strlen(line) - 1], '\n');
        }
        close(fd);
        unlink(address);
        close(pipes[0]);
        close(pipes[1]);
        gp_grpc_mux_unref(mux);
    }
    remove_directory();
}

/* ---- Its directory ---- */

static void
where_the_directory_is(void **state)
{
    char base[200];
    gp_error err = GP_ERROR_INIT;
    gp_grpc_mux *mux;

    (void)state;
    assert_int_equal(gp_grpc_mux_new(&mux, make_directory(), NULL), 0);
    assert_memory_equal(gp_grpc_mux_directory(mux), make_directory(), strlen(make_directory()));
    gp_grpc_mux_unref(mux);
    setenv("TMPDIR", "/nowhere/to/be/found", 1);
    assert_int_equal(gp_grpc_mux_new(&mux, NULL, &err), GP_EOS);
    assert_non_null(strstr(gp_error_message(&err), "/nowhere/to/be/found"));
    gp_error_release(&err);
    setenv("PLUGIN_UNIX_SOCKET_DIR", make_directory(), 1);
    assert_int_equal(gp_grpc_mux_new(&mux, NULL, NULL), 0);
    assert_memory_equal(gp_grpc_mux_path(mux), make_directory(), strlen(make_directory()));
    gp_grpc_mux_unref(mux);
    unsetenv("PLUGIN_UNIX_SOCKET_DIR");
    unsetenv("TMPDIR");
    for (int i = 0; i < 2; i++) { /* where gRPC could not connect to */
        snprintf(base, sizeof(base), i == 0 ? "%s/%060d" : "%s/a,%d", make_directory(), 0);
        assert_int_equal(mkdir(base, 0700), 0);
        assert_int_equal(gp_grpc_mux_new(&mux, base, NULL), 0);
        assert_int_equal(rmdir(base), 0); /* nothing is in it */
        assert_memory_equal(gp_grpc_mux_path(mux), "/tmp/plugin-dir", 15);
        assert_memory_equal(gp_grpc_mux_target(mux), "unix:/tmp/plugin-dir", 20);
        assert_int_equal(access(gp_grpc_mux_directory(mux), F_OK), 0);
        snprintf(base, sizeof(base), "%s", gp_grpc_mux_directory(mux));
        gp_grpc_mux_unref(mux);
        assert_int_equal(access(base, F_OK), -1);
    }
    remove_directory();
}

/* ---- Memory ---- */

/* What does not depend on other threads. */
static void
use(void)
{
    char path[GP__GRPC_MUX_PATH] = "/nowhere";
    gp_error err = GP_ERROR_INIT;
    gp__grpc_dial *dial;
    gp_grpc_mux *mux;
    int fd;

    if (gp_grpc_mux_new(&mux, make_directory(), &err) == 0) {
        gp__grpc_mux_requested(mux, 1, 0);
        gp__grpc_mux_accept(mux, 1, path, NULL);
        gp__grpc_mux_accept(mux, 2, path, NULL);
        gp__grpc_mux_requested(mux, 2, 0);
        gp__grpc_mux_forget(mux, 2);
        if (gp__grpc_dial_start(mux, 3, &dial, NULL) == 0) {
            gp__grpc_dial_await(dial, "the plugin", 0, NULL, NULL);
        }
        if (gp__grpc_dial_start_pair(mux, 4, &dial, &fd, NULL) == 0) {
            close(fd);
            gp__grpc_dial_await(dial, "the plugin", 0, NULL, NULL);
        }
        gp_grpc_mux_close(mux);
        gp_grpc_mux_unref(mux);
    }
    gp_error_release(&err);
    gp__reactor_stop();
}

static void
memory_runs_out(void **state)
{
    struct stat status;
    long count;

    (void)state;
    gp__reactor_stop();
    alloc_begin(-1);
    use();
    count = alloc_end();
    for (long i = 0; i < count; i++) {
        alloc_begin(i);
        use();
        alloc_end();
    }
    assert_int_equal(stat(make_directory(), &status), 0);
    assert_int_equal(status.st_nlink, 2); /* and no directory is left */
    remove_directory();
}

/* A connection is closed if there is no memory for it, and the next one is accepted. */
static void
no_memory_for_a_connection(void **state)
{
    gp_error err = GP_ERROR_INIT;
    gp__grpc_dial *dial;
    gp_grpc_mux *mux;
    int fd;

    (void)state;
    /* Nothing else is connected, so that no other thread needs memory meanwhile. */
    assert_int_equal(gp_grpc_mux_new(&mux, make_directory(), NULL), 0);
    assert_int_equal(gp__grpc_dial_start(mux, 7, &dial, NULL), 0);
    alloc_begin(0);
    expect_hang_up(connect_to(gp__grpc_dial_path(dial)));
    assert_int_equal(alloc_failures(), 1);
    alloc_end();
    fd = connect_to(gp__grpc_dial_path(dial));
    assert_int_equal(gp__grpc_dial_await(dial, "the plugin", PATIENCE_MS, NULL, &err), GP_EBROKER);
    assert_non_null(strstr(gp_error_message(&err), "the broker is closed"));
    gp_error_release(&err);
    close(fd);
    gp_grpc_mux_close(mux);
    gp_grpc_mux_unref(mux);
    remove_directory();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_without_a_request_are_main_connections),
        cmocka_unit_test(each_stream_finds_its_server),
        cmocka_unit_test(what_cannot_be_dialled),
        cmocka_unit_test(the_other_side_goes),
        cmocka_unit_test(nothing_after_the_end),
        cmocka_unit_test(a_fault_of_the_other_side),
        cmocka_unit_test(a_plain_end_needs_no_reason),
        cmocka_unit_test(a_line_for_the_log),
        cmocka_unit_test(where_the_directory_is),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(no_memory_for_a_connection),
    };

    return cmocka_run_group_tests(tests, NULL, tear_down_reactor);
}
