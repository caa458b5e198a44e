#include <string.h>
#include <unistd.h>

#include "transport_fixture.h"

static carrier
carrier_of(void **state)
{
    return *(const carrier *)*state;
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

static void
bytes_go_both_ways(void **state)
{
    end ends[2];
    line *lines[2];

    ends_open(ends, carrier_of(state), NULL);
    lines_open(ends, lines);
    for (int i = 0; i < rounds(200); i++) {
        line_send(lines[0], "there", 5);
        line_expect(lines[1], "there");
        line_send(lines[1], "back", 4);
        line_expect(lines[0], "back");
    }
    line_shutdown(lines[0]);
    assert_int_equal(line_await_end(lines[1]), 0);
    line_send(lines[1], "still", 5);
    line_expect(lines[0], "still");
    line_close(lines[1]);
    assert_int_equal(line_await_end(lines[0]), 0);
    line_close(lines[0]);
    ends_release(ends);
}

#define EACH(test)                                                \
    {#test ": plain", test, NULL, NULL, &(carrier){PLAIN}},       \
        {#test ": secure", test, NULL, NULL, &(carrier){SECURE}}, \
        {#test ": raw", test, NULL, NULL, &(carrier){RAW}},       \
    {                                                             \
        #test ": raw and secure", test, NULL, NULL, &(carrier)    \
        {                                                         \
            RAW_SECURE                                            \
        }                                                         \
    }

int
main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(bytes_go_both_ways),
    };

    return cmocka_run_group_tests(tests, transport_make_tls, transport_free_tls);
}
