#include <float.h>
#include <math.h>
#include <string.h>

#include "gob/wire.h"
#include "support.h"

static const struct {
    uint64_t value;
    const char *bytes; /* as Go writes them */
    size_t len;
} uints[] = {
    {0, "\0", 1},
    {1, "\1", 1},
    {127, "\x7f", 1},
    {128, "\xff\x80", 2},
    {255, "\xff\xff", 2},
    {256, "\xfe\1\0", 3},
    {0x10000, "\xfd\1\0\0", 4},
    {0xffffffff, "\xfc\xff\xff\xff\xff", 5},
    {UINT64_C(0x0102030405060708), "\xf8\1\2\3\4\5\6\7\x8", 9},
    {UINT64_MAX, "\xf8\xff\xff\xff\xff\xff\xff\xff\xff", 9},
};

static void
uints_there_and_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(uints) / sizeof(uints[0]); i++) {
        unsigned char bytes[GP__GOB_UINT_MOST];
        gp__gob_cursor cursor = {bytes, bytes + uints[i].len};
        uint64_t back;

        assert_int_equal(gp__gob_put_uint(bytes, uints[i].value), uints[i].len);
        assert_memory_equal(bytes, uints[i].bytes, uints[i].len);
        assert_true(gp__gob_get_uint(&cursor, &back));
        assert_true(back == uints[i].value);
        assert_int_equal(gp__gob_left(&cursor), 0);

        cursor = (gp__gob_cursor){bytes, bytes + uints[i].len - 1};
        assert_false(gp__gob_get_uint(&cursor, &back));
        assert_ptr_equal(cursor.at, bytes);
    }
}

static void
uints_of_unusual_length(void **state)
{
    static const unsigned char zeros[] = {0xfd, 0, 0, 5, 0xff, 9};
    static const unsigned char too_long[] = {0xf7, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    static const unsigned char much_too_long[] = {0x80, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    gp__gob_cursor cursor = {zeros, zeros + sizeof(zeros)};
    uint64_t value;

    (void)state;
    assert_true(gp__gob_get_uint(&cursor, &value));
    assert_true(value == 5);
    assert_true(gp__gob_get_uint(&cursor, &value));
    assert_true(value == 9);
    cursor = (gp__gob_cursor){too_long, too_long + sizeof(too_long)};
    assert_false(gp__gob_get_uint(&cursor, &value));
    cursor = (gp__gob_cursor){much_too_long, much_too_long + sizeof(much_too_long)};
    assert_false(gp__gob_get_uint(&cursor, &value));
}

static void
ints_there_and_back(void **state)
{
    static const struct {
        int64_t value;
        uint64_t sent;
    } ints[] = {
        {0, 0},
        {1, 2},
        {-1, 1},
        {7, 14},
        {-8, 15},
        {-65, 129},
        {-129, 257},
        {INT64_MAX, UINT64_MAX - 1},
        {64, 128},
        {-64, 127},
        {INT32_MIN, 0xffffffff},
        {INT64_MIN, UINT64_MAX},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(ints) / sizeof(ints[0]); i++) {
        unsigned char bytes[GP__GOB_UINT_MOST];
        gp__gob_cursor cursor = {bytes, bytes + gp__gob_put_int(bytes, ints[i].value)};
        int64_t back;

        assert_true(gp__gob_uint_of(ints[i].value) == ints[i].sent);
        assert_true(gp__gob_get_int(&cursor, &back));
        assert_true(back == ints[i].value);
    }
}

static void
floats_there_and_back(void **state)
{
    static const double floats[] = {0, -0.0, 1, 17, -2.5, DBL_MAX, DBL_MIN, 5e-324, INFINITY};
    unsigned char bytes[GP__GOB_UINT_MOST];

    (void)state;
    for (size_t i = 0; i < sizeof(floats) / sizeof(floats[0]); i++) {
        double back = gp__gob_float_of(gp__gob_bits_of(floats[i]));

        assert_memory_equal(&back, &floats[i], sizeof(back));
    }
    assert_true(isnan(gp__gob_float_of(gp__gob_bits_of(NAN))));
    assert_int_equal(gp__gob_put_uint(bytes, gp__gob_bits_of(17)), 3);
    assert_memory_equal(bytes, "\xfe\x31\x40", 3);
}

static void
bytes_within_bounds(void **state)
{
    static const unsigned char text[] = {3, 'a', 'b', 'c', 2, 'd'};
    static const unsigned char huge[] = {0xf8, 255, 255, 255, 255, 255, 255, 255, 255, 1};
    gp__gob_cursor cursor = {text, text + sizeof(text)};
    const unsigned char *bytes;
    size_t len;

    (void)state;
    assert_true(gp__gob_get_bytes(&cursor, &bytes, &len));
    assert_int_equal(len, 3);
    assert_memory_equal(bytes, "abc", 3);
    assert_false(gp__gob_get_bytes(&cursor, &bytes, &len));
    assert_int_equal(gp__gob_left(&cursor), 2);
    cursor = (gp__gob_cursor){huge, huge + sizeof(huge)};
    assert_false(gp__gob_get_bytes(&cursor, &bytes, &len));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uints_there_and_back), cmocka_unit_test(uints_of_unusual_length),
        cmocka_unit_test(ints_there_and_back),  cmocka_unit_test(floats_there_and_back),
        cmocka_unit_test(bytes_within_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
