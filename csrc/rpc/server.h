/*
 * Layer: rpc. Services written in C, and what server.c and server_call.c share.
 *
 * Threads: the server's workers. One of them is in the poller's seat; it runs what comes in itself.
 * While it does, the standby worker looks after the seat. Others run handlers or idle.
 * Locks: the poller's lock guards the server's state and its job queue.
 */
#ifndef GP_RPC_SERVER_H
#define GP_RPC_SERVER_H

#include <grpc/grpc.h>

#include "gp/server.h"
#include "rpc/poller.h"

/*
 * A method written in C, with one request. |answer| runs on the polling thread, must not block, and
 * ends the call, or sends one message and leaves the end to later. |request| is NULL if the client
 * sent none; it is freed after the return.
 */
typedef struct gp__method {
    const char *path; /* "/package.Service/Method" */
    void (*answer)(void *ctx, gp_server_call *call, const gp_message *request);
    void *ctx;
    bool endless; /* its calls end with the server's stop and get no grace */
} gp__method;

/*
 * Add |count| methods, which lie in |block|, before the start. The server owns |block| from here on,
 * also on failure, and frees it with gp__free(). Returns: 0 or GP_ENOMEM.
 */
int gp__server_add_methods(gp_server *server, const gp__method *methods, size_t count, void *block,
                           gp_error *err);

typedef enum gp__call_phase {
    GP__CALL_ARRIVED,   /* nobody has looked at it */
    GP__CALL_EXPECTING, /* its handler wants to run once the first message is there */
    GP__CALL_RUNNING,   /* its handler runs or has run */
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
    gp__event receive;
    gp__event send;
    gp__event finish;
    gp__gate received;          /* open when |incoming| is there to be taken */
    gp__gate sent;              /* open while no send is under way */
    bool receiving;             /* a receive is under way, or its result not yet taken */
    grpc_byte_buffer *incoming; /* owned until taken */
    grpc_byte_buffer *outgoing; /* owned */
    int close_cancelled;        /* written by gRPC */

    const gp__method *method;     /* borrowed; a service in C, or NULL */
    void *data;                   /* the handler's */
    gp__call_phase phase;         /* under the poller's lock */
    gp_server_call *next_job;     /* under the poller's lock */
    gp_server_call *next_endless; /* under the poller's lock */
    gp_server_call *next_over;    /* under the poller's lock */

    pthread_mutex_t lock; /* guards what follows */
    bool initial_sent;
    bool finished; /* the status went out */
    atomic_bool over;
    atomic_bool cancelled;
    void (*on_over)(void *ctx);
    void *on_over_ctx;
};

/* server_call.c */
int gp__server_call_new(gp_server_call **out, gp_server *server);
void gp__server_call_begin(gp_server_call *call); /* start the batches that every call has */

/* server.c: for server_call.c */
gp__poller *gp__server_poller(gp_server *server);
void gp__server_call_arrived(gp_server_call *call, bool ok);
void gp__server_call_readable(gp_server_call *call);
void gp__server_queue_over(gp_server_call *call); /* takes a reference over */
gp_server *gp__server_ref(gp_server *server);
void gp__server_unref(gp_server *server);
void gp__server_batch_started(gp_server *server);
void gp__server_batch_ended(gp_server *server);

#endif
