/*
 * Layer: public. Templates: processes that have imported a plugin's program, and that become the
 * plugin by copying themselves, which takes less time than a start.
 *
 * The host runs the program with a socket as its stdin. When the program is ready to serve, it says
 * so there, and waits. For each launch it is sent what a process gets: descriptors, environment,
 * working directory. It copies itself (gp_template_clone), and the copy takes that and goes on. The
 * copy is a child of the host, not of the template: the host reaps it, it dies with the host, and
 * it outlives the template.
 *
 *     host                             template                            copy
 *      |------------ run --------------->|
 *      |<----------- READY: its files ---|   or REFUSED: why; it exits
 *      |------------ LAUNCH ------------>|------------ clone --------------->|
 *      |<--------------------------------------------- STARTED: its pid -----|
 *      |<----------- FAILED: errno ------|   if there is no copy
 *      |------------ (end) ------------->|   it exits
 *
 * A message is one byte for its kind, four for the length of the rest, most significant first, and
 * the rest. LAUNCH begins with a byte that is 1 for a process that outlives the host, and four that
 * are the host's pid; then come the working directory (empty: the template's own) and the entries
 * of the environment, each with a NUL after it. Its first byte carries three descriptors, for stdin,
 * stdout and stderr. READY holds paths, each with a NUL after it.
 */
#ifndef GP_TEMPLATE_H
#define GP_TEMPLATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "gp/error.h"
#include "gp/runtime.h"

typedef enum gp_template_message {
    GP_TEMPLATE_READY = 'R',
    GP_TEMPLATE_REFUSED = 'X',
    GP_TEMPLATE_LAUNCH = 'L',
    GP_TEMPLATE_STARTED = 'S',
    GP_TEMPLATE_FAILED = 'F',
} gp_template_message;

typedef struct gp_template gp_template;

/*
 * Run the program. |argv| and |env| are NULL-terminated; |directory| may be NULL. Blocks until the
 * exec.
 *
 * Returns: 0, GP_ESTART, GP_ENOMEM or GP_EOS.
 */
int gp_template_open(gp_template **out, const char *const *argv, const char *const *env,
                     const char *directory, gp_error *err);

/*
 * Wait until it is ready; to be called by one thread at a time. |*files| and |*files_len| are then
 * the paths of READY, and belong to the template. Otherwise the template has ended.
 *
 * Returns: 0, GP_ECLOSED (with the reason), GP_ETIMEOUT (to be called again), GP_EUSER or
 * GP_ENOMEM.
 */
int gp_template_wait(gp_template *tmpl, const char **files, size_t *files_len, int64_t timeout_ns,
                     const gp_interrupt *interrupt, gp_error *err);

/* Whether it can launch, as far as is known. Threads: any. */
bool gp_template_alive(gp_template *tmpl);

int gp_template_pid(const gp_template *tmpl);

gp_template *gp_template_ref(gp_template *tmpl);

/* Dropping the last reference ends the process. */
void gp_template_unref(gp_template *tmpl);

/* End the process. Plugins that it has launched go on. Threads: any. */
void gp_template_close(gp_template *tmpl);

/* ---- In the template ---- */

/* Returns NULL if this process can copy itself, or the reason why not. */
const char *gp_template_obstacle(void);

/*
 * Copy this process, which has one thread. Returns 0 in the copy, and its pid, or -1 with errno,
 * in the template. The copy's parent is the template's parent.
 */
pid_t gp_template_clone(void);

/*
 * In the copy: become a process that dies with |host|, its parent, or that outlives it. Does not
 * return if the host has died already.
 */
void gp_template_begin(bool detached, pid_t host);

#endif
