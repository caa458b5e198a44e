#include "gp/lock.h"
#include "plugin/delivery.h"
#include "support.h"

/* An item that posts itself again whenever it runs, as for a plugin that prints without end. */
typedef struct endless {
    gp__delivery_item item; /* the first member, so that the item is the whole */
    gp_mutex lock;
    gp_cond changed;
    int runs;
    int refused;
} endless;

static void
run_endless(gp__delivery_item *item)
{
    endless *it = (endless *)item;
    int posted = gp__delivery_post(&it->item);

    gp_mutex_lock(&it->lock);
    it->runs++;
    it->refused += posted == GP_ECLOSED ? 1 : 0;
    gp_cond_broadcast(&it->changed);
    gp_mutex_unlock(&it->lock);
}

static void
await_runs(endless *it, int runs)
{
    int64_t deadline = patience();

    gp_mutex_lock(&it->lock);
    while (it->runs < runs) {
        assert_int_equal(gp_cond_wait_until(&it->changed, &it->lock, deadline), 0);
    }
    gp_mutex_unlock(&it->lock);
}

static void
endless_init(endless *it)
{
    *it = (endless){.item = {.run = run_endless}};
    gp_mutex_init(&it->lock);
    gp_cond_init(&it->changed);
}

static void
endless_release(endless *it)
{
    gp_cond_release(&it->changed);
    gp_mutex_release(&it->lock);
}

static void
stopping_ends_endless_work(void **state)
{
    endless it;

    (void)state;
    endless_init(&it);
    assert_int_equal(gp__delivery_start(NULL), 0);
    assert_int_equal(gp__delivery_post(&it.item), 1);
    await_runs(&it, 3);
    gp__delivery_stop();
    assert_int_equal(it.refused, 1); /* the last run could not post it again */
    assert_int_equal(gp__delivery_post(&it.item), GP_ECLOSED);
    endless_release(&it);
}

static void
the_thread_can_be_started_again(void **state)
{
    endless it;

    (void)state;
    endless_init(&it);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(gp__delivery_start(NULL), 0);
        assert_int_equal(gp__delivery_post(&it.item), 1);
        await_runs(&it, i);
        gp__delivery_stop();
    }
    assert_int_equal(it.refused, 3);
    endless_release(&it);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stopping_ends_endless_work),
        cmocka_unit_test(the_thread_can_be_started_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
