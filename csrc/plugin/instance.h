/*
 * Layer: plugin. The plugin of a client: launched or joined, connected to, and ended.
 *
 *      init --> find --> connect --> end or abandon --> release
 *
 * An instance has no lock and no state: its client calls these functions from one thread at a time.
 * Once connect has succeeded, any thread may read the fields that were written before, and use the
 * session.
 */
#ifndef GP_PLUGIN_INSTANCE_H
#define GP_PLUGIN_INSTANCE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "gp/client.h"
#include "os/socket.h"
#include "plugin/endpoint.h"
#include "plugin/launch.h"
#include "plugin/options.h"
#include "plugin/output.h"
#include "plugin/session.h"

typedef struct gp__instance {
    gp__options *options;         /* borrowed: the client's */
    gp_tls *tls;                  /* shared: ref; NULL: none. For all connections */
    char *socket_dir;             /* owned; NULL: none. Removed with the process */
    gp__launch launch;            /* unused when joined */
    gp__process *process;         /* shared: ref; NULL before find, or unknown */
    gp__endpoint endpoint;        /* owned; where the plugin listens, from connect on */
    gp__socket_found found;       /* the listener that answered, if the plugin was joined */
    gp__output *output;           /* shared: ref; for the plugin's output. NULL before connect */
    gp__session *session;         /* owned; NULL before connect */
    atomic_bool ending;           /* the end of the connection is not to be logged any more */
    atomic_bool exit_is_reported; /* to the exit sink, which must not be used after that */
    atomic_bool has_survived;     /* the process went on after its connection had ended */
} gp__instance;

void gp__instance_init(gp__instance *instance, gp__options *options);

/* Release everything. A process that still runs goes on, with its outputs closed. */
void gp__instance_release(gp__instance *instance);

/* Whether the process was launched, and not joined. */
bool gp__instance_is_launched(const gp__instance *instance);

/* Whether ending the instance ends the process. Not if it was joined for a test. */
bool gp__instance_is_to_be_killed(const gp__instance *instance);

/*
 * Start the process, or find the process that runs already. After this |process| is set (NULL:
 * unknown), and killing it makes connect fail. On failure nothing is left running. Returns: 0, or
 * as gp__launch_spawn() or gp__reattach().
 */
int gp__instance_find(gp__instance *instance, const gp_interrupt *interrupt, gp_error *err);

/*
 * If the process was launched, wait for its handshake; then open a session. On failure the instance
 * has been ended. Returns: 0, or as gp__launch_handshake() or gp__session_open().
 */
int gp__instance_connect(gp__instance *instance, const gp_interrupt *interrupt, gp_error *err);

/* Report the process's end to the exit sink, unless that was done. */
void gp__instance_report_exit(gp__instance *instance);

/*
 * End the plugin. It has |patience_ms| to exit by itself; 0: it is not asked to. Then wait until
 * the last of its output has been delivered. Returns: 0 or GP_EUSER.
 */
int gp__instance_end(gp__instance *instance, int64_t patience_ms, const gp_interrupt *interrupt);

/* End the plugin at once if it was launched; only disconnect if it was joined or detached. */
void gp__instance_abandon(gp__instance *instance);

/*
 * Whether the process has ended. |is_open|: connect has succeeded, so that its session may be
 * asked. May wait some milliseconds for a process that is just exiting.
 */
bool gp__instance_is_gone(gp__instance *instance, gp__process *process, bool is_open);

/*
 * The same after a call has failed because the connection has ended, if it has: waits up to a
 * second for a process that runs on, which may close its connection before it exits, and then for
 * the rest of its stderr. Only once for each of that. To be called after connect.
 */
bool gp__instance_await_gone(gp__instance *instance, gp__process *process,
                             const gp_interrupt *interrupt);

/*
 * Whether nothing listens at the plugin's address, which is all that can be found out if the
 * process is unknown. To be called after connect.
 */
bool gp__instance_is_deserted(const gp__instance *instance);

#endif
