#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "gp/template.h"
#include "support.h"

/* Run a script of sh as a template, and wait for what it answers. Returns the result of the wait. */
static int
answer_of(const char *script, gp_error *err)
{
    const char *const argv[] = {"/bin/sh", "-c", script, NULL};
    const char *const env[] = {"PATH=/bin:/usr/bin", NULL};
    const char *files = NULL;
    gp_template *tmpl;
    size_t len = 0;
    int rc;

    assert_int_equal(gp_template_open(&tmpl, argv, env, NULL, err), 0);
    rc = gp_template_wait(tmpl, &files, &len, 20000 * GP__MS, NULL, err);
    if (rc == 0) {
        assert_int_equal(len, 2);
        assert_memory_equal(files, "/", 2);
        assert_true(gp_template_alive(tmpl));
        gp_template_close(tmpl);
    }
    assert_false(gp_template_alive(tmpl));
    gp_template_unref(tmpl);
    return rc;
}

static void
a_program_is_ready(void **state)
{
    gp_error err = GP_ERROR_INIT;

    (void)state;
    assert_int_equal(answer_of("printf 'R\\0\\0\\0\\2/\\0' >&0; exec sleep 60", &err), 0);
    gp_error_release(&err);
}

static void
other_answers_are_refused(void **state)
{
    static const struct {
        const char *script;
        const char *reason;
    } cases[] = {
        {"printf 'X\\0\\0\\0\\3why' >&0; exec sleep 60", "why"},
        {"printf 'X\\0\\0\\0\\3why' >&0", "why"},
        {"printf 'Q\\0\\0\\0\\0' >&0; exec sleep 60", "something else"},
        {"printf 'R\\0\\0\\0\\0R' >&0; exec sleep 60", "something else"},
        {"printf 'R\\377\\377\\377\\377' >&0; exec cat /dev/zero >&0", "ended"},
        {"printf 'R\\0\\0' >&0", "ended"},
        {"exit 1", "ended"},
        {"echo hello; exec sleep 60", "printed to stdout"},
        {"head -c 1000000 /dev/zero >&2; exit 1", "ended"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        gp_error err = GP_ERROR_INIT;

        assert_int_equal(answer_of(cases[i].script, &err), GP_ECLOSED);
        assert_non_null(strstr(err.message, cases[i].reason));
        gp_error_release(&err);
    }
}

static void
a_wait_ends_in_time(void **state)
{
    const char *const argv[] = {"/bin/sleep", "60", NULL};
    const char *const env[] = {NULL};
    gp_error err = GP_ERROR_INIT;
    gp_template *tmpl;
    const char *files;
    size_t len;

    (void)state;
    assert_int_equal(gp_template_open(&tmpl, argv, env, NULL, &err), 0);
    assert_int_equal(gp_template_wait(tmpl, &files, &len, 20 * GP__MS, NULL, &err), GP_ETIMEOUT);
    assert_true(gp_template_alive(tmpl));
    gp_template_unref(tmpl);
}

static void
a_program_that_does_not_exist(void **state)
{
    const char *const argv[] = {"/does/not/exist", NULL};
    const char *const env[] = {NULL};
    gp_error err = GP_ERROR_INIT;
    gp_template *tmpl;

    (void)state;
    assert_int_equal(gp_template_open(&tmpl, argv, env, NULL, &err), GP_ESTART);
    gp_error_release(&err);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_is_ready),
        cmocka_unit_test(other_answers_are_refused),
        cmocka_unit_test(a_wait_ends_in_time),
        cmocka_unit_test(a_program_that_does_not_exist),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
