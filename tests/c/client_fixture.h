/*
 * Plugins and clients of them, for the tests of plugin/. The plugin is the test program itself: a
 * test's main() returns plugin_main().
 */
#ifndef GP_TESTS_CLIENT_FIXTURE_H
#define GP_TESTS_CLIENT_FIXTURE_H

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gp/client.h"
#include "gp/handshake.h"
#include "support.h"

extern char **environ;

/* This program's path: /proc/self/exe is another one under valgrind. */
extern char test_program[500];

/* A client and what it needs. */
typedef struct plugin {
    const char *argv[4];
    gp_client_options options;
    gp_client *client;
    recorder rec;
    gp_error err;
} plugin;

/* Set the options for |program|, which tests may then change before plugin_make(). */
void plugin_prepare(plugin *it, const char *program, const char *arg1, const char *arg2);

/* Make the client, which has to succeed. */
void plugin_make(plugin *it);

/*
 * Prepare and make a client of this program, which serves health and controller on a unix socket.
 * |manner| is "polite", "rude" (no controller), or "deaf": Shutdown stops the server, but not the
 * process.
 */
void plugin_make_own(plugin *it, const char *manner);

/* The same of a shell script. */
void plugin_make_script(plugin *it, const char *script);

/* Both have to succeed. */
void plugin_start(plugin *it);
void plugin_ping(plugin *it);

/* Wait for the plugin's end without the client's help. */
void plugin_await_exit(plugin *it);

/* Free the client and the rest. */
void plugin_release(plugin *it);

/* Be the plugin if the arguments say so, or run the tests. Returns the exit status. */
#define plugin_main(tests, argc, argv)                 \
    ((argc) == 3 && strcmp((argv)[1], "--plugin") == 0 \
         ? serve_as_plugin((argv)[2])                  \
         : cmocka_run_group_tests(tests, set_up_clients, tear_down_clients))

/* What plugin_main() needs. */
int serve_as_plugin(const char *manner);
int set_up_clients(void **state);
int tear_down_clients(void **state);

#endif
