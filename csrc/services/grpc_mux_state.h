/*
 * Layer: services. What the files of a multiplexed connection share.
 *
 *   grpc_mux.c         making, the connection itself, outgoing messages, the end
 *   grpc_mux_dial.c    out: connections of this process's gRPC become streams, one by one
 *   grpc_mux_accept.c  in: streams of the other side become connections to this process's servers
 *
 * Locks: the mux's is taken before the pump's and the reactor's. It is not held while a message is
 * sent to the other side, since that goes through the broker and gRPC: messages are queued with the
 * lock, and sent without it in the same order.
 */
#ifndef GP_SERVICES_GRPC_MUX_STATE_H
#define GP_SERVICES_GRPC_MUX_STATE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "gp/list.h"
#include "gp/lock.h"
#include "mux/pump.h"
#include "os/reactor.h"
#include "services/grpc_mux.h"

enum {
    GP__GRPC_MUX_MAIN = 0, /* the id of the main connection, which needs no request */
    /* The capacities of the arrays in gp_grpc_mux. */
    GP__GRPC_MUX_UNANSWERED = 64,
    GP__GRPC_MUX_FORGOTTEN = 256,
    GP__GRPC_MUX_EXPECTED = 16,
    GP__GRPC_MUX_MESSAGES = 32,
};

/* As with go-plugin: how long a request waits for its answer. */
static const int64_t gp__grpc_mux_answer_ms = 5000;

/*
 * A stream that is being dialled, or the main connection. This process's gRPC connects to its path,
 * or has one end of a pair of sockets. Guarded by the mux's lock, except the fields that never
 * change.
 */
struct gp__grpc_dial {
    gp_link link;     /* in the mux's |dials| */
    gp_grpc_mux *mux; /* borrowed: outlives us */
    unsigned number;  /* unique, as several dials may be for the same id */
    uint32_t id;
    int fd;            /* owned: listens at |path|; -1 with a pair */
    gp__watch *watch;  /* owned: of |fd|; NULL with a pair */
    bool paused;       /* descriptors were short for a connection: the next tick tries again */
    bool queued;       /* its connection is in the mux's |queue| */
    int64_t asked_at;  /* when the first request was sent; 0: not yet */
    unsigned refusals; /* times that go-plugin answered that it has no listener yet */
    int outcome;       /* 0: not known yet, 1: the stream is open, or a GP_E* code */
    char *refusal;     /* owned: the error of the other side's answer; may be NULL */
    char path[GP__GRPC_MUX_PATH]; /* "" with a pair */
};

/* A connection of gRPC's that is to become a stream. */
typedef struct gp__grpc_pending {
    gp_link link;    /* in the mux's |queue|, unless it is |asking| */
    unsigned number; /* of its dial */
    uint32_t id;
    uint32_t serial; /* of the last request for it */
    int fd;          /* owned */
} gp__grpc_pending;

/* A server of this process that streams are connected to. */
typedef struct gp__grpc_target {
    gp_link link; /* in the mux's |targets| */
    uint32_t id;
    char path[GP__GRPC_MUX_PATH];
} gp__grpc_target;

/* A request to accept a stream. */
typedef struct gp__accept_request {
    uint32_t id;
    uint32_t serial; /* 0: it has none */
} gp__accept_request;

/* A request that was answered with yes, after which the other side opens a stream. */
typedef struct gp__expected_stream {
    gp__accept_request request;
    char path[GP__GRPC_MUX_PATH]; /* the stream is connected to this socket */
    int64_t until;                /* when it is dropped, if the request has no serial number */
} gp__expected_stream;

/* A message to the other side. */
typedef struct gp__grpc_mux_message {
    gp__accept_request request;
    const char *answer; /* static; "" is yes. NULL: the message is the request */
} gp__grpc_mux_message;

struct gp_grpc_mux {
    atomic_int refs;
    char *directory; /* owned */
    int claim;       /* owned: a lock that keeps other processes from removing the directory; -1 */
    char *target;    /* owned; |main_path| for gRPC */
    char main_path[GP__GRPC_MUX_PATH];

    gp_mutex lock;
    gp_cond changed;
    gp__pump *pump GP_GUARDED_BY(&lock);   /* owned; NULL before there is a connection */
    gp__watch *ticks GP_GUARDED_BY(&lock); /* owned; NULL before it listens or connects */
    bool client GP_GUARDED_BY(&lock);      /* this side has connected: it is the host */
    bool closed GP_GUARDED_BY(&lock);
    bool over GP_GUARDED_BY(&lock);    /* the session has ended */
    gp_error why GP_GUARDED_BY(&lock); /* why it has ended; code 0: the other side closed it */
    void (*report)(void *ctx, const char *why) GP_GUARDED_BY(&lock);
    void *report_ctx GP_GUARDED_BY(&lock); /* borrowed: until it is removed */
    int log GP_GUARDED_BY(&lock);          /* owned: on a plugin: gp_grpc_mux_log_to(); -1 */
    int listener GP_GUARDED_BY(&lock);     /* owned: on a plugin: its host connects to it; -1 */
    gp__watch *listener_watch GP_GUARDED_BY(&lock); /* owned */
    bool paused GP_GUARDED_BY(&lock);               /* of |listener|, as in gp__grpc_dial */

