/*
 * Layer: plugin. What kill_all.c needs of a client. The struct is client.c's own.
 */
#ifndef GP_PLUGIN_CLIENT_H
#define GP_PLUGIN_CLIENT_H

#include <stdbool.h>

#include "gp/client.h"

/* Dropping the last reference ends the plugin as gp_client_free() does. */
gp_client *gp__client_ref(gp_client *client);
void gp__client_unref(gp_client *client);

/* Whether gp_client_kill_all(managed_only) kills this client, too. Takes no lock. */
bool gp__client_is_killed_with_all(const gp_client *client, bool managed_only);

/* Cancel all calls to the plugin, if it runs. */
void gp__client_cancel_calls(gp_client *client);

/*
 * Whether this thread is starting or killing the client, further up its stack: then it has been
 * called by an interrupt (a signal handler of the host, for instance) or by a runner, and must not
 * wait for itself.
 */
bool gp__client_is_at_work(gp_client *client);

/*
 * If the client's runner is about to start the process, which may take for ever, remove the client
 * from the registry: the thread that starts the process will kill it at once.
 */
void gp__client_forget_if_runner_starts(gp_client *client);

#endif
