#include "rpc/reset.h"

#include <string.h>

#include "base/thread.h"
#include "gp/grpc_status.h"
#include "support.h"

static const char reset[] = "Received RST_STREAM with error code 8";
static const char newer_reset[] =
    "Stream removed (RST_STREAM (Received RST_STREAM with error code 8))";

/* For a call whose deadline is at 1 s, and whose status comes |late| nanoseconds after that. */
static bool
by_deadline(int code, const char *details, int64_t late)
{
    const int64_t deadline = 1000000000;

    return gp__reset_by_deadline(code, (gp_bytes){details, strlen(details)}, deadline,
                                 deadline + late);
}

static void
a_reset_at_the_deadline_or_later_is_made_by_it(void **state)
{
    (void)state;
    assert_true(by_deadline(GP_GRPC_CANCELLED, reset, 0));
    assert_true(by_deadline(GP_GRPC_CANCELLED, reset, 1));
    assert_true(by_deadline(GP_GRPC_CANCELLED, newer_reset, 1));
    assert_true(by_deadline(GP_GRPC_CANCELLED, reset, 60000000000));
    assert_true(by_deadline(GP_GRPC_CANCELLED, reset, -GP__RESET_EARLY));
}

static void
a_reset_before_the_deadline_is_not(void **state)
{
    (void)state;
    assert_false(by_deadline(GP_GRPC_CANCELLED, reset, -GP__RESET_EARLY - 1));
    assert_false(by_deadline(GP_GRPC_CANCELLED, reset, -900000000));
}

static void
a_call_without_a_deadline_has_not_ended_by_it(void **state)
{
    const gp_bytes details = {reset, strlen(reset)};

    (void)state;
    assert_false(gp__reset_by_deadline(GP_GRPC_CANCELLED, details, GP__FOREVER, gp__now()));
}

static void
a_reset_that_grpc_ascribes_to_the_deadline_is_made_by_it(void **state)
{
    (void)state;
    assert_true(by_deadline(GP_GRPC_DEADLINE_EXCEEDED, reset, -900000000));
}

static void
other_statuses_stay(void **state)
{
    (void)state;
    assert_false(by_deadline(GP_GRPC_CANCELLED, "", 1));
    assert_false(by_deadline(GP_GRPC_CANCELLED, "CANCELLED", 1));
    assert_false(by_deadline(GP_GRPC_CANCELLED, "Locally cancelled by application!", 1));
    assert_false(by_deadline(GP_GRPC_CANCELLED, "Received RST_STREAM with error code 2", 1));
    assert_false(by_deadline(GP_GRPC_CANCELLED, "Received RST_STREAM with error code 80", 1));
    assert_false(by_deadline(GP_GRPC_DEADLINE_EXCEEDED, "the server's own words", 1));
    assert_false(by_deadline(GP_GRPC_INTERNAL, reset, 1));
    assert_false(by_deadline(GP_GRPC_OK, reset, 1));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reset_at_the_deadline_or_later_is_made_by_it),
        cmocka_unit_test(a_reset_before_the_deadline_is_not),
        cmocka_unit_test(a_call_without_a_deadline_has_not_ended_by_it),
        cmocka_unit_test(a_reset_that_grpc_ascribes_to_the_deadline_is_made_by_it),
        cmocka_unit_test(other_statuses_stay),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
