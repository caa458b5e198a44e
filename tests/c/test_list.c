#include "gp/list.h"

#include "support.h"

typedef struct item {
    int value;
    gp_link link;
} item;

/* The values in |list|, as the digits of a number. */
static int
digits(const gp_list *list)
{
    int number = 0;

    for (const item *it = gp_list_first_entry(list, item, link); it != NULL;
         it = gp_list_next_entry(list, it, item, link)) {
        number = 10 * number + it->value;
    }
    return number;
}

static void
a_list_keeps_its_order(void **state)
{
    item items[] = {{.value = 1}, {.value = 2}, {.value = 3}};
    gp_list list;

    (void)state;
    gp_list_init(&list);
    assert_true(gp_list_is_empty(&list));
    assert_null(gp_list_first_entry(&list, item, link));
    gp_list_append(&list, &items[1].link);
    gp_list_append(&list, &items[2].link);
    gp_list_prepend(&list, &items[0].link);
    assert_int_equal(digits(&list), 123);
    assert_ptr_equal(gp_list_pop(&list), &items[0].link);
    assert_int_equal(digits(&list), 23);
    assert_false(gp_link_is_linked(&items[0].link));
}

static void
a_list_moves_as_a_whole(void **state)
{
    item items[] = {{.value = 1}, {.value = 2}};
    gp_list from;
    gp_list to;

    (void)state;
    gp_list_init(&from);
    gp_list_init(&to);
    gp_list_move(&to, &from);
    assert_true(gp_list_is_empty(&to));
    gp_list_append(&from, &items[0].link);
    gp_list_append(&from, &items[1].link);
    gp_list_move(&to, &from);
    assert_true(gp_list_is_empty(&from));
    assert_int_equal(digits(&to), 12);
    gp_link_remove(&items[1].link);
    gp_list_move(&from, &to);
    assert_true(gp_list_is_empty(&to));
    assert_int_equal(digits(&from), 1);
}

static void
removal_leaves_the_others(void **state)
{
    static gp_list list = GP_LIST_INIT(list);
    item items[] = {{.value = 1}, {.value = 2}, {.value = 3}};

    (void)state;
    for (int i = 0; i < 3; i++) {
        gp_list_append(&list, &items[i].link);
    }
    gp_link_remove(&items[1].link);
    assert_int_equal(digits(&list), 13);
    gp_link_remove(&items[1].link); /* again, to no effect */
    gp_link_remove(&items[2].link);
    gp_list_append(&list, &items[1].link);
    assert_int_equal(digits(&list), 12);
    gp_link_remove(&items[0].link);
    gp_link_remove(&items[1].link);
    assert_true(gp_list_is_empty(&list));
    assert_null(gp_list_pop(&list));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_keeps_its_order),
        cmocka_unit_test(a_list_moves_as_a_whole),
        cmocka_unit_test(removal_leaves_the_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
