#include <signal.h>

#include "client_fixture.h"

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
    bool killed;

    (void)batch;
    pthread_mutex_lock(&it->lock);
    while (it->client == NULL) {
        pthread_cond_wait(&it->changed, &it->lock);
    }
    killed = it->killed; /* then the client may have been freed, and these are its last words */
    pthread_mutex_unlock(&it->lock);
    if (!killed) {
        assert_int_equal(gp_client_kill(it->client, NULL), 0);
    }
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

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_threads_kill_it),           cmocka_unit_test(killed_while_it_starts),
        cmocka_unit_test(killed_at_any_moment),           cmocka_unit_test(killed_before_it_starts),
        cmocka_unit_test(an_interrupt_cuts_the_patience), cmocka_unit_test(killed_from_its_log),
    };

    return plugin_main(tests, argc, argv);
}
