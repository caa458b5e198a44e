#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "gen/libraries.h"
#include "os/library.h"
#include "support.h"

static void
functions_are_found(void **state)
{
    const char *(*table[2])(void) = {NULL, NULL};
    gp__library library = {
        .file = GP__GRPC_FILE,
        .of = "gRPC",
        .names = "grpc_g_stands_for\0grpc_version_string\0",
        .table = table,
    };

    (void)state;
    assert_int_equal(gp__library_load(&library, NULL), 0);
    assert_int_equal(gp__library_load(&library, NULL), 0);
    assert_non_null(table[0]);
    assert_true(table[1]()[0] >= '1');
    assert_non_null(gp__library_find(&library, "grpc_init"));
    assert_null(gp__library_find(&library, "grpc_of_tomorrow"));
}

static void
a_missing_library_is_named(void **state)
{
    void *table[1] = {NULL};
    gp__library library = {
        .file = "libnowhere.so.7",
        .of = "Nowhere",
        .names = "here\0",
        .table = table,
    };
    gp_error err = GP_ERROR_INIT;

    (void)state;
    assert_int_equal(gp__library_load(&library, NULL), GP_ELIBRARY);
    assert_int_equal(gp__library_load(&library, &err), GP_ELIBRARY);
    assert_non_null(strstr(err.message, "Nowhere's library cannot be loaded: libnowhere.so.7"));
    assert_non_null(strstr(err.message, "install the package that has libnowhere.so.7"));
    library.bundled = true;
    assert_int_equal(gp__library_load(&library, &err), GP_ELIBRARY);
    assert_non_null(
        strstr(err.message, "libnowhere.so.7 is a part of pygo_plugin, which has to be"));
    gp_error_release(&err);
}

static void
descriptors_are_short(void **state)
{
    void *table[1] = {NULL};
    gp__library library = {
        .file = "libnowhere.so.7",
        .of = "Nowhere",
        .names = "here\0",
        .table = table,
    };
    gp_error err = GP_ERROR_INIT;
    struct rlimit before;
    struct rlimit none;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){0, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(gp__library_load(&library, &err), GP_EOS);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(err.number, EMFILE);
    gp_error_release(&err);
}

static void
a_missing_function_is_named(void **state)
{
    void *table[2] = {NULL, NULL};
    gp__library library = {
        .file = GP__GRPC_FILE,
        .of = "gRPC",
        .names = "grpc_version_string\0grpc_of_tomorrow\0",
        .table = table,
    };
    gp_error err = GP_ERROR_INIT;

    (void)state;
    assert_int_equal(gp__library_load(&library, &err), GP_ELIBRARY);
    assert_non_null(strstr(err.message, "has no function grpc_of_tomorrow"));
    gp_error_release(&err);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_are_found),
        cmocka_unit_test(a_missing_library_is_named),
        cmocka_unit_test(descriptors_are_short),
        cmocka_unit_test(a_missing_function_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
