/*
 * Layer: public. A child process that a runner starts, and that is not itself a plugin. It dies
 * with this process, as plugins do (os/process/spawn.h).
 */
#ifndef GP_PROCESS_H
#define GP_PROCESS_H

#include <stdint.h>

#include "gp/error.h"
#include "gp/runtime.h"

typedef struct gp_process gp_process;

/*
 * Start a child with |argv| and |env|, both NULL-terminated. |*out_fd| and |*err_fd| become the
 * reading ends of its stdout and stderr, the caller's to close.
 *
 * Returns: 0, GP_ESTART, GP_ENOMEM, GP_EOS or GP_EFORKED.
 */
int gp_process_start(gp_process **out, const char *const *argv, const char *const *env, int *out_fd,
                     int *err_fd, gp_error *err);

/* Wait until it has ended. Returns 0, GP_ETIMEOUT, GP_EUSER or GP_EFORKED. */
int gp_process_wait(gp_process *process, int64_t timeout_ms, const gp_interrupt *interrupt);

/* Once it has ended: the exit status, -N for signal N, or GP_STATUS_UNKNOWN. */
int gp_process_status(gp_process *process);

/* SIGKILL, unless it has ended. */
void gp_process_kill(gp_process *process);

int gp_process_pid(const gp_process *process);

/* Kill it if it still runs, and free the object. NULL is fine. Does nothing in a forked child. */
void gp_process_free(gp_process *process);

#endif
