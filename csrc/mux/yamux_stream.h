/*
 * Layer: mux. What yamux.c, which reads frames, and yamux_stream.c, which keeps the streams, share.
 */
#ifndef GP_MUX_YAMUX_STREAM_H
#define GP_MUX_YAMUX_STREAM_H

#include "base/fifo.h"
#include "gp/list.h"
#include "mux/yamux.h"

/*
 *           open()                        SYN in
 *   (none) ---------> QUEUED    (none) --------------> OPENED
 *                       | SYN out, once fewer than        | accept(): ACK out
 *                       v |backlog| are OFFERED           v
 *                     OFFERED -----------------------> ACCEPTED
 *                                     ACK in
 *
 * Apart from this, each direction ends by itself: |sent_fin| and |got_fin|. RST in either
 * direction, or the end of both directions, takes the stream out of the table. Its memory stays
 * until it is released.
 */
typedef enum gp__yamux_state {
    GP__YAMUX_STATE_QUEUED,
    GP__YAMUX_STATE_OFFERED,
    GP__YAMUX_STATE_OPENED,
    GP__YAMUX_STATE_ACCEPTED,
} gp__yamux_state;

struct gp__yamux_stream {
    gp__yamux *session;        /* borrowed: outlives us */
    gp__yamux_stream *chained; /* the next stream in the same slot of the table */
    gp_link link;              /* in the session's |all| */
    gp_link queue_link;        /* in the session's |queue| or |unblocked| */
    void *ctx;                 /* borrowed: the caller's */
    uint32_t id;
    gp__yamux_state state;
    uint32_t send_window; /* how many bytes we may send */
    uint32_t recv_window; /* how many bytes the other side may send */
    uint32_t unreported;  /* bytes that the user has consumed, and the other side was not told of */
    int64_t released_at;  /* in nanoseconds; when |released| was set */
    bool listed;          /* in the table */
    bool released;        /* by the caller: only the other side has still to end it */
    bool blocked;         /* reserve() has returned 0, as the window is empty or SYN was not sent */
    bool sent_fin;
    bool got_fin;
    bool dead; /* reset, by either side */
};

struct gp__yamux {
    gp__yamux_options options;
    gp_error failure; /* why the session is over; code 0: it is not */
    int64_t now;
    gp__fifo out;

    gp__yamux_stream **slots; /* owned; a table by id, a power of two long */
    size_t slots_count;
    size_t count;      /* streams in the table */
    uint32_t peers;    /* of |count|, opened by the other side */
    uint32_t offered;  /* of |count|, opened by this side and OFFERED */
    uint32_t unsent;   /* of |count|, opened by this side and QUEUED */
    gp_list all;       /* owned; every stream */
    gp_list queue;     /* the QUEUED streams, oldest first */
    gp_list unblocked; /* were |blocked| until SYN was sent; GP__YAMUX_WRITABLE is due */
    uint32_t next_id;

    /* Reading. */
    unsigned char header[GP__YAMUX_HEADER];
    size_t header_len;         /* bytes of a header that have come so far */
    gp__yamux_stream *current; /* borrowed: of the frame that is read; NULL: its body is skipped */
    uint32_t body_left;        /* bytes of the frame's body that are still to come */
    unsigned due;              /* events that the frame causes, as 1 << kind */

    /* Keep-alive. */
    uint32_t ping; /* the value of the last ping */
    int64_t pinged_at;
    bool ping_out; /* nothing has come since the last ping */

    bool going_away;      /* this side has sent GO_AWAY */
    bool peer_going_away; /* the other side has sent GO_AWAY */
};

/* ---- yamux.c ---- */

/* Record why the session is over, once. Returns |code|. */
int gp__yamux_fail(gp__yamux *session, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Append a frame without a body. If memory is short, or the other side reads no answers, the
 * session ends.
 */
void gp__yamux_put(gp__yamux *session, uint8_t type, unsigned flags, uint32_t id, uint32_t length);

/* ---- yamux_stream.c ---- */

int gp__yamux_table_init(gp__yamux *session);
void gp__yamux_table_release(gp__yamux *session);
gp__yamux_stream *gp__yamux_find(const gp__yamux *session, uint32_t id);

/* Add a stream that the other side has opened. NULL when memory is short. */
gp__yamux_stream *gp__yamux_stream_opened(gp__yamux *session, uint32_t id);

/* The other side has answered the stream's SYN: send SYN for the next QUEUED stream. */
void gp__yamux_stream_answered(gp__yamux_stream *stream);

/* Take the oldest of the unblocked streams out of their list; NULL if there is none. */
gp__yamux_stream *gp__yamux_take_unblocked(gp__yamux *session);

/* Take the stream out of the table. Frees the stream if it has been released. */
void gp__yamux_stream_unlist(gp__yamux_stream *stream);

/* End the stream at once, by RST. Frees the stream if it has been released. */
void gp__yamux_stream_reset(gp__yamux_stream *stream);

#endif
