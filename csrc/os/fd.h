/*
 * Layer: os. Descriptors: pipes and sockets that no child inherits by accident, and waiting with a
 * deadline.
 */
#ifndef GP_OS_FD_H
#define GP_OS_FD_H

#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <sys/types.h>

#include "gp/error.h"

/*
 * A pipe: ends[0] to read, ends[1] to write. Both are close-on-exec and not among the standard
 * three, even if the host has closed some of those.
 */
int gp__fd_pipe(int ends[2], gp_error *err);

/* A pair of connected stream sockets, as gp__fd_pipe() makes them, and non-blocking. */
int gp__fd_socketpair(int ends[2], gp_error *err);

/*
 * A stream socket that no child inherits by accident, and non-blocking. Returns it, or -1 with
 * errno.
 */
int gp__fd_socket(int family);

int gp__fd_set_nonblocking(int fd);

/* What accept() gives: have no child inherit it, and non-blocking. */
void gp__fd_prepare(int fd);

/* Close |*fd| unless it is negative, and make it so. Keeps errno. */
void gp__fd_close(int *fd);

/* read(), whatever signals arrive. May be called from signal handlers. */
ssize_t gp__fd_read(int fd, void *bytes, size_t size);

/* How to open a directory for what is in it, which this user need not be allowed to list. */
#if defined(O_PATH) && !defined(GP_PORTABLE)
#define GP__O_DIRECTORY (O_PATH | O_DIRECTORY | O_CLOEXEC)
#else
#define GP__O_DIRECTORY (O_RDONLY | O_DIRECTORY | O_CLOEXEC)
#endif

/*
 * What poll() looks for to notice that the other end will send no more; elsewhere than on Linux,
 * that it is closed.
 */
#if defined(POLLRDHUP)
#define GP__POLLHUP POLLRDHUP
#else
#define GP__POLLHUP 0
#endif

/*
 * poll() until |deadline|, whatever signals arrive.
 *
 * Returns: how many are ready, 0 at the deadline, or -1 with errno.
 */
int gp__fd_poll(struct pollfd *fds, nfds_t count, int64_t deadline);

/*
 * What one thread wakes another one by: |fds[0]| becomes readable, and stays so until it is read.
 */
int gp__fd_open_wakeup(int fds[2], gp_error *err);
void gp__fd_wake(const int fds[2]);
void gp__fd_close_wakeup(int fds[2]);

#endif
