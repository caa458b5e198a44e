/*
 * Layer: rpc. One call on the server's side: its batches, and what its handler does with it.
 *
 * A call knows only a part of its server, gp__call_owner, and reports to it by |events|.
 * rpc/dispatch.h decides then who answers the call.
 */
#ifndef GP_RPC_SERVER_CALL_H
#define GP_RPC_SERVER_CALL_H

#include "base/task.h"
#include "gp/list.h"
#include "gp/lock.h"
#include "gp/server.h"
#include "rpc/grpc_symbols.h"
#include "rpc/inbox.h"
#include "rpc/method.h"
#include "rpc/outbox.h"
#include "rpc/poller.h"

typedef struct gp__call_owner gp__call_owner;

/* Events of calls. No lock is held. The first three are called on the polling thread. */
typedef struct gp__call_events {
    /*
     * gRPC has announced the call; or, if not |ok|, takes no more calls. Takes over the caller's
     * reference.
     */
    void (*arrived)(gp_server_call *call, bool ok);
    /* A message, or the end of the messages, may be taken, and no receive waits for it. */
    void (*readable)(gp_server_call *call);
    /* The call has finished, and has a callback for that. The callback may block. */
    void (*callback_due)(gp_server_call *call);
    /* No batch is on the queue any more. */
    void (*idle)(gp__call_owner *owner);
    /* A call has been freed. */
    void (*call_freed)(gp__call_owner *owner);
} gp__call_events;

/*
 * The part of a server that its calls know. Constant while there are calls, apart from the counts.
 */
struct gp__call_owner {
    atomic_int refs;    /* the application's, one for each call, and those of threads that use it */
    atomic_int batches; /* on the queue, including those of calls that have not arrived yet */
    gp__poller *poller; /* borrowed: lives as long as the process */
    size_t unpack_limit;           /* for gp__unpack() */
    size_t client_metadata;        /* bytes that a client accepts if its user agent does not say */
    const gp__call_events *events; /* borrowed: static */
    /*
     * The last reference is gone, and with it the last call. Called on a thread that must not wait.
     */
    void (*unreferenced)(gp__call_owner *owner);
};

gp__call_owner *gp__call_owner_ref(gp__call_owner *owner);
void gp__call_owner_unref(gp__call_owner *owner);

/* Batches are counted while they are on the queue. */
void gp__call_owner_batch_started(gp__call_owner *owner);
void gp__call_owner_batch_ended(gp__call_owner *owner);

typedef enum gp__call_phase {
    GP__CALL_ARRIVED,   /* the handler has not seen the call */
    GP__CALL_EXPECTING, /* its handler is to run once the first message is there */
    GP__CALL_RUNNING,   /* its handler runs or has run */
    GP__CALL_TAKEN,     /* the application answers it on threads of its own */
} gp__call_phase;

/*
 * References: one for the handler until it is done with the call, one for each batch on the queue,
 * and those of gp_server_call_ref().
 */
struct gp_server_call {
    atomic_int refs;
    gp__call_owner *owner; /* shared: ref */
    grpc_call *call;       /* owned */
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
    int close_cancelled;    /* whether |close| found the call cancelled; written by gRPC */
    atomic_int compression; /* GP_COMPRESS_* */
    atomic_bool plain;      /* the next message is not to be compressed */

    gp_mutex lock; /* comes before gp__engine_lock; |inbox| and |outbox| use it, too */
    bool initial_sent GP_GUARDED_BY(&lock);
    bool status_sent GP_GUARDED_BY(&lock);
    atomic_bool over;
    atomic_bool cancelled;
    void (*on_finished)(void *ctx) GP_GUARDED_BY(&lock); /* constant once |over| is set */
    void *on_finished_ctx GP_GUARDED_BY(&lock);
    gp_then *on_cancel GP_GUARDED_BY(&lock);
    void *on_cancel_ctx GP_GUARDED_BY(&lock);

    /* Written by dispatch.c alone. */
    struct {
        const gp__method *method; /* borrowed; a service in C, or NULL */
        void *data;               /* borrowed: set by the handler's |begin| */
        bool kept;                /* gp_server_call_keep() was called. Written by the worker */
        gp__call_phase phase GP_GUARDED_BY(&gp__engine_lock);
        gp__task handle;    /* run the handler; in the server's queue */
        gp__task call_back; /* run |on_finished| */
        gp_link endless GP_GUARDED_BY(&gp__engine_lock); /* in the list of endless calls */
    } dispatch;
};

/*
 * Ask gRPC for one more call. When the call arrives, the event |arrived| takes over its first
 * reference. Returns: 0, also if |grpc| takes no more calls, or GP_ENOMEM.
 */
int gp__server_call_request(gp__call_owner *owner, grpc_server *grpc);

/* The call has arrived: start the batches that every call has. */
void gp__server_call_begin(gp_server_call *call);

/* Run the callback that |callback_due| has announced. */
void gp__server_call_run_callback(gp_server_call *call);

#endif
