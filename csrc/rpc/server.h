/*
 * Layer: rpc. The server from the inside: what server.c, dispatch.c, worker_pool.c and
 * server_call.c share.
 *
 *   server.c       making, listening, starting, stopping
 *   dispatch.c     calls arrive: to a service in C, or to the queue of jobs
 *   worker_pool.c  the threads of all servers, which run what comes in
 *   server_call.c  one call: its batches, and what its handler does with it
 *
 * Locks: the poller's lock guards the servers' state and their queues. A call's lock comes before
 * it.
 */
#ifndef GP_RPC_SERVER_H
#define GP_RPC_SERVER_H

#include <grpc/grpc.h>

#include "base/task.h"
#include "gp/lock.h"
#include "gp/server.h"
#include "os/reactor.h"
#include "rpc/halves.h"
#include "rpc/method.h"
#include "rpc/poller.h"
#include "rpc/worker_pool.h"

typedef enum gp__call_phase {
    GP__CALL_ARRIVED,   /* nobody has looked at it */
    GP__CALL_EXPECTING, /* its handler wants to run once the first message is there */
    GP__CALL_RUNNING,   /* its handler runs or has run */
    GP__CALL_TAKEN,     /* the application answers it elsewhere */
} gp__call_phase;

/*
 * One call. References: one for the application while its handler may use it, one for each batch on
 * the queue, and the application's own.
 */
struct gp_server_call {
    atomic_int refs;
    gp_server *server; /* shared: ref */
    grpc_call *call;   /* owned */
    grpc_call_details details;
    grpc_metadata_array received_metadata;
    gp_metadatum *metadata_view; /* owned; made on arrival */
    size_t metadata_count;
    int64_t deadline;

    gp__event arrive;
    gp__event close;
    gp__event finish;
    gp__inbox inbox;
    gp__outbox outbox;
    int close_cancelled;    /* written by gRPC */
    atomic_int compression; /* GP_COMPRESS_* */
    atomic_bool plain;      /* the next message is not to be compressed */

    const gp__method *method;     /* borrowed; a service in C, or NULL */
    void *data;                   /* the handler's */
    bool kept;                    /* the worker's: the handler goes on elsewhere */
    gp__call_phase phase;         /* under the poller's lock */
    gp_server_call *next_job;     /* under the poller's lock */
    gp_server_call *next_endless; /* under the poller's lock */
    gp_server_call *next_over;    /* under the poller's lock */

    gp_mutex lock; /* guards what follows, and what of |inbox| is under a lock */
    bool initial_sent;
    bool finished; /* the status went out */
    atomic_bool over;
    atomic_bool cancelled;
    void (*on_over)(void *ctx);
    void *on_over_ctx;
    gp_then *on_cancel;
    void *on_cancel_ctx;
};

/* Methods are remembered by a hash of their name. Two that share a place share their fate. */
enum { GP__METHOD_PLACES = 64 };

struct gp_server {
    atomic_int
        refs; /* the owner's, one for each call, one while it shuts down, the grace thread's */
    atomic_int batches;     /* on the queue, arrivals included */
    grpc_server *grpc;      /* owned; NULL: retired */
    gp_server *prev_server; /* in the list of all */
    gp_server *next_server;
    gp_server_handler handler;
    atomic_int missing; /* arrivals that could not be asked for, as memory was short */
    void *handler_ctx;  /* owned: handler.release */
    int max_workers;
    int max_concurrent;
    bool general;           /* no plugin */
    size_t unpack_limit;    /* for gp__unpack() */
    size_t client_metadata; /* bytes that clients accept whose user agent does not tell */
    struct method_block {
        const gp__method *methods;
        size_t count;
        void *block; /* owned */
        struct method_block *next;
    } *methods;       /* owned */
    int stop_pipe[2]; /* readable at the far end once stopped; -1 until somebody waits for that */
    gp__event shutdown;
    void (*on_stopped)(void *ctx);
    void *on_stopped_ctx;

    gp__poller *poller; /* borrowed: lives as long as the process. Its lock guards what follows */
    gp_server_call *jobs;
    gp_server_call **jobs_end;
    gp_server_call *endless;      /* each with a reference */
    gp_server *next_ready;        /* the worker pool's */
    gp__task deferred_free;       /* queued once the last reference is gone */
    bool ready;                   /* it is queued for its turn */
    bool told_full;               /* |handler.full| has been called */
    gp_cond changed;              /* for joining and for the grace thread */
    int running;                  /* calls inside the handler */
    int active;                   /* calls that the handler is not done with */
    int overs;                    /* calls whose on_over is due or runs */
    bool slow[GP__METHOD_PLACES]; /* methods whose last call took longer than a tick */
    bool released;                /* by its owner */
    bool started;
    bool serving; /* it is counted in the poller's */
    bool stopping;
    bool told_idle; /* methods have been told that no handler runs any more */
    bool hung_up;   /* the connections have been closed */
    bool stopped;   /* gRPC says that no call is left */
    bool has_grace_thread;
    gp__watch *limit; /* owned; while gRPC closes the connections, which must not take for ever */
    int64_t cancel_at;
};

/* server.c. The last reference going means: nothing runs, no call lives. */
gp_server *gp__server_ref(gp_server *server);
void gp__server_unref(gp_server *server);

/*
 * Let go of gRPC's part of servers that have stopped and have nothing left but their owners.
 * Returns whether one has stopped and is still referred to otherwise.
 */
bool gp__servers_retire(void);

/*
 * With the poller's lock held, which is let go meanwhile, and a reference: do what is due when a
 * server that is being stopped has one call less.
 */
void gp__server_settle(gp_server *server);

/* dispatch.c. Batches are counted while they are on the queue, arrivals included. */
void gp__server_request_call(gp_server *server);    /* ask gRPC for one more call */
void gp__server_request_missing(gp_server *server); /* once more, where that has failed */
void gp__server_batch_started(gp_server *server);
void gp__server_batch_ended(gp_server *server);
void gp__server_call_arrived(gp_server_call *call, bool ok);
void gp__server_call_readable(gp_server_call *call);
void gp__server_end_endless(gp_server *server);

/* server_call.c */
int gp__server_call_new(gp_server_call **out, gp_server *server);
void gp__server_call_begin(gp_server_call *call); /* start the batches that every call has */

#endif
