/*
 * Layer: mux. What the files of a multiplexed connection share.
 *
 *   mux.c         making, the connection itself, the end
 *   mux_dial.c    out: connections of this process's gRPC become streams, one knock at a time
 *   mux_accept.c  in: streams of the other side become connections to this process's servers
 *
 * Locks: the mux's is taken before the pump's and the reactor's, and never held while something is
 * said to the other side: that goes through the broker and gRPC. What is to be said is a letter,
 * written with the lock and sent without it, in the same order.
 */
#ifndef GP_MUX_MUX_STATE_H
#define GP_MUX_MUX_STATE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "gp/lock.h"
#include "mux/mux.h"
#include "mux/pump.h"
#include "os/reactor.h"

enum {
    GP__MUX_MAIN = 0, /* stands for the connection of the start among ids */
    GP__MUX_OVERDUE = 64,
    GP__MUX_FORGOTTEN = 256,
    GP__MUX_EXPECTED = 16,
    GP__MUX_LETTERS = 32,
};

/* As with go-plugin: how long a knock waits for its answer. */
static const int64_t gp__knock_ms = 5000;

/* A dialler: where this process's gRPC connects to, or has one end of a pair of sockets. */
struct gp__mux_local {
    gp__mux_local *next;
    gp_mux *mux;     /* borrowed: outlives us */
    unsigned number; /* since several may be for the same id */
    uint32_t id;
    int fd;           /* owned; -1 with a pair */
    gp__watch *watch; /* owned; likewise NULL */
    bool resting;     /* there was no descriptor for a connection: the next tick tries again */
    bool queued;      /* its connection is there, and its turn to knock has not come */
    int64_t turn;     /* when it came; 0 before */
    unsigned early;   /* times that go-plugin knew of no listener yet */
    int outcome;      /* 0 while nobody knows, 1: the stream is open, or a GP_E* code */
    char *refusal;    /* owned: what the other side said */
    char path[GP__MUX_PATH]; /* "" with a pair */
};

/* A connection of ours that is to become a stream. */
typedef struct gp__mux_pending {
    struct gp__mux_pending *next;
    unsigned number; /* its local's */
    uint32_t id;
    uint32_t mark; /* of the knock for it */
    int fd;        /* owned */
} gp__mux_pending;

/* A server of this process that streams are connected to. */
typedef struct gp__mux_server {
    struct gp__mux_server *next;
    uint32_t id;
    char path[GP__MUX_PATH];
} gp__mux_server;

/* A knock: what for, and which one. */
typedef struct gp__mux_knock {
    uint32_t id;
    uint32_t mark; /* 0: none */
} gp__mux_knock;

/* A knock that was answered: a stream is to come. */
typedef struct gp__mux_expected {
    gp__mux_knock knock;
    char path[GP__MUX_PATH];
    int64_t until; /* of one without a mark */
} gp__mux_expected;

/* Something to say to the other side. */
typedef struct gp__mux_letter {
    gp__mux_knock knock;
    const char *answer; /* static; "" is yes, NULL: it is a knock */
} gp__mux_letter;

struct gp_mux {
    atomic_int refs;
    char *directory; /* owned */
    int claim;       /* owned: keeps others from removing it; -1 */
    char *target;    /* owned; for gRPC, of the next */
    char main_path[GP__MUX_PATH];

    gp_mutex lock; /* guards what follows */
    gp_cond changed;
    gp__pump *pump;   /* owned; NULL before there is a connection */
    gp__watch *ticks; /* owned; since it listens or connects */
    bool client;
    bool closed;
    bool over;    /* the session has ended... */
    gp_error why; /* for this reason; none if the other side has hung up */
    void (*tell)(void *ctx, const char *why);
    void *tell_ctx;     /* borrowed: until it is taken back */
    int log;            /* owned: likewise, of a plugin; -1 */
    int listener;       /* owned: a plugin's, for its host; -1 */
    gp__watch *knocker; /* owned: watches it */
    bool resting;       /* as with locals */
    gp__mux_post post;
    gp__mux_letter letters[GP__MUX_LETTERS]; /* a ring */
    size_t letters_at;
    size_t letters_count;
    bool saying; /* somebody is at it */

    /* Out. */
    gp__mux_local *locals;  /* the one of the start is owned, others are their diallers' */
    gp__mux_pending *queue; /* owned, oldest first */
    gp__mux_pending **queue_end;
    gp__mux_pending *knocking; /* owned: whose answer is awaited */
    int64_t knocked_until;
    uint32_t last_mark;
    gp__mux_knock overdue[GP__MUX_OVERDUE]; /* whose answers did not come in time, oldest first */
    size_t overdue_count;
    size_t owed; /* streams that the other side was promised, and that could not be opened */
    int64_t opened_until; /* the other side is to take those that are open by then... */
    size_t written_off;   /* but for so many, which it has not */

    /* In. */
    gp__mux_server *servers;               /* owned */
    gp__mux_knock early;                   /* for an id that nobody has accepted yet... */
    int64_t early_until;                   /* 0: there is none */
    uint32_t forgotten[GP__MUX_FORGOTTEN]; /* a ring of what is not accepted any more; 0: none */
    size_t forgotten_at;
    gp__mux_expected expected[GP__MUX_EXPECTED]; /* oldest first */
    size_t expected_count;
};

/* With the lock held: have that said, after what was written before. False: there is too much. */
bool gp__mux_write(gp_mux *mux, gp__mux_letter letter);

/*
 * Say what is written. Without the lock; afterwards the mux may be gone, unless the caller has a
 * ref.
 */
void gp__mux_say(gp_mux *mux);

/* About once a second, on the reactor's thread: what took too long. |mux| is a gp_mux. */
void gp__mux_tick(void *mux);

/* ---- mux_dial.c ---- */

/* Listen for the connection of the start. Returns as gp__mux_dial(). */
int gp__mux_add_main(gp_mux *mux, gp_error *err);

/* With the lock held: knock for whose turn it is. */
void gp__mux_advance(gp_mux *mux);

/* With the lock held: that knock was not sent. */
void gp__mux_unsaid(gp_mux *mux, gp__mux_knock knock);

/* With the lock held: what took too long. */
void gp__mux_dial_tick(gp_mux *mux);

/* Without the lock, once the mux is closed: wait for callbacks that run, and free it all. */
void gp__mux_dial_close(gp_mux *mux);

/* ---- mux_accept.c ---- */

/* On the reactor's thread: the local end for a new stream of the other side, or -1. */
int gp__mux_opened(void *mux);

/* With the lock held: the answer to that knock was not sent. */
void gp__mux_unanswered(gp_mux *mux, gp__mux_knock knock);

/* Once the mux is closed. */
void gp__mux_accept_close(gp_mux *mux);

/* With the lock held: ": " and why the session has ended, or "". Into |out|, which is returned. */
enum { GP__MUX_REASON = 300 };
const char *gp__mux_reason(const gp_mux *mux, char out[GP__MUX_REASON]);

/* Whether accept() failed for want of something that others may give back. */
bool gp__mux_exhausted(int errnum);

#endif
