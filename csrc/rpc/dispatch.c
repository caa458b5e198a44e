#include "rpc/server.h"

#include <string.h>

#include "base/alloc.h"
#include "rpc/convert.h"
#include "rpc/worker_pool.h"

void
gp__server_request_call(gp_server *server)
{
    gp_server_call *call;

    if (gp__server_call_new(&call, server) < 0) {
        atomic_fetch_add(&server->missing, 1); /* until the next call goes */
        return;
    }
    gp__server_batch_started(server);
    gp__hand_over(&call->arrive);
    if (grpc_server_request_call(server->grpc, &call->call, &call->details,
                                 &call->received_metadata, server->poller->queue,
                                 server->poller->queue, &call->arrive) != GRPC_CALL_OK) {
        gp__server_batch_ended(server);
        gp_server_call_unref(call);
    }
}

void
gp__server_request_missing(gp_server *server)
{
    /* Counted first: workers that would have to see what we ask for cannot all be gone then. */
    gp__server_batch_started(server);
    for (int left = atomic_exchange(&server->missing, 0); left > 0; left--) {
        if (!gp_server_stopping(server)) {
            gp__server_request_call(server);
        }
    }
    gp__server_batch_ended(server);
}

void
gp__server_batch_started(gp_server *server)
{
    atomic_fetch_add(&server->batches, 1);
}

void
gp__server_batch_ended(gp_server *server)
{
    /* Until it is stopped there are always those that ask for calls. */
    if (atomic_fetch_sub(&server->batches, 1) == 1) {
        gp_mutex_lock(&gp__engine_lock);
        gp__server_settle(server);
        gp_mutex_unlock(&gp__engine_lock);
    }
}

static const gp__method *
find_method(const gp_server *server, gp_bytes path)
{
    for (const struct method_block *added = server->methods; added != NULL; added = added->next) {
        for (size_t i = 0; i < added->count; i++) {
            const char *candidate = added->methods[i].path;

            if (strlen(candidate) == path.len && memcmp(candidate, path.data, path.len) == 0) {
                return &added->methods[i];
            }
        }
    }
    return NULL;
}

/* They would use up the grace that is meant for calls with an end. */
void
gp__server_end_endless(gp_server *server)
{
    gp_server_call *call;

    gp_mutex_lock(&gp__engine_lock);
    call = server->endless;
    server->endless = NULL;
    gp_mutex_unlock(&gp__engine_lock);
    while (call != NULL) {
        gp_server_call *next = call->next_endless;

        gp_server_call_cancel(call, GRPC_STATUS_UNAVAILABLE, "the server is shutting down");
        gp_server_call_unref(call);
        call = next;
    }
}

/* Lock held. */
static void
add_job(gp_server *server, gp_server_call *call)
{
    call->next_job = NULL;
    *server->jobs_end = call;
    server->jobs_end = &call->next_job;
    gp__pool_add_job(server);
}

/* An endless call is over: it need not be ended any more. */
static void
forget_endless(void *ctx)
{
    gp_server_call *call = ctx;
    gp_server *server = call->server;
    gp_server_call **link;
    bool found;

    gp_mutex_lock(&gp__engine_lock);
    for (link = &server->endless; *link != NULL && *link != call; link = &(*link)->next_endless) {
    }
    found = *link == call;
    if (found) {
        *link = call->next_endless;
    }
    gp_mutex_unlock(&gp__engine_lock);
    if (found) {
        gp_server_call_unref(call);
    }
}

/* Keep an endless call's reference until it is over or the server stops. */
static void
keep_endless(gp_server *server, gp_server_call *call)
{
    bool stopping;

    gp_mutex_lock(&gp__engine_lock);
    call->next_endless = server->endless;
    server->endless = call;
    stopping = server->stopping;
    gp_mutex_unlock(&gp__engine_lock);
    if (stopping) {
        gp__server_end_endless(server);
    } else if (gp_server_call_on_over(call, forget_endless, call) < 0) {
        forget_endless(call);
    }
}

/* A service in C answers. */
static void
answer(gp_server *server, gp_server_call *call, const gp_message *request)
{
    call->method->answer(call->method->ctx, call, request);
    if (call->method->endless) {
        keep_endless(server, call);
    } else {
        gp_server_call_unref(call);
    }
}

void
gp__server_call_arrived(gp_server_call *call, bool ok)
{
    gp_server *server = call->server;
    bool too_many;

    gp__server_batch_ended(server);
    if (!ok) {
        gp_server_call_unref(call);
        return;
    }
    gp__server_request_call(server);
    call->method = find_method(server, gp_server_call_method(call));
    gp__server_call_begin(call);
    if (call->method != NULL) {
        if (call->method->streams) {
            answer(server, call, NULL);
        }
        return; /* others are answered when their message is there */
    }
    gp_mutex_lock(&gp__engine_lock);
    too_many = server->active >= server->max_concurrent;
    if (!too_many) {
        server->active++;
        if (server->handler.take != NULL) {
            call->phase = GP__CALL_TAKEN;
        } else {
            add_job(server, call);
        }
    }
    gp_mutex_unlock(&gp__engine_lock);
    if (!too_many && server->handler.take != NULL) {
        server->handler.take(server->handler_ctx, call);
    }
    if (too_many) {
        static const char text[] = "Concurrent RPC limit exceeded!";

        gp_server_call_finish(call, GRPC_STATUS_RESOURCE_EXHAUSTED,
                              (gp_bytes){text, sizeof(text) - 1}, (gp_metadata){NULL, 0});
        gp_server_call_unref(call);
    }
}

void
gp__server_call_readable(gp_server_call *call)
{
    gp_server *server = call->server;

    if (call->method != NULL) {
        if (!call->method->streams) {
            answer(server, call, gp__message_from_buffer(call->inbox.incoming));
        }
        return;
    }
    gp_mutex_lock(&gp__engine_lock);
    if (call->phase == GP__CALL_EXPECTING) {
        add_job(server, call);
    }
    gp_mutex_unlock(&gp__engine_lock);
}

void
gp_server_call_delegate(gp_server_call *call, void *data, bool wants_message)
{
    gp_server *server = call->server;

    call->data = data;
    gp_mutex_lock(&gp__engine_lock);
    call->phase = GP__CALL_EXPECTING;
    if (!wants_message || gp__gate_is_open(&call->inbox.there)) {
        call->phase = GP__CALL_RUNNING;
        add_job(server, call);
    }
    gp_mutex_unlock(&gp__engine_lock);
}

void
gp_server_call_keep(gp_server_call *call)
{
    call->kept = true;
    gp_server_call_ref(call); /* until it is handed back */
}

void
gp_server_call_hand_back(gp_server_call *call)
{
    gp_server *server = call->server;

    if (gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&gp__engine_lock);
    server->active--;
    gp__server_settle(server);
    gp_mutex_unlock(&gp__engine_lock);
    gp_server_call_unref(call);
}
