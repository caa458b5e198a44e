/*
 * Layer: mux. A session of yamux: many streams over one connection. Bytes go in, bytes and events
 * come out; it opens no socket and reads no clock (protocol: sections 10 and 13).
 *
 * The caller passes received bytes to gp__yamux_receive() until all are used up, and sends the
 * bytes of gp__yamux_output() as fast as the connection takes them. In between it opens, writes and
 * closes streams. A fault of the other side, or memory running short, ends only the session: from
 * then on every function that can fail returns the reason.
 *
 * Memory is bounded whatever the other side does. A stream's data is not stored here but passed on
 * at once, so that the caller stores at most a window for each of |max_streams|. The output takes
 * no more data from GP__YAMUX_OUTPUT_FULL on. If the other side makes this side answer and never
 * reads the answers, the session ends.
 *
 * Threads: it has none, and no locks. One call at a time.
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
    GP__YAMUX_OUTPUT_FULL = 512 * 1024, /* bytes of output from which on streams have to wait */
    GP__YAMUX_FRAME_MOST = 128 * 1024,  /* the longest body that is sent, for other streams' sake */
};

typedef struct gp__yamux_options {
    bool client;     /* this side has connected: its streams have odd ids */
    uint32_t window; /* bytes that a stream may receive unread; at least (by default) 256 KiB */
    uint32_t max_streams; /* that the other side may have open at one time; 0: 1024 */
    uint32_t backlog;     /* streams of this side that may be unanswered; others queue. 0: 256 */
    int64_t keepalive;    /* nanoseconds from ping to ping; 0: none */
    int64_t timeout;      /* nanoseconds within which something must come after a ping */
    int64_t linger; /* nanoseconds for the other side to end a released stream; 0: 5 minutes */
} gp__yamux_options;

typedef enum gp__yamux_kind {
    GP__YAMUX_OPENED,   /* by the other side. The caller owns |stream|: accept or release it */
    GP__YAMUX_ACCEPTED, /* the other side has accepted |stream| */
    GP__YAMUX_WRITABLE, /* reserve() has returned 0 for |stream|, and may be tried again */
    GP__YAMUX_DATA,     /* |data| has come for |stream|; it points into the received bytes */
    GP__YAMUX_ENDED,    /* no more data will come for |stream| */
    GP__YAMUX_RESET,    /* |stream| is over: release it */
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

/* Free the session and all of its streams, released or not. */
void gp__yamux_free(gp__yamux *session);

/*
 * Take bytes from |*bytes|, of which there are |*len|, up to the next event; both are advanced.
 *
 * Returns: 1 with an event in |*event|; 0 when all bytes are used up and there is no event; or why
 * the session has ended: GP_EPROTOCOL, GP_ECLOSED (the other side has ended it) or GP_ENOMEM. When
 * the session has ended, the output tells the other side the reason.
 */
int gp__yamux_receive(gp__yamux *session, const unsigned char **bytes, size_t *len,
                      gp__yamux_event *event, gp_error *err);

/* The bytes that are to be sent, valid until any other call. NULL and 0 when there are none. */
const unsigned char *gp__yamux_output(const gp__yamux *session, size_t *len);

/* The first |len| bytes of the output have been sent. */
void gp__yamux_sent(gp__yamux *session, size_t len);

/* Whether the output is full, so that streams have to wait. */
bool gp__yamux_full(const gp__yamux *session);

/*
 * Do what is due at |now|: send pings, and reset streams that the other side has not ended in time.
 *
 * Returns: 0, or why the session has ended: GP_ETIMEOUT when nothing has come from the other side.
 */
int gp__yamux_tick(gp__yamux *session, int64_t now, gp_error *err);

/*
 * Refuse new streams from now on and tell the other side why: GP__YAMUX_NORMAL lets the existing
 * ones go on.
 */
void gp__yamux_go_away(gp__yamux *session, uint32_t reason);

/* How many streams there are, including those that only wait for the other side to end them. */
size_t gp__yamux_count(const gp__yamux *session);

/*
 * How many streams of this side the other side has neither accepted nor ended. |*unsent| (may be
 * NULL) is how many of them have not even been announced to the other side, because too many others
 * wait for an answer.
 */
size_t gp__yamux_waiting(const gp__yamux *session, size_t *unsent);

/* ---- Streams (yamux_stream.c) ---- */

/*
 * Open a stream, which may be written to at once. It is the caller's until it is released.
 * gp__yamux_stream_ctx() returns |ctx|.
 *
 * Returns: 0, GP_ECLOSED (the session is over, or takes no new streams) or GP_ENOMEM.
 */
int gp__yamux_open(gp__yamux_stream **out, gp__yamux *session, void *ctx, gp_error *err);

/* Answer GP__YAMUX_OPENED: accept the stream. */
void gp__yamux_stream_accept(gp__yamux_stream *stream, void *ctx);

void *gp__yamux_stream_ctx(const gp__yamux_stream *stream);
uint32_t gp__yamux_stream_id(const gp__yamux_stream *stream);

/*
 * Reserve room in the output for at most |most| bytes of data. Fill it from its beginning, and then
 * call gp__yamux_stream_commit() with the number of bytes, with no other call in between. Not to
 * commit is fine, too.
 *
 * Returns: the number of bytes that there is room for at |*out|; 0 when the stream has to wait for
 * GP__YAMUX_WRITABLE or, if gp__yamux_full(), for the output to be sent; GP_ECLOSED when nothing
 * may be sent any more; GP_ENOMEM.
 */
ptrdiff_t gp__yamux_stream_reserve(gp__yamux_stream *stream, unsigned char **out, size_t most);
void gp__yamux_stream_commit(gp__yamux_stream *stream, size_t len);

/* |len| bytes of the data that has come are used up: the other side may send as many again. */
void gp__yamux_stream_consumed(gp__yamux_stream *stream, size_t len);

/* No more data will be sent on the stream. The other side may go on sending. */
void gp__yamux_stream_shutdown(gp__yamux_stream *stream);

/*
 * The caller is done with the stream, and must not use it any more. If the caller has shut it down,
 * the other side has time to end it as well (see |linger|), but must send no more data. A stream
 * that was not shut down is reset.
 */
void gp__yamux_stream_release(gp__yamux_stream *stream);

#endif
