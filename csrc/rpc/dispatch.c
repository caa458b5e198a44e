#include "rpc/dispatch.h"

#include <limits.h>
#include <string.h>

#include "base/alloc.h"
#include "gp/grpc_status.h"
#include "rpc/args.h"
#include "rpc/convert.h"
#include "rpc/metadata_size.h"

/* How many calls gRPC is asked for in advance, to absorb bursts. */
enum { SLOTS = 8 };

static const gp__call_events events;

/* ---- Making ---- */

/*
 * The limit of clients that do not state it. Where the author has set the limit of the server, we
 * assume that clients have the same.
 */
static size_t
clients_metadata(const gp_server_options *options)
{
    int given = gp__arg_integer(options->args, options->args_count, "grpc.max_metadata_size", 0);

    return given > GP__METADATA_SIZE_CORE ? (size_t)given : GP__METADATA_SIZE_CORE;
}

static void
report_full(gp__task_queue *queue)
{
    gp__dispatch *self = gp_container_of(queue, gp__dispatch, handlers);

    self->handler.full(self->handler_ctx, queue->limit);
}

void
gp__dispatch_init(gp__dispatch *self, const gp_server_options *options, gp__poller *poller,
                  grpc_server *grpc, void (*unreferenced)(gp__call_owner *owner))
{
    *self = (gp__dispatch){
        .owner = {.poller = poller,
                  .unpack_limit = gp__unpack_limit(options->args, options->args_count,
                                                   options->general ? GP__MESSAGE_LENGTH : INT_MAX),
                  .client_metadata = clients_metadata(options),
                  .events = &events,
                  .unreferenced = unreferenced},
        .grpc = grpc,
        .handler = options->handler,
        .handler_ctx = options->handler_ctx,
        .max_concurrent = options->max_concurrent > 0 ? options->max_concurrent : INT_MAX,
    };
    atomic_init(&self->owner.refs, 1);
    gp__task_queue_init(&self->handlers, options->max_workers > 0 ? options->max_workers : 1,
                        options->handler.full != NULL ? report_full : NULL);
    gp_list_init(&self->endless);
    gp_cond_init(&self->changed);
}

void
gp__dispatch_release(gp__dispatch *self)
{
    if (self->handler.release != NULL) {
        self->handler.release(self->handler_ctx);
    }
    while (self->methods != NULL) {
        struct method_block *added = self->methods;

        self->methods = added->next;
        for (size_t i = 0; i < added->count; i++) {
            if (added->methods[i].release != NULL) {
                added->methods[i].release(added->methods[i].ctx);
            }
        }
        gp__free(added->block);
        gp__free(added);
    }
    gp_cond_release(&self->changed);
}

int
gp__dispatch_add_methods(gp__dispatch *self, const gp__method *methods, size_t count, void *block,
                         gp_error *err)
{
    struct method_block *added = gp__malloc(sizeof(*added));

    if (added == NULL) {
        gp__free(block);
        return gp_error_set(err, GP_ENOMEM, "out of memory for a service");
    }
    *added = (struct method_block){methods, count, block, self->methods};
    self->methods = added;
    return 0;
}

static gp__dispatch *
dispatch_of(const gp_server_call *call)
{
    return gp_container_of(call->owner, gp__dispatch, owner);
}

/* ---- Asking for calls ---- */

static void
request_call(gp__dispatch *self)
{
    if (gp__server_call_request(&self->owner, self->grpc) < 0) {
        atomic_fetch_add(&self->missed_requests, 1); /* repeated when the next call is freed */
    }
}

int
gp__dispatch_request_calls(gp__dispatch *self)
{
    for (int i = 0; i < SLOTS; i++) {
        request_call(self);
    }
    /*
     * Missed requests are repeated when calls are freed; if all were missed, there will be no call
     * to free.
     */
    return atomic_load(&self->missed_requests) == SLOTS ? GP_ENOMEM : 0;
}

static bool
is_stopping(gp__dispatch *self)
{
    bool stopping;

    gp_mutex_lock(&gp__engine_lock);
    stopping = self->stopping;
    gp_mutex_unlock(&gp__engine_lock);
    return stopping;
}

static void
repeat_missed_requests(gp__call_owner *owner)
{
    gp__dispatch *self = gp_container_of(owner, gp__dispatch, owner);

    if (atomic_load(&self->missed_requests) == 0) {
        return;
    }
    /* Counted as a batch, so that neither the server nor the worker that polls ends meanwhile. */
    gp__call_owner_batch_started(owner);
    for (int left = atomic_exchange(&self->missed_requests, 0); left > 0; left--) {
        if (!is_stopping(self)) {
            request_call(self);
        }
    }
    gp__call_owner_batch_ended(owner);
}

