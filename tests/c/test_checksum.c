#include <stdio.h>
#include <string.h>

#include "gp/checksum.h"
#include "support.h"
#include "tls/checksum.h"

static void
expect(const char *hash, const char *text, const char *hex)
{
    unsigned char out[GP__CHECKSUM_MAX];
    char found[2 * GP__CHECKSUM_MAX + 1];
    gp__checksum *sum;
    int len;

    assert_int_equal(gp__checksum_new(&sum, hash, NULL), 0);
    for (const char *at = text; *at != '\0'; at++) { /* in pieces */
        gp__checksum_add(sum, at, 1);
    }
    len = gp__checksum_end(sum, out, NULL);
    assert_int_equal(len, gp_checksum_size(hash, NULL));
    for (int i = 0; i < len; i++) {
        snprintf(found + 2 * (size_t)i, 3, "%02x", out[i]);
    }
    assert_string_equal(found, hex);
    gp__checksum_free(sum);
}

static void
known_sums(void **state)
{
    (void)state;
    expect("sha256", "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect("SHA256", "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect("sha1", "abc", "a9993e364706816aba3e25717850c26c9cd0d89d");
    expect("sha384", "abc",
           "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"
           "8086072ba1e7cc2358baeca134c825a7");
    expect("sha512", "abc",
           "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
           "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f");
}

static void
unknown_hashes(void **state)
{
    gp_error err = GP_ERROR_INIT;
    gp__checksum *sum;

    (void)state;
    assert_int_equal(gp_checksum_size("sha257", &err), GP_EINVAL);
    assert_non_null(strstr(gp_error_message(&err), "unknown hash \"sha257\""));
    assert_int_equal(gp__checksum_new(&sum, "", &err), GP_EINVAL);
    gp_error_release(&err);
    gp__checksum_free(NULL);
}

static void
comparing(void **state)
{
    (void)state;
    assert_true(gp__checksum_equal("abc", "abd", 2));
    assert_false(gp__checksum_equal("abc", "abd", 3));
    assert_true(gp__checksum_equal("a", "b", 0));
}

static void
when_memory_is_short(void **state)
{
    gp__checksum *sum;

    (void)state;
    alloc_begin(0);
    assert_int_equal(gp__checksum_new(&sum, "sha256", NULL), GP_ENOMEM);
    alloc_end();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_sums),
        cmocka_unit_test(unknown_hashes),
        cmocka_unit_test(comparing),
        cmocka_unit_test(when_memory_is_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
