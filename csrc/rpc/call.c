#include "rpc/call.h"

#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "gp/container.h"
#include "rpc/convert.h"
#include "rpc/grpc_symbols.h"
#include "rpc/reset.h"
#include "rpc/unpack.h"

_Static_assert(GP_CALL_STDERR == GP__TAIL + 1, "the tail of stderr fits");

static void
batch_ref(gp_call *call)
{
    atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
}

/* The last reference is gone: no other thread uses the call, so that its lock is not needed. */
static void free_call(gp_call *call) GP_NO_THREAD_SAFETY_ANALYSIS;

static void
free_call(gp_call *call)
{
    grpc_metadata_array_destroy(&call->initial_metadata);
    grpc_metadata_array_destroy(&call->trailing_metadata);
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

void
gp__call_unref(gp_call *call)
{
    if (atomic_fetch_sub_explicit(&call->refs, 1, memory_order_acq_rel) == 1) {
        free_call(call);
    }
}

/* ---- Completions of batches, on the polling thread ---- */

/* Call |on_initial|: the initial metadata have come, or will not come. */
static void
report_initial_metadata(gp_call *call)
{
    gp_then *then;
    void *ctx;

    gp_mutex_lock(&call->lock);
    then = call->on_initial;
    ctx = call->on_initial_ctx;
    call->on_initial = NULL;
    gp_mutex_unlock(&call->lock);
    if (then != NULL) {
        then(ctx);
    }
}

/* The outcome is not needed: the status says whether the call has succeeded. */
static void
request_complete(gp__event *event, bool ok)
{
    (void)ok;
    gp__call_unref(gp_container_of(event, gp_call, request));
}

static void
initial_complete(gp__event *event, bool ok)
{
    gp_call *call = gp_container_of(event, gp_call, initial);

    (void)ok;
    gp__gate_open(call->poller, &call->started);
    report_initial_metadata(call);
    gp__call_unref(call);
}

/* End the call, whose status is complete. Drops the reference of the status batch. */
static void
end_call(gp_call *call)
{
    void (*on_done)(void *) = NULL;
    void *ctx;
    bool attended;

    call->result.code = (int)call->code;
    call->result.details = gp__bytes_from_slice(&call->details);
    call->result.debug = call->debug;
    call->result.trailing = gp__metadata_view(&call->trailing_view, &call->trailing_metadata);
    gp__channel_remove_call(call->channel, &call->link);
    /*
     * Before |ended| is set: from then on gp_call_on_done() calls back at once, and callbacks ask
     * for the status.
     */
    gp__gate_open(call->poller, &call->done);

    gp_mutex_lock(&call->lock);
    call->ended = true;
    on_done = call->on_done;
    ctx = call->on_done_ctx;
    attended = call->attended;
    gp_mutex_unlock(&call->lock);

    gp__outbox_end(&call->outbox);
    if (attended) {
        gp__poller_urgent_drop(call->poller);
    }
    if (!call->early) {
        report_initial_metadata(call);
    }
    if (on_done != NULL) {
        on_done(ctx);
    }
    gp__call_unref(call);
}

/* End a call that has waited for the reason why the connection is missing. */
static void
end_with_reason(gp__reason_waiter *waiter)
{
    gp_call *call = gp_container_of(waiter, gp_call, reason_waiter);

    call->cut_off = gp__channel_add_reason(call->channel, &call->details);
    end_call(call);
}

/* Whether gRPC's details say that the connection has ended. */
static bool
says_that_it_ended(gp_bytes details)
{
    static const char *const texts[] = {"Socket closed", "Broken pipe", "Connection reset by peer",
                                        "recvmsg:Connection reset by peer"};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (details.len == strlen(texts[i]) && memcmp(details.data, texts[i], details.len) == 0) {
            return true;
        }
    }
    return false;
}

/*
 * Unpack the message that has arrived. If that fails, the call ends with the reason as its status,
 * even if the server's status has come already or is on its way and says OK.
 */
static void
unpack_incoming(gp_call *call)
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

/* If the server has reset the stream because the deadline has passed, the status says so. */
static void
correct_reset(gp_call *call)
{
    if (gp__reset_by_deadline((int)call->code, gp__bytes_from_slice(&call->details), call->deadline,
                              gp__now())) {
        grpc_slice_unref(call->details);
        call->code = GRPC_STATUS_DEADLINE_EXCEEDED;
        call->details = grpc_slice_from_static_string(GP__DEADLINE_DETAILS);
    }
}

static void
status_complete(gp__event *event, bool ok)
{
    gp_call *call = gp_container_of(event, gp_call, status);

    (void)ok; /* the status is set either way */
    if (call->one_reply) {
        unpack_incoming(call);
    }
    if (call->code == GRPC_STATUS_CANCELLED || call->code == GRPC_STATUS_DEADLINE_EXCEEDED) {
        correct_reset(call);
    } else if (call->code == GRPC_STATUS_UNAVAILABLE) {
        call->reason_waiter.on_known = end_with_reason;
        call->reason_waiter.deadline = call->deadline;
        if (gp__channel_await_reason(call->channel, &call->reason_waiter,
                                     says_that_it_ended(gp__bytes_from_slice(&call->details)))) {
            return;
        }
        call->cut_off = gp__channel_add_reason(call->channel, &call->details);
    }
    end_call(call);
}

