/*
 * Layer: mux. A bridge joins one stream of a yamux session with a socket of this process, its local
 * end. Used only by pump.c, which has the session, and bridge.c.
 *
 * Everything here is guarded by the pump's lock, and all but gp__bridge_new_locked() and
 * gp__bridge_free() runs on the reactor's thread.
 */
#ifndef GP_MUX_BRIDGE_H
#define GP_MUX_BRIDGE_H

#include "base/fifo.h"
#include "gp/list.h"
#include "gp/lock.h"
#include "mux/pump.h"
#include "os/reactor.h"

/*
 * The two directions end separately:
 *
 *   out, from the local end:  open -> |local_ended|: it was shut down or closed, and FIN was sent
 *   in, to the local end:     open -> |remote_ended|: FIN was received
 *                                  -> |shut_down|: all data, and then the end, was delivered
 *
 * When both directions have ended, the bridge is freed. If the local end was closed
 * (|local_closed|), incoming data is discarded until the data that the local end had sent before is
 * out.
 */
typedef struct gp__bridge {
    gp_link link;             /* in the pump's |bridges| */
    gp_link waiting;          /* in the pump's |waiting| */
    gp__pump *pump;           /* borrowed: outlives its bridges */
    gp__yamux_stream *stream; /* owned; NULL once the session is over */
    gp__watch *watch;         /* owned; of the local end */
    int fd;                   /* owned; the local end */
    gp__fifo backlog;         /* received, and not yet taken by the local end */
    unsigned wants;           /* GP__WATCH_*: what |watch| watches for */
    bool local_ended;
    bool remote_ended;
    bool shut_down;
    bool local_closed;
} gp__bridge;

struct gp__pump {
    gp__pump_options options;
    gp_mutex lock; /* taken before the reactor's */
    gp_cond idle;  /* broadcast when a callback of the reactor has ended */
    gp__stream *stream GP_GUARDED_BY(&lock);  /* owned; NULL once the session is over */
    gp__watch *watch GP_GUARDED_BY(&lock);    /* owned; of the stream */
    gp__watch *ticks GP_GUARDED_BY(&lock);    /* owned */
    gp__yamux *session GP_GUARDED_BY(&lock);  /* owned; NULL once it is over */
    gp_list bridges GP_GUARDED_BY(&lock);     /* gp__bridge.link: owned */
    gp_list waiting GP_GUARDED_BY(&lock);     /* gp__bridge.waiting: wait for room in the output */
    unsigned wants GP_GUARDED_BY(&lock);      /* what |watch| watches for */
    size_t unanswered GP_GUARDED_BY(&lock);   /* the last result of gp__yamux_waiting() */
    bool closing GP_GUARDED_BY(&lock);        /* callbacks of the reactor do nothing any more */
    bool busy GP_GUARDED_BY(&lock);           /* a callback of the reactor runs */
    bool unflushed GP_GUARDED_BY(&lock);      /* |stream| stores bytes that are to be sent */
    bool closed_by_peer GP_GUARDED_BY(&lock); /* the other side has closed the connection */
    gp_error unsendable GP_GUARDED_BY(&lock); /* why |stream| takes no bytes; ends the session */
    gp_error failure GP_GUARDED_BY(&lock);    /* why the session is over */
};

/* ---- bridge.c ---- */

/* Make a bridge whose local end is |fd|, which is closed if this fails. Threads: any. */
int gp__bridge_new_locked(gp__bridge **out, gp__pump *pump, int fd, gp_error *err)
    GP_REQUIRES(&pump->lock);

/*
 * Free the bridge, and leave its stream alone. The lock may be held on the reactor's thread only:
 * elsewhere this waits for a callback, which may need the lock.
 */
void gp__bridge_free(gp__bridge *bridge);

/* Free the bridge and release its stream. */
void gp__bridge_drop_locked(gp__pump *pump, gp__bridge *bridge) GP_REQUIRES(&pump->lock);

/* Have the reactor watch the local end for |wants| (GP__WATCH_*). Threads: any. */
void gp__bridge_want(gp__bridge *bridge, unsigned wants);

/* Deliver data that came in. Returns 0 or GP_ENOMEM. */
int gp__bridge_receive_locked(gp__pump *pump, gp__bridge *bridge, const unsigned char *bytes,
                              size_t len) GP_REQUIRES(&pump->lock);

/* No more data will come in. May free the bridge. */
void gp__bridge_end_remote_locked(gp__pump *pump, gp__bridge *bridge) GP_REQUIRES(&pump->lock);

/* Free the bridge if both directions have ended. */
void gp__bridge_check_end_locked(gp__pump *pump, gp__bridge *bridge) GP_REQUIRES(&pump->lock);

/* The session is over: data that has come in is still delivered. May free the bridge. */
void gp__bridge_detach_locked(gp__pump *pump, gp__bridge *bridge) GP_REQUIRES(&pump->lock);

/* ---- pump.c ---- */

/*
 * To be called at the end of each callback of the reactor: handle the events that the callback
 * caused inside the session, send the output, and call the user's callbacks. Releases and
 * re-acquires the lock while these run.
 */
void gp__pump_finish_callback_locked(gp__pump *pump) GP_REQUIRES(&pump->lock);

#endif
