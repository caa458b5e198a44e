/*
 * Layer: public. What a plugin that speaks net/rpc serves to its hosts: the services Control and
 * Dispenser, what this process prints, and a MuxBroker for each host that is connected.
 *
 *      new --> listen --> start --> SERVING --stop or Quit--> ENDING --> STOPPED --> free
 *
 * ENDING lasts until no handler runs, but no longer than the grace, and then until the hosts have
 * got what was printed; a host's Quit is answered after that. Connections stay until
 * gp_netrpc_plugin_close(), so that hosts receive what was sent last.
 *
 * Threads: any, unless a comment says otherwise.
 */
#ifndef GP_NETRPC_PLUGIN_H
#define GP_NETRPC_PLUGIN_H

#include <stdbool.h>
#include <stdint.h>

#include "gp/error.h"
#include "gp/message.h"
#include "gp/mux_broker.h"
#include "gp/netrpc.h"
#include "gp/runtime.h"
#include "gp/stdio.h"
#include "gp/tls.h"

typedef struct gp_netrpc_plugin gp_netrpc_plugin;

/* A host's request for an implementation, until it is answered. */
typedef struct gp_dispense gp_dispense;

typedef struct gp_netrpc_plugin_options {
    gp_stdio *stdio;       /* a reference is taken; it is finished when the server ends */
    gp_tls *tls;           /* a reference is taken; NULL: none */
    int64_t quit_grace_ms; /* for handlers that run when a host has called Quit */
    int max_workers;       /* handlers of one connection that run at once; 0: 1000 */
    /*
     * Make an implementation and have |dispense|'s broker serve it, and answer, now or later.
     * Called on a worker with no lock held.
     */
    void (*dispense)(void *ctx, gp_dispense *dispense);
    void (*release)(void *ctx); /* nothing will be called any more; may be NULL */
    void *ctx;                  /* owned once gp_netrpc_plugin_new() has succeeded */
} gp_netrpc_plugin_options;

/* Returns: 0, GP_ENOMEM, GP_EOS or GP_EFORKED. */
int gp_netrpc_plugin_new(gp_netrpc_plugin **out, const gp_netrpc_plugin_options *options,
                         gp_error *err);

/*
 * Listen, before the start; once. |network| is "unix" or "tcp"; |*port| (may be NULL) is that of
 * "tcp". Returns: 0, GP_EINVAL, GP_ENOMEM or GP_EOS.
 */
int gp_netrpc_plugin_listen(gp_netrpc_plugin *plugin, const char *network, const char *address,
                            int *port, gp_error *err);

/* Serve. Returns: 0; GP_EINVAL if it does not listen; GP_EOS, GP_ENOMEM or GP_EFORKED. */
int gp_netrpc_plugin_start(gp_netrpc_plugin *plugin, gp_error *err);

/*
 * Take no connections any more, and stop once no handler runs, after |grace_ms| at the latest. A
 * second stop can only shorten the time. Never blocks.
 */
void gp_netrpc_plugin_stop(gp_netrpc_plugin *plugin, int64_t grace_ms);

/* Wait until it has stopped. Returns: 0, GP_ETIMEOUT or GP_EUSER. */
int gp_netrpc_plugin_wait(gp_netrpc_plugin *plugin, int64_t timeout_ms,
                          const gp_interrupt *interrupt);

/*
 * Have |then|(|ctx|) called once, when it has stopped, on a thread that must not block or enter
 * Python. To be called at most once, before the start.
 */
void gp_netrpc_plugin_on_stopped(gp_netrpc_plugin *plugin, gp_then *then, void *ctx);

/* Whether gp_netrpc_plugin_stop() or Quit was called. */
bool gp_netrpc_plugin_stopping(gp_netrpc_plugin *plugin);

/*
 * Wait until everything that was written to the hosts is sent, at most |timeout_ms|: for the end of
 * the process, which loses what is not.
 */
void gp_netrpc_plugin_drain(gp_netrpc_plugin *plugin, int64_t timeout_ms);

/*
 * Stop at once, and end all connections: once what was written is sent, but after |linger_ms| at
 * the latest. Idempotent.
 */
void gp_netrpc_plugin_close(gp_netrpc_plugin *plugin, int64_t linger_ms);

/* Close at once, and free it when the last handler has returned. NULL is fine. */
void gp_netrpc_plugin_release(gp_netrpc_plugin *plugin);

/* ---- One request ---- */

/* What the host calls the plugin. Borrowed: until the request is answered. */
gp_bytes gp_dispense_name(const gp_dispense *dispense);

/* The broker of the connection. Borrowed: take a reference to keep it. */
gp_mux_broker *gp_dispense_broker(const gp_dispense *dispense);

/* Answer with the id under which the broker accepts the host. |dispense| is freed. */
void gp_dispense_reply(gp_dispense *dispense, uint32_t id);

/* Answer with an error. |dispense| is freed. */
void gp_dispense_fail(gp_dispense *dispense, gp_bytes text);

#endif