/* ---- Services in C ---- */

static const gp__method *
find_method(const gp__dispatch *self, gp_bytes path)
{
    for (const struct method_block *added = self->methods; added != NULL; added = added->next) {
        for (size_t i = 0; i < added->count; i++) {
            const char *candidate = added->methods[i].path;

            if (strlen(candidate) == path.len && memcmp(candidate, path.data, path.len) == 0) {
                return &added->methods[i];
            }
        }
    }
    return NULL;
}

void
gp__dispatch_end_endless(gp__dispatch *self)
{
    for (;;) {
        gp_server_call *call = NULL;
        gp_link *first;

        gp_mutex_lock(&gp__engine_lock);
        first = gp_list_pop(&self->endless);
        gp_mutex_unlock(&gp__engine_lock);
        if (first == NULL) {
            return;
        }
        call = gp_container_of(first, gp_server_call, dispatch.endless);
        gp_server_call_cancel(call, GP_GRPC_UNAVAILABLE, "the server is shutting down");
        gp_server_call_unref(call);
    }
}

/* An endless call has finished: take it out of the list of calls that the stop has to end. */
static void
forget_endless(void *ctx)
{
    gp_server_call *call = ctx;
    bool listed;

    gp_mutex_lock(&gp__engine_lock);
    listed = gp_link_is_linked(&call->dispatch.endless);
    gp_link_remove(&call->dispatch.endless);
    gp_mutex_unlock(&gp__engine_lock);
    if (listed) {
        gp_server_call_unref(call);
    }
}

/* Keep the reference to an endless call until the call has finished or the server stops. */
static void
keep_endless(gp__dispatch *self, gp_server_call *call)
{
    bool stopping;

    gp_mutex_lock(&gp__engine_lock);
    gp_list_prepend(&self->endless, &call->dispatch.endless);
    stopping = self->stopping;
    gp_mutex_unlock(&gp__engine_lock);
    if (stopping) {
        gp__dispatch_end_endless(self);
    } else if (gp_server_call_on_finished(call, forget_endless, call) < 0) {
        forget_endless(call);
    }
}

static void
answer_in_c(gp__dispatch *self, gp_server_call *call, const gp_message *request)
{
    const gp__method *method = call->dispatch.method;

    method->answer(method->ctx, call, request);
    if (method->endless) {
        keep_endless(self, call);
    } else {
        gp_server_call_unref(call);
    }
}

/* ---- Handlers ---- */

static void
refuse(gp_server_call *call, int code, const char *details)
{
    gp_server_call_finish(call, code, (gp_bytes){details, strlen(details)}, (gp_metadata){NULL, 0});
}

static atomic_bool *
slow_place(gp__dispatch *self, const gp_server_call *call)
{
    gp_bytes path = gp_server_call_method(call);
    const unsigned char *bytes = path.data;
    unsigned hash = 0;

    for (size_t i = 0; i < path.len; i++) {
        hash = 31 * hash + bytes[i];
    }
    return &self->slow[hash % GP__METHOD_PLACES];
}

/*
 * A handler has returned. The caller has a reference to the server. Releases and re-acquires the
 * lock meanwhile.
 */
static void
end_handler_locked(gp__dispatch *self, const gp_server_call *call) GP_REQUIRES(&gp__engine_lock)
{
    gp__task_queue_end_task_locked(&self->handlers);
    if (!call->dispatch.kept) {
        self->active--;
        gp__dispatch_advance_stop_locked(self);
    }
}

static void
run_handler(gp__dispatch *self, gp_server_call *call)
{
    gp__absence absence;

    gp__call_owner_ref(&self->owner);
    gp__poller_begin_absence(self->owner.poller, &absence, slow_place(self, call));
    self->handler.run(self->handler_ctx, call, call->dispatch.data);
    gp_mutex_lock(&gp__engine_lock);
    gp__poller_end_absence_locked(self->owner.poller, &absence);
    end_handler_locked(self, call);
    gp_mutex_unlock(&gp__engine_lock);
    gp_server_call_unref(call);
    gp__call_owner_unref(&self->owner);
}

