#include <signal.h>

#include "client_fixture.h"

/* ---- All of them ---- */

static void
managed_or_all_plugins_are_killed(void **state)
{
    enum { PLUGINS = 6 };
    plugin them[PLUGINS];

    (void)state;
    for (int i = 0; i < PLUGINS; i++) {
        plugin_prepare(&them[i], test_program, "--plugin", i == 0 ? "rude" : "polite");
        them[i].options.managed = i < 3;
        plugin_make(&them[i]);
        if (i != 5) {
            plugin_start(&them[i]);
        }
    }
    assert_int_equal(gp_client_kill_all(true, NULL), 0);
    for (int i = 0; i < PLUGINS; i++) {
        assert_int_equal(gp_client_exited(them[i].client), i < 3);
    }
    assert_int_equal(gp_client_kill_all(true, NULL), 0);
    assert_int_equal(gp_client_kill_all(false, NULL), 0);
    for (int i = 0; i < PLUGINS; i++) {
        assert_int_equal(gp_client_exited(them[i].client), i != 5);
    }
    plugin_start(&them[5]); /* it was not started, so it was not killed */
    for (int i = 0; i < PLUGINS; i++) {
        plugin_release(&them[i]);
    }
}

static void
an_interrupt_kills_all_at_once(void **state)
{
    plugin them[3];

    (void)state;
    for (int i = 0; i < 3; i++) {
        plugin_make_own(&them[i], "deaf");
        plugin_start(&them[i]);
    }
    assert_int_equal(gp_client_kill_all(false, &interrupt_now), GP_EUSER);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(gp_client_exit_status(them[i].client), -SIGKILL);
        plugin_release(&them[i]);
    }
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(managed_or_all_plugins_are_killed),
        cmocka_unit_test(an_interrupt_kills_all_at_once),
    };

    return plugin_main(tests, argc, argv);
}
