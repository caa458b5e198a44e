#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gp/lock.h"
#include "os/fd.h"
#include "os/reactor.h"
#include "support.h"

/* A watched pipe, whose callback reads and counts. Guarded by |lock|, except for the pipe. */
typedef struct watched {
    int ends[2];
    gp__watch *watch;
    gp_mutex lock;
    gp_cond changed;
    size_t bytes;
    size_t calls;
    bool ended;
    bool remove_itself;
    bool blocked;
    bool in_callback;
} watched;

static void
on_ready(void *ctx)
{
    watched *it = ctx;
    char chunk[64];
    ssize_t got = read(it->ends[0], chunk, sizeof(chunk));

    assert_true(gp__reactor_current());
    gp_mutex_lock(&it->lock);
    it->calls++;
    it->bytes += got > 0 ? (size_t)got : 0;
    if (got == 0) {
        it->ended = true;
        gp__reactor_enable(it->watch, false);
    }
    it->in_callback = true;
    gp_cond_broadcast(&it->changed);
    while (it->blocked) {
        gp_cond_wait(&it->changed, &it->lock);
    }
    it->in_callback = false;
    if (it->remove_itself) {
        gp__reactor_remove(it->watch);
        it->watch = NULL;
    }
    gp_cond_broadcast(&it->changed);
    gp_mutex_unlock(&it->lock);
}

static void
watched_init(watched *it)
{
    memset(it, 0, sizeof(*it));
    gp_mutex_init(&it->lock);
    gp_cond_init(&it->changed);
    assert_int_equal(gp__fd_pipe(it->ends, NULL), 0);
    gp__fd_set_nonblocking(it->ends[0]);
    gp_mutex_lock(&it->lock);
    assert_int_equal(gp__reactor_add(&it->watch, it->ends[0], on_ready, it, NULL), 0);
    gp_mutex_unlock(&it->lock);
}

static void
watched_release(watched *it)
{
    gp__reactor_remove(it->watch);
    gp__fd_close(&it->ends[0]);
    gp__fd_close(&it->ends[1]);
    gp_cond_release(&it->changed);
    gp_mutex_release(&it->lock);
}

static void
await_bytes(watched *it, size_t bytes)
{
    int64_t deadline = patience();

    gp_mutex_lock(&it->lock);
    while (it->bytes < bytes) {
        assert_int_equal(gp_cond_wait_until(&it->changed, &it->lock, deadline), 0);
    }
    gp_mutex_unlock(&it->lock);
}

static void
await_flag(watched *it, const bool *flag)
{
    int64_t deadline = patience();

    gp_mutex_lock(&it->lock);
    while (!*flag) {
        assert_int_equal(gp_cond_wait_until(&it->changed, &it->lock, deadline), 0);
    }
    gp_mutex_unlock(&it->lock);
}

static void
write_text(watched *it, const char *text)
{
    assert_int_equal(write(it->ends[1], text, strlen(text)), (ssize_t)strlen(text));
}

static void
data_and_the_end_are_noticed(void **state)
{
    watched one;
    watched two;

    (void)state;
    watched_init(&one);
    watched_init(&two);
    write_text(&one, "abc");
    await_bytes(&one, 3);
    write_text(&two, "x");
    await_bytes(&two, 1);
    gp_mutex_lock(&one.lock);
    assert_int_equal(one.bytes, 3);
    gp_mutex_unlock(&one.lock);
    gp__fd_close(&one.ends[1]);
    await_flag(&one, &one.ended);
    watched_release(&one);
    watched_release(&two);
}

static void
a_disabled_watch_is_not_called(void **state)
{
    watched one;
    watched other;

    (void)state;
    watched_init(&one);
    watched_init(&other);
    gp__reactor_enable(one.watch, false);
    gp__reactor_enable(one.watch, false);
    write_text(&one, "abc");
    gp__fd_close(&one.ends[1]);
    /* The callback of the other one runs, and that of the disabled one does not. */
    write_text(&other, "x");
    await_bytes(&other, 1);
    assert_int_equal(one.calls, 0);
    gp__reactor_enable(one.watch, true);
    await_bytes(&one, 3);
    watched_release(&one);
    watched_release(&other);
}

static void
a_callback_may_remove_its_watch(void **state)
{
    watched one;
    watched other;

    (void)state;
    watched_init(&one);
    watched_init(&other);
    one.remove_itself = true;
    write_text(&one, "a");
    await_bytes(&one, 1);
    write_text(&one, "b");
    write_text(&other, "x");
    await_bytes(&other, 1);
    assert_int_equal(one.calls, 1);
    watched_release(&one);
    watched_release(&other);
}

