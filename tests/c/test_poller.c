#include <time.h>

#include "rpc/worker_pool.h"
#include "support.h"

typedef struct sleeper {
    gp__poller *poller;
    gp__gate gate;
    int64_t deadline;
    int rc;
} sleeper;

static void *
sleep_until_open(void *arg)
{
    sleeper *self = arg;

    self->rc = gp__poller_wait(self->poller, &self->gate, self->deadline, NULL);
    return NULL;
}

static void *
stand_by(void *arg)
{
    gp__poller *poller = arg;
    bool called;

    gp_mutex_lock(&poller->lock);
    called = gp__poller_watch(poller);
    gp_mutex_unlock(&poller->lock);
    return (void *)(uintptr_t)called;
}

static bool
is_taken(const gp__poller *poller)
{
    return poller->taken;
}

static bool
has_waiter(const gp__poller *poller)
{
    return poller->waiters != NULL;
}

static bool
is_parked(const gp__poller *poller)
{
    return poller->parked;
}

static void
wait_until(gp__poller *poller, bool (*condition)(const gp__poller *))
{
    int64_t deadline = gp__deadline_in(20000);
    bool met = false;

    while (!met) {
        assert_true(gp__now() < deadline);
        gp_mutex_lock(&poller->lock);
        met = condition(poller);
        gp_mutex_unlock(&poller->lock);
    }
}

/*
 * The seat is left to a sleeper that has no more use for it when it wakes up, since what it waited
 * for came meanwhile. Whatever is urgent must then be the standby thread's.
 */
static void
the_seat_is_passed_on(void **state)
{
    gp__poller *poller = *state;
    sleeper polling = {.poller = poller};
    sleeper sleeping = {.poller = poller, .deadline = GP__FOREVER};
    pthread_t threads[3];
    void *called;

    polling.deadline = gp__deadline_in(2000);
    assert_int_equal(pthread_create(&threads[0], NULL, sleep_until_open, &polling), 0);
    wait_until(poller, is_taken);
    assert_int_equal(pthread_create(&threads[1], NULL, sleep_until_open, &sleeping), 0);
    wait_until(poller, has_waiter);
    assert_int_equal(pthread_create(&threads[2], NULL, stand_by, poller), 0);
    wait_until(poller, is_parked);
    gp__poller_urgent_add(poller);
    atomic_store(&sleeping.gate.open, true); /* its wake-up is still on the way */

    pthread_join(threads[0], NULL);
    assert_int_equal(polling.rc, GP_ETIMEOUT);
    pthread_join(threads[1], NULL);
    assert_int_equal(sleeping.rc, 0);
    pthread_join(threads[2], &called);
    assert_non_null(called);
    gp__poller_urgent_drop(poller);
}

/* Whoever polls does not see by himself what another thread does. */
static void
a_gate_is_opened_beside_the_seat(void **state)
{
    gp__poller *poller = *state;
    sleeper polling = {.poller = poller, .deadline = gp__deadline_in(20000)};
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, sleep_until_open, &polling), 0);
    wait_until(poller, is_taken);
    gp__gate_open(poller, &polling.gate);
    pthread_join(thread, NULL);
    assert_int_equal(polling.rc, 0);
    assert_true(gp__now() < polling.deadline);
}

typedef struct watcher {
    gp__poller *poller;
    bool entered;
    bool left;
} watcher;

static void *
watch(void *arg)
{
    watcher *self = arg;

    gp_mutex_lock(&self->poller->lock);
    self->entered = true;
    gp__poller_watch(self->poller);
    self->left = true;
    gp_mutex_unlock(&self->poller->lock);
    return NULL;
}

static void
wait_for(gp__poller *poller, const bool *flag)
{
    int64_t deadline = patience();
    bool set = false;

    while (!set) {
        assert_true(gp__now() < deadline);
        gp_mutex_lock(&poller->lock);
        set = *flag;
        gp_mutex_unlock(&poller->lock);
    }
}

/*
 * The standby thread's wait has come to the end of its time, and the thread waits for the lock, when it
 * is called: for the condition nobody waits any more.
 */
static void
a_call_is_not_lost_at_the_end_of_a_wait(void **state)
{
    const struct timespec longer_than_a_look = {.tv_nsec = 100000000};
    gp__poller *poller = *state;
    watcher self = {.poller = poller};
    pthread_t thread;

    gp_mutex_lock(&poller->lock);
    poller->taken = true;
    poller->busy = true;
    gp_mutex_unlock(&poller->lock);
    assert_int_equal(pthread_create(&thread, NULL, watch, &self), 0);
    wait_for(poller, &self.entered);
    gp_mutex_lock(&poller->lock);
    poller->busy = true;
    nanosleep(&longer_than_a_look, NULL);
    gp__poller_wake_standby(poller);
    gp_mutex_unlock(&poller->lock);
    wait_for(poller, &self.left);
    pthread_join(thread, NULL);
    poller->taken = false;
}

static int
set_up(void **state)
{
    return gp__pool_poller((gp__poller **)state, NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_seat_is_passed_on),
        cmocka_unit_test(a_gate_is_opened_beside_the_seat),
        cmocka_unit_test(a_call_is_not_lost_at_the_end_of_a_wait),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
