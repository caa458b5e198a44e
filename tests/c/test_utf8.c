#include <string.h>

#include "base/utf8.h"
#include "support.h"

static void
code_points(void **state)
{
    char out[4] = "";

    (void)state;
    for (unsigned long code = 0; code <= 0x10ffff; code++) {
        size_t len = gp__utf8_put(out, code);
        bool surrogate = code >= 0xd800 && code <= 0xdfff;
        size_t skip;

        assert_int_equal(gp__utf8_next(out, len, &skip), len);
        assert_int_equal(skip, len);
        assert_int_equal(memcmp(out, GP__REPLACEMENT, 3) == 0, surrogate || code == 0xfffd);
    }
    assert_int_equal(gp__utf8_put(out, 0x110000), 3);
}

static void
validity_and_repair(void **state)
{
    static const struct {
        const char *in;
        const char *out;
    } cases[] = {
        {"ascii only, and more than eight bytes", "ascii only, and more than eight bytes"},
        {"\xc3\xa9", "\xc3\xa9"},
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
        {"\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xe2\x82z", "\xef\xbf\xbdz"},
        {"\xf0\x9f\x98", "\xef\xbf\xbd"},
        {"\x80", "\xef\xbf\xbd"},
    };
    char out[100];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t len = gp__utf8_repair(out, cases[i].in, strlen(cases[i].in));

        assert_int_equal(len, strlen(cases[i].out));
        assert_memory_equal(out, cases[i].out, len);
        assert_int_equal(gp__utf8_valid(cases[i].in, strlen(cases[i].in)),
                         strcmp(cases[i].in, cases[i].out) == 0);
        assert_true(gp__utf8_valid(out, len));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(code_points),
        cmocka_unit_test(validity_and_repair),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
