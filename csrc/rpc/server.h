/*
 * Layer: rpc. The server from the inside.
 *
 *   worker_pool.h <- server_call.h <- dispatch.h <- server.h
 *
 * server_call.c one call: its batches, and what its handler does with it dispatch.c who answers
 * calls as they arrive, and when none is left server.c the server's life: making, listening,
 * starting, stopping
 *
 * Each file alone writes the fields of its struct.
 */
#ifndef GP_RPC_SERVER_H
#define GP_RPC_SERVER_H

#include "base/ref_list.h"
#include "base/task.h"
#include "gp/lock.h"
#include "gp/server.h"
#include "os/reactor.h"
#include "rpc/dispatch.h"
#include "rpc/grpc_symbols.h"

struct gp_server {
    /*
     * |dispatch.owner.refs| counts the references: the application's, one for each call, one until
     * |shutdown| is complete, and one for each thread that uses the server.
     */
    gp__dispatch dispatch;
    gp__ref_link link;      /* in the list of all servers */
    gp__task deferred_free; /* queued once the last reference is gone */
    /*
     * Owned; NULL once retired. Written with the lock held, while only the application refers to
     * the server.
     */
    grpc_server *grpc;
    bool general;       /* it is not a plugin */
    gp__event shutdown; /* complete when gRPC says that no call is left */
    void (*on_stopped)(void *ctx);
    void *on_stopped_ctx;

    /*
     * A pipe that becomes readable when the server has stopped; -1 until a thread waits for that.
     */
    int stop_pipe[2] GP_GUARDED_BY(&gp__engine_lock);
    /* The application has dropped its reference. */
    bool released GP_GUARDED_BY(&gp__engine_lock);
    bool started GP_GUARDED_BY(&gp__engine_lock);
    /* The server is counted in the poller as one that takes calls. */
    bool serving GP_GUARDED_BY(&gp__engine_lock);
    bool has_grace_thread GP_GUARDED_BY(&gp__engine_lock);
    /* When running calls are to be cancelled. */
    int64_t cancel_at GP_GUARDED_BY(&gp__engine_lock);
    /* Owned; not NULL while gRPC closes the connections, which must not take for ever. */
    gp__watch *close_timer GP_GUARDED_BY(&gp__engine_lock);
};

/*
 * Free gRPC's part of servers that have stopped and that only the application refers to. Returns
 * whether there are servers that have stopped but have other references.
 */
bool gp__servers_retire(void);

#endif
