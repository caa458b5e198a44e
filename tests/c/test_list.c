#include "base/list.h"

#include "support.h"

typedef struct item {
    int value;
    gp__link link;
} item;

/* The values in |list|, as the digits of a number. */
static int
digits(const gp__list *list)
{
    int number = 0;

    for (const item *it = gp__list_first_entry(list, item, link); it != NULL;
         it = gp__list_next_entry(list, it, item, link)) {
        number = 10 * number + it->value;
    }
    return number;
}

static void
a_list_keeps_its_order(void **state)
{
    item items[] = {{.value = 1}, {.value = 2}, {.value = 3}};
    gp__list list;

    (void)state;
    gp__list_init(&list);
    assert_true(gp__list_is_empty(&list));
    assert_null(gp__list_first_entry(&list, item, link));
    gp__list_append(&list, &items[1].link);
    gp__list_append(&list, &items[2].link);
    gp__list_prepend(&list, &items[0].link);
    assert_int_equal(digits(&list), 123);
    assert_ptr_equal(gp__list_pop(&list), &items[0].link);
    assert_int_equal(digits(&list), 23);
    assert_false(gp__link_is_linked(&items[0].link));
}

static void
removal_leaves_the_others(void **state)
{
    static gp__list list = GP__LIST_INIT(list);
    item items[] = {{.value = 1}, {.value = 2}, {.value = 3}};

    (void)state;
    for (int i = 0; i < 3; i++) {
        gp__list_append(&list, &items[i].link);
    }
    gp__link_remove(&items[1].link);
    assert_int_equal(digits(&list), 13);
    gp__link_remove(&items[1].link); /* again, to no effect */
    gp__link_remove(&items[2].link);
    gp__list_append(&list, &items[1].link);
    assert_int_equal(digits(&list), 12);
    gp__link_remove(&items[0].link);
    gp__link_remove(&items[1].link);
    assert_true(gp__list_is_empty(&list));
    assert_null(gp__list_pop(&list));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_keeps_its_order),
        cmocka_unit_test(removal_leaves_the_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
