/*
 * Layer: plugin. Starts a process and waits for its handshake, which says where the plugin listens.
 *
 * One thread at a time uses a launch. If another thread calls gp__process_kill() on its process,
 * the launch fails early. launch_report.h completes the errors.
 */
#ifndef GP_PLUGIN_LAUNCH_H
#define GP_PLUGIN_LAUNCH_H

#include "base/buf.h"
#include "gp/client.h"
#include "os/process/process.h"
#include "os/process/sealed.h"
#include "plugin/drain.h"
#include "plugin/endpoint.h"
#include "plugin/mirror.h"
#include "plugin/preamble.h"

typedef struct gp__launch {
    const gp_client_options *options; /* borrowed */
    gp_tls *tls;      /* borrowed; NULL: none. With AutoMTLS the plugin's certificate is added */
    gp__sealed image; /* owned until the handshake; the file that runs, if it was to be checked */
    gp__process *process; /* shared: ref */
    gp__mirror *mirror;   /* owned; reads stderr */
    gp__drain *drain;     /* owned; reads stdout once the handshake is over */
    int out_fd;           /* owned; stdout until then, else -1 */
    gp__buf line;         /* owned; output so far that was not skipped */
    gp__preamble skipped; /* owned; output that was skipped */
    int64_t deadline;     /* of the handshake */
} gp__launch;

/*
 * Start the process. If the options have a runner, it starts the process instead; it is owned by
 * the launch in any case. The time for the handshake starts with the check of the file, or with the
 * process if there is no check. |tls| and |socket_dir| may be NULL.
 *
 * Returns: 0, or GP_ESTART, GP_ECHECKSUM, GP_ESTARTTIMEOUT, GP_EUSER, GP_EINVAL, GP_ENOMEM, GP_EOS,
 * GP_EFORKED; then nothing is left behind, and the log sink is still the caller's. On success the
 * launch owns the sink.
 */
int gp__launch_spawn(gp__launch *launch, const gp_client_options *options, gp_tls *tls,
                     const char *socket_dir, const gp_interrupt *interrupt, gp_error *err);

/*
 * Wait for the handshake line.
 *
 * Returns: 0 with |out| filled, or GP_EHANDSHAKE, GP_EVERSION, GP_ETLS, GP_EEXITED,
 * GP_ESTARTTIMEOUT, GP_ENOMEM, GP_EOS, GP_EUSER; then the process has been killed and reaped.
 */
int gp__launch_handshake(gp__launch *launch, gp__endpoint *out, const gp_interrupt *interrupt,
                         gp_error *err);

/* The process is dead: read what is left in its pipes, and close them. Idempotent. */
void gp__launch_finish(gp__launch *launch);

/* Close the log, after finish. Lines that were read are still delivered. Idempotent. */
void gp__launch_close_log(gp__launch *launch);

/* Release everything; a process that still runs goes on, and is reaped when it ends. */
void gp__launch_release(gp__launch *launch);

#endif
