/*
 * Layer: mux. A bridge joins one stream of a yamux session with a socket of this process, its local
 * end. Seen by pump.c, which has the session, and bridge.c alone.
 *
 * Everything here is guarded by the pump's lock, and all but gp__bridge_new() and gp__bridge_free()
 * runs on the reactor's thread.
 */
#ifndef GP_MUX_BRIDGE_H
#define GP_MUX_BRIDGE_H

#include "base/fifo.h"
#include "gp/list.h"
#include "gp/lock.h"
#include "mux/pump.h"
#include "os/reactor.h"

/*
 * The two directions end one by one:
 *
 *   out, from the local end:  open -> |local_ended|: it was shut down or closed, and FIN is out
 *   in, to the local end:     open -> |remote_ended|: FIN has come
 *                                  -> |shut_down|: all data was delivered, and the end is too
 *
 * When both have ended, the bridge goes. If the local end was closed, |local_closed|, what comes in
 * is thrown away, until the data that it sent before are out.
 */
typedef struct gp__bridge {
    gp_link link;             /* in the pump's |bridges| */
    gp_link waiting;          /* in the pump's |waiting| */
    gp__pump *pump;           /* borrowed: outlives its bridges */
    gp__yamux_stream *stream; /* owned; NULL once the session is over */
    gp__watch *watch;         /* owned; of the local end */
    int fd;                   /* owned; the local end */
    gp__fifo backlog;         /* come in, and not taken by the local end yet */
    unsigned wants;           /* what the reactor looks for at the local end */
    bool local_ended;
    bool remote_ended;
    bool shut_down;
    bool local_closed;
} gp__bridge;

struct gp__pump {
    gp__pump_options options;
    gp_mutex lock;                            /* taken before the reactor's */
    gp_cond idle;                             /* no callback runs any more, or one has ended */
    gp__stream *stream GP_GUARDED_BY(&lock);  /* owned; NULL once the session is over */
    gp__watch *watch GP_GUARDED_BY(&lock);    /* owned; of the stream */
    gp__watch *ticks GP_GUARDED_BY(&lock);    /* owned */
    gp__yamux *session GP_GUARDED_BY(&lock);  /* owned; NULL once it is over */
    gp_list bridges GP_GUARDED_BY(&lock);     /* of gp__bridge.link */
    gp_list waiting GP_GUARDED_BY(&lock);     /* gp__bridge.waiting: for room in the output */
    unsigned wants GP_GUARDED_BY(&lock);      /* what the reactor looks for at the stream */
    size_t unanswered GP_GUARDED_BY(&lock);   /* what gp__yamux_waiting() said last */
    bool closing GP_GUARDED_BY(&lock);        /* callbacks do nothing any more */
    bool busy GP_GUARDED_BY(&lock);           /* a callback runs */
    bool unflushed GP_GUARDED_BY(&lock);      /* the stream stores something that is to be sent */
    bool hung_up GP_GUARDED_BY(&lock);        /* the other side has just closed the connection */
    gp_error unsendable GP_GUARDED_BY(&lock); /* why the stream takes nothing; ends the session */
    gp_error failure GP_GUARDED_BY(&lock);    /* why the session is over */
};

/* ---- bridge.c ---- */

/* Takes |fd| over, also when this fails. Threads: any. */
int gp__bridge_new_locked(gp__bridge **out, gp__pump *pump, int fd, gp_error *err)
    GP_REQUIRES(&pump->lock);

/*
 * Free the bridge, and leave its stream alone. The lock may be held on the reactor's thread only:
 * elsewhere this waits for a callback, which may need the lock.
 */
void gp__bridge_free(gp__bridge *bridge);

/* Free the bridge and release its stream. */
void gp__bridge_drop_locked(gp__pump *pump, gp__bridge *bridge) GP_REQUIRES(&pump->lock);

/* Have the reactor look for |wants| at the local end. Threads: any. */
void gp__bridge_want(gp__bridge *bridge, unsigned wants);

/* Deliver what came in. Returns 0 or GP_ENOMEM. */
int gp__bridge_receive_locked(gp__pump *pump, gp__bridge *bridge, const unsigned char *bytes,
                              size_t len) GP_REQUIRES(&pump->lock);

/* No more data will come in. The bridge may be gone afterwards. */
void gp__bridge_end_remote_locked(gp__pump *pump, gp__bridge *bridge) GP_REQUIRES(&pump->lock);

/* Drop the bridge if both directions have ended. */
void gp__bridge_check_end_locked(gp__pump *pump, gp__bridge *bridge) GP_REQUIRES(&pump->lock);

/* The session is over: what has come in is still delivered. The bridge may be gone afterwards. */
void gp__bridge_detach_locked(gp__pump *pump, gp__bridge *bridge) GP_REQUIRES(&pump->lock);

/* ---- pump.c ---- */

/*
 * At the end of each callback of the reactor: handle the events that it brought about inside the
 * session, send the output, and tell the user. Releases and re-acquires the lock while callbacks of
 * the user run.
 */
void gp__pump_finish_callback_locked(gp__pump *pump) GP_REQUIRES(&pump->lock);

#endif
