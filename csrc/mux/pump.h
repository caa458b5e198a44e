/*
 * Layer: mux. Drives a yamux session over a stream of bytes: each stream of the session is joined
 * with a connected socket of this process, its local end.
 *
 * All of it happens on the reactor's thread; a process with a hundred multiplexed connections has
 * no more threads than a process without. A stream whose user does not read fills its own window,
 * of which the pump stores what the local end does not hold, and stalls no other stream.
 *
 * Threads: any may open streams and close the pump. Its lock is held for no longer than
 * non-blocking system calls take, and never while a callback runs.
 */
#ifndef GP_MUX_PUMP_H
#define GP_MUX_PUMP_H

#include "mux/yamux.h"
#include "os/stream.h"

typedef struct gp__pump gp__pump;

typedef struct gp__pump_options {
    gp__yamux_options session; /* without keepalive there are no pings */

    /*
     * The other side has opened a stream. Returns: its local end, a non-blocking socket that
     * becomes the pump's; or -1 to refuse the stream, which is then reset.
     */
    int (*accept)(void *ctx);

    /*
     * The other side has accepted or ended some of the streams that waited for that. May be NULL.
     */
    void (*answered)(void *ctx);

    /*
     * The session is over, for the reason in |why|; all its descriptors have reached their end. Not
     * called for gp__pump_close(). May be NULL.
     */
    void (*over)(void *ctx, const gp_error *why);

    void *ctx; /* borrowed: outlives the pump. All run on the reactor's thread and may not block */
} gp__pump_options;

/*
 * Start a session over |stream|, which the pump owns, also when this fails. A stream with a
 * handshake, as TLS, need not have begun it.
 */
int gp__pump_open(gp__pump **out, gp__stream *stream, const gp__pump_options *options,
                  gp_error *err);

/*
 * Open a stream of the session with the local end |fd|, a non-blocking socket, which becomes the
 * pump's, also when this fails. The owner of that socket's other end closes the stream by closing
 * it, and tells the other side that no more data will come by shutting its writing half down.
 */
int gp__pump_open_stream(gp__pump *pump, int fd, gp_error *err);

/*
 * Why the session is over: a GP_E* code with the reason in |why|. 0 when it is not, or when the
 * other side has just closed the connection. Threads: any.
 */
int gp__pump_why(gp__pump *pump, gp_error *why);

/* What gp__yamux_waiting() says. None once the session is over. */
size_t gp__pump_waiting(gp__pump *pump, size_t *unsent);

/*
 * End the session and every stream, and free the pump: at once, or when all of them have ended and
 * everything is sent, if that takes no more than |linger_ms|. Waits for a callback that runs, so
 * that it may not be called from one, nor with a lock held that one takes. NULL is fine.
 */
void gp__pump_close(gp__pump *pump, int64_t linger_ms);

#endif
