/*
 * Layer: rpc. Decides who answers a server's calls: a service in C, on the polling thread; a
 * handler, on a worker of the pool; or the application, on threads of its own. Also does what is
 * due as calls end while the server is being stopped.
 */
#ifndef GP_RPC_DISPATCH_H
#define GP_RPC_DISPATCH_H

#include "rpc/server_call.h"
#include "rpc/worker_pool.h"

/*
 * Whether the handler of a method is slow is stored under a hash of the method's name, in one of so
 * many places. Methods with the same hash share a place.
 */
enum { GP__METHOD_PLACES = 64 };

/* The part of a server that dispatches calls. Written by dispatch.c alone. */
typedef struct gp__dispatch {
    gp__call_owner owner;
    grpc_server *grpc; /* borrowed: the server's */
    gp_server_handler handler;
    void *handler_ctx; /* owned: handler.release */
    int max_concurrent;
    struct method_block {
        const gp__method *methods;
        size_t count;
        void *block; /* owned */
        struct method_block *next;
    } *methods;                 /* owned */
    atomic_int missed_requests; /* requests for calls that were not made, as memory was short */
    atomic_bool slow[GP__METHOD_PLACES]; /* see gp__absence */
    gp__task_queue handlers;             /* calls that wait for a worker */

    gp_list endless GP_GUARDED_BY(&gp__engine_lock); /* calls; each with a reference */
    /* Calls that have arrived for |handler|, and that it is not done with. */
    int active GP_GUARDED_BY(&gp__engine_lock);
    /* Completion callbacks of calls that are due or running. */
    int callbacks GP_GUARDED_BY(&gp__engine_lock);
    bool stopping GP_GUARDED_BY(&gp__engine_lock);
    /* gRPC says that no call is left. */
    bool stopped GP_GUARDED_BY(&gp__engine_lock);
    /* |on_idle| of the methods has been called. */
    bool reported_idle GP_GUARDED_BY(&gp__engine_lock);
    /* The server's connections have been closed. */
    bool closed_connections GP_GUARDED_BY(&gp__engine_lock);
    gp_cond changed; /* broadcast when the stop makes progress */
} gp__dispatch;

/*
 * |poller| and |grpc| are borrowed. |options->handler_ctx| is owned by the dispatch from here on.
 * |unreferenced| is that of gp__call_owner.
 */
void gp__dispatch_init(gp__dispatch *dispatch, const gp_server_options *options, gp__poller *poller,
                       grpc_server *grpc, void (*unreferenced)(gp__call_owner *owner));
void gp__dispatch_release(gp__dispatch *dispatch);

/* As gp__server_add_methods(). */
int gp__dispatch_add_methods(gp__dispatch *dispatch, const gp__method *methods, size_t count,
                             void *block, gp_error *err);

/* The server has been started: ask for calls. Returns: 0 or GP_ENOMEM. */
int gp__dispatch_request_calls(gp__dispatch *dispatch);

/* ---- The stop ---- */

/* Record that the server is being stopped. Returns false if that was known. */
bool gp__dispatch_set_stopping_locked(gp__dispatch *dispatch) GP_REQUIRES(&gp__engine_lock);

/*
 * End the calls of endless methods, which would otherwise use up the grace period that other calls
 * need.
 */
void gp__dispatch_end_endless(gp__dispatch *dispatch) GP_EXCLUDES(&gp__engine_lock);

/*
 * To be called after a call, a callback or a batch has ended: if the server is being stopped, do
 * what is due. Releases and re-acquires the lock meanwhile.
 */
void gp__dispatch_advance_stop_locked(gp__dispatch *dispatch) GP_REQUIRES(&gp__engine_lock);

/*
 * Record that the server has stopped: gRPC says that no call is left, or has taken too long to say
 * so. Returns false if that was known. Releases and re-acquires the lock meanwhile.
 */
bool gp__dispatch_set_stopped_locked(gp__dispatch *dispatch) GP_REQUIRES(&gp__engine_lock);

/* Whether the server has stopped, and has nothing left to do. */
bool gp__dispatch_is_done_locked(const gp__dispatch *dispatch) GP_REQUIRES(&gp__engine_lock);

#endif
