#include "rpc/server_call.h"

#include <stddef.h>
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"
#include "base/thread.h"
#include "rpc/convert.h"
#include "rpc/credentials.h"
#include "rpc/grpc_symbols.h"
#include "rpc/metadata_size.h"
#include "rpc/trim.h"
#include "rpc/unpack.h"

/* ---- The part of a server that its calls know ---- */

gp__call_owner *
gp__call_owner_ref(gp__call_owner *owner)
{
    atomic_fetch_add(&owner->refs, 1);
    return owner;
}

void
gp__call_owner_unref(gp__call_owner *owner)
{
    if (atomic_fetch_sub(&owner->refs, 1) == 1) {
        owner->unreferenced(owner);
    }
}

void
gp__call_owner_batch_started(gp__call_owner *owner)
{
    atomic_fetch_add(&owner->batches, 1);
}

void
gp__call_owner_batch_ended(gp__call_owner *owner)
{
    /*
     * This happens only once the server is being stopped: until then, batches that ask for calls
     * are on the queue.
     */
    if (atomic_fetch_sub(&owner->batches, 1) == 1) {
        owner->events->idle(owner);
    }
}

/* ---- References ---- */

gp_server_call *
gp_server_call_ref(gp_server_call *call)
{
    atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
    return call;
}

