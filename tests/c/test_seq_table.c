#include "netrpc/seq_table.h"
#include "support.h"

enum { MANY = 1000 };

static void
finds_members_by_number(void **state)
{
    gp__seq_entry entries[MANY] = {{NULL, 0}};
    gp__seq_table table;

    (void)state;
    assert_int_equal(gp__seq_table_init(&table, NULL), 0);
    for (uint64_t i = 0; i < MANY; i++) {
        entries[i].seq = i;
        gp__seq_table_add(&table, &entries[i]);
    }
    assert_null(gp__seq_table_remove(&table, MANY));
    for (uint64_t i = 0; i < MANY; i += 2) {
        assert_ptr_equal(gp__seq_table_remove(&table, i), &entries[i]);
        assert_null(gp__seq_table_remove(&table, i));
    }
    for (int i = 0; i < MANY / 2; i++) {
        assert_int_equal(gp__seq_table_take(&table)->seq % 2, 1);
    }
    assert_null(gp__seq_table_take(&table));
    gp__seq_table_release(&table);
}

static void
works_without_memory_to_grow(void **state)
{
    gp__seq_entry entries[MANY] = {{NULL, 0}};
    gp__seq_table table;

    (void)state;
    alloc_begin(0);
    assert_int_equal(gp__seq_table_init(&table, NULL), GP_ENOMEM);
    alloc_end();
    alloc_begin(1);
    assert_int_equal(gp__seq_table_init(&table, NULL), 0);
    for (uint64_t i = 0; i < MANY; i++) {
        entries[i].seq = i;
        gp__seq_table_add(&table, &entries[i]);
    }
    for (uint64_t i = 0; i < MANY; i++) {
        assert_ptr_equal(gp__seq_table_remove(&table, i), &entries[i]);
    }
    gp__seq_table_release(&table);
    alloc_end();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_members_by_number),
        cmocka_unit_test(works_without_memory_to_grow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
