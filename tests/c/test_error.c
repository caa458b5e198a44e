#include <errno.h>
#include <string.h>

#include "gp/error.h"
#include "support.h"

static void
messages_end_with_the_text_of_errno(void **state)
{
    gp_error err = GP_ERROR_INIT;
    char expected[128] = "cannot open x: ";

    (void)state;
    strcat(expected, strerror(ENOENT));
    assert_int_equal(gp_error_set_errno(&err, ENOENT, "cannot open %s", "x"), GP_EOS);
    assert_string_equal(gp_error_message(&err), expected);
    assert_int_equal(gp_error_set_errno(NULL, ENOENT, "cannot connect"), GP_EOS);
    gp_error_release(&err);
}

static void
a_code_without_message_has_its_own_text(void **state)
{
    gp_error err = GP_ERROR_INIT;

    (void)state;
    err.code = GP_ETLS;
    assert_string_equal(gp_error_message(&err), "no secure connection");
    assert_string_equal(gp_strerror(0), "success");
    assert_string_equal(gp_strerror(-1000), "unknown error");
}

static void
a_prefix_keeps_code_and_evidence(void **state)
{
    gp_error err = GP_ERROR_INIT;

    (void)state;
    gp_error_set(&err, GP_ERPC, "refused");
    gp_error_set_detail(&err, "why", 3);
    assert_int_equal(gp_error_prefix(&err, "plugin %d", 7), GP_ERPC);
    assert_string_equal(gp_error_message(&err), "plugin 7: refused");
    assert_memory_equal(err.detail, "why", 3);
    gp_error_release(&err);
    err.code = GP_ETLS; /* without a message of its own */
    gp_error_prefix(&err, "x");
    assert_string_equal(gp_error_message(&err), "x: no secure connection");
    assert_int_equal(gp_error_prefix(NULL, "x"), 0);
    gp_error_release(&err);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_end_with_the_text_of_errno),
        cmocka_unit_test(a_code_without_message_has_its_own_text),
        cmocka_unit_test(a_prefix_keeps_code_and_evidence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
