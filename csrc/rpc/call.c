#include "gp/call.h"

#include <grpc/grpc.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <stddef.h>
#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "rpc/channel.h"
#include "rpc/convert.h"
#include "rpc/credentials.h"
#include "rpc/runtime.h"

/*
 * A call has up to four batches under way: its start (which ends with the initial metadata), its
 * status, one send and one receive. Each holds a reference while it is on the queue, and opens its
 * gate when it is done. Unary calls need only the status batch, with everything in it.
 */
struct gp_call {
    gp__call_link link;  /* in the channel's ring until done */
    atomic_int refs;     /* users' and batches' */
    atomic_int users;    /* users' alone: the last one cancels */
    grpc_call *call;     /* owned */
    gp_channel *channel; /* shared: ref */
    gp__poller *poller;  /* borrowed: the channel's */
    int64_t deadline;

    gp__event start;
    gp__event status;
    gp__event send;
    gp__event receive;
    gp__gate started;
    gp__gate done;
    gp__gate sent;     /* open while no send is under way */
    gp__gate received; /* open when |incoming| is there to be taken */
    bool has_start;    /* there is a start batch; otherwise metadata comes with the status */
    bool receiving;    /* a receive is under way, or its result not yet taken */

    grpc_metadata_array initial;
    grpc_metadata_array trailing;
    gp_metadatum *initial_view;  /* owned; made on demand */
    gp_metadatum *trailing_view; /* owned; made with the status */
    grpc_status_code code;
    grpc_slice details;
    const char *debug; /* owned by gpr */
    gp_call_status result;
    grpc_byte_buffer *outgoing; /* owned: what the send batch, or the start, refers to */
    grpc_byte_buffer *incoming; /* owned until taken */
    gp_call_then *on_sent;      /* set while no send is under way */
    void *on_sent_ctx;

    pthread_mutex_t lock; /* guards what follows */
    gp_call_received *on_received;
    void *on_received_ctx;
    gp_call_then *on_start;
    void *on_start_ctx;
    bool attended; /* counted as urgent in the poller */
    bool over;     /* as |done|, for those who must decide under the lock */
    void (*on_done)(void *ctx);
    void *on_done_ctx;
};

static void
batch_ref(gp_call *call)
{
    atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
}

