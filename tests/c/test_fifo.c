#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fifo.h"
#include "support.h"

static void
first_in_first_out(void **state)
{
    gp__fifo fifo = GP__FIFO_INIT;

    (void)state;
    assert_int_equal(gp__fifo_put(&fifo, "abc", 3), 0);
    assert_int_equal(gp__fifo_put(&fifo, "defg", 4), 0);
    assert_int_equal(fifo.len, 7);
    assert_memory_equal(gp__fifo_front(&fifo), "abcdefg", 7);
    gp__fifo_drop(&fifo, 2);
    assert_memory_equal(gp__fifo_front(&fifo), "cdefg", 5);
    gp__fifo_drop(&fifo, 5);
    assert_int_equal(fifo.len, 0);
    gp__fifo_drop(&fifo, 5);
    assert_int_equal(gp__fifo_put(&fifo, "", 0), 0);
    gp__fifo_release(&fifo);
    gp__fifo_release(&fifo);
}

static void
reserved_and_committed_in_part(void **state)
{
    gp__fifo fifo = GP__FIFO_INIT;
    unsigned char *room;

    (void)state;
    room = gp__fifo_reserve(&fifo, 1000);
    memcpy(room, "abc", 3);
    gp__fifo_commit(&fifo, 3);
    room = gp__fifo_reserve(&fifo, 100000);
    memset(room, 'x', 100000);
    gp__fifo_commit(&fifo, 1);
    assert_int_equal(fifo.len, 4);
    assert_memory_equal(gp__fifo_front(&fifo), "abcx", 4);
    assert_null(gp__fifo_reserve(&fifo, SIZE_MAX - 2));
    gp__fifo_release(&fifo);
}

/*
 * The memory of a queue that is never empty depends on what it holds, not on what has passed
 * through.
 */
static void
memory_follows_the_contents(void **state)
{
    gp__fifo fifo = GP__FIFO_INIT;
    unsigned next_in = 0;
    unsigned next_out = 0;

    (void)state;
    srand(1);
    for (int turn = 0; turn < 20000; turn++) {
        unsigned char bytes[300];
        size_t in = (size_t)rand() % sizeof(bytes);
        size_t out;

        for (size_t i = 0; i < in; i++) {
            bytes[i] = (unsigned char)next_in++;
        }
        assert_int_equal(gp__fifo_put(&fifo, bytes, in), 0);
        out = fifo.len > 1000 ? fifo.len - 1000 : 0;
        for (size_t i = 0; i < out; i++) {
            assert_int_equal(gp__fifo_front(&fifo)[i], (unsigned char)next_out++);
        }
        gp__fifo_drop(&fifo, out);
        assert_true(fifo.cap <= 8192);
    }
    gp__fifo_release(&fifo);
}

static void
short_of_memory(void **state)
{
    gp__fifo fifo = GP__FIFO_INIT;

    (void)state;
    alloc_begin(0);
    assert_int_equal(gp__fifo_put(&fifo, "abc", 3), GP_ENOMEM);
    assert_int_equal(gp__fifo_put(&fifo, "abc", 3), 0);
    gp__fifo_release(&fifo);
    alloc_end();
    alloc_begin(1);
    assert_int_equal(gp__fifo_put(&fifo, "abc", 3), 0);
    assert_null(gp__fifo_reserve(&fifo, 100000));
    assert_memory_equal(gp__fifo_front(&fifo), "abc", 3);
    gp__fifo_release(&fifo);
    alloc_end();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_in_first_out),
        cmocka_unit_test(reserved_and_committed_in_part),
        cmocka_unit_test(memory_follows_the_contents),
        cmocka_unit_test(short_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
