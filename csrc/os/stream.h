/*
 * Layer: os. A stream of bytes in both directions, whatever carries it: a socket
 * (os/stream_socket.c), or TLS over another stream (tls/tls_stream.h). Streams stack in any order,
 * and what moves bytes over a connection (mux/pump.h) does not know what is below.
 *
 * No function blocks. One that cannot go on returns GP__WOULD_BLOCK; its caller then waits until
 * gp__stream_fd() is ready for what gp__stream_events() says, and calls again:
 *
 *     while ((got = gp__stream_read(stream, bytes, size, err)) == GP__WOULD_BLOCK) {
 *         wait for gp__stream_fd(stream), gp__stream_events(stream, GP__STREAM_READ);
 *     }
 *
 * A stream may need to read before it can write, and to write before it can read, as TLS does in
 * its handshake. So the user of a stream that is written to must read it, too; gp__stream_events()
 * covers the rest.
 *
 * Waiting is level-triggered: a caller may wait without having read to the end, as long as
 * gp__stream_pending() is false.
 *
 * Threads: none of its own, no locks. One call at a time.
 */
#ifndef GP_OS_STREAM_H
#define GP_OS_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gp/error.h"
#include "gp/runtime.h"

/* Returned by functions that would have to wait. It is not a GP_E* code, and no error is set. */
enum { GP__WOULD_BLOCK = -1000 };

/* Directions. They are the reactor's and can be passed on to gp__reactor_want(). */
enum { GP__STREAM_READ = 1, GP__STREAM_WRITE = 2 };

typedef struct gp__stream gp__stream;

/* What a kind of stream implements; see the functions below. */
typedef struct gp__stream_ops {
    ptrdiff_t (*read)(gp__stream *stream, void *bytes, size_t size, gp_error *err);
    ptrdiff_t (*write)(gp__stream *stream, const void *bytes, size_t len, gp_error *err);
    int (*flush)(gp__stream *stream, gp_error *err); /* NULL: the stream stores nothing */
    int (*shutdown)(gp__stream *stream, gp_error *err);
    void (*close)(gp__stream *stream);
    int (*fd)(const gp__stream *stream);
    unsigned (*events)(const gp__stream *stream, unsigned wanted);
    bool (*pending)(const gp__stream *stream); /* NULL: it never has anything */
} gp__stream_ops;

/* The first member of every kind of stream. */
struct gp__stream {
    const gp__stream_ops *ops;
};

/*
 * Read at most |size| bytes, of which there is at least one.
 *
 * Returns: how many there are; 0 at the end, when the other side has ended its direction in the
 * stream's own way; GP__WOULD_BLOCK; GP_ECLOSED when the connection was cut instead; or another
 * GP_E* code.
 */
static inline ptrdiff_t
gp__stream_read(gp__stream *stream, void *bytes, size_t size, gp_error *err)
{
    return stream->ops->read(stream, bytes, size, err);
}

/*
 * Take over the first of |len| bytes, of which there is at least one. A stream that transforms them
 * may store what the one below does not take: gp__stream_flush() sends that.
 *
 * Returns: how many it took, one at least; GP__WOULD_BLOCK; GP_ECLOSED when the other side is gone;
 * or another GP_E* code. Why the other side is gone shows when the stream is read.
 */
static inline ptrdiff_t
gp__stream_write(gp__stream *stream, const void *bytes, size_t len, gp_error *err)
{
    return stream->ops->write(stream, bytes, len, err);
}

/*
 * Send what the stream has stored, the beginning of a handshake included. Returns: 0 when nothing
 * is left, GP__WOULD_BLOCK, or as gp__stream_write().
 */
static inline int
gp__stream_flush(gp__stream *stream, gp_error *err)
{
    return stream->ops->flush != NULL ? stream->ops->flush(stream, err) : 0;
}

/*
 * Tell the other side that no more data will come. It may go on sending, and be read. To be called
 * again after GP__WOULD_BLOCK. Returns: 0, GP__WOULD_BLOCK, or as gp__stream_write().
 */
static inline int
gp__stream_shutdown(gp__stream *stream, gp_error *err)
{
    return stream->ops->shutdown(stream, err);
}

/*
 * Close and free the stream, and those below it. What is stored is sent as far as that does not
 * block. NULL is fine.
 */
static inline void
gp__stream_close(gp__stream *stream)
{
    if (stream != NULL) {
        stream->ops->close(stream);
    }
}

/* The descriptor to wait for; the same for all of the stream's life. */
static inline int
gp__stream_fd(const gp__stream *stream)
{
    return stream->ops->fd(stream);
}

/*
 * What to wait for on that descriptor, in order to go on in the directions |wanted|, and to send
 * what is stored: once it is writable, call gp__stream_flush().
 */
static inline unsigned
gp__stream_events(const gp__stream *stream, unsigned wanted)
{
    return stream->ops->events(stream, wanted);
}

/* Whether the stream can be read without waiting, although its descriptor may not be readable. */
static inline bool
gp__stream_pending(const gp__stream *stream)
{
    return stream->ops->pending != NULL && stream->ops->pending(stream);
}

/* ---- Waiting (stream.c) ---- */

/* The events by which poll() waits for |events|, the result of gp__stream_events(). */
short gp__stream_poll_events(unsigned events);

/*
 * Wait until the stream can go on in the directions |wanted|. The deadline and the interrupt are
 * checked even if it can, since a peer may never stop sending.
 *
 * Returns: 0, GP_ETIMEOUT or GP_EUSER.
 */
int gp__stream_await(const gp__stream *stream, unsigned wanted, int64_t deadline,
                     const gp_interrupt *interrupt);

/* ---- Sockets (stream_socket.c) ---- */

/*
 * A stream over |fd|, a connected, non-blocking socket, which it takes over, also when this fails.
 * TCP sends small writes without delay. gp__stream_shutdown() is shutdown(2). Returns: 0 or
 * GP_ENOMEM.
 */
int gp__stream_socket_new(gp__stream **out, int fd, gp_error *err);

#endif
