/*
 * Layer: plugin. From an argument vector to a plugin that has said where it listens.
 *
 * One thread launches; gp__process_kill() on launch.process, from any thread, makes it fail early.
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
    gp_tls *tls;          /* borrowed; NULL: none. An automatic one learns whom to trust */
    gp__sealed image;     /* what runs, until the handshake, if it had to be checked */
    gp__process *process; /* shared: ref */
    gp__mirror *mirror;   /* owned; its stderr */
    gp__drain *drain;     /* owned; its stdout once the handshake is over */
    int out_fd;           /* owned; its stdout until then, else -1 */
    gp__buf line;         /* what came before the end of the handshake line, and was not skipped */
    gp__preamble skipped; /* and what was */
    int64_t deadline;
} gp__launch;

/*
 * Start the process, with the options' runner if there is one, which is taken over. The clock for
 * the handshake starts with the check of its file, or else with the process. |tls| and |socket_dir|
 * may be NULL.
 *
 * Returns: 0, or GP_ESTART, GP_ECHECKSUM, GP_ESTARTTIMEOUT, GP_EUSER, GP_EINVAL, GP_ENOMEM, GP_EOS,
 * GP_EFORKED with nothing left behind and the sink still the caller's. On success the sink belongs
 * to the launch.
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

/* The process is dead: take over what it left in its pipes, and close them. Idempotent. */
void gp__launch_finish(gp__launch *launch);

/* Close the log, after finish. What was read of it is still delivered. Idempotent. */
void gp__launch_close_log(gp__launch *launch);

/* Let go of everything. */
void gp__launch_release(gp__launch *launch);

#endif
