#include <unistd.h>

#include "os/fd.h"
#include "os/selector.h"
#include "support.h"

/*
 * The implementation with poll() copies its table, and waits again when there is memory for that.
 */
static void
a_wait_goes_on_when_there_is_memory_again(void **state)
{
    gp__selector *selector;
    void *ready[4];
    int ends[2];
    int count = 0;

    (void)state;
    assert_int_equal(gp__fd_pipe(ends, NULL), 0);
    assert_int_equal(gp__selector_new(&selector, NULL), 0);
    assert_int_equal(gp__selector_add(selector, ends[0], GP__SELECT_READ, ends, NULL), 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    alloc_begin(0);
    for (int64_t deadline = patience(); count == 0 && gp__now() < deadline;) {
        count = gp__selector_wait(selector, ready, 4, -1);
    }
    assert_int_equal(count, 1);
    assert_ptr_equal(ready[0], ends);
    gp__selector_free(selector);
    alloc_end();
    close(ends[0]);
    close(ends[1]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wait_goes_on_when_there_is_memory_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
