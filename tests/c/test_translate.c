#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "idle_runner.h"
#include "services/translate.h"
#include "support.h"

/* ---- Without a runner ---- */

static void
connections_are_to_unix_sockets_or_tcp(void **state)
{
    const char *network = "smoke";
    const char *address = "hill 3";
    gp_runner_address translated;
    gp_error err = GP_ERROR_INIT;

    (void)state;
    assert_int_equal(gp__dial_place(NULL, 7, &network, &address, &translated, &err), GP_EBROKER);
    assert_string_equal(gp_error_message(&err), "connection 7 is announced at hill 3 of network "
                                                "\"smoke\"; expected unix or tcp");
    gp_error_release(&err);
    network = "tcp";
    assert_int_equal(gp__dial_place(NULL, 7, &network, &address, &translated, &err), 0);
    assert_string_equal(network, "tcp");
    assert_string_equal(address, "hill 3");
}

/* ---- With a runner ---- */

static int
to_host(void *ctx, gp_runner_address *address, gp_error *err)
{
    int answer = ((idle_runner *)ctx)->answer;

    if (answer < 0) {
        return gp_error_set(err, answer, "no mount holds %s", address->address);
    }
    snprintf(address->address, sizeof(address->address), "/host");
    return 0;
}

static int
to_plugin(void *ctx, gp_runner_address *address, gp_error *err)
{
    (void)ctx;
    (void)err;
    snprintf(address->network, sizeof(address->network), "smoke");
    return 0;
}

static void
expect_failure(idle_runner *it, bool to_host_side, const char *network, int code, const char *words)
{
    gp_error err = GP_ERROR_INIT;
    gp_runner_address out;

    assert_int_equal(gp__translate(it->process, to_host_side, 7, network, "/there", &out, &err),
                     code);
    if (strstr(gp_error_message(&err), words) == NULL) {
        fail_msg("%s", gp_error_message(&err));
    }
    gp_error_release(&err);
}

static void
the_runner_translates_addresses(void **state)
{
    idle_runner it;
    gp_runner_address translated;
    const char *network = "unix";
    const char *address = "/there";

    (void)state;
    idle_runner_start(&it, to_host, to_plugin);
    assert_int_equal(gp__dial_place(it.process, 7, &network, &address, &translated, NULL), 0);
    assert_string_equal(network, "unix");
    assert_string_equal(address, "/host");
    it.answer = GP_EUSER;
    expect_failure(&it, true, "unix", GP_EBROKER,
                   "connection 7 is at /there, which cannot be put into the host's terms: no mount "
                   "holds /there");
    it.answer = GP_ECLOSED;
    expect_failure(&it, true, "unix", GP_ECLOSED, "no mount holds /there");
    expect_failure(&it, true, "much too long", GP_EBROKER, "it is too long");
    expect_failure(&it, false, "unix", GP_EBROKER,
                   "into the plugin's terms: the runner gave the network smoke, not unix or tcp");
    idle_runner_stop(&it);
}

/* ---- Memory ---- */

/* With each allocation failing in turn: an error is returned, and nothing leaks. */
static void
memory_runs_out(void **state)
{
    static const char *const named[] = {"unix", "tcp", "smoke"};
    idle_runner it;

    (void)state;
    idle_runner_start(&it, to_host, to_plugin);
    for (int answer = 0; answer >= GP_EUSER; answer += GP_EUSER) {
        it.answer = answer;
        for (int i = 0; i < 3; i++) {
            for (long failing = 0;; failing++) {
                gp_error err = GP_ERROR_INIT;
                gp_runner_address translated;
                const char *network = named[i];
                const char *address = "/there";
                int rc;

                alloc_begin(failing);
                rc = gp__dial_place(i < 2 ? it.process : NULL, 7, &network, &address, &translated,
                                    &err);
                assert_true(rc == 0 || rc == GP_ENOMEM || rc == GP_EBROKER);
                gp_error_release(&err);
                alloc_end();
                if (alloc_failures() == 0) {
                    break;
                }
            }
        }
    }
    idle_runner_stop(&it);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_are_to_unix_sockets_or_tcp),
        cmocka_unit_test(the_runner_translates_addresses),
        cmocka_unit_test(memory_runs_out),
    };

    return cmocka_run_group_tests(tests, NULL, tear_down_reactor);
}
