#include <string.h>

#include "gen/libraries.h"
#include "os/library.h"
#include "support.h"

static void
functions_are_found(void **state)
{
    const char *(*table[2])(void) = {NULL, NULL};
    void *handle = NULL;

    (void)state;
    assert_int_equal(gp__library_load(&handle, GP__GRPC_FILE, "gRPC",
                                      "grpc_g_stands_for\0grpc_version_string\0", table, NULL),
                     0);
    assert_non_null(handle);
    assert_non_null(table[0]);
    assert_true(table[1]()[0] >= '1');
}

static void
a_missing_library_is_named(void **state)
{
    void *table[1] = {NULL};
    void *handle = NULL;
    gp_error err = GP_ERROR_INIT;

    (void)state;
    assert_int_equal(gp__library_load(&handle, "libnowhere.so.7", "Nowhere", "here\0", table, &err),
                     GP_ELIBRARY);
    assert_non_null(strstr(err.message, "Nowhere's library cannot be loaded: libnowhere.so.7"));
    assert_non_null(strstr(err.message, "install the package that has libnowhere.so.7"));
    assert_null(handle);
    gp_error_release(&err);
}

static void
a_missing_function_is_named(void **state)
{
    void *table[2] = {NULL, NULL};
    void *handle = NULL;
    gp_error err = GP_ERROR_INIT;

    (void)state;
    assert_int_equal(gp__library_load(&handle, GP__GRPC_FILE, "gRPC",
                                      "grpc_version_string\0grpc_of_tomorrow\0", table, &err),
                     GP_ELIBRARY);
    assert_non_null(strstr(err.message, "has no function grpc_of_tomorrow"));
    assert_null(handle);
    gp_error_release(&err);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_are_found),
        cmocka_unit_test(a_missing_library_is_named),
        cmocka_unit_test(a_missing_function_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
