#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include "base/thread.h"
#include "client_fixture.h"
#include "gp/call.h"
#include "gp/lock.h"

static void *
kill_it(void *arg)
{
    plugin *it = arg;

    assert_int_equal(gp_client_kill(it->client, NULL), 0);
    assert_true(gp_client_exited(it->client));
    return NULL;
}

static void
many_threads_can_kill_a_plugin(void **state)
{
    pthread_t threads[8];
    plugin it;

    (void)state;
    plugin_make_own(&it, "polite");
    plugin_start(&it);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, kill_it, &it), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(gp_client_exit_status(it.client), 0);
    plugin_release(&it);
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
a_plugin_is_killed_while_it_starts(void **state)
{
    pthread_t thread;
    attempt one;
    plugin it;

    (void)state;
    plugin_make_script(&it, "echo started >&2; exec sleep 1000");
    one.it = &it;
    assert_int_equal(pthread_create(&thread, NULL, try_to_start, &one), 0);
    recorder_await_count(&it.rec, 1);
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    pthread_join(thread, NULL);
    assert_int_equal(one.rc, GP_ECLOSED);
    assert_true(gp_client_exited(it.client));
    assert_int_equal(gp_client_start(it.client, NULL, &it.err), GP_ECLOSED);
    plugin_release(&it);
}

static void
a_plugin_can_be_killed_at_any_moment(void **state)
{
    (void)state;
    for (int i = 0; i < 30; i++) {
        pthread_t starter;
        attempt one;
        plugin it;

        plugin_make_own(&it, "polite");
        one.it = &it;
        assert_int_equal(pthread_create(&starter, NULL, try_to_start, &one), 0);
        for (int64_t moment = gp__now() + i * GP__MS; gp__now() < moment;) {
            sched_yield();
        }
        assert_int_equal(gp_client_kill(it.client, NULL), 0);
        pthread_join(starter, NULL);
        assert_true(one.rc == 0 || one.rc == GP_ECLOSED);
        plugin_release(&it);
    }
}

static void
a_killed_client_cannot_start(void **state)
{
    plugin it;

    (void)state;
    plugin_make_own(&it, "polite");
    assert_int_equal(gp_client_kill(it.client, NULL), 0);
    assert_false(gp_client_exited(it.client));
    assert_int_equal(gp_client_start(it.client, NULL, &it.err), GP_ECLOSED);
    assert_int_equal(it.rec.count, 0);
    plugin_release(&it);
}

static void
an_interrupt_kills_at_once(void **state)
{
    plugin it;

    (void)state;
    plugin_make_own(&it, "deaf");
    plugin_start(&it);
    assert_int_equal(gp_client_kill(it.client, &interrupt_now), GP_EUSER);
    assert_true(gp_client_exited(it.client));
    assert_int_equal(gp_client_exit_status(it.client), -SIGKILL);
    plugin_release(&it);
}

/* Blocks the polling thread, so that no call ends any more. */
typedef struct obstacle {
    gp_mutex lock;
    gp_cond changed;
    bool there;
    bool gone;
    bool passed; /* the polling thread does not use the obstacle any more */
} obstacle;

static void
obstruct(void *ctx)
{
    obstacle *at = ctx;

    gp_mutex_lock(&at->lock);
    at->there = true;
    gp_cond_broadcast(&at->changed);
    while (!at->gone) {
        gp_cond_wait(&at->changed, &at->lock);
    }
    at->passed = true;
    gp_cond_broadcast(&at->changed);
    gp_mutex_unlock(&at->lock);
}

static void
the_deadline_holds_while_the_polling_thread_is_blocked(void **state)
{
    obstacle at = {GP_MUTEX_INIT, GP_COND_INIT, false, false, false};
    const gp_call_options options = {.method = {"/t/Nothing", 10}, .timeout_ns = -1};
    pthread_t thread;
    gp_call *call;
    plugin it;

    (void)state;
    plugin_make_own(&it, "deaf");
    plugin_start(&it);
    assert_int_equal(gp_call_start_unary(&call, gp_client_channel(it.client), &options,
                                         (gp_bytes){"", 0}, &it.err),
                     0);
    gp_call_on_done(call, obstruct, &at);
    gp_mutex_lock(&at.lock);
    while (!at.there) {
        gp_cond_wait(&at.changed, &at.lock);
    }
    gp_mutex_unlock(&at.lock);
    assert_int_equal(pthread_create(&thread, NULL, kill_it, &it), 0);
    plugin_await_exit(&it);
    gp_mutex_lock(&at.lock);
    at.gone = true;
    gp_cond_broadcast(&at.changed);
    while (!at.passed) {
        gp_cond_wait(&at.changed, &at.lock);
    }
    gp_mutex_unlock(&at.lock);
    pthread_join(thread, NULL);
    assert_int_equal(gp_client_exit_status(it.client), -SIGKILL);
    gp_call_unref(call);
    plugin_release(&it);
}

/* A signal handler of the host's, on the thread that starts or kills. */
typedef struct handler {
    plugin *it;
    bool all;
    const char *gate; /* the plugin reads from this pipe, prints its line, and writes; NULL: none */
    int starts;       /* what another gp_client_start() returned */
    int calls;
} handler;

static void
pass(const char *gate)
{
    char byte;
    int fd = open(gate, O_WRONLY);

    assert_int_equal(write(fd, "\n", 1), 1);
    close(fd);
    fd = open(gate, O_RDONLY);
    assert_int_equal(read(fd, &byte, 1), 1);
    close(fd);
}

