/*
 * Layer: mux. A session of yamux: many streams over one connection. Bytes go in, bytes and events
 * come out; it opens no socket and reads no clock (protocol: sections 10 and 13).
 *
 * What comes in is given to gp__yamux_receive() until it asks for more. What is to go out is taken
 * from gp__yamux_output(), as fast as the connection takes it. In between streams are opened,
 * written and closed. A fault of the other side, or memory running short, ends the session and
 * nothing else: from then on every function that can fail says why.
 *
 * Memory is bounded whatever the other side does: a stream's data is never stored here but handed
 * on at once, so that the caller stores at most a window of each of |max_streams|; the output
 * stops at GP__YAMUX_OUTPUT_FULL for data, and a peer that makes us answer without ever reading has
 * its session ended.
 *
 * Threads: none of its own, no locks. One call at a time.
 */
#ifndef GP_MUX_YAMUX_H
#define GP_MUX_YAMUX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gp/error.h"
#include "wire/yamux_frame.h"

typedef struct gp__yamux gp__yamux;
typedef struct gp__yamux_stream gp__yamux_stream;

enum {
    GP__YAMUX_OUTPUT_FULL = 512 * 1024, /* streams have to wait while so much is to be sent */
    GP__YAMUX_FRAME_MOST = 128 * 1024,  /* the longest body that we send, for other streams' sake */
};

typedef struct gp__yamux_options {
    bool client;          /* the side that connected: its streams have odd ids */
    uint32_t window;      /* what a stream may receive unread, at least (and by default) 256 KiB */
    uint32_t max_streams; /* how many the other side may have at one time; 0: 1024 */
    uint32_t backlog;     /* how many of ours may wait for an answer; others queue. 0: 256 */
    int64_t keepalive;    /* nanoseconds from ping to ping; 0: none */
    int64_t timeout;      /* nanoseconds for anything at all to come after a ping */
    int64_t linger;       /* nanoseconds for the other side to close a stream too; 0: 5 minutes */
} gp__yamux_options;

typedef enum gp__yamux_kind {
    GP__YAMUX_OPENED,   /* the other side opened |stream|, now the caller's: accept or release it */
    GP__YAMUX_ACCEPTED, /* the other side accepted ours */
    GP__YAMUX_WRITABLE, /* a stream whose reserve() gave nothing may be tried again */
    GP__YAMUX_DATA,     /* |data| belongs to |stream|; it points into what was received */
    GP__YAMUX_ENDED,    /* no more data will come */
    GP__YAMUX_RESET,    /* the stream is over; all that is left to do is to release it */
    GP__YAMUX_GO_AWAY,  /* the other side takes no new streams; |stream| is NULL */
} gp__yamux_kind;

typedef struct gp__yamux_event {
    gp__yamux_kind kind;
    gp__yamux_stream *stream; /* borrowed: until it is released */
    const unsigned char *data;
    size_t len;
} gp__yamux_event;

/* ---- The session (yamux.c) ---- */

int gp__yamux_new(gp__yamux **out, const gp__yamux_options *options, int64_t now, gp_error *err);

/* Frees its streams too, released or not. */
void gp__yamux_free(gp__yamux *session);

/*
 * Take bytes from |*bytes|, of which there are |*len|, up to the next event; both are advanced.
 *
 * Returns: 1 with an event in |*event|, 0 when all bytes are used up and there is none, or what
 * ended the session: GP_EPROTOCOL, GP_ECLOSED (the other side ended it) or GP_ENOMEM. The reason is
 * in the output then, for the other side to read.
 */
int gp__yamux_receive(gp__yamux *session, const unsigned char **bytes, size_t *len,
                      gp__yamux_event *event, gp_error *err);

/* What is to be sent, valid until any other call. NULL and 0 when there is nothing. */
const unsigned char *gp__yamux_output(const gp__yamux *session, size_t *len);

/* The first |len| bytes of it are sent. */
void gp__yamux_sent(gp__yamux *session, size_t len);

/* Whether so much is to be sent that streams have to wait. */
bool gp__yamux_full(const gp__yamux *session);

/*
 * Let time pass: pings, and streams that the other side never closes.
 *
 * Returns: 0, or what ended the session: GP_ETIMEOUT when the other side gives no sign of life.
 */
int gp__yamux_tick(gp__yamux *session, int64_t now, gp_error *err);

/*
 * Refuse new streams from now on and tell the other side why: GP__YAMUX_NORMAL lets the existing
 * ones go on.
 */
void gp__yamux_go_away(gp__yamux *session, uint32_t reason);

/* How many streams there are, those included that wait for the other side's end. */
size_t gp__yamux_count(const gp__yamux *session);

/*
 * How many streams of ours the other side has neither accepted nor ended. |*unsent| (may be NULL)
 * is how many of them it has not even heard of, because too many others wait.
 */
size_t gp__yamux_waiting(const gp__yamux *session, size_t *unsent);

/* ---- Streams (yamux_stream.c) ---- */

/*
 * Open a stream, which may be written to at once; it is the caller's until released. |ctx| is what
 * gp__yamux_stream_ctx() gives.
 *
 * Returns: 0, GP_ECLOSED (the session is over or ends), GP_ENOMEM.
 */
int gp__yamux_open(gp__yamux_stream **out, gp__yamux *session, void *ctx, gp_error *err);

/* Answer GP__YAMUX_OPENED: the stream is welcome. */
void gp__yamux_stream_accept(gp__yamux_stream *stream, void *ctx);

void *gp__yamux_stream_ctx(const gp__yamux_stream *stream);
uint32_t gp__yamux_stream_id(const gp__yamux_stream *stream);

/*
 * Room in the output for at most |most| bytes of data: fill the beginning of it and say how much by
 * gp__yamux_stream_commit(), with no other call in between; or forget about it.
 *
 * Returns: how many bytes there is room for at |*out|; 0 when the stream has to wait for
 * GP__YAMUX_WRITABLE, or, with gp__yamux_full(), for the output to be sent; GP_ECLOSED when nothing
 * may be sent any more; GP_ENOMEM.
 */
ptrdiff_t gp__yamux_stream_reserve(gp__yamux_stream *stream, unsigned char **out, size_t most);
void gp__yamux_stream_commit(gp__yamux_stream *stream, size_t len);

/* |len| bytes of what has come in are used up: the other side may send as many again. */
void gp__yamux_stream_consumed(gp__yamux_stream *stream, size_t len);

/* There is no more data to send. The other side may go on. */
void gp__yamux_stream_shutdown(gp__yamux_stream *stream);

/*
 * The caller is done with the stream, and must not use it any more. Unless both sides have ended
 * it: after a shutdown() the other side has time to do so as well, but may send no more data; any
 * other stream is reset.
 */
void gp__yamux_stream_release(gp__yamux_stream *stream);

#endif
