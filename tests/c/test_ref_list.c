#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/ref_list.h"

typedef struct thing {
    atomic_int refs;
    gp__ref_link link;
} thing;

static gp__ref_list all = GP__REF_LIST_INIT(all);

static thing *
next_thing(thing *last)
{
    gp__ref_link *next = gp__ref_list_next(&all, last != NULL ? &last->link : NULL);

    return next != NULL ? gp_container_of(next, thing, link) : NULL;
}

static void
members_are_visited_with_a_reference(void **state)
{
    thing things[3] = {{.refs = 1}, {.refs = 1}, {.refs = 1}};
    thing *it;

    (void)state;
    assert_null(next_thing(NULL));
    for (int i = 0; i < 3; i++) {
        gp__ref_list_add(&all, &things[i].link, &things[i].refs);
    }
    it = next_thing(NULL);
    assert_ptr_equal(it, &things[2]); /* the newest comes first */
    assert_int_equal(atomic_load(&things[2].refs), 2);
    assert_ptr_equal(it = next_thing(it), &things[1]);
    gp__ref_list_remove(&all, &things[0].link); /* while another thread visits */
    assert_null(next_thing(it));
    gp__ref_list_remove(&all, &things[1].link);
    gp__ref_list_remove(&all, &things[2].link);
    gp__ref_list_remove(&all, &things[2].link); /* has no effect */
    assert_null(next_thing(NULL));
    assert_int_equal(atomic_load(&things[0].refs), 1);
}

/* Their last reference has gone, and they are about to be removed and freed. */
static void
members_without_a_reference_are_skipped(void **state)
{
    thing things[3] = {{.refs = 0}, {.refs = 1}, {.refs = 0}};

    (void)state;
    for (int i = 0; i < 3; i++) {
        gp__ref_list_add(&all, &things[i].link, &things[i].refs);
    }
    assert_ptr_equal(next_thing(NULL), &things[1]);
    assert_null(next_thing(&things[1]));
    assert_int_equal(atomic_load(&things[0].refs), 0);
    assert_int_equal(atomic_load(&things[2].refs), 0);
    for (int i = 0; i < 3; i++) {
        gp__ref_list_remove(&all, &things[i].link);
    }
    gp__ref_list_reset(&all);
    assert_null(next_thing(NULL));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_are_visited_with_a_reference),
        cmocka_unit_test(members_without_a_reference_are_skipped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