static int
handle(void *ctx)
{
    handler *at = ctx;
    gp_error err = GP_ERROR_INIT;

    if (at->calls == 0 && at->gate != NULL) {
        pass(at->gate);
    }
    if (at->calls++ == 0) {
        if (at->all) {
            assert_int_equal(gp_client_kill_all(false, NULL), 0);
        } else {
            assert_int_equal(gp_client_kill(at->it->client, NULL), 0);
        }
        at->starts = gp_client_start(at->it->client, NULL, &err);
        gp_error_release(&err);
    }
    return 0;
}

static void
a_signal_handler_can_kill_during_the_start(void **state)
{
    (void)state;
    for (int all = 0; all < 2; all++) {
        plugin it;
        handler ctx = {.it = &it, .all = all == 1};
        const gp_interrupt interrupt = {.check = handle, .ctx = &ctx};

        plugin_make_script(&it, "exec sleep 1000");
        assert_int_equal(gp_client_start(it.client, &interrupt, &it.err), GP_ECLOSED);
        assert_true(ctx.calls > 0);
        assert_int_equal(ctx.starts, GP_ECLOSED);
        assert_true(gp_client_exited(it.client));
        plugin_release(&it);
    }
}

/* The handler is called when the line has come, and before it is read. */
static void
a_signal_handler_can_kill_when_the_handshake_has_come(void **state)
{
    char gate[200];
    char script[600];

    (void)state;
    snprintf(gate, sizeof(gate), "%s/gate", make_directory());
    snprintf(script, sizeof(script),
             "read word < %s; echo '1|1|unix|/nonexistent/socket|grpc'; echo > %s; exec sleep 1000",
             gate, gate);
    assert_int_equal(mkfifo(gate, 0600), 0);
    for (int all = 0; all < 2; all++) {
        plugin it;
        handler ctx = {.it = &it, .all = all == 1, .gate = gate};
        const gp_interrupt interrupt = {.check = handle, .ctx = &ctx};

        plugin_make_script(&it, script);
        assert_int_equal(gp_client_start(it.client, &interrupt, &it.err), GP_ECLOSED);
        assert_true(ctx.calls > 0);
        assert_true(gp_client_exited(it.client));
        assert_int_equal(gp_client_exit_status(it.client), -SIGKILL);
        plugin_release(&it);
    }
    unlink(gate);
}

static void
a_signal_handler_can_kill_during_the_kill(void **state)
{
    (void)state;
    for (int all = 0; all < 2; all++) {
        plugin it;
        handler ctx = {.it = &it, .all = all == 1};
        const gp_interrupt interrupt = {.check = handle, .ctx = &ctx};

        plugin_make_own(&it, "deaf");
        plugin_start(&it);
        assert_int_equal(gp_client_kill(it.client, &interrupt), 0);
        assert_true(ctx.calls > 0);
        assert_true(gp_client_exited(it.client));
        plugin_release(&it);
    }
}

/* A log sink that kills its plugin. */
typedef struct killing_sink {
    gp_mutex lock;
    gp_cond changed;
    gp_client *client;
    bool killed;
} killing_sink;

static int
kill_from_deliver(void *ctx, const gp_log_batch *batch)
{
    killing_sink *it = ctx;
    bool killed;

    (void)batch;
    gp_mutex_lock(&it->lock);
    while (it->client == NULL) {
        gp_cond_wait(&it->changed, &it->lock);
    }
    killed = it->killed; /* then the client may have been freed, and this is the rest of its log */
    gp_mutex_unlock(&it->lock);
    if (!killed) {
        assert_int_equal(gp_client_kill(it->client, NULL), 0);
    }
    gp_mutex_lock(&it->lock);
    it->killed = true;
    gp_cond_broadcast(&it->changed);
    gp_mutex_unlock(&it->lock);
    return GP_TRACE;
}

static void
a_log_sink_can_kill_its_plugin(void **state)
{
    killing_sink ctx = {GP_MUTEX_INIT, GP_COND_INIT, NULL, false};
    plugin it;

    (void)state;
    plugin_prepare(&it, test_program, "--plugin", "polite");
    it.options.log = (gp_log_sink){kill_from_deliver, NULL, &ctx, false, GP_TRACE};
    plugin_make(&it);
    plugin_start(&it);
    gp_mutex_lock(&ctx.lock);
    ctx.client = it.client;
    gp_cond_broadcast(&ctx.changed);
    while (!ctx.killed) {
        gp_cond_wait(&ctx.changed, &ctx.lock);
    }
    gp_mutex_unlock(&ctx.lock);
    assert_true(gp_client_exited(it.client));
    gp_client_free(it.client);
    gp_log_shutdown();
    recorder_release(&it.rec);
    gp_error_release(&it.err);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_threads_can_kill_a_plugin),
        cmocka_unit_test(a_plugin_is_killed_while_it_starts),
        cmocka_unit_test(a_plugin_can_be_killed_at_any_moment),
        cmocka_unit_test(a_killed_client_cannot_start),
        cmocka_unit_test(an_interrupt_kills_at_once),
        cmocka_unit_test(the_deadline_holds_while_the_polling_thread_is_blocked),
        cmocka_unit_test(a_log_sink_can_kill_its_plugin),
        cmocka_unit_test(a_signal_handler_can_kill_during_the_start),
        cmocka_unit_test(a_signal_handler_can_kill_when_the_handshake_has_come),
        cmocka_unit_test(a_signal_handler_can_kill_during_the_kill),
    };

    return plugin_main(tests, argc, argv);
}
