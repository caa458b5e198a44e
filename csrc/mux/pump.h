/*
 * Layer: mux. Drives a yamux session over a stream of bytes: each stream of the session is joined
 * with a connected socket of this process, its local end.
 *
 * All of it happens on the reactor's thread; a process with a hundred multiplexed connections has
 * no more threads than a process without any. If the user of a stream does not read, the stream's
 * window fills up, and the pump stores what the local end has no room for; other streams go on.
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
     * The other side has opened a stream. Returns its local end, a non-blocking socket that the
     * pump owns from then on; or -1 to refuse the stream, which is then reset.
     */
    int (*accept)(void *ctx);

    /*
     * The other side has accepted or ended some of the streams that this side has opened. May be
     * NULL.
     */
    void (*answered)(void *ctx);

    /*
     * The session is over, for the reason in |why|. All local ends have been shut down. Not called
     * because of gp__pump_close(). May be NULL.
     */
    void (*over)(void *ctx, const gp_error *why);

    /*
     * Borrowed: outlives the pump. The callbacks above run on the reactor's thread and must not
     * block.
     */
    void *ctx;
} gp__pump_options;

/*
 * Start a session over |stream|, which the pump owns; it is closed if this fails. If the stream has
 * a handshake, as TLS has, this begins it.
 */
int gp__pump_open(gp__pump **out, gp__stream *stream, const gp__pump_options *options,
                  gp_error *err);

/*
 * Open a stream of the session with the local end |fd|, a non-blocking socket, which the pump owns;
 * it is closed if this fails. The user has the other end of that socket: closing it closes the
 * stream, and shutting down its writing half tells the other side that no more data will come.
 */
int gp__pump_open_stream(gp__pump *pump, int fd, gp_error *err);

/*
 * Why the session is over: a GP_E* code with the reason in |why|. Returns 0 if it is not over, or
 * only because the other side has closed the connection. Threads: any.
 */
int gp__pump_why(gp__pump *pump, gp_error *why);

/* Returns as gp__yamux_waiting(); 0 once the session is over. */
size_t gp__pump_waiting(gp__pump *pump, size_t *unsent);

/*
 * End the session and every stream, and free the pump: once all streams have ended and everything
 * is sent, but after |linger_ms| at the latest. Waits for a callback that runs, so it must not be
 * called from a callback, nor with a lock held that a callback takes. NULL is fine.
 */
void gp__pump_close(gp__pump *pump, int64_t linger_ms);

#endif
