#include "rpc/call.h"

#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/string_util.h>
#include <stddef.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "rpc/convert.h"
#include "rpc/unpack.h"

static void
batch_ref(gp_call *call)
{
    atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
}

void
gp__call_unref(gp_call *call)
{
    if (atomic_fetch_sub_explicit(&call->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    grpc_metadata_array_destroy(&call->initial);
    grpc_metadata_array_destroy(&call->trailing);
    gp__free(call->initial_view);
    gp__free(call->trailing_view);
    grpc_slice_unref(call->details);
    grpc_slice_unref(call->refused_details);
    gpr_free((void *)(uintptr_t)call->debug);
    gp__inbox_release(&call->inbox);
    gp__outbox_release(&call->outbox);
    if (call->call != NULL) {
        grpc_call_unref(call->call);
    }
    gp__channel_unuse(call->channel);
    gp_channel_unref(call->channel);
    gp_mutex_release(&call->lock);
    gp__free(call);
}

/* ---- The batches' completions, on the polling thread. ---- */

/* The initial metadata are there, or never will be. */
static void
tell_start(gp_call *call)
{
    gp_then *then;

    gp_mutex_lock(&call->lock);
    then = call->on_start;
    call->on_start = NULL;
    gp_mutex_unlock(&call->lock);
    if (then != NULL) {
        then(call->on_start_ctx);
    }
}

/* Nobody waits for it: whether the request has arrived, the status tells. */
static void
request_complete(gp__event *event, bool ok)
{
    (void)ok;
    gp__call_unref((gp_call *)((char *)event - offsetof(gp_call, request)));
}

static void
start_complete(gp__event *event, bool ok)
{
    gp_call *call = (gp_call *)((char *)event - offsetof(gp_call, start));

    (void)ok;
    gp__gate_open(call->poller, &call->started);
    tell_start(call);
    gp__call_unref(call);
}

/* The end of the call, once all is known. It has a reference, which it gives back. */
static void
end(gp_call *call)
{
    void (*on_done)(void *) = NULL;
    void *ctx;
    bool attended;

    call->result.code = (int)call->code;
    call->result.details = gp__bytes_from_slice(&call->details);
    call->result.debug = call->debug;
    call->result.trailing = gp__metadata_view(&call->trailing_view, &call->trailing);
    gp__channel_leave(call->channel, &call->link);
    /* Before |over|: who is told at once because of that looks for the status. */
    gp__gate_open(call->poller, &call->done);

    gp_mutex_lock(&call->lock);
    call->over = true;
    on_done = call->on_done;
    ctx = call->on_done_ctx;
    attended = call->attended;
    gp_mutex_unlock(&call->lock);

    gp__outbox_end(&call->outbox);
    if (attended) {
        gp__poller_urgent_drop(call->poller);
    }
    if (!call->has_start) {
        tell_start(call);
    }
    if (on_done != NULL) {
        on_done(ctx);
    }
    gp__call_unref(call);
}

static void
inquiry_told(gp__inquiry *inquiry)
{
    gp_call *call = (gp_call *)((char *)inquiry - offsetof(gp_call, inquiry));

    gp__channel_add_reason(call->channel, &call->details);
    end(call);
}

/*
 * Unpack the message that has come in. If it cannot be taken, that is how the call has ended, also
 * where the status is there already, or on its way, and says that all is well.
 */
static void
unpack(gp_call *call)
{
    char why[GP__UNPACK_WHY];
    grpc_status_code code =
        gp__unpack(&call->inbox.incoming, gp__channel_unpack_limit(call->channel), why);

    if (code == GRPC_STATUS_OK || atomic_load(&call->refused)) {
        return;
    }
    call->refused_details = grpc_slice_from_copied_string(why);
    call->refusal = (gp_call_status){.code = (int)code,
                                     .details = gp__bytes_from_slice(&call->refused_details)};
    atomic_store(&call->refused, true);
    grpc_call_cancel_with_status(call->call, code, why, NULL);
}

static void
status_complete(gp__event *event, bool ok)
{
    gp_call *call = (gp_call *)((char *)event - offsetof(gp_call, status));

    (void)ok;              /* the status is set either way */
    if (call->one_reply) { /* it has come together with the status, and nobody else has it yet */
        unpack(call);
    }
    if (call->code == GRPC_STATUS_UNAVAILABLE) {
        call->inquiry.told = inquiry_told;
        if (gp__channel_inquire(call->channel, &call->inquiry)) {
            return;
        }
        gp__channel_add_reason(call->channel, &call->details);
    }
    end(call);
}

static void
send_complete(gp__event *event, bool ok)
{
    gp_call *call = (gp_call *)((char *)event - offsetof(gp_call, outbox.event));

    gp__outbox_complete(&call->outbox, ok);
    gp__call_unref(call);
}

static void
receive_complete(gp__event *event, bool ok)
{
    gp_call *call = (gp_call *)((char *)event - offsetof(gp_call, inbox.event));

    (void)ok; /* the end, then */
    unpack(call);
    gp__inbox_complete(&call->inbox);
    gp__call_unref(call);
}

/* ---- Life ---- */

int
gp__call_new(gp_call **out, gp_channel *channel)
{
    gp_call *call = gp__calloc(1, sizeof(*call));

    if (call == NULL) {
        return GP_ENOMEM;
    }
    gp_mutex_init(&call->lock);
    atomic_init(&call->refs, 1);
    atomic_init(&call->users, 1);
    call->channel = gp_channel_ref(channel);
    call->grpc_channel = gp__channel_use(channel);
    call->poller = gp__channel_poller(channel);
    call->request.complete = request_complete;
    call->start.complete = start_complete;
    call->status.complete = status_complete;
    gp__inbox_init(&call->inbox, call, gp__call_start_batch, call->poller, &call->lock,
                   receive_complete);
    gp__outbox_init(&call->outbox, call, gp__call_start_batch, call->poller, &call->lock,
                    send_complete);
    call->details = grpc_empty_slice();
    call->refused_details = grpc_empty_slice();
    *out = call;
    return 0;
}

/* The bytes are checked by our callers and the operations are ours: a refusal is a bug of ours. */
int
gp__call_start_batch(void *of, const grpc_op *ops, size_t count, gp__event *event)
{
    gp_call *call = of;

    batch_ref(call);
    gp__hand_over(event);
    if (grpc_call_start_batch(call->call, ops, count, event, NULL) != GRPC_CALL_OK) {
        atomic_fetch_sub_explicit(&call->refs, 1, memory_order_relaxed);
        return GP_EINVAL;
    }
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
    gp__call_unref(call);
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
        gp__call_unref(call);
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
    return gp__inbox_take(&call->inbox);
}

/* Send |message|, or the end if it is NULL, with the place for it taken. */
static int
send(gp_call *call, const gp_bytes *message)
{
    grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};

    if (gp__gate_is_open(&call->done)) {
        return gp__outbox_yield(&call->outbox);
    }
    if (message != NULL) {
        op = gp__outbox_op(&call->outbox, *message, 0);
    }
    return gp__outbox_start(&call->outbox, &op, 1);
}

int
gp_call_send_then(gp_call *call, const gp_bytes *message, gp_sent *then, void *ctx)
{
    int rc = gp__outbox_take_then(&call->outbox, then, ctx);

    return rc < 0 ? rc : send(call, message);
}

int
gp_call_post(gp_call *call, const gp_bytes *message, gp_sent *then, void *ctx)
{
    int rc;

    if (gp__gate_is_open(&call->done)) {
        return GP_ECLOSED;
    }
    rc = gp__outbox_post(&call->outbox, message, 0, then, ctx);
    if (rc == GP__POSTED_TAKEN) {
        rc = send(call, message);
        return rc < 0 ? rc : GP__POSTED;
    }
    return rc;
}

int
gp_call_send(gp_call *call, gp_bytes message, const gp_interrupt *interrupt)
{
    int rc;

    if (gp__gate_is_open(&call->done)) {
        return GP_ECLOSED;
    }
    rc = gp__outbox_queue(&call->outbox, message, 0, interrupt);
    if (rc != 0) {
        return rc < 0 ? rc : 0;
    }
    return send(call, &message);
}

int
gp_call_send_close(gp_call *call, const gp_interrupt *interrupt)
{
    int rc = gp__outbox_take(&call->outbox, interrupt);

    return rc < 0 ? rc : send(call, NULL);
}

int
gp_call_receive(gp_call *call, gp_message **out, const gp_interrupt *interrupt)
{
    return gp__inbox_receive(&call->inbox, out, interrupt);
}

int
gp_call_receive_then(gp_call *call, gp_message **out, gp_received *then, void *ctx)
{
    return gp__inbox_receive_then(&call->inbox, out, then, ctx);
}

int
gp_call_initial_metadata(gp_call *call, gp_metadata *out, const gp_interrupt *interrupt)
{
    gp__gate *gate = call->has_start ? &call->started : &call->done;
    int rc = gp__poller_wait(call->poller, gate, GP__FOREVER, interrupt);

    *out = (gp_metadata){NULL, 0};
    if (rc == 0) {
        gp_mutex_lock(&call->lock);
        *out = gp__metadata_view(&call->initial_view, &call->initial);
        gp_mutex_unlock(&call->lock);
    }
    return rc;
}

int
gp_call_initial_metadata_then(gp_call *call, gp_then *then, void *ctx)
{
    gp__gate *gate = call->has_start ? &call->started : &call->done;
    bool there;

    gp_mutex_lock(&call->lock);
    there = gp__gate_is_open(gate);
    if (!there) {
        call->on_start = then;
        call->on_start_ctx = ctx;
    }
    gp_mutex_unlock(&call->lock);
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
    if (!gp_call_done(call)) {
        return NULL;
    }
    return atomic_load(&call->refused) ? &call->refusal : &call->result;
}

double
gp_call_time_remaining(const gp_call *call)
{
    return gp__seconds_until(call->deadline);
}

char *
gp_call_peer(gp_call *call)
{
    const char *known = gp__channel_peer(call->channel);

    return known != NULL ? gpr_strdup(known) : grpc_call_get_peer(call->call);
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

    gp_mutex_lock(&call->lock);
    count = !call->attended && !call->over;
    call->attended |= count;
    if (count) {
        gp__poller_urgent_add(call->poller);
    }
    gp_mutex_unlock(&call->lock);
}

void
gp_call_on_done(gp_call *call, void (*done)(void *ctx), void *ctx)
{
    bool over;

    gp_call_attend(call);
    gp_mutex_lock(&call->lock);
    over = call->over;
    if (!over) {
        call->on_done = done;
        call->on_done_ctx = ctx;
    }
    gp_mutex_unlock(&call->lock);
    if (over) {
        done(ctx);
    }
}
