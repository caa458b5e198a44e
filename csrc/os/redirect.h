/*
 * Layer: os. Standard output and standard error of this process, led into pipes of its own: that
 * catches also what child processes and libraries in C print.
 *
 * One at a time in a process. The owner uses it from one thread at a time.
 */
#ifndef GP_OS_REDIRECT_H
#define GP_OS_REDIRECT_H

#include <stdbool.h>

#include "gp/error.h"

typedef struct gp__redirect {
    int saved[2]; /* owned: duplicates of the original descriptors 1 and 2; -1: was closed */
    int fds[2];   /* owned: the reading ends of the pipes that replace them; non-blocking */
    bool active;  /* not restored yet */
} gp__redirect;

#define GP__REDIRECT_INIT {{-1, -1}, {-1, -1}, false}

/*
 * Replace descriptors 1 and 2. Until gp__redirect_restore(), a signal that reports a fault copies
 * what is left of standard error to where it used to go (os/fatal_report.h).
 *
 * Returns: 0, GP_EINVAL if they have been replaced already, or GP_EOS; then nothing has changed.
 */
int gp__redirect_open(gp__redirect *redirect, gp_error *err);

/* Give the descriptors back. What was written before can still be read. Idempotent. */
void gp__redirect_restore(gp__redirect *redirect);

/* Restore, and close everything. Idempotent. */
void gp__redirect_close(gp__redirect *redirect);

#endif
