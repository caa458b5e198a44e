#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>

#include "gp/queue.h"

enum { COUNT = 10000 };

static bool
readable(const gp_queue *queue)
{
    struct pollfd watched = {.fd = gp_queue_fd(queue), .events = POLLIN};

    return poll(&watched, 1, 0) == 1;
}

static void
items_come_in_order_and_wake_once(void **state)
{
    gp_queue_item items[3];
    gp_queue_item *all;
    gp_queue *queue;

    (void)state;
    assert_int_equal(gp_queue_new(&queue, NULL), 0);
    assert_false(readable(queue));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(gp_queue_post(queue, &items[i]), 0);
    }
    assert_true(readable(queue));
    all = gp_queue_take(queue);
    assert_ptr_equal(all, &items[0]);
    assert_ptr_equal(all->next, &items[1]);
    assert_ptr_equal(all->next->next, &items[2]);
    assert_null(all->next->next->next);
    assert_false(readable(queue));
    assert_null(gp_queue_take(queue));
    gp_queue_unref(queue);
}

static void
a_closed_queue_refuses_items_and_gives_those_that_it_has(void **state)
{
    gp_queue_item first;
    gp_queue_item second;
    gp_queue *queue;

    (void)state;
    assert_int_equal(gp_queue_new(&queue, NULL), 0);
    gp_queue_ref(queue);
    assert_int_equal(gp_queue_post(queue, &first), 0);
    gp_queue_close(queue);
    gp_queue_close(queue);
    assert_int_equal(gp_queue_post(queue, &second), GP_ECLOSED);
    assert_ptr_equal(gp_queue_take(queue), &first);
    gp_queue_unref(queue);
    gp_queue_unref(queue);
}

static gp_queue_item many[COUNT];

static void *
post_all(void *arg)
{
    for (int i = 0; i < COUNT; i++) {
        gp_queue_post(arg, &many[i]);
    }
    return NULL;
}

static void
no_wake_up_is_lost_between_threads(void **state)
{
    pthread_t thread;
    gp_queue *queue;
    int count = 0;

    (void)state;
    assert_int_equal(gp_queue_new(&queue, NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, post_all, queue), 0);
    while (count < COUNT) {
        struct pollfd watched = {.fd = gp_queue_fd(queue), .events = POLLIN};

        assert_int_equal(poll(&watched, 1, 20000), 1);
        for (gp_queue_item *item = gp_queue_take(queue); item != NULL; item = item->next) {
            assert_ptr_equal(item, &many[count++]);
        }
    }
    pthread_join(thread, NULL);
    gp_queue_unref(queue);
}

typedef struct poster {
    pthread_t thread;
    gp_queue *queue;
    gp_queue_item items[COUNT];
    int accepted;
} poster;

static void *
post_until_closed(void *arg)
{
    poster *self = arg;

    while (self->accepted < COUNT &&
           gp_queue_post(self->queue, &self->items[self->accepted]) == 0) {
        self->accepted++;
    }
    gp_queue_unref(self->queue);
    return NULL;
}

static void
items_accepted_during_the_close_can_be_taken(void **state)
{
    static poster posters[2];
    int count = 0;
    gp_queue *queue;

    (void)state;
    assert_int_equal(gp_queue_new(&queue, NULL), 0);
    for (int i = 0; i < 2; i++) {
        posters[i].queue = gp_queue_ref(queue);
        assert_int_equal(pthread_create(&posters[i].thread, NULL, post_until_closed, &posters[i]),
                         0);
    }
    while (count == 0) {
        for (gp_queue_item *item = gp_queue_take(queue); item != NULL; item = item->next) {
            count++;
        }
    }
    gp_queue_close(queue);
    for (gp_queue_item *item = gp_queue_take(queue); item != NULL; item = item->next) {
        count++;
    }
    assert_null(gp_queue_take(queue));
    gp_queue_unref(queue);
    for (int i = 0; i < 2; i++) {
        pthread_join(posters[i].thread, NULL);
    }
    assert_int_equal(count, posters[0].accepted + posters[1].accepted);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_come_in_order_and_wake_once),
        cmocka_unit_test(a_closed_queue_refuses_items_and_gives_those_that_it_has),
        cmocka_unit_test(no_wake_up_is_lost_between_threads),
        cmocka_unit_test(items_accepted_during_the_close_can_be_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
