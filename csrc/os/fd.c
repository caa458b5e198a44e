#include "os/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#if defined(__linux__) && !defined(GP_PORTABLE)
#include <sys/eventfd.h>
#define USE_EVENTFD 1
#else
#define USE_EVENTFD 0
#endif

#include "base/thread.h"

enum {
    FIRST_FREE = 3, /* the first descriptor that is not one of the standard three */
    PIECE = 512,    /* at most PIPE_BUF: a pipe that poll() calls writable has room for so much */
};

/*
 * Give a descriptor a number above the standard three, which a child's dup2() overwrites before it
 * has used ours.
 */
static int
move_above_standard(int *fd)
{
    int moved;

    if (*fd >= FIRST_FREE) {
        return 0;
    }
    moved = fcntl(*fd, F_DUPFD_CLOEXEC, FIRST_FREE);
    if (moved < 0) {
        return -1;
    }
    close(*fd);
    *fd = moved;
    return 0;
}

static int
make_pipe(int ends[2])
{
#if defined(__linux__) && !defined(GP_PORTABLE)
    return pipe2(ends, O_CLOEXEC);
#else
    if (pipe(ends) < 0) {
        return -1;
    }
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    return 0;
#endif
}

static int
make_socketpair(int ends[2])
{
#if defined(__linux__) && !defined(GP_PORTABLE)
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends);
#else
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0) {
        return -1;
    }
    for (int i = 0; i < 2; i++) {
        fcntl(ends[i], F_SETFD, FD_CLOEXEC);
        gp__fd_set_nonblocking(ends[i]);
    }
    return 0;
#endif
}

static int
make_ends(int ends[2], int (*make)(int ends[2]), const char *what, gp_error *err)
{
    ends[0] = ends[1] = -1;
    if (make(ends) < 0) {
        return gp_error_set_errno(err, errno, "cannot create a %s", what);
    }
    if (move_above_standard(&ends[0]) < 0 || move_above_standard(&ends[1]) < 0) {
        int failed = errno;

        gp__fd_close(&ends[0]);
        gp__fd_close(&ends[1]);
        return gp_error_set_errno(err, failed, "cannot create a %s", what);
    }
    return 0;
}

int
gp__fd_pipe(int ends[2], gp_error *err)
{
    return make_ends(ends, make_pipe, "pipe", err);
}

int
gp__fd_socketpair(int ends[2], gp_error *err)
{
    return make_ends(ends, make_socketpair, "pair of sockets", err);
}

int
gp__fd_socket(int family)
{
#if defined(__linux__) && !defined(GP_PORTABLE)
    return socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
#else
    int fd = socket(family, SOCK_STREAM, 0);

    if (fd >= 0) {
        gp__fd_prepare(fd);
    }
    return fd;
#endif
}

int
gp__fd_set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

void
gp__fd_prepare(int fd)
{
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    gp__fd_set_nonblocking(fd);
}

bool
gp__fd_exhausted(int errnum)
{
    return errnum == EMFILE || errnum == ENFILE || errnum == ENOBUFS || errnum == ENOMEM;
}

void
gp__fd_close(int *fd)
{
    int before = errno;

    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
    errno = before;
}

ssize_t
gp__fd_read(int fd, void *bytes, size_t size)
{
    ssize_t got;

    do {
        got = read(fd, bytes, size);
    } while (got < 0 && errno == EINTR);
    return got;
}

bool
gp__fd_write_within(int to, const char *bytes, size_t len, int patience_ms)
{
    while (len > 0) {
        struct pollfd writable = {.fd = to, .events = POLLOUT};
        ssize_t put = -1;

        if (poll(&writable, 1, patience_ms) > 0 && (writable.revents & POLLOUT) != 0) {
            put = write(to, bytes, len < PIECE ? len : PIECE);
        }
        if (put <= 0) {
            return false;
        }
        bytes += put;
        len -= (size_t)put;
    }
    return true;
}

void
gp__fd_copy_available(int from, int to, int patience_ms)
{
    char piece[PIECE];
    ssize_t got = 0;
    int left = 0;

    /* Other processes may hold the pipe as well, and fill it faster than it is emptied here. */
    ioctl(from, FIONREAD, &left);
    do {
        left -= (int)got;
        got = left > 0 ? gp__fd_read(from, piece, sizeof(piece)) : 0;
    } while (got > 0 && gp__fd_write_within(to, piece, (size_t)got, patience_ms));
}

int
gp__fd_poll(struct pollfd *fds, nfds_t count, int64_t deadline)
{
    /* No single poll() waits longer, so that its timeout fits an int. */
    const int64_t longest = 3600 * 1000 * GP__MS;
    int ready;

    do {
        int64_t left = deadline == GP__FOREVER ? longest : deadline - gp__now();

        left = left < 0 ? 0 : left > longest ? longest : left;
        ready = poll(fds, count, (int)((left + GP__MS - 1) / GP__MS));
    } while ((ready == 0 && (deadline == GP__FOREVER || gp__now() < deadline)) ||
             (ready < 0 && errno == EINTR));
    return ready;
}

int
gp__fd_open_wakeup(int fds[2], gp_error *err)
{
#if USE_EVENTFD
    fds[0] = fds[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fds[0] < 0 ? gp_error_set_errno(err, errno, "eventfd") : 0;
#else
    int rc = gp__fd_pipe(fds, err);

    if (rc == 0 && (gp__fd_set_nonblocking(fds[0]) < 0 || gp__fd_set_nonblocking(fds[1]) < 0)) {
        rc = gp_error_set_errno(err, errno, "cannot make a pipe non-blocking");
        gp__fd_close(&fds[0]);
        gp__fd_close(&fds[1]);
    }
    return rc;
#endif
}

void
gp__fd_close_wakeup(int fds[2])
{
    if (fds[1] == fds[0]) {
        fds[1] = -1;
    }
    gp__fd_close(&fds[0]);
    gp__fd_close(&fds[1]);
}

void
gp__fd_wake(const int fds[2])
{
#if USE_EVENTFD
    uint64_t one = 1;
#else
    char one = 1;
#endif

    /* A write that a full pipe refuses is not needed: the pipe is readable. */
    while (write(fds[1], &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}
