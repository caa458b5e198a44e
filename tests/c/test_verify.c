#include <string.h>

#include "base/alloc.h"
#include "gp/client.h"
#include "plugin/options.h"
#include "plugin/verify.h"
#include "support.h"
#include "tls/checksum.h"

static const char text[] = "#!/bin/sh\nexit 0\n";
static const char *const environment[] = {"PATH=/nowhere", NULL};

static unsigned char sum[GP__CHECKSUM_MAX];

/* Options that ask for the sha256 of |text|. */
static gp_client_options
options_for(const char *const *argv)
{
    gp__checksum *made;

    assert_int_equal(gp__checksum_new(&made, "sha256", NULL), 0);
    gp__checksum_add(made, text, sizeof(text) - 1);
    assert_int_equal(gp__checksum_end(made, sum, NULL), 32);
    gp__checksum_free(made);
    return (gp_client_options){.argv = argv,
                               .checksum_hash = "sha256",
                               .checksum = sum,
                               .checksum_len = 32,
                               .max_port = 1,
                               .start_timeout_ms = 1};
}

static void
the_expected_file_is_copied(void **state)
{
    const char *argv[] = {make_file("plugin", text, 0755), NULL};
    const gp_client_options options = options_for(argv);
    gp__sealed image;

    (void)state;
    assert_int_equal(gp__verify(&image, &options, environment, GP__FOREVER, NULL, NULL), 0);
    assert_string_equal(image.origin, argv[0]);
    gp__sealed_release(&image);
}

static void
another_file_is_refused(void **state)
{
    const char *argv[] = {make_file("other", "#!/bin/sh\nexit 1\n", 0755), NULL};
    gp_client_options options = options_for(argv);
    gp_error err = GP_ERROR_INIT;
    gp__sealed image = GP__SEALED_INIT;

    (void)state;
    assert_int_equal(gp__verify(&image, &options, environment, GP__FOREVER, NULL, &err),
                     GP_ECHECKSUM);
    assert_non_null(strstr(gp_error_message(&err), "nothing was started"));
    assert_int_equal(strncmp(err.detail, "sha256 ", 7), 0);
    assert_int_equal(strlen(err.detail), 7 + 64 + 1 + 64);
    assert_null(image.path);
    argv[0] = "no-such-plugin";
    assert_int_equal(gp__verify(&image, &options, environment, GP__FOREVER, NULL, &err), GP_ESTART);
    assert_non_null(strstr(gp_error_message(&err), "in PATH (/nowhere)"));
    argv[0] = "/nowhere/plugin";
    assert_int_equal(gp__verify(&image, &options, environment, GP__FOREVER, NULL, &err), GP_ESTART);
    gp_error_release(&err);
}

static void
expect_invalid(const gp_client_options *options, const char *words)
{
    gp_error err = GP_ERROR_INIT;
    gp__options own;

    assert_int_equal(gp__options_init(&own, options, &err), GP_EINVAL);
    assert_non_null(strstr(gp_error_message(&err), words));
    gp_error_release(&err);
}

static void
options_are_checked_beforehand(void **state)
{
    const char *argv[] = {"plugin", NULL};
    gp_client_options options = options_for(argv);
    gp__options own;

    (void)state;
    assert_int_equal(gp__options_init(&own, &options, NULL), 0);
    assert_ptr_not_equal(own.view.checksum, sum);
    assert_memory_equal(own.view.checksum, sum, 32);
    gp__options_release(&own);
    options.checksum_hash = "sha257";
    expect_invalid(&options, "unknown hash");
    options.checksum_hash = "sha512";
    expect_invalid(&options, "sha512 has 64 bytes, but the expected one has 32");
    options.reattach_network = "unix";
    options.reattach_address = "/nowhere";
    expect_invalid(&options, "excludes reattaching");
}

static void
when_memory_is_short(void **state)
{
    const char *argv[] = {make_file("short", text, 0755), NULL};
    const gp_client_options options = options_for(argv);
    gp__sealed image;
    long failing = 0;
    long used;
    int rc;

    (void)state;
    do {
        alloc_begin(failing++);
        rc = gp__verify(&image, &options, environment, GP__FOREVER, NULL, NULL);
        assert_true(rc == 0 || alloc_failures() > 0);
        if (rc == 0) {
            gp__sealed_release(&image);
        }
        used = alloc_end();
    } while (failing <= used);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_expected_file_is_copied),
        cmocka_unit_test(another_file_is_refused),
        cmocka_unit_test(options_are_checked_beforehand),
        cmocka_unit_test(when_memory_is_short),
    };

    return cmocka_run_group_tests(tests, NULL, tear_down_directory);
}