void
gp_server_call_unref(gp_server_call *call)
{
    gp__call_owner *owner;

    if (call == NULL || gp_runtime_forked() ||
        atomic_fetch_sub_explicit(&call->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    owner = call->owner;
    grpc_call_details_destroy(&call->details);
    grpc_metadata_array_destroy(&call->received_metadata);
    gp__free(call->metadata_view);
    gp__inbox_release(&call->inbox);
    gp__outbox_release(&call->outbox);
    if (call->call != NULL) {
        grpc_call_unref(call->call);
    }
    gp_mutex_release(&call->lock);
    gp__free(call);
    owner->events->call_freed(owner);
    gp__call_owner_unref(owner);
}

/* To be called last in the completion of a batch. */
static void
end_batch(gp_server_call *call)
{
    gp__call_owner_batch_ended(call->owner);
    gp_server_call_unref(call);
}

static void
ref_call(void *call)
{
    gp_server_call_ref(call);
}

static void
unref_call(void *call)
{
    gp_server_call_unref(call);
}

static int
start_batch(void *of, const grpc_op *ops, size_t count, gp__event *event)
{
    gp_server_call *call = gp_server_call_ref(of);

    gp__call_owner_batch_started(call->owner);
    gp__hand_over(event);
    if (grpc_call_start_batch(call->call, ops, count, event, NULL) != GRPC_CALL_OK) {
        end_batch(call);
        return GP_EINVAL;
    }
    return 0;
}

/* ---- The batches' completions, on the polling thread. ---- */

static void
arrive_complete(gp__event *event, bool ok)
{
    gp_server_call *call = gp_container_of(event, gp_server_call, arrive);

    call->owner->events->arrived(call, ok);
}

static void
close_complete(gp__event *event, bool ok)
{
    gp_server_call *call = gp_container_of(event, gp_server_call, close);
    gp_then *on_cancel = NULL;
    void *on_cancel_ctx = NULL;
    bool has_callback;

    (void)ok;
    gp_mutex_lock(&call->lock);
    atomic_store(&call->cancelled, call->close_cancelled != 0);
    atomic_store(&call->over, true);
    has_callback = call->on_finished != NULL;
    if (call->close_cancelled) {
        on_cancel = call->on_cancel;
        on_cancel_ctx = call->on_cancel_ctx;
        call->on_cancel = NULL;
    }
    gp_mutex_unlock(&call->lock);
    gp__outbox_end(&call->outbox);
    if (call->close_cancelled) {
        gp__trim_count(GP__CALL_MEMORY);
    }
    if (on_cancel != NULL) {
        on_cancel(on_cancel_ctx);
    }
    if (has_callback) {
        call->owner->events->callback_due(call);
    }
    end_batch(call);
}

void
gp__server_call_run_callback(gp_server_call *call)
{
    void (*on_finished)(void *ctx);
    void *ctx;

    gp_mutex_lock(&call->lock);
    on_finished = call->on_finished;
    ctx = call->on_finished_ctx;
    gp_mutex_unlock(&call->lock);
    on_finished(ctx);
}

static void
receive_complete(gp__event *event, bool ok)
{
    gp_server_call *call = gp_container_of(event, gp_server_call, inbox.event);
    char why[GP__UNPACK_WHY];
    grpc_status_code code = gp__unpack(&call->inbox.incoming, call->owner->unpack_limit, why);

    (void)ok; /* if it is false, the end of the requests has come instead of a message */
    if (code != GRPC_STATUS_OK) {
        gp_server_call_cancel(call, (int)code, why);
    }
    if (!gp__inbox_complete(&call->inbox)) {
        call->owner->events->readable(call);
    }
    end_batch(call);
}

static void
send_complete(gp__event *event, bool ok)
{
    gp_server_call *call = gp_container_of(event, gp_server_call, outbox.event);

    gp__outbox_complete(&call->outbox, ok);
    end_batch(call);
}

static void
finish_complete(gp__event *event, bool ok)
{
    (void)ok;
    end_batch(gp_container_of(event, gp_server_call, finish));
}

/* ---- The beginning ---- */

static const gp__sending_call sending = {start_batch, ref_call, unref_call};

/* Returns NULL if memory is short. */
static gp_server_call *
new_call(gp__call_owner *owner)
{
    gp_server_call *call = gp__calloc(1, sizeof(*call));

    if (call == NULL) {
        return NULL;
    }
    gp_mutex_init(&call->lock);
    atomic_init(&call->refs, 1);
    atomic_init(&call->compression, GP_COMPRESS_DEFAULT);
    call->owner = gp__call_owner_ref(owner);
    call->arrive.complete = arrive_complete;
    call->close.complete = close_complete;
    call->finish.complete = finish_complete;
    gp__inbox_init(&call->inbox, call, start_batch, owner->poller, &call->lock, receive_complete);
    gp__outbox_init(&call->outbox, call, &sending, owner->poller, &call->lock, send_complete);
    grpc_call_details_init(&call->details);
    return call;
}

int
gp__server_call_request(gp__call_owner *owner, grpc_server *grpc)
{
    gp_server_call *call = new_call(owner);
    grpc_completion_queue *queue = owner->poller->queue;

    if (call == NULL) {
        return GP_ENOMEM;
    }
    gp__call_owner_batch_started(owner);
    gp__hand_over(&call->arrive);
    if (grpc_server_request_call(grpc, &call->call, &call->details, &call->received_metadata, queue,
                                 queue, &call->arrive) != GRPC_CALL_OK) {
        gp__call_owner_batch_ended(owner);
        gp_server_call_unref(call);
    }
    return 0;
}

void
gp__server_call_begin(gp_server_call *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
                  .data.recv_close_on_server.cancelled = &call->close_cancelled};

    call->deadline = gp__deadline_from_timespec(call->details.deadline);
    call->metadata_count = gp__metadata_view(&call->metadata_view, &call->received_metadata).count;
    start_batch(call, &op, 1, &call->close);
    /*
     * Each call has a first message, or the end of the messages in its place: receiving it at once
     * costs nothing.
     */
    gp__inbox_start(&call->inbox);
}

/* ---- For handlers ---- */

gp_bytes
gp_server_call_method(const gp_server_call *call)
{
    return gp__bytes_from_slice(&call->details.method);
}

gp_bytes
gp_server_call_host(const gp_server_call *call)
{
    return gp__bytes_from_slice(&call->details.host);
}

gp_metadata
gp_server_call_metadata(const gp_server_call *call)
{
    return (gp_metadata){call->metadata_view, call->metadata_count};
}

double
gp_server_call_time_remaining(const gp_server_call *call)
{
    return gp__seconds_until(call->deadline);
}

char *
gp_server_call_peer(gp_server_call *call)
{
    return grpc_call_get_peer(call->call);
}

void
gp_server_call_free_peer(char *peer)
{
    gpr_free(peer);
}

gp_auth_context *
gp_server_call_auth_context(gp_server_call *call)
{
    return gp__auth_context(call->call);
}

int
gp_server_call_receive(gp_server_call *call, gp_message **out, const gp_interrupt *interrupt)
{
    gp__outbox_release_held(&call->outbox);
    return gp__inbox_receive(&call->inbox, out, interrupt);
}

bool
gp_server_call_take_arrived(gp_server_call *call, gp_message **out)
{
    return gp__inbox_take_arrived(&call->inbox, out);
}

int
gp_server_call_receive_then(gp_server_call *call, gp_message **out, gp_received *then, void *ctx)
{
    return gp__inbox_receive_then(&call->inbox, out, then, ctx);
}

void
gp_server_call_put_back(gp_server_call *call, gp_message *message)
{
    gp__inbox_put_back(&call->inbox, message);
}

void
gp_server_call_set_compression(gp_server_call *call, int algorithm)
{
    atomic_store(&call->compression, algorithm);
}

void
gp_server_call_skip_compression(gp_server_call *call)
{
    atomic_store(&call->plain, true);
}

/*
 * Add the operation that sends |items| (which has room for one more) as initial metadata, unless
 * initial metadata have been sent. Returns the number of operations.
 */
static size_t
add_initial_metadata(gp_server_call *call, grpc_op *ops, grpc_metadata *items, size_t count)
{
    int compression = atomic_load(&call->compression);
    bool needed;

    gp_mutex_lock(&call->lock);
    needed = !call->initial_sent;
    call->initial_sent = true;
    gp_mutex_unlock(&call->lock);
    if (compression != GP_COMPRESS_DEFAULT) {
        items[count++] = gp__compression_metadata(compression);
    }
    if (needed) {
        ops[0] = (grpc_op){.op = GRPC_OP_SEND_INITIAL_METADATA,
                           .data.send_initial_metadata = {.metadata = items, .count = count}};
    }
    return needed;
}

/* The flags of the next message. */
static uint32_t
next_flags(gp_server_call *call)
{
    return atomic_exchange(&call->plain, false) ? GRPC_WRITE_NO_COMPRESS : 0;
}

/* The outbox is acquired. */
static int
send_initial_metadata(gp_server_call *call, gp_metadata metadata)
{
    grpc_metadata *items;
    grpc_op op;
    int rc = gp__metadata_to_grpc(&items, metadata, 1);

    if (rc < 0) {
        return gp__outbox_abandon(&call->outbox) < 0 ? rc : 0; /* 0: |then| has been called */
    }
    rc = add_initial_metadata(call, &op, items, metadata.count) == 0
             ? gp__outbox_abandon(&call->outbox)
             : gp__outbox_start(&call->outbox, &op, 1);
    gp__metadata_free(items, metadata.count);
    return rc;
}

int
gp_server_call_send_initial_metadata(gp_server_call *call, gp_metadata metadata)
{
    int rc = gp__outbox_acquire(&call->outbox, NULL);

    return rc < 0 ? rc : send_initial_metadata(call, metadata);
}

int
gp_server_call_send_initial_metadata_then(gp_server_call *call, gp_metadata metadata, gp_sent *then,
                                          void *ctx)
{
    int rc = gp__outbox_acquire_then(&call->outbox, then, ctx);

    return rc < 0 ? rc : send_initial_metadata(call, metadata);
}

/* The outbox is acquired. */
static int
send_message(gp_server_call *call, gp_bytes message, uint32_t flags)
{
    grpc_metadata own;
    grpc_op ops[2];
    size_t count;

    if (gp_server_call_over(call)) {
        return gp__outbox_abandon(&call->outbox);
    }
    count = add_initial_metadata(call, ops, &own, 0);
    ops[count++] = gp__outbox_op(&call->outbox, message, flags);
    return gp__outbox_start(&call->outbox, ops, count);
}

int
gp_server_call_send(gp_server_call *call, gp_bytes message, const gp_interrupt *interrupt)
{
    uint32_t flags = next_flags(call);
    int rc;

    if (gp_server_call_over(call)) {
        return GP_ECLOSED;
    }
    rc = gp__outbox_queue(&call->outbox, message, flags, interrupt);
    if (rc != 0) {
        return rc < 0 ? rc : 0;
    }
    return send_message(call, message, flags);
}

int
gp_server_call_send_then(gp_server_call *call, gp_bytes message, gp_sent *then, void *ctx)
{
    int rc = gp__outbox_acquire_then(&call->outbox, then, ctx);

    return rc < 0 ? rc : send_message(call, message, next_flags(call));
}

int
gp_server_call_post(gp_server_call *call, gp_bytes message, gp_sent *then, void *ctx)
{
    uint32_t flags = next_flags(call);
    int rc;

    if (gp_server_call_over(call)) {
        return GP_ECLOSED;
    }
    rc = gp__outbox_post(&call->outbox, &message, flags, then, ctx);
    if (rc == GP__POSTED_ACQUIRED) {
        rc = send_message(call, message, flags);
        return rc < 0 ? rc : GP__POSTED;
    }
    return rc;
}

int
gp_server_call_flush_then(gp_server_call *call, gp_sent *then, void *ctx)
{
    return gp__outbox_flush_then(&call->outbox, then, ctx);
}

/* How many bytes of metadata the client accepts. */
static size_t
accepted_metadata(const gp_server_call *call)
{
    static const char key[] = "user-agent";
    gp_metadata received = gp_server_call_metadata(call);

    for (size_t i = 0; i < received.count; i++) {
        const gp_metadatum *item = &received.items[i];

        if (item->key.len == sizeof(key) - 1 && memcmp(item->key.data, key, item->key.len) == 0) {
            return gp__metadata_size_of(item->value, call->owner->client_metadata);
        }
    }
    return call->owner->client_metadata;
}

static grpc_slice
make_details(const gp_server_call *call, gp_bytes details, gp_metadata trailing)
{
    /*
     * Even if they are sent as three times as much, so many bytes are within what all clients
     * accept.
     */
    enum { ALWAYS_ACCEPTED = 1024 };
    grpc_slice slice;
    char *cut = NULL;

    if (details.len > ALWAYS_ACCEPTED || (details.len > 0 && trailing.count > 0)) {
        details = gp__details_within(details, trailing, accepted_metadata(call), &cut);
    }
    slice = gp__slice_from_bytes(details);
    gp__free(cut);
    return slice;
}

/*
 * Append the name of the method to the details that generated code and servers give for an unknown
 * method. The usual words stay at the beginning, for callers that look for them. Returns NULL if
 * |details| are others, or memory is short.
 */
static char *
name_method(const gp_server_call *call, gp_bytes details)
{
    static const char *const texts[] = {"Method not implemented!", "Method not found!"};
    gp_bytes method = gp_server_call_method(call);

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (details.len == strlen(texts[i]) && memcmp(details.data, texts[i], details.len) == 0) {
            return gp__format("%s (%.*s)", texts[i], (int)method.len, (const char *)method.data);
        }
    }
    return NULL;
}