static void
refuse_unknown_method(gp__dispatch *self, gp_server_call *call)
{
    gp__call_owner_ref(&self->owner);
    refuse(call, GP_GRPC_UNIMPLEMENTED, "Method not found!");
    gp_mutex_lock(&gp__engine_lock);
    end_handler_locked(self, call);
    gp_mutex_unlock(&gp__engine_lock);
    gp_server_call_unref(call);
    gp__call_owner_unref(&self->owner);
}

/* Runs on a worker: the call's first message has arrived, or is not needed. */
static void
run_call(gp__task *task)
{
    gp_server_call *call = gp_container_of(task, gp_server_call, dispatch.handle);

    run_handler(dispatch_of(call), call);
}

/*
 * Runs on a worker: show a new call to the handler; then run the handler, unless it needs the
 * call's first message and that has not arrived.
 */
static void
begin_call(gp__task *task)
{
    gp_server_call *call = gp_container_of(task, gp_server_call, dispatch.handle);
    gp__dispatch *self = dispatch_of(call);
    int answer = self->handler.begin(self->handler_ctx, call, &call->dispatch.data);
    bool later;

    if (answer < 0) {
        refuse_unknown_method(self, call);
        return;
    }
    gp_mutex_lock(&gp__engine_lock);
    later = answer > 0 && !gp__gate_is_open(&call->inbox.arrived);
    call->dispatch.phase = later ? GP__CALL_EXPECTING : GP__CALL_RUNNING;
    if (later) {
        gp__task_queue_end_task_locked(&self->handlers);
    }
    gp_mutex_unlock(&gp__engine_lock);
    if (!later) { /* otherwise another thread may have run the handler and freed the call by now */
        run_handler(self, call);
    }
}

static void
queue_call_locked(gp__dispatch *self, gp_server_call *call, void (*run)(gp__task *task))
    GP_REQUIRES(&gp__engine_lock)
{
    call->dispatch.handle.run = run;
    gp__task_queue_add_locked(&self->handlers, &call->dispatch.handle);
}

/* ---- Events of calls ---- */