static void *
remove_watch(void *arg)
{
    watched *it = arg;

    gp__reactor_remove(it->watch);
    gp_mutex_lock(&it->lock);
    assert_false(it->in_callback);
    it->watch = NULL;
    gp_mutex_unlock(&it->lock);
    return NULL;
}

static void
removing_waits_for_the_callback(void **state)
{
    watched one;
    pthread_t remover;

    (void)state;
    watched_init(&one);
    one.blocked = true;
    write_text(&one, "a");
    await_flag(&one, &one.in_callback);
    assert_int_equal(pthread_create(&remover, NULL, remove_watch, &one), 0);
    gp_mutex_lock(&one.lock);
    one.blocked = false;
    gp_cond_broadcast(&one.changed);
    gp_mutex_unlock(&one.lock);
    pthread_join(remover, NULL);
    watched_release(&one);
}

static void *
add_and_remove(void *arg)
{
    (void)arg;
    for (int i = 0; i < 200; i++) {
        watched it;

        watched_init(&it);
        write_text(&it, "abc");
        if (i % 2 == 0) {
            await_bytes(&it, 3);
        }
        if (i % 3 == 0) {
            gp__reactor_enable(it.watch, false);
            gp__reactor_enable(it.watch, true);
        }
        watched_release(&it);
    }
    return NULL;
}

static void
many_threads_may_add_and_remove(void **state)
{
    pthread_t threads[6];

    (void)state;
    for (int i = 0; i < 6; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, add_and_remove, NULL), 0);
    }
    for (int i = 0; i < 6; i++) {
        pthread_join(threads[i], NULL);
    }
}

/* ---- Timers ---- */

typedef struct timer {
    watched base;
    size_t until;
    size_t disable_at;
} timer;

static void
on_tick(void *ctx)
{
    timer *it = ctx;

    gp_mutex_lock(&it->base.lock);
    if (++it->base.bytes == it->until) {
        gp__reactor_remove(it->base.watch);
        it->base.watch = NULL;
    }
    if (it->base.bytes == it->disable_at) {
        gp__reactor_enable(it->base.watch, false);
    }
    gp_cond_broadcast(&it->base.changed);
    gp_mutex_unlock(&it->base.lock);
}

static void
timers_tick_until_they_are_removed(void **state)
{
    timer timers[3];

    (void)state;
    for (int i = 0; i < 3; i++) {
        watched_init(&timers[i].base);
        gp__reactor_remove(timers[i].base.watch);
        timers[i].until = i == 1 ? 2 : 0;
        timers[i].disable_at = 0;
        gp_mutex_lock(&timers[i].base.lock);
        assert_int_equal(gp__reactor_every(&timers[i].base.watch, 5, on_tick, &timers[i], NULL), 0);
        gp_mutex_unlock(&timers[i].base.lock);
    }
    await_bytes(&timers[0].base, 5);
    await_bytes(&timers[2].base, 5);
    assert_int_equal(timers[1].base.bytes, 2);
    for (int i = 0; i < 3; i++) {
        watched_release(&timers[i].base);
    }
}

/* The first one disables itself in its callback; the others tick on. */
static void
timers_can_be_disabled(void **state)
{
    timer timers[2];
    size_t ticks;

    (void)state;
    for (int i = 0; i < 2; i++) {
        watched_init(&timers[i].base);
        gp__reactor_remove(timers[i].base.watch);
        timers[i].until = 0;
        timers[i].disable_at = i == 0 ? 2 : 0;
        gp_mutex_lock(&timers[i].base.lock);
        assert_int_equal(gp__reactor_every(&timers[i].base.watch, 5, on_tick, &timers[i], NULL), 0);
        gp_mutex_unlock(&timers[i].base.lock);
    }
    await_bytes(&timers[0].base, 2);
    gp_mutex_lock(&timers[1].base.lock);
    ticks = timers[1].base.bytes;
    gp_mutex_unlock(&timers[1].base.lock);
    await_bytes(&timers[1].base, ticks + 4);
    assert_int_equal(timers[0].base.bytes, 2);
    gp__reactor_enable(timers[0].base.watch, true);
    await_bytes(&timers[0].base, 3);
    for (int i = 0; i < 2; i++) {
        gp__reactor_enable(timers[i].base.watch, false);
        watched_release(&timers[i].base);
    }
}

/* ---- Starting and stopping ---- */