static void
unref(gp_call *call)
{
    if (atomic_fetch_sub_explicit(&call->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    grpc_metadata_array_destroy(&call->initial);
    grpc_metadata_array_destroy(&call->trailing);
    gp__free(call->initial_view);
    gp__free(call->trailing_view);
    grpc_slice_unref(call->details);
    gpr_free((void *)(uintptr_t)call->debug);
    if (call->outgoing != NULL) {
        grpc_byte_buffer_destroy(call->outgoing);
    }
    if (call->incoming != NULL) {
        grpc_byte_buffer_destroy(call->incoming);
    }
    grpc_call_unref(call->call);
    gp_channel_unref(call->channel);
    pthread_mutex_destroy(&call->lock);
    gp__free(call);
}

/* ---- The batches' completions, on the polling thread. ---- */

/* The initial metadata are there, or never will be. */
static void
tell_start(gp_call *call)
{
    gp_call_then *then;

    pthread_mutex_lock(&call->lock);
    then = call->on_start;
    call->on_start = NULL;
    pthread_mutex_unlock(&call->lock);
    if (then != NULL) {
        then(call->on_start_ctx);
    }
}

static void
start_complete(gp__event *event, bool ok)
{
    gp_call *call = (gp_call *)((char *)event - offsetof(gp_call, start));

    (void)ok;
    gp__gate_open(call->poller, &call->started);
    tell_start(call);
    unref(call);
}

static void
status_complete(gp__event *event, bool ok)
{
    gp_call *call = (gp_call *)((char *)event - offsetof(gp_call, status));
    void (*on_done)(void *) = NULL;
    void *ctx;
    bool attended;

    (void)ok; /* the status is set either way */
    call->result.code = (int)call->code;
    call->result.details = gp__bytes_from_slice(&call->details);
    call->result.debug = call->debug;
    call->result.trailing = gp__metadata_view(&call->trailing_view, &call->trailing);
    gp__channel_leave(call->channel, &call->link);

    pthread_mutex_lock(&call->lock);
    call->over = true;
    on_done = call->on_done;
    ctx = call->on_done_ctx;
    attended = call->attended;
    pthread_mutex_unlock(&call->lock);

    if (attended) {
        gp__poller_urgent_drop(call->poller);
    }
    gp__gate_open(call->poller, &call->done);
    if (!call->has_start) {
        tell_start(call);
    }
    if (on_done != NULL) {
        on_done(ctx);
    }
    unref(call);
}

static void
send_complete(gp__event *event, bool ok)
{
    gp_call *call = (gp_call *)((char *)event - offsetof(gp_call, send));
    gp_call_then *then = call->on_sent;
    void *ctx = call->on_sent_ctx;

    (void)ok; /* a failed send means that the call is over: the status says why */
    call->on_sent = NULL;
    if (call->outgoing != NULL) {
        grpc_byte_buffer_destroy(call->outgoing);
        call->outgoing = NULL;
    }
    gp__gate_open(call->poller, &call->sent);
    if (then != NULL) {
        then(ctx);
    }
    unref(call);
}

static gp_message *
take_message(gp_call *call)
{
    gp_message *message = gp__message_from_buffer(call->incoming);

    call->receiving = false;
    call->incoming = NULL;
    return message;
}

static void
receive_complete(gp__event *event, bool ok)
{
    gp_call *call = (gp_call *)((char *)event - offsetof(gp_call, receive));
    gp_call_received *then;
    void *ctx;

    (void)ok; /* |incoming| is NULL then */
    gp__gate_open(call->poller, &call->received);
    pthread_mutex_lock(&call->lock);
    then = call->on_received;
    ctx = call->on_received_ctx;
    call->on_received = NULL;
    pthread_mutex_unlock(&call->lock);
    if (then != NULL) {
        then(ctx, take_message(call));
    }
    unref(call);
}

/* ---- Starting ---- */

static uint32_t
initial_flags(unsigned flags)
{
    if (flags & GP_CALL_WAIT_FOR_READY) {
        return GRPC_INITIAL_METADATA_WAIT_FOR_READY |
               GRPC_INITIAL_METADATA_WAIT_FOR_READY_EXPLICITLY_SET;
    }
    return flags & GP_CALL_NO_WAIT_FOR_READY ? GRPC_INITIAL_METADATA_WAIT_FOR_READY_EXPLICITLY_SET
                                             : 0;
}

/* A call without batches, entered in its channel. */
static int
make(gp_call **out, gp_channel *channel, const gp_call_options *options, gp_error *err)
{
    grpc_slice method;
    gp_call *call;
    int rc;

    if (gp_runtime_forked()) {
        return gp_error_set(err, GP_EFORKED, "a channel cannot be used in a forked child");
    }
    call = gp__calloc(1, sizeof(*call));
    if (call == NULL || pthread_mutex_init(&call->lock, NULL) != 0) {
        gp__free(call);
        return gp_error_set(err, GP_ENOMEM, "call");
    }
    atomic_init(&call->refs, 1);
    atomic_init(&call->users, 1);
    atomic_init(&call->sent.open, true);
    call->start.complete = start_complete;
    call->status.complete = status_complete;
    call->send.complete = send_complete;
    call->receive.complete = receive_complete;
    call->channel = gp_channel_ref(channel);
    call->poller = gp__channel_poller(channel);
    call->details = grpc_empty_slice();
    call->deadline = gp__deadline_in_ns(options->timeout_ns);
    method = gp__slice_from_bytes(options->method);
    call->call = grpc_channel_create_call(gp__channel_grpc(channel), NULL, GRPC_PROPAGATE_DEFAULTS,
                                          call->poller->queue, method, NULL,
                                          gp__timespec_from_deadline(call->deadline), NULL);
    grpc_slice_unref(method);
    if (options->credentials != NULL) {
        grpc_call_set_credentials(call->call, gp__call_credentials(options->credentials));
    }
    if ((rc = gp__channel_enter(channel, &call->link, err)) < 0) {
        unref(call);
        return rc;
    }
    *out = call;
    return 0;
}

static int
make_metadata(grpc_metadata **out, size_t *count, const gp_call_options *options)
{
    size_t extra = options->compression != GP_COMPRESS_DEFAULT;
    int rc = gp__metadata_to_grpc(out, options->metadata, extra);

    *count = options->metadata.count + extra;
    if (rc == 0 && extra) {
        (*out)[*count - 1] = gp__compression_metadata(options->compression);
    }
    return rc;
}

/* The status operation is the same for every call. */
static grpc_op
status_op(gp_call *call)
{
    return (grpc_op){
        .op = GRPC_OP_RECV_STATUS_ON_CLIENT,
        .data.recv_status_on_client = {&call->trailing, &call->code, &call->details, &call->debug}};
}

static grpc_op
reply_op(gp_call *call)
{
    return (grpc_op){.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &call->incoming};
}

static grpc_op
initial_metadata_op(gp_call *call)
{
    return (grpc_op){.op = GRPC_OP_RECV_INITIAL_METADATA,
                     .data.recv_initial_metadata.recv_initial_metadata = &call->initial};
}

/* The bytes are checked by our callers and the operations are ours: a refusal is a bug of ours. */
static int
start_batch(gp_call *call, const grpc_op *ops, size_t count, gp__event *event)
{
    grpc_call_error refusal;

    batch_ref(call);
    refusal = grpc_call_start_batch(call->call, ops, count, event, NULL);
    if (refusal != GRPC_CALL_OK) {
        atomic_fetch_sub_explicit(&call->refs, 1, memory_order_relaxed);
        return GP_EINVAL;
    }
    return 0;
}

/* The first batches could not be started: nobody has seen the call. */
static int
abandon(gp_call *call, int code, gp_error *err)
{
    gp__channel_leave(call->channel, &call->link);
    grpc_call_cancel(call->call, NULL);
    unref(call);
    return gp_error_set(err, code, "gRPC refused the call: is the metadata legal?");
}

int
gp_call_start_unary(gp_call **out, gp_channel *channel, const gp_call_options *options,
                    gp_bytes request, gp_error *err)
{
    bool early = (options->flags & GP_CALL_EARLY_METADATA) != 0;
    grpc_metadata *metadata;
    size_t metadata_count;
    grpc_op ops[6];
    size_t count = 0;
    gp_call *call;
    int rc = make(&call, channel, options, err);

    if (rc < 0) {
        return rc;
    }
    if ((rc = make_metadata(&metadata, &metadata_count, options)) < 0) {
        return abandon(call, rc, err);
    }
    call->outgoing = gp__byte_buffer_from_bytes(request);
    ops[count++] =
        (grpc_op){.op = GRPC_OP_SEND_INITIAL_METADATA,
                  .flags = initial_flags(options->flags),
                  .data.send_initial_metadata = {.count = metadata_count, .metadata = metadata}};
    ops[count++] =
        (grpc_op){.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = call->outgoing};
    ops[count++] = (grpc_op){.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
    ops[count++] = reply_op(call);
    ops[count++] = status_op(call);
    if (!early) {
        ops[count++] = initial_metadata_op(call);
    }
    rc = start_batch(call, ops, count, &call->status);
    gp__metadata_free(metadata, metadata_count);
    if (rc < 0) {
        return abandon(call, rc, err);
    }
    if (early) {
        grpc_op op = initial_metadata_op(call);

        call->has_start = true;
        start_batch(call, &op, 1, &call->start);
    }
    *out = call;
    return 0;
}

int
gp_call_start_stream(gp_call **out, gp_channel *channel, const gp_call_options *options,
                     const gp_bytes *request, gp_error *err)
{
    grpc_metadata *metadata;
    size_t metadata_count;
    grpc_op ops[4];
    size_t count = 0;
    gp_call *call;
    int rc = make(&call, channel, options, err);

    if (rc < 0) {
        return rc;
    }
    if ((rc = make_metadata(&metadata, &metadata_count, options)) < 0) {
        return abandon(call, rc, err);
    }
    ops[count++] = status_op(call);
    if (options->flags & GP_CALL_ONE_REPLY) {
        ops[count++] = reply_op(call);
    }
    if ((rc = start_batch(call, ops, count, &call->status)) < 0) {
        gp__metadata_free(metadata, metadata_count);
        return abandon(call, rc, err);
    }
    count = 0;
    ops[count++] =
        (grpc_op){.op = GRPC_OP_SEND_INITIAL_METADATA,
                  .flags = initial_flags(options->flags),
                  .data.send_initial_metadata = {.count = metadata_count, .metadata = metadata}};
    if (request != NULL) {
        call->outgoing = gp__byte_buffer_from_bytes(*request);
        ops[count++] =
            (grpc_op){.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = call->outgoing};
        ops[count++] = (grpc_op){.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
    }
    ops[count++] = initial_metadata_op(call);
    call->has_start = true;
    rc = start_batch(call, ops, count, &call->start);
    gp__metadata_free(metadata, metadata_count);
    if (rc < 0) {
        gp_call_cancel(call, GRPC_STATUS_INTERNAL, "the call could not be started");
        gp_call_unref(call);
        return gp_error_set(err, rc, "gRPC refused the call: is the metadata legal?");
    }
    *out = call;
    return 0;
}

gp_call *
gp_call_ref(gp_call *call)
{
    atomic_fetch_add(&call->users, 1);
    batch_ref(call);
    return call;
}

void
gp_call_unref(gp_call *call)
{
    if (call == NULL || gp_runtime_forked()) {
        return;
    }
    if (atomic_fetch_sub(&call->users, 1) == 1 && !gp__gate_is_open(&call->done)) {
        grpc_call_cancel(call->call, NULL);
    }
    unref(call);
}

gp_call *
gp_call_hold(gp_call *call)
{
    batch_ref(call);
    return call;
}

void
gp_call_release(gp_call *call)
{
    if (!gp_runtime_forked()) {
        unref(call);
    }
}

/* ---- Waiting, sending, receiving ---- */

int
gp_call_wait(gp_call *call, int64_t timeout_ns, const gp_interrupt *interrupt)
{
    if (gp__gate_is_open(&call->done)) {
        return 0;
    }
    return gp__poller_wait(call->poller, &call->done, gp__deadline_in_ns(timeout_ns), interrupt);
}

gp_message *
gp_call_take_reply(gp_call *call)
{
    return take_message(call);
}

/* Start a send; none is under way. */
static int
start_send(gp_call *call, const gp_bytes *message)
{
    grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};

    if (gp__gate_is_open(&call->done)) {
        return GP_ECLOSED;
    }
    if (message != NULL) {
        call->outgoing = gp__byte_buffer_from_bytes(*message);
        op =
            (grpc_op){.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = call->outgoing};
    }
    gp__gate_close(&call->sent);
    if (start_batch(call, &op, 1, &call->send) < 0) {
        /* Refused only after a close: there is no more to say on this call. */
        if (call->outgoing != NULL) {
            grpc_byte_buffer_destroy(call->outgoing);
            call->outgoing = NULL;
        }
        gp__gate_open(call->poller, &call->sent);
        return GP_ECLOSED;
    }
    return 0;
}

static int
send(gp_call *call, const gp_bytes *message, const gp_interrupt *interrupt)
{
    int rc = gp__poller_wait(call->poller, &call->sent, GP__FOREVER, interrupt);

    return rc < 0 ? rc : start_send(call, message);
}

int
gp_call_send_then(gp_call *call, const gp_bytes *message, gp_call_then *then, void *ctx)
{
    int rc;

    if (!gp__gate_is_open(&call->sent)) {
        return GP_EINVAL;
    }
    call->on_sent = then;
    call->on_sent_ctx = ctx;
    rc = start_send(call, message);
    if (rc < 0) {
        call->on_sent = NULL;
    }
    return rc;
}

int
gp_call_send(gp_call *call, gp_bytes message, const gp_interrupt *interrupt)
{
    return send(call, &message, interrupt);
}

int
gp_call_send_close(gp_call *call, const gp_interrupt *interrupt)
{
    return send(call, NULL, interrupt);
}

/* Leaves the gate open, with nothing to take, if gRPC refuses. Returns whether it did not. */
static bool
start_receive(gp_call *call)
{
    grpc_op op = reply_op(call);

    gp__gate_close(&call->received);
    call->receiving = true;
    if (start_batch(call, &op, 1, &call->receive) < 0) {
        gp__gate_open(call->poller, &call->received);
        return false;
    }
    return true;
}

int
gp_call_receive(gp_call *call, gp_message **out, const gp_interrupt *interrupt)
{
    int rc;

    *out = NULL;
    if (!call->receiving) {
        start_receive(call);
    }
    rc = gp__poller_wait(call->poller, &call->received, GP__FOREVER, interrupt);
    if (rc < 0) {
        return rc; /* the receive goes on; the next call takes its result */
    }
    *out = take_message(call);
    return *out != NULL;
}

int
gp_call_receive_then(gp_call *call, gp_message **out, gp_call_received *then, void *ctx)
{
    bool there;

    if (!call->receiving) {
        call->on_received = then;
        call->on_received_ctx = ctx;
        if (start_receive(call)) {
            return 0;
        }
        call->on_received = NULL;
    }
    /* An earlier wait was interrupted: its message may be there, or be on its way. */
    pthread_mutex_lock(&call->lock);
    there = gp__gate_is_open(&call->received);
    if (!there) {
        call->on_received = then;
        call->on_received_ctx = ctx;
    }
    pthread_mutex_unlock(&call->lock);
    if (there) {
        *out = take_message(call);
    }
    return there;
}

int
gp_call_initial_metadata(gp_call *call, gp_metadata *out, const gp_interrupt *interrupt)
{
    gp__gate *gate = call->has_start ? &call->started : &call->done;
    int rc = gp__poller_wait(call->poller, gate, GP__FOREVER, interrupt);

    *out = (gp_metadata){NULL, 0};
    if (rc == 0) {
        pthread_mutex_lock(&call->lock);
        *out = gp__metadata_view(&call->initial_view, &call->initial);
        pthread_mutex_unlock(&call->lock);
    }
    return rc;
}

int
gp_call_initial_metadata_then(gp_call *call, gp_call_then *then, void *ctx)
{
    gp__gate *gate = call->has_start ? &call->started : &call->done;
    bool there;

    pthread_mutex_lock(&call->lock);
    there = gp__gate_is_open(gate);
    if (!there) {
        call->on_start = then;
        call->on_start_ctx = ctx;
    }
    pthread_mutex_unlock(&call->lock);
    return there;
}

/* ---- Ending ---- */

void
gp_call_cancel(gp_call *call, int code, const char *details)
{
    if (!gp_runtime_forked()) {
        grpc_call_cancel_with_status(call->call, (grpc_status_code)code, details, NULL);
    }
}

void
gp__call_cancel_link(gp__call_link *link)
{
    gp_call *call = (gp_call *)((char *)link - offsetof(gp_call, link));

    gp_call_cancel(call, GRPC_STATUS_CANCELLED, "Channel closed!");
}

bool
gp_call_done(const gp_call *call)
{
    return gp__gate_is_open(&call->done);
}

const gp_call_status *
gp_call_get_status(const gp_call *call)
{
    return gp_call_done(call) ? &call->result : NULL;
}

double
gp_call_time_remaining(const gp_call *call)
{
    return gp__seconds_until(call->deadline);
}

char *
gp_call_peer(gp_call *call)
{
    return grpc_call_get_peer(call->call);
}

void
gp_call_free_peer(char *peer)
{
    gpr_free(peer);
}

void
gp_call_attend(gp_call *call)
{
    bool count;

    pthread_mutex_lock(&call->lock);
    count = !call->attended && !call->over;
    call->attended |= count;
    if (count) {
        gp__poller_urgent_add(call->poller);
    }
    pthread_mutex_unlock(&call->lock);
}

void
gp_call_on_done(gp_call *call, void (*done)(void *ctx), void *ctx)
{
    bool over;

    gp_call_attend(call);
    pthread_mutex_lock(&call->lock);
    over = call->over;
    if (!over) {
        call->on_done = done;
        call->on_done_ctx = ctx;
    }
    pthread_mutex_unlock(&call->lock);
    if (over) {
        done(ctx);
    }
}