static void
call_arrived(gp_server_call *call, bool ok)
{
    gp__dispatch *self = dispatch_of(call);
    bool too_many;

    gp__call_owner_batch_ended(&self->owner);
    if (!ok) {
        gp_server_call_unref(call);
        return;
    }
    request_call(self);
    call->dispatch.method = find_method(self, gp_server_call_method(call));
    gp__server_call_begin(call);
    if (call->dispatch.method != NULL) {
        if (call->dispatch.method->streams) {
            answer_in_c(self, call, NULL);
        }
        return; /* a method that does not stream is answered when its request arrives */
    }
    gp_mutex_lock(&gp__engine_lock);
    too_many = self->active >= self->max_concurrent;
    if (!too_many) {
        self->active++;
        if (self->handler.take != NULL) {
            call->dispatch.phase = GP__CALL_TAKEN;
        } else {
            queue_call_locked(self, call, begin_call);
        }
    }
    gp_mutex_unlock(&gp__engine_lock);
    if (too_many) {
        refuse(call, GP_GRPC_RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!");
        gp_server_call_unref(call);
    } else if (self->handler.take != NULL) {
        self->handler.take(self->handler_ctx, call);
    }
}

static void
call_readable(gp_server_call *call)
{
    gp__dispatch *self = dispatch_of(call);

    if (call->dispatch.method != NULL) {
        if (!call->dispatch.method->streams) {
            answer_in_c(self, call, gp__message_from_buffer(call->inbox.incoming));
        }
        return;
    }
    gp_mutex_lock(&gp__engine_lock);
    if (call->dispatch.phase == GP__CALL_EXPECTING) {
        call->dispatch.phase = GP__CALL_RUNNING;
        queue_call_locked(self, call, run_call);
    }
    gp_mutex_unlock(&gp__engine_lock);
}

/* Runs on a worker. */
static void
run_callback(gp__task *task)
{
    gp_server_call *call = gp_container_of(task, gp_server_call, dispatch.call_back);
    gp__dispatch *self = dispatch_of(call);

    gp__call_owner_ref(&self->owner);
    gp__server_call_run_callback(call);
    gp_server_call_unref(call);
    gp_mutex_lock(&gp__engine_lock);
    self->callbacks--;
    gp__dispatch_advance_stop_locked(self);
    gp_mutex_unlock(&gp__engine_lock);
    gp__call_owner_unref(&self->owner);
}

static void
callback_due(gp_server_call *call)
{
    gp__dispatch *self = dispatch_of(call);

    call->dispatch.call_back.run = run_callback;
    gp_server_call_ref(call); /* until the callback has run */
    gp_mutex_lock(&gp__engine_lock);
    self->callbacks++;
    gp__pool_call_back_locked(&call->dispatch.call_back);
    gp_mutex_unlock(&gp__engine_lock);
}

static void
no_batch_left(gp__call_owner *owner)
{
    gp_mutex_lock(&gp__engine_lock);
    gp__dispatch_advance_stop_locked(gp_container_of(owner, gp__dispatch, owner));
    gp_mutex_unlock(&gp__engine_lock);
}

static const gp__call_events events = {.arrived = call_arrived,
                                       .readable = call_readable,
                                       .callback_due = callback_due,
                                       .idle = no_batch_left,
                                       .call_freed = repeat_missed_requests};

/* ---- What the application does with calls ---- */

void
gp_server_call_delegate(gp_server_call *call, void *data, bool wants_message)
{
    gp__dispatch *self = dispatch_of(call);

    call->dispatch.data = data;
    gp_mutex_lock(&gp__engine_lock);
    call->dispatch.phase = GP__CALL_EXPECTING;
    if (!wants_message || gp__gate_is_open(&call->inbox.arrived)) {
        call->dispatch.phase = GP__CALL_RUNNING;
        queue_call_locked(self, call, run_call);
    }
    gp_mutex_unlock(&gp__engine_lock);
}

void
gp_server_call_keep(gp_server_call *call)
{
    call->dispatch.kept = true;
    gp_server_call_ref(call); /* until gp_server_call_hand_back() */
}

void
gp_server_call_hand_back(gp_server_call *call)
{
    gp__dispatch *self = dispatch_of(call);

    if (gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&gp__engine_lock);
    self->active--;
    gp__dispatch_advance_stop_locked(self);
    gp_mutex_unlock(&gp__engine_lock);
    gp_server_call_unref(call);
}

/* ---- The stop ---- */

bool
gp__dispatch_set_stopping_locked(gp__dispatch *self)
{
    bool first = !self->stopping;

    self->stopping = true;
    return first;
}

static bool
is_idle_locked(const gp__dispatch *self) GP_REQUIRES(&gp__engine_lock)
{
    return self->active == 0 && self->callbacks == 0 && atomic_load(&self->owner.batches) == 0;
}

bool
gp__dispatch_is_done_locked(const gp__dispatch *self)
{
    return self->stopped && is_idle_locked(self);
}

/*
 * Call |on_idle| of the methods in C, once no handler runs any more; or once the server has
 * stopped, since handlers that still run have no client left to answer. Releases and re-acquires
 * the lock meanwhile.
 */
static void
report_idle_locked(gp__dispatch *self) GP_REQUIRES(&gp__engine_lock)
{
    if (self->reported_idle || (self->active > 0 && !self->stopped)) {
        return;
    }
    self->reported_idle = true;
    gp_mutex_unlock(&gp__engine_lock);
    for (const struct method_block *added = self->methods; added != NULL; added = added->next) {
        for (size_t i = 0; i < added->count; i++) {
            if (added->methods[i].on_idle != NULL) {
                added->methods[i].on_idle(added->methods[i].ctx);
            }
        }
    }
    gp_mutex_lock(&gp__engine_lock);
}

/*
 * Close the connections once no call is left on them: a client that keeps its connection open while
 * it waits for this process to end must not keep the process. Releases and re-acquires the lock
 * meanwhile.
 */
static void
close_connections_if_idle_locked(gp__dispatch *self) GP_REQUIRES(&gp__engine_lock)
{
    if (!self->closed_connections && is_idle_locked(self)) {
        self->closed_connections = true;
        gp_mutex_unlock(&gp__engine_lock);
        grpc_server_cancel_all_calls(self->grpc);
        gp_mutex_lock(&gp__engine_lock);
    }
}

void
gp__dispatch_advance_stop_locked(gp__dispatch *self)
{
    if (self->stopping) {
        report_idle_locked(self);
        close_connections_if_idle_locked(self);
        gp_cond_broadcast(&self->changed);
    }
}

bool
gp__dispatch_set_stopped_locked(gp__dispatch *self)
{
    bool first = !self->stopped;

    self->stopped = true;
    gp__dispatch_advance_stop_locked(self);
    gp_cond_broadcast(&self->changed);
    return first;
}