static void
end_call(gp_server_call *call, const gp_bytes *message, int code, gp_bytes details,
         gp_metadata trailing)
{
    char *named = code == GRPC_STATUS_UNIMPLEMENTED ? name_method(call, details) : NULL;
    grpc_slice details_slice =
        make_details(call, named != NULL ? (gp_bytes){named, strlen(named)} : details, trailing);
    grpc_metadata *items;
    grpc_metadata own;
    grpc_op ops[3];
    size_t count;
    bool first;

    gp__free(named);
    gp_mutex_lock(&call->lock);
    first = !call->status_sent;
    call->status_sent = true;
    gp_mutex_unlock(&call->lock);
    if (!first || gp__metadata_to_grpc(&items, trailing, 0) < 0) {
        if (first) {
            gp_server_call_cancel(call, GRPC_STATUS_RESOURCE_EXHAUSTED, "out of memory");
        }
        grpc_slice_unref(details_slice);
        return;
    }
    /* The status must not overtake a message that waits for flow control. */
    if (gp__outbox_acquire(&call->outbox, NULL) < 0) {
        gp__metadata_free(items, trailing.count); /* the call is over: the client has gone */
        grpc_slice_unref(details_slice);
        return;
    }
    count = add_initial_metadata(call, ops, &own, 0);
    if (message != NULL) {
        ops[count++] = gp__outbox_op(&call->outbox, *message, next_flags(call));
    }
    ops[count++] = (grpc_op){.op = GRPC_OP_SEND_STATUS_FROM_SERVER,
                             .data.send_status_from_server = {
                                 trailing.count, items, (grpc_status_code)code, &details_slice}};
    gp__poller_begin_here(call->owner->poller);
    start_batch(call, ops, count, &call->finish);
    gp__poller_end_here(call->owner->poller);
    gp__metadata_free(items, trailing.count);
    grpc_slice_unref(details_slice);
}

