/*
 * Layer: services. What the files of a multiplexed connection share.
 *
 *   grpc_mux.c         making, the connection itself, the end
 *   grpc_mux_dial.c    out: connections of this process's gRPC become streams, one knock at a time
 *   grpc_mux_accept.c  in: streams of the other side become connections to this process's servers
 *
 * Locks: the mux's is taken before the pump's and the reactor's, and never held while something is
 * said to the other side: that goes through the broker and gRPC. What is to be said is a letter,
 * written with the lock and sent without it, in the same order.
 */
#ifndef GP_SERVICES_GRPC_MUX_STATE_H
#define GP_SERVICES_GRPC_MUX_STATE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "gp/lock.h"
#include "mux/pump.h"
#include "os/reactor.h"
#include "services/grpc_mux.h"

enum {
    GP__GRPC_MUX_MAIN = 0, /* stands for the connection of the start among ids */
    GP__GRPC_MUX_OVERDUE = 64,
    GP__GRPC_MUX_FORGOTTEN = 256,
    GP__GRPC_MUX_EXPECTED = 16,
    GP__GRPC_MUX_LETTERS = 32,
};

/* As with go-plugin: how long a knock waits for its answer. */
static const int64_t gp__knock_ms = 5000;

/* A dialler: where this process's gRPC connects to, or has one end of a pair of sockets. */
struct gp__grpc_mux_local {
    gp__grpc_mux_local *next;
    gp_grpc_mux *mux; /* borrowed: outlives us */
    unsigned number;  /* since several may be for the same id */
    uint32_t id;
    int fd;           /* owned; -1 with a pair */
    gp__watch *watch; /* owned; likewise NULL */
    bool resting;     /* there was no descriptor for a connection: the next tick tries again */
    bool queued;      /* its connection is there, and its turn to knock has not come */
    int64_t turn;     /* when it came; 0 before */
    unsigned early;   /* times that go-plugin knew of no listener yet */
    int outcome;      /* 0 while nobody knows, 1: the stream is open, or a GP_E* code */
    char *refusal;    /* owned: what the other side said */
    char path[GP__GRPC_MUX_PATH]; /* "" with a pair */
};

/* A connection of ours that is to become a stream. */
typedef struct gp__grpc_mux_pending {
    struct gp__grpc_mux_pending *next;
    unsigned number; /* its local's */
    uint32_t id;
    uint32_t mark; /* of the knock for it */
    int fd;        /* owned */
} gp__grpc_mux_pending;

/* A server of this process that streams are connected to. */
typedef struct gp__grpc_mux_server {
    struct gp__grpc_mux_server *next;
    uint32_t id;
    char path[GP__GRPC_MUX_PATH];
} gp__grpc_mux_server;

/* A knock: what for, and which one. */
typedef struct gp__grpc_mux_knock {
    uint32_t id;
    uint32_t mark; /* 0: none */
} gp__grpc_mux_knock;

/* A knock that was answered: a stream is to come. */
typedef struct gp__grpc_mux_expected {
    gp__grpc_mux_knock knock;
    char path[GP__GRPC_MUX_PATH];
    int64_t until; /* of one without a mark */
} gp__grpc_mux_expected;

/* Something to say to the other side. */
typedef struct gp__grpc_mux_letter {
    gp__grpc_mux_knock knock;
    const char *answer; /* static; "" is yes, NULL: it is a knock */
} gp__grpc_mux_letter;

struct gp_grpc_mux {
    atomic_int refs;
    char *directory; /* owned */
    int claim;       /* owned: keeps others from removing it; -1 */
    char *target;    /* owned; for gRPC, of the next */
    char main_path[GP__GRPC_MUX_PATH];

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
    gp__grpc_mux_post post;
    gp__grpc_mux_letter letters[GP__GRPC_MUX_LETTERS]; /* a ring */
    size_t letters_at;
    size_t letters_count;
    bool saying; /* somebody is at it */

    /* Out. */
    gp__grpc_mux_local *locals;  /* the one of the start is owned, others are their diallers' */
    gp__grpc_mux_pending *queue; /* owned, oldest first */
    gp__grpc_mux_pending **queue_end;
    gp__grpc_mux_pending *knocking; /* owned: whose answer is awaited */
    int64_t knocked_until;
    uint32_t last_mark;
    gp__grpc_mux_knock
        overdue[GP__GRPC_MUX_OVERDUE]; /* whose answers did not come in time, oldest first */
    size_t overdue_count;
    size_t owed; /* streams that the other side was promised, and that could not be opened */
    int64_t opened_until; /* the other side is to take those that are open by then... */
    size_t written_off;   /* but for so many, which it has not */

    /* In. */
    gp__grpc_mux_server *servers; /* owned */
    gp__grpc_mux_knock early;     /* for an id that nobody has accepted yet... */
    int64_t early_until;          /* 0: there is none */
    uint32_t
        forgotten[GP__GRPC_MUX_FORGOTTEN]; /* a ring of what is not accepted any more; 0: none */
    size_t forgotten_at;
    gp__grpc_mux_expected expected[GP__GRPC_MUX_EXPECTED]; /* oldest first */
    size_t expected_count;
};

/* With the lock held: have that said, after what was written before. False: there is too much. */
bool gp__grpc_mux_write(gp_grpc_mux *mux, gp__grpc_mux_letter letter);

/*
 * Say what is written. Without the lock; afterwards the mux may be gone, unless the caller has a
 * ref.
 */
void gp__grpc_mux_say(gp_grpc_mux *mux);

/* About once a second, on the reactor's thread: what took too long. |mux| is a gp_grpc_mux. */
void gp__grpc_mux_tick(void *mux);

/* ---- grpc_mux_dial.c ---- */

/* Listen for the connection of the start. Returns as gp__grpc_mux_dial(). */
int gp__grpc_mux_add_main(gp_grpc_mux *mux, gp_error *err);

/* With the lock held: knock for whose turn it is. */
void gp__grpc_mux_advance(gp_grpc_mux *mux);

/* With the lock held: that knock was not sent. */
void gp__grpc_mux_unsaid(gp_grpc_mux *mux, gp__grpc_mux_knock knock);

/* With the lock held: what took too long. */
void gp__grpc_mux_dial_tick(gp_grpc_mux *mux);

/* Without the lock, once the mux is closed: wait for callbacks that run, and free it all. */
void gp__grpc_mux_dial_close(gp_grpc_mux *mux);

/* ---- grpc_mux_accept.c ---- */

/* On the reactor's thread: the local end for a new stream of the other side, or -1. */
int gp__grpc_mux_opened(void *mux);

/* With the lock held: the answer to that knock was not sent. */
void gp__grpc_mux_unanswered(gp_grpc_mux *mux, gp__grpc_mux_knock knock);

/* Once the mux is closed. */
void gp__grpc_mux_accept_close(gp_grpc_mux *mux);

/* With the lock held: ": " and why the session has ended, or "". Into |out|, which is returned. */
enum { GP__GRPC_MUX_REASON = 300 };
const char *gp__grpc_mux_reason(const gp_grpc_mux *mux, char out[GP__GRPC_MUX_REASON]);

/* Whether accept() failed for want of something that others may give back. */
bool gp__grpc_mux_exhausted(int errnum);

#endif
