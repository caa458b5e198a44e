#include <errno.h>
#include <string.h>

#include "gp/error.h"
#include "support.h"

static void
errno_is_said_in_words(void **state)
{
    gp_error err = GP_ERROR_INIT;
    char expected[128] = "cannot open x: ";

    (void)state;
    strcat(expected, strerror(ENOENT));
    assert_int_equal(gp_error_set_errno(&err, ENOENT, "cannot open %s", "x"), GP_EOS);
    assert_string_equal(gp_error_message(&err), expected);
    assert_int_equal(gp_error_set_errno(NULL, ENOENT, "nobody listens"), GP_EOS);
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errno_is_said_in_words),
        cmocka_unit_test(a_code_without_message_has_its_own_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
