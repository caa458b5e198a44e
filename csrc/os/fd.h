/*
 * Layer: os. Descriptors: close-on-exec pipes and sockets, reading and writing, and waiting with a
 * deadline.
 */
#ifndef GP_OS_FD_H
#define GP_OS_FD_H

#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "gp/error.h"

/*
 * A pipe: ends[0] to read, ends[1] to write. Both are close-on-exec. Their numbers are above the
 * standard three, even if the program has closed some of those.
 */
int gp__fd_pipe(int ends[2], gp_error *err);

/* A pair of connected stream sockets: as the ends of gp__fd_pipe(), and non-blocking. */
int gp__fd_socketpair(int ends[2], gp_error *err);

/* A close-on-exec, non-blocking stream socket. Returns it, or -1 with errno. */
int gp__fd_socket(int family);

int gp__fd_set_nonblocking(int fd);

/* Make a descriptor close-on-exec and non-blocking, for instance one that accept() returned. */
void gp__fd_prepare(int fd);

/*
 * Whether accept() has failed with |errnum| because descriptors or memory are short, so that it may
 * succeed later.
 */
bool gp__fd_exhausted(int errnum);

/* Close |*fd| unless it is negative, and set it to -1. Keeps errno. */
void gp__fd_close(int *fd);

/* read(), repeated when a signal interrupts it. May be called from signal handlers. */
ssize_t gp__fd_read(int fd, void *bytes, size_t size);

/*
 * Write |bytes|, waiting at most |patience_ms| each time that |to| takes no more. Returns whether
 * all of them were written. May be called from signal handlers.
 */
bool gp__fd_write_within(int to, const char *bytes, size_t len, int patience_ms);

/*
 * Copy what is in the pipe |from| now to |to|, as gp__fd_write_within() does, and nothing that is
 * written to the pipe meanwhile. May be called from signal handlers.
 */
void gp__fd_copy_available(int from, int to, int patience_ms);

/* The flags by which to open a directory for access to files in it, without listing them. */
#if defined(O_PATH) && !defined(GP_PORTABLE)
#define GP__O_DIRECTORY (O_PATH | O_DIRECTORY | O_CLOEXEC)
#else
#define GP__O_DIRECTORY (O_RDONLY | O_DIRECTORY | O_CLOEXEC)
#endif

/*
 * The event by which poll() reports that the other end will send no more. Systems other than Linux
 * have none: there a closed end is reported as POLLHUP, which need not be asked for.
 */
#if defined(POLLRDHUP)
#define GP__POLLHUP POLLRDHUP
#else
#define GP__POLLHUP 0
#endif

/*
 * poll() until |deadline|, repeated when a signal interrupts it.
 *
 * Returns: how many are ready, 0 at the deadline, or -1 with errno.
 */
int gp__fd_poll(struct pollfd *fds, nfds_t count, int64_t deadline);

/*
 * Descriptors by which one thread wakes another: gp__fd_wake() makes |fds[0]| readable, and it
 * stays so until it is read. Both may be the same descriptor.
 */
int gp__fd_open_wakeup(int fds[2], gp_error *err);
void gp__fd_wake(const int fds[2]);
void gp__fd_close_wakeup(int fds[2]);

#endif
