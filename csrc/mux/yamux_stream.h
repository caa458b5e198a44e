/*
 * Layer: mux. What the two halves of yamux know of each other: yamux.c reads frames, yamux_stream.c
 * keeps the streams.
 */
#ifndef GP_MUX_YAMUX_STREAM_H
#define GP_MUX_YAMUX_STREAM_H

#include "base/fifo.h"
#include "mux/yamux.h"

/*
 *            open()                        SYN in
 *   (none) ---------> QUEUED    (none) --------------> OPENED
 *                       | SYN out: fewer than |backlog|   | accept(): ACK out
 *                       v         ones wait               v
 *                     OFFERED -----------------------> ACCEPTED
 *                                     ACK in
 *
 * Beside this the two directions end on their own: |sent_fin| and |got_fin|. RST in either
 * direction, or both ends, take the stream out of the table; the memory stays until it is released.
 */
typedef enum gp__yamux_state {
    GP__YAMUX_STATE_QUEUED,
    GP__YAMUX_STATE_OFFERED,
    GP__YAMUX_STATE_OPENED,
    GP__YAMUX_STATE_ACCEPTED,
} gp__yamux_state;

struct gp__yamux_stream {
    gp__yamux *session;         /* borrowed: frees us at the latest */
    gp__yamux_stream *chained;  /* the next one in its slot of the table */
    gp__yamux_stream *all_next; /* in the ring of all */
    gp__yamux_stream *all_prev;
    gp__yamux_stream *line_next; /* in the queue of those that wait for their SYN, or behind it */
    void *ctx;                   /* borrowed: the caller's */
    uint32_t id;
    gp__yamux_state state;
    uint32_t send_window; /* what we may send */
    uint32_t recv_window; /* what the other side may send */
    uint32_t unreported;  /* used up by our side, and not yet given back */
    int64_t released_at;  /* when the time to linger began */
    bool listed;          /* in the table */
    bool queued;          /* in the line for a SYN */
    bool advanced;        /* out of it, and its user has not been told */
    bool released;        /* by the caller: only the other side's end is missing */
    bool blocked;         /* reserve() gave nothing for want of window */
    bool sent_fin;
    bool got_fin;
    bool dead; /* reset, from either side */
};

struct gp__yamux {
    gp__yamux_options options;
    gp_error failure; /* why it is over */
    int64_t now;
    gp__fifo out;

    gp__yamux_stream **slots; /* owned; a table by id, a power of two long */
    size_t slots_count;
    size_t count;           /* in the table */
    uint32_t peers;         /* of these the other side's */
    uint32_t offered;       /* of these ours without an answer */
    gp__yamux_stream all;   /* head of the ring of all, owned */
    uint32_t unsent;        /* of ours in the line */
    gp__yamux_stream *line; /* ours that wait for their SYN, oldest first */
    gp__yamux_stream **line_end;
    uint32_t next_id;

    /* Reading. */
    unsigned char header[GP__YAMUX_HEADER];
    size_t header_len;         /* bytes of a header that have come so far */
    gp__yamux_stream *current; /* borrowed: whose frame it is; NULL: nobody's, skip the body */
    uint32_t body_left;        /* bytes of its body that are still to come */
    unsigned due;              /* events that the frame means, as 1 << kind */
    gp__yamux_stream
        *advanced; /* those that have left the line and may be written to, oldest first */
    gp__yamux_stream **advanced_end;

    /* Keep-alive. */
    uint32_t ping;
    int64_t pinged_at;
    bool ping_out; /* no sign of life since */

    bool going_away; /* we said so */
    bool peer_going_away;
};

/* ---- yamux.c ---- */

/* Record why the session is over, once. Returns |code|. */
int gp__yamux_fail(gp__yamux *session, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Append a frame without a body. Running out of memory, or of patience, ends the session. */
void gp__yamux_put(gp__yamux *session, uint8_t type, unsigned flags, uint32_t id, uint32_t length);

/* ---- yamux_stream.c ---- */

int gp__yamux_table_init(gp__yamux *session);
void gp__yamux_table_release(gp__yamux *session);
gp__yamux_stream *gp__yamux_find(const gp__yamux *session, uint32_t id);

/* A stream of the other side's. NULL when memory is short. */
gp__yamux_stream *gp__yamux_stream_opened(gp__yamux *session, uint32_t id);

/* The other side answered our SYN. */
void gp__yamux_stream_answered(gp__yamux_stream *stream);

/*
 * The oldest of those that have left the line, which it is not among any more; NULL: there is none.
 */
gp__yamux_stream *gp__yamux_stream_take_advanced(gp__yamux *session);

/* Take it out of the table; if it was released already, that was all that kept it. */
void gp__yamux_stream_unlist(gp__yamux_stream *stream);

/* End the stream at once and say so. */
void gp__yamux_stream_kill(gp__yamux_stream *stream);

#endif
