/*
 * A plugin that speaks net/rpc, in the process of the test. What it dispenses as "echo" answers
 * Plugin.Echo with its argument, a string; "held" is answered when the test says so; other names
 * are refused.
 */
#ifndef GP_TESTS_NETRPC_PLUGIN_FIXTURE_H
#define GP_TESTS_NETRPC_PLUGIN_FIXTURE_H

#include <stdatomic.h>

#include "gp/netrpc_plugin.h"
#include "support.h"

typedef struct netrpc_plugin {
    gp_netrpc_plugin *server;
    gp_stdio *stdio;
    char path[128];
    gp_mutex lock;
    gp_cond changed;
    gp_netrpc_request *held GP_GUARDED_BY(&lock); /* a call of Plugin.Hold, not answered yet */
    int made GP_GUARDED_BY(&lock);                /* implementations */
    int released GP_GUARDED_BY(&lock);            /* services of implementations */
} netrpc_plugin;

/* Serve in a directory of the test's. */
void netrpc_plugin_start(netrpc_plugin *it);

/* Wait for a call of Plugin.Hold; answer it. */
void netrpc_plugin_await_held(netrpc_plugin *it);
void netrpc_plugin_answer_held(netrpc_plugin *it);

/* Stop at once if it has not stopped, and free everything. */
void netrpc_plugin_finish(netrpc_plugin *it);

/* Call |method| with a string; the reply, to be freed by free(), or NULL with |err|. */
char *call_text(gp_netrpc_client *client, const char *method, const char *text, gp_error *err);

#endif