    /* Messages. */
    gp__grpc_mux_sender sender GP_GUARDED_BY(&lock); /* |ref| is NULL: there is none */
    gp__grpc_mux_message messages[GP__GRPC_MUX_MESSAGES] GP_GUARDED_BY(&lock); /* a ring */
    size_t messages_at GP_GUARDED_BY(&lock);
    size_t messages_count GP_GUARDED_BY(&lock);
    bool sending GP_GUARDED_BY(&lock); /* a thread is sending |messages| */

    /* Out: streams that this side opens. */
    gp_list dials GP_GUARDED_BY(&lock); /* the main dial is owned, others by their users */
    gp_list queue GP_GUARDED_BY(&lock); /* owned; of gp__grpc_pending, oldest first */
    gp__grpc_pending *asking GP_GUARDED_BY(&lock); /* owned: has been asked for, or NULL */
    int64_t answer_until GP_GUARDED_BY(&lock);     /* the deadline for that answer */
    uint32_t last_serial GP_GUARDED_BY(&lock);
    /* Requests whose answers did not come in time, oldest first. */
    gp__accept_request unanswered[GP__GRPC_MUX_UNANSWERED] GP_GUARDED_BY(&lock);
    size_t unanswered_count GP_GUARDED_BY(&lock);
    /* Streams that the other side expects, and that could not be opened yet. */
    size_t unopened GP_GUARDED_BY(&lock);
    /* The deadline for the other side to accept the streams that are open. */
    int64_t accept_until GP_GUARDED_BY(&lock);
    /*
     * Streams that the other side has not accepted by then, and that no request waits for any more.
     */
    size_t given_up GP_GUARDED_BY(&lock);

    /* In: streams that the other side opens. */
    gp_list targets GP_GUARDED_BY(&lock);                  /* owned; newest first */
    gp__accept_request early_request GP_GUARDED_BY(&lock); /* its id is not accepted yet */
    int64_t early_until GP_GUARDED_BY(&lock);              /* its deadline; 0: there is none */
    /* A ring of ids that are not accepted any more; 0: none. */
    uint32_t forgotten[GP__GRPC_MUX_FORGOTTEN] GP_GUARDED_BY(&lock);
    size_t forgotten_at GP_GUARDED_BY(&lock);
    gp__expected_stream expected[GP__GRPC_MUX_EXPECTED] GP_GUARDED_BY(&lock); /* oldest first */
    size_t expected_count GP_GUARDED_BY(&lock);
};

/* ---- grpc_mux.c ---- */

/* Queue a message for gp__grpc_mux_send_messages(). Returns false if the queue is full. */
bool gp__grpc_mux_queue_message_locked(gp_grpc_mux *mux, gp__grpc_mux_message message)
    GP_REQUIRES(&mux->lock);

/* Send the queued messages. This may free the mux, unless the caller has a reference. */
void gp__grpc_mux_send_messages(gp_grpc_mux *mux) GP_EXCLUDES(&mux->lock);

/*
 * Called about once a second, on the reactor's thread: ends what has taken too long. |mux| is a
 * gp_grpc_mux.
 */
void gp__grpc_mux_tick(void *mux);

/*
 * Write ": " and the reason why the session has ended to |out|, or "" if there is none. Returns
 * |out|.
 */
enum { GP__GRPC_MUX_REASON = 300 };
const char *gp__grpc_mux_reason_locked(const gp_grpc_mux *mux, char out[GP__GRPC_MUX_REASON])
    GP_REQUIRES(&mux->lock);

/* ---- grpc_mux_dial.c ---- */

/* Listen for the main connection. Returns as gp__grpc_dial_start(). */
int gp__grpc_mux_listen_main(gp_grpc_mux *mux, gp_error *err) GP_EXCLUDES(&mux->lock);

/* Ask the other side to accept the connection whose turn it is. */
void gp__grpc_mux_advance_locked(gp_grpc_mux *mux) GP_REQUIRES(&mux->lock);

/* To be called when |request| could not be sent. */
void gp__grpc_mux_request_unsent_locked(gp_grpc_mux *mux, gp__accept_request request)
    GP_REQUIRES(&mux->lock);

/* End the requests and streams that have taken too long. */
void gp__grpc_mux_dial_tick_locked(gp_grpc_mux *mux) GP_REQUIRES(&mux->lock);

/*
 * To be called once the mux is closed: wait for callbacks that run, and free the main dial and all
 * connections in the queue.
 */
void gp__grpc_mux_dial_close(gp_grpc_mux *mux) GP_EXCLUDES(&mux->lock);

/* ---- grpc_mux_accept.c ---- */

/* The pump's |accept|: the local end for a new stream of the other side, or -1. */
int gp__grpc_mux_accept_stream(void *mux);

/* To be called when the answer to |request| could not be sent. */
void gp__grpc_mux_answer_unsent_locked(gp_grpc_mux *mux, gp__accept_request request)
    GP_REQUIRES(&mux->lock);

/* To be called once the mux is closed: free the targets. */
void gp__grpc_mux_accept_close(gp_grpc_mux *mux) GP_EXCLUDES(&mux->lock);

#endif