static void
send_complete(gp__event *event, bool ok)
{
    gp_call *call = gp_container_of(event, gp_call, outbox.event);

    gp__outbox_complete(&call->outbox, ok);
    gp__call_unref(call);
}

static void
receive_complete(gp__event *event, bool ok)
{
    gp_call *call = gp_container_of(event, gp_call, inbox.event);

    (void)ok; /* if false, |incoming| is NULL: the end of the messages */
    unpack_incoming(call);
    gp__inbox_complete(&call->inbox);
    gp__call_unref(call);
}

/* ---- Life ---- */

static void
ref_call(void *call)
{
    batch_ref(call);
}

static void
unref_call(void *call)
{
    gp__call_unref(call);
}

static const gp__sending_call sending = {gp__call_start_batch, ref_call, unref_call};

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
    call->initial.complete = initial_complete;
    call->status.complete = status_complete;
    gp__inbox_init(&call->inbox, call, gp__call_start_batch, call->poller, &call->lock,
                   receive_complete);
    gp__outbox_init(&call->outbox, call, &sending, call->poller, &call->lock, send_complete);
    call->details = grpc_empty_slice();
    call->refused_details = grpc_empty_slice();
    *out = call;
    return 0;
}

/* gRPC refuses a batch only if this library has a bug: callers have checked the user's bytes. */
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

/* Start to send |message|, or the end of the messages if it is NULL. The outbox is acquired. */
static int
start_send(gp_call *call, const gp_bytes *message)
{
    grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};

    if (gp__gate_is_open(&call->done)) {
        return gp__outbox_abandon(&call->outbox);
    }
    if (message != NULL) {
        op = gp__outbox_op(&call->outbox, *message, 0);
    }
    return gp__outbox_start(&call->outbox, &op, 1);
}

int
gp_call_send_then(gp_call *call, const gp_bytes *message, gp_sent *then, void *ctx)
{
    int rc = gp__outbox_acquire_then(&call->outbox, then, ctx);

    return rc < 0 ? rc : start_send(call, message);
}

int
gp_call_post(gp_call *call, const gp_bytes *message, gp_sent *then, void *ctx)
{
    int rc;

    if (gp__gate_is_open(&call->done)) {
        return GP_ECLOSED;
    }
    rc = gp__outbox_post(&call->outbox, message, 0, then, ctx);
    if (rc == GP__POSTED_ACQUIRED) {
        rc = start_send(call, message);
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
    return start_send(call, &message);
}

int
gp_call_send_close(gp_call *call, const gp_interrupt *interrupt)
{
    int rc = gp__outbox_acquire(&call->outbox, interrupt);

    return rc < 0 ? rc : start_send(call, NULL);
}

int
gp_call_receive(gp_call *call, gp_message **out, const gp_interrupt *interrupt)
{
    gp__outbox_release_held(&call->outbox);
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
    gp__gate *gate = call->early ? &call->started : &call->done;
    int rc = gp__poller_wait(call->poller, gate, GP__FOREVER, interrupt);

    *out = (gp_metadata){NULL, 0};
    if (rc == 0) {
        gp_mutex_lock(&call->lock);
        *out = gp__metadata_view(&call->initial_view, &call->initial_metadata);
        gp_mutex_unlock(&call->lock);
    }
    return rc;
}

int
gp_call_initial_metadata_then(gp_call *call, gp_then *then, void *ctx)
{
    gp__gate *gate = call->early ? &call->started : &call->done;
    bool known;

    gp_mutex_lock(&call->lock);
    known = gp__gate_is_open(gate);
    if (!known) {
        call->on_initial = then;
        call->on_initial_ctx = ctx;
    }
    gp_mutex_unlock(&call->lock);
    return known;
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
gp__call_cancel_closed(gp_link *link)
{
    gp_call_cancel(gp_container_of(link, gp_call, link), GRPC_STATUS_CANCELLED, "Channel closed!");
}

void
gp__call_cancel_disconnected(gp_link *link)
{
    gp_call_cancel(gp_container_of(link, gp_call, link), GRPC_STATUS_UNAVAILABLE,
                   "the connection between host and plugin has ended");
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

bool
gp_call_cut_off(const gp_call *call, int *exit_status, char stderr_tail[GP_CALL_STDERR])
{
    gp__process *process = gp__channel_process(call->channel);

    if (!gp_call_done(call) || !call->cut_off || atomic_load(&call->refused)) {
        return false;
    }
    *exit_status = gp__process_status(process);
    gp__tail_text(gp__process_tail(process), stderr_tail);
    return true;
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
    count = !call->attended && !call->ended;
    call->attended |= count;
    if (count) {
        gp__poller_urgent_add(call->poller);
    }
    gp_mutex_unlock(&call->lock);
}

void
gp_call_on_done(gp_call *call, void (*done)(void *ctx), void *ctx)
{
    bool ended;

    gp_call_attend(call);
    gp_mutex_lock(&call->lock);
    ended = call->ended;
    if (!ended) {
        call->on_done = done;
        call->on_done_ctx = ctx;
    }
    gp_mutex_unlock(&call->lock);
    if (ended) {
        done(ctx);
    }
}
