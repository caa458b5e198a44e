#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "gp/container.h"
#include "os/fd.h"
#include "os/reactor.h"
#include "os/stream.h"

_Static_assert((int)GP__STREAM_READ == (int)GP__WATCH_READ &&
                   (int)GP__STREAM_WRITE == (int)GP__WATCH_WRITE,
               "what a stream waits for is passed on to the reactor as it is");

typedef struct socket_stream {
    gp__stream base;
    int fd; /* owned */
} socket_stream;

static socket_stream *
from_base(const gp__stream *stream)
{
    return gp_container_of(stream, socket_stream, base);
}

/* Why a system call has failed, by |errnum|. Returns as gp__stream_read(). */
static int
failure_of(int errnum, const char *what, gp_error *err)
{
    if (errnum == EAGAIN || errnum == EWOULDBLOCK) {
        return GP__WOULD_BLOCK;
    }
    if (errnum == ECONNRESET || errnum == EPIPE || errnum == ENOTCONN) {
        return gp_error_set(err, GP_ECLOSED, "the other side has closed the connection");
    }
    return gp_error_set_errno(err, errnum, "%s", what);
}

static ptrdiff_t
socket_read(gp__stream *stream, void *bytes, size_t size, gp_error *err)
{
    ssize_t got;

    do {
        got = recv(from_base(stream)->fd, bytes, size, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    return got >= 0 ? got : failure_of(errno, "cannot read from the connection", err);
}

static ptrdiff_t
socket_write(gp__stream *stream, const void *bytes, size_t len, gp_error *err)
{
    ssize_t sent;

    do {
        sent = send(from_base(stream)->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return sent >= 0 ? sent : failure_of(errno, "cannot write to the connection", err);
}

static int
socket_shutdown(gp__stream *stream, gp_error *err)
{
    int rc = shutdown(from_base(stream)->fd, SHUT_WR);

    return rc == 0 ? 0 : failure_of(errno, "cannot end the connection", err);
}

static void
socket_close(gp__stream *stream)
{
    socket_stream *self = from_base(stream);

    gp__fd_close(&self->fd);
    gp__free(self);
}

static int
socket_fd(const gp__stream *stream)
{
    return from_base(stream)->fd;
}

static unsigned
socket_events(const gp__stream *stream, unsigned wanted)
{
    (void)stream;
    return wanted;
}

int
gp__stream_socket_new(gp__stream **out, int fd, gp_error *err)
{
    static const gp__stream_ops ops = {
        .read = socket_read,
        .write = socket_write,
        .shutdown = socket_shutdown,
        .close = socket_close,
        .fd = socket_fd,
        .events = socket_events,
    };
    const int yes = 1;
    socket_stream *self = gp__calloc(1, sizeof(*self));

    if (self == NULL) {
        gp__fd_close(&fd);
        return gp_error_set(err, GP_ENOMEM, "out of memory for a connection");
    }
    /* This fails for sockets that are not TCP's, which need none of it. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    self->base.ops = &ops;
    self->fd = fd;
    *out = &self->base;
    return 0;
}
