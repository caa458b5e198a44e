#include "gp/lock.h"
#include "plugin/delivery.h"
#include "support.h"

/* Work that there is more of whenever some is done, as with a plugin that prints without end. */
typedef struct endless {
    gp__delivery_item item; /* first: what is run is this */
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
work_without_end_has_one(void **state)
{
    endless it;

    (void)state;
    endless_init(&it);
    assert_int_equal(gp__delivery_start(NULL), 0);
    assert_int_equal(gp__delivery_post(&it.item), 1);
    await_runs(&it, 3);
    gp__delivery_stop();
    assert_int_equal(it.refused, 1); /* the last of them */
    assert_int_equal(gp__delivery_post(&it.item), GP_ECLOSED);
    endless_release(&it);
}

static void
started_anew(void **state)
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
        cmocka_unit_test(work_without_end_has_one),
        cmocka_unit_test(started_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
