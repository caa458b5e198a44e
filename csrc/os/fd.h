/*
 * Layer: os. Descriptors: pipes that no child inherits by accident, and waiting with a deadline.
 */
#ifndef GP_OS_FD_H
#define GP_OS_FD_H

#include <poll.h>
#include <stdint.h>

#include "gp/error.h"

/*
 * A pipe: ends[0] to read, ends[1] to write. Both are close-on-exec and not among the standard three,
 * even if the host has closed some of those.
 */
int gp__fd_pipe(int ends[2], gp_error *err);

int gp__fd_set_nonblocking(int fd);

/* Close |*fd| unless it is negative, and make it so. Keeps errno. */
void gp__fd_close(int *fd);

/*
 * poll() until |deadline|, whatever signals arrive.
 *
 * Returns: how many are ready, 0 at the deadline, or -1 with errno.
 */
int gp__fd_poll(struct pollfd *fds, nfds_t count, int64_t deadline);

#endif
