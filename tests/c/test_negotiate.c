#include <limits.h>
#include <string.h>

#include "gp/handshake.h"
#include "support.h"
#include "wire/negotiate.h"

static char notes[1000];

static void
take_note(void *ctx, const char *text)
{
    (void)ctx;
    strcat(notes, text);
    strcat(notes, "\n");
}

/* What the plugin chooses; its versions come in no particular order. */
static int
choose(const char *listed, bool *found)
{
    static const int versions[] = {3, 7, 5};
    int version = -1;
    int rc;

    notes[0] = '\0';
    rc = gp_version_choose(&version, versions, 3, listed, take_note, NULL, NULL);
    assert_true(rc >= 0);
    *found = rc == 1;
    return version;
}

static void
assert_choice(const char *listed, int version, bool found)
{
    bool was_found;

    assert_int_equal(choose(listed, &was_found), version);
    assert_int_equal(was_found, found);
}

static void
the_highest_that_the_host_lists(void **state)
{
    (void)state;
    assert_choice("3", 3, true);
    assert_choice("3,5", 5, true);
    assert_choice("5,3", 5, true);
    assert_choice("7,5,3,1,9", 7, true);
    assert_choice(" 5 , 3 ", 5, true);
    assert_string_equal(notes, "");
}

static void
the_lowest_version_if_none_matches(void **state)
{
    (void)state;
    assert_choice("1,2,9", 3, false);
    assert_choice(NULL, 3, false);
    assert_choice("", 3, false);
}

static void
invalid_entries_are_skipped_and_noted(void **state)
{
    (void)state;
    assert_choice("x,5,,7.0,99999999999999999999", 5, true);
    assert_non_null(strstr(notes, "\"x\""));
    assert_non_null(strstr(notes, "\"\""));
    assert_non_null(strstr(notes, "\"7.0\""));
    assert_non_null(strstr(notes, "\"99999999999999999999\""));
    assert_non_null(strstr(notes, "PLUGIN_PROTOCOL_VERSIONS"));
}

static void
notes_are_optional(void **state)
{
    static const int versions[] = {2};
    int version;

    (void)state;
    assert_int_equal(gp_version_choose(&version, versions, 1, "x,2", NULL, NULL, NULL), 1);
    assert_int_equal(version, 2);
}

static void
a_plugin_without_versions(void **state)
{
    gp_error err = GP_ERROR_INIT;
    int version;

    (void)state;
    assert_int_equal(gp_version_choose(&version, NULL, 0, "1", NULL, NULL, &err), GP_EINVAL);
    gp_error_release(&err);
}

static void
odd_versions(void **state)
{
    static const int versions[] = {0, -1, INT_MAX, INT_MIN};
    int version;

    (void)state;
    assert_int_equal(gp_version_choose(&version, versions, 4, "0,-1", NULL, NULL, NULL), 1);
    assert_int_equal(version, 0);
    assert_int_equal(gp_version_choose(&version, versions, 4, "-2147483648", NULL, NULL, NULL), 1);
    assert_int_equal(version, INT_MIN);
    assert_int_equal(gp_version_choose(&version, versions, 4, "+2147483647", NULL, NULL, NULL), 1);
    assert_int_equal(version, INT_MAX);
    assert_int_equal(gp_version_choose(&version, versions, 4, "5", NULL, NULL, NULL), 0);
    assert_int_equal(version, INT_MIN);
}

static void
the_host_accepts_its_own(void **state)
{
    static const int ours[] = {1, 3, 12};
    gp_error err = GP_ERROR_INIT;

    (void)state;
    assert_int_equal(gp__version_accept(3, ours, 3, &err), 0);
    assert_int_equal(gp__version_accept(2, ours, 3, &err), GP_EVERSION);
    assert_int_equal(err.number, 2);
    assert_non_null(strstr(gp_error_message(&err), "incompatible API version"));
    assert_non_null(strstr(gp_error_message(&err), "version 2"));
    assert_non_null(strstr(gp_error_message(&err), "1, 3, 12"));
    assert_int_equal(gp__version_accept(2, NULL, 0, &err), GP_EVERSION);
    assert_non_null(strstr(gp_error_message(&err), "none"));
    assert_int_equal(gp__version_accept(2, NULL, 0, NULL), GP_EVERSION);
    gp_error_release(&err);
}

static void
every_allocation_fails(void **state)
{
    static const int ours[] = {1, 3};
    long failing = 0;
    bool failed;

    (void)state;
    do {
        gp_error err = GP_ERROR_INIT;

        alloc_begin(failing++);
        assert_int_equal(gp__version_accept(2, ours, 2, &err), GP_EVERSION);
        assert_int_equal(err.number, 2);
        failed = alloc_failures() > 0;
        gp_error_release(&err);
        alloc_end();
    } while (failed);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_highest_that_the_host_lists),
        cmocka_unit_test(the_lowest_version_if_none_matches),
        cmocka_unit_test(invalid_entries_are_skipped_and_noted),
        cmocka_unit_test(notes_are_optional),
        cmocka_unit_test(a_plugin_without_versions),
        cmocka_unit_test(odd_versions),
        cmocka_unit_test(the_host_accepts_its_own),
        cmocka_unit_test(every_allocation_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