static void
watches_survive_a_stop(void **state)
{
    watched one;
    watched two;

    (void)state;
    watched_init(&one);
    write_text(&one, "a");
    await_bytes(&one, 1);
    gp__reactor_stop();
    gp__reactor_stop();
    write_text(&one, "b");
    gp__reactor_enable(one.watch, false);
    gp__reactor_enable(one.watch, true);
    watched_init(&two); /* starts the thread again, for the first one as well */
    await_bytes(&one, 2);
    gp__reactor_stop();
    watched_release(&one);
    watched_release(&two);
}

static void
count_call(void *ctx)
{
    atomic_fetch_add((atomic_int *)ctx, 1);
}

static void *
stop_until_done(void *done)
{
    while (!atomic_load((atomic_bool *)done)) {
        gp__reactor_stop();
    }
    return NULL;
}

/* A caller that has started the thread waits for it, even if the thread is stopped at once. */
static void
calls_run_before_the_thread_ends(void **state)
{
    enum { CALLS = 2000 };
    atomic_int count = 0;
    atomic_bool done = false;
    pthread_t stopper;

    (void)state;
    assert_int_equal(pthread_create(&stopper, NULL, stop_until_done, &done), 0);
    for (int i = 0; i < CALLS; i++) {
        assert_int_equal(gp__reactor_call(count_call, &count, NULL), 0);
    }
    atomic_store(&done, true);
    pthread_join(stopper, NULL);
    assert_int_equal(atomic_load(&count), CALLS);
}

static void
a_forked_child_has_no_reactor(void **state)
{
    watched one;
    gp__watch *watch;
    int status;
    pid_t pid;

    (void)state;
    assert_int_equal(gp_runtime_init(), 0);
    watched_init(&one);
    pid = fork();
    if (pid == 0) {
        int rc = gp__reactor_add(&watch, one.ends[0], on_ready, &one, NULL);

        gp__reactor_enable(one.watch, false);
        gp__reactor_remove(one.watch);
        gp__reactor_stop();
        _exit(rc == GP_EFORKED ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    write_text(&one, "a");
    await_bytes(&one, 1);
    watched_release(&one);
}

static void
count_if_on_reactor(void *ctx)
{
    *(int *)ctx += gp__reactor_current() ? 1 : 100;
}

static void
call_within(void *ctx)
{
    assert_int_equal(gp__reactor_call(count_if_on_reactor, ctx, NULL), 0);
}

static void *
call_often(void *ctx)
{
    for (int i = 0; i < 100; i++) {
        assert_int_equal(gp__reactor_call(count_if_on_reactor, ctx, NULL), 0);
    }
    return NULL;
}

static void
calls_run_on_the_thread(void **state)
{
    enum { CALLERS = 4 };
    pthread_t callers[CALLERS];
    int runs = 0;

    (void)state;
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_create(&callers[i], NULL, call_often, &runs), 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(callers[i], NULL);
    }
    assert_int_equal(gp__reactor_call(call_within, &runs, NULL), 0);
    gp__reactor_stop();
    assert_int_equal(gp__reactor_call(count_if_on_reactor, &runs, NULL), 0);
    assert_int_equal(runs, 100 * CALLERS + 2);
}

static void
every_allocation_fails(void **state)
{
    long failing = 0;
    bool failed;
    int ends[2];

    (void)state;
    gp__reactor_stop();
    assert_int_equal(gp__fd_pipe(ends, NULL), 0);
    do {
        gp__watch *watch = NULL;
        int rc;

        alloc_begin(failing++);
        rc = gp__reactor_add(&watch, ends[0], on_ready, NULL, NULL);
        failed = alloc_failures() > 0;
        assert_int_equal(rc, failed ? GP_ENOMEM : 0);
        gp__reactor_remove(watch);
        gp__reactor_stop();
        alloc_end();
    } while (failed);
    gp__fd_close(&ends[0]);
    gp__fd_close(&ends[1]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_and_the_end_are_noticed),
        cmocka_unit_test(a_disabled_watch_is_not_called),
        cmocka_unit_test(a_callback_may_remove_its_watch),
        cmocka_unit_test(removing_waits_for_the_callback),
        cmocka_unit_test(many_threads_may_add_and_remove),
        cmocka_unit_test(timers_tick_until_they_are_removed),
        cmocka_unit_test(timers_can_be_disabled),
        cmocka_unit_test(watches_survive_a_stop),
        cmocka_unit_test(calls_run_before_the_thread_ends),
        cmocka_unit_test(a_forked_child_has_no_reactor),
        cmocka_unit_test(calls_run_on_the_thread),
        cmocka_unit_test(every_allocation_fails),
    };

    return cmocka_run_group_tests(tests, NULL, tear_down_reactor);
}