void
gp_server_call_finish(gp_server_call *call, int code, gp_bytes details, gp_metadata trailing)
{
    end_call(call, NULL, code, details, trailing);
}

void
gp_server_call_reply(gp_server_call *call, gp_bytes message, int code, gp_bytes details,
                     gp_metadata trailing)
{
    end_call(call, &message, code, details, trailing);
}

void
gp_server_call_cancel(gp_server_call *call, int code, const char *details)
{
    grpc_call_cancel_with_status(call->call, (grpc_status_code)code, details, NULL);
}

bool
gp_server_call_over(const gp_server_call *call)
{
    return atomic_load(&call->over);
}

bool
gp_server_call_cancelled(const gp_server_call *call)
{
    /* gRPC may know of the cancellation before the call is over. */
    return atomic_load(&call->cancelled) || grpc_call_failed_before_recv_message(call->call);
}

int
gp_server_call_on_cancel(gp_server_call *call, gp_then *then, void *ctx)
{
    int rc = GP_ECLOSED;

    gp_mutex_lock(&call->lock);
    if (then != NULL ? !call->over : call->on_cancel != NULL) {
        call->on_cancel = then;
        call->on_cancel_ctx = ctx;
        rc = 0;
    }
    gp_mutex_unlock(&call->lock);
    return rc;
}

int
gp_server_call_on_finished(gp_server_call *call, void (*then)(void *ctx), void *ctx)
{
    int rc = GP_ECLOSED;

    gp_mutex_lock(&call->lock);
    if (!call->over) {
        call->on_finished = then;
        call->on_finished_ctx = ctx;
        rc = 0;
    }
    gp_mutex_unlock(&call->lock);
    return rc;
}
