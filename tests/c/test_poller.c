#include <time.h>

#include "rpc/convert.h"
#include "rpc/engine.h"
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
back_up(void *arg)
{
    gp__poller *poller = arg;
    bool called;

    gp_mutex_lock(&gp__engine_lock);
    called = gp__poller_back_up_locked(poller);
    gp_mutex_unlock(&gp__engine_lock);
    return (void *)(uintptr_t)called;
}

static bool
is_polled(const gp__poller *poller)
{
    return poller->polled;
}

static bool
has_waiter(const gp__poller *poller)
{
    return !gp_list_is_empty(&poller->waiters);
}

static bool
is_parked(const gp__poller *poller)
{
    return poller->backup_parked;
}

static void
wait_until(gp__poller *poller, bool (*condition)(const gp__poller *))
{
    int64_t deadline = gp_deadline_in(20000);
    bool met = false;

    while (!met) {
        assert_true(gp__now() < deadline);
        gp_mutex_lock(&gp__engine_lock);
        met = condition(poller);
        gp_mutex_unlock(&gp__engine_lock);
    }
}

/*
 * The poller role is passed on to a sleeping thread that does not poll when it wakes up, since what
 * it waited for came meanwhile. The backup poller must then poll for what is urgent.
 */
static void
the_poller_role_is_passed_on(void **state)
{
    gp__poller *poller = *state;
    sleeper polling = {.poller = poller};
    sleeper sleeping = {.poller = poller, .deadline = GP__FOREVER};
    pthread_t threads[3];
    void *called;

    polling.deadline = gp_deadline_in(2000);
    assert_int_equal(pthread_create(&threads[0], NULL, sleep_until_open, &polling), 0);
    wait_until(poller, is_polled);
    assert_int_equal(pthread_create(&threads[1], NULL, sleep_until_open, &sleeping), 0);
    wait_until(poller, has_waiter);
    assert_int_equal(pthread_create(&threads[2], NULL, back_up, poller), 0);
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

/* The polling thread does not notice by itself that another thread opens its gate. */
static void
a_gate_is_opened_by_a_thread_that_does_not_poll(void **state)
{
    gp__poller *poller = *state;
    sleeper polling = {.poller = poller, .deadline = gp_deadline_in(20000)};
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, sleep_until_open, &polling), 0);
    wait_until(poller, is_polled);
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

    gp_mutex_lock(&gp__engine_lock);
    self->entered = true;
    gp__poller_back_up_locked(self->poller);
    self->left = true;
    gp_mutex_unlock(&gp__engine_lock);
    return NULL;
}

static void
wait_for(const bool *flag)
{
    int64_t deadline = patience();
    bool set = false;

    while (!set) {
        assert_true(gp__now() < deadline);
        gp_mutex_lock(&gp__engine_lock);
        set = *flag;
        gp_mutex_unlock(&gp__engine_lock);
    }
}

/*
 * The backup poller is woken when its wait has timed out already, so that no thread waits for the
 * condition any more, and it is about to re-acquire the lock.
 */
static void
a_wake_up_is_not_lost_at_the_end_of_a_wait(void **state)
{
    const struct timespec longer_than_a_look = {.tv_nsec = 100000000};
    gp__poller *poller = *state;
    watcher self = {.poller = poller};
    pthread_t thread;

    gp_mutex_lock(&gp__engine_lock);
    poller->polled = true;
    poller->polled_anew = true;
    gp_mutex_unlock(&gp__engine_lock);
    assert_int_equal(pthread_create(&thread, NULL, watch, &self), 0);
    wait_for(&self.entered);
    gp_mutex_lock(&gp__engine_lock);
    poller->polled_anew = true;
    nanosleep(&longer_than_a_look, NULL);
    gp__poller_wake_backup_locked(poller);
    gp_mutex_unlock(&gp__engine_lock);
    wait_for(&self.left);
    pthread_join(thread, NULL);
    poller->polled = false;
}

/* gRPC's monotonic clock need not be the system's: newer versions' is 5 s ahead. */
static void
grpc_waits_as_long_as_the_caller(void **state)
{
    gp__poller *poller = *state;
    gp__gate gate = {0};
    unsigned long before = poller->polls;

    assert_int_equal(gp__poller_wait(poller, &gate, gp_deadline_in(50), NULL), GP_ETIMEOUT);
    /* gRPC rounds to milliseconds. */
    assert_in_range(poller->polls - before, 1, 3);
}

static void
deadlines_survive_conversion(void **state)
{
    int64_t deadline = gp_deadline_in(60000);
    gpr_timespec spec = gp__timespec_from_deadline(deadline);

    (void)state;
    assert_in_range(spec.tv_sec - gpr_now(GPR_CLOCK_MONOTONIC).tv_sec, 56, 60);
    assert_int_equal(gp__deadline_from_timespec(spec), deadline);
    spec = gp__timespec_from_deadline(GP__FOREVER);
    assert_int_equal(gp__deadline_from_timespec(spec), GP__FOREVER);
}

static int referenced;

static void
count_reference(gp__hold *hold)
{
    (void)hold;
    referenced++;
}

static gp_link *
pop_overdue(gp__poller *poller)
{
    gp_link *task;

    gp_mutex_lock(&gp__engine_lock);
    task = gp__poller_pop_overdue_locked(poller);
    gp_mutex_unlock(&gp__engine_lock);
    return task;
}

static void
the_backup_poller_notices_what_is_held_for_too_long(void **state)
{
    gp__poller *poller = *state;
    watcher self = {.poller = poller};
    gp__hold hold = {.ref = count_reference};
    pthread_t thread;

    gp__poller_hold(poller, &hold);
    assert_int_equal(pthread_create(&thread, NULL, watch, &self), 0);
    wait_for(&self.left);
    pthread_join(thread, NULL);
    assert_ptr_equal(pop_overdue(poller), &hold.task.link);
    assert_int_equal(referenced, 1);
    assert_null(pop_overdue(poller));
}

static void
what_is_held_no_longer_is_not_overdue(void **state)
{
    gp__poller *poller = *state;
    gp__hold hold = {.ref = count_reference};

    referenced = 0;
    gp__poller_hold(poller, &hold);
    gp__poller_end_hold(poller, &hold);
    assert_int_equal(poller->urgent, 1);
    while (gp__now() <= hold.deadline) {
    }
    assert_null(pop_overdue(poller));
    assert_int_equal(referenced, 0);
    gp__poller_urgent_drop(poller);
}

static int
set_up(void **state)
{
    return gp__engine_start((gp__poller **)state, NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_poller_role_is_passed_on),
        cmocka_unit_test(a_gate_is_opened_by_a_thread_that_does_not_poll),
        cmocka_unit_test(a_wake_up_is_not_lost_at_the_end_of_a_wait),
        cmocka_unit_test(the_backup_poller_notices_what_is_held_for_too_long),
        cmocka_unit_test(what_is_held_no_longer_is_not_overdue),
        cmocka_unit_test(grpc_waits_as_long_as_the_caller),
        cmocka_unit_test(deadlines_survive_conversion),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
