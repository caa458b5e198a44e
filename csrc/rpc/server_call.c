#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <stddef.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "rpc/convert.h"
#include "rpc/server.h"

#define CALL_OF(event, member) \
    ((gp_server_call *)((char *)(event) - offsetof(gp_server_call, member)))

gp_server_call *
gp_server_call_ref(gp_server_call *call)
{
    atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
    return call;
}

void
gp_server_call_unref(gp_server_call *call)
{
    gp_server *server;

    if (call == NULL || gp_runtime_forked() ||
        atomic_fetch_sub_explicit(&call->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    server = call->server;
    grpc_call_details_destroy(&call->details);
    grpc_metadata_array_destroy(&call->received_metadata);
    gp__free(call->metadata_view);
    if (call->incoming != NULL) {
        grpc_byte_buffer_destroy(call->incoming);
    }
    if (call->outgoing != NULL) {
        grpc_byte_buffer_destroy(call->outgoing);
    }
    if (call->call != NULL) {
        grpc_call_unref(call->call);
    }
    pthread_mutex_destroy(&call->lock);
    gp__free(call);
    gp__server_unref(server);
}

/* The last thing that a batch's completion does. */
static void
batch_ended(gp_server_call *call)
{
    gp__server_batch_ended(call->server);
    gp_server_call_unref(call);
}

static int
start_batch(gp_server_call *call, const grpc_op *ops, size_t count, gp__event *event)
{
    gp_server_call_ref(call);
    gp__server_batch_started(call->server);
    if (grpc_call_start_batch(call->call, ops, count, event, NULL) != GRPC_CALL_OK) {
        batch_ended(call);
        return GP_EINVAL;
    }
    return 0;
}

/* ---- The batches' completions, on the polling thread. ---- */

static void
arrive_complete(gp__event *event, bool ok)
{
    gp__server_call_arrived(CALL_OF(event, arrive), ok);
}

static void
close_complete(gp__event *event, bool ok)
{
    gp_server_call *call = CALL_OF(event, close);
    bool wanted;

    (void)ok;
    pthread_mutex_lock(&call->lock);
    atomic_store(&call->cancelled, call->close_cancelled != 0);
    atomic_store(&call->over, true);
    wanted = call->on_over != NULL;
    pthread_mutex_unlock(&call->lock);
    if (wanted) {
        gp__server_queue_over(gp_server_call_ref(call));
    }
    batch_ended(call);
}

static void
receive_complete(gp__event *event, bool ok)
{
    gp_server_call *call = CALL_OF(event, receive);

    (void)ok; /* |incoming| is NULL then */
    gp__gate_open(&call->server->poller, &call->received);
    gp__server_call_readable(call);
    batch_ended(call);
}

static void
drop_outgoing(gp_server_call *call)
{
    if (call->outgoing != NULL) {
        grpc_byte_buffer_destroy(call->outgoing);
        call->outgoing = NULL;
    }
}

static void
send_complete(gp__event *event, bool ok)
{
    gp_server_call *call = CALL_OF(event, send);

    (void)ok; /* a failed send means that the call is over */
    drop_outgoing(call);
    gp__gate_open(&call->server->poller, &call->sent);
    batch_ended(call);
}

static void
finish_complete(gp__event *event, bool ok)
{
    (void)ok;
    batch_ended(CALL_OF(event, finish));
}

int
gp__server_call_new(gp_server_call **out, gp_server *server)
{
    gp_server_call *call = gp__calloc(1, sizeof(*call));

    if (call == NULL || pthread_mutex_init(&call->lock, NULL) != 0) {
        gp__free(call);
        return GP_ENOMEM;
    }
    atomic_init(&call->refs, 1);
    atomic_init(&call->sent.open, true);
    call->server = gp__server_ref(server);
    call->arrive.complete = arrive_complete;
    call->close.complete = close_complete;
    call->receive.complete = receive_complete;
    call->send.complete = send_complete;
    call->finish.complete = finish_complete;
    grpc_call_details_init(&call->details);
    *out = call;
    return 0;
}

static void
start_receive(gp_server_call *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &call->incoming};

    gp__gate_close(&call->received);
    call->receiving = true;
    if (start_batch(call, &op, 1, &call->receive) < 0) {
        gp__gate_open(&call->server->poller, &call->received);
    }
}

void
gp__server_call_begin(gp_server_call *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
                  .data.recv_close_on_server.cancelled = &call->close_cancelled};
    gpr_timespec deadline = gpr_convert_clock_type(call->details.deadline, GPR_CLOCK_MONOTONIC);

    call->deadline = gpr_time_cmp(deadline, gpr_inf_future(GPR_CLOCK_MONOTONIC)) == 0
                         ? GP__FOREVER
                         : deadline.tv_sec * INT64_C(1000000000) + deadline.tv_nsec;
    call->metadata_count = gp__metadata_view(&call->metadata_view, &call->received_metadata).count;
    start_batch(call, &op, 1, &call->close);
    /* Every call has a first message, or the end in its place: it costs nothing to ask at once. */
    start_receive(call);
}

/* ---- What handlers see ---- */

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

int
gp_server_call_receive(gp_server_call *call, gp_message **out, const gp_interrupt *interrupt)
{
    int rc;

    *out = NULL;
    if (!call->receiving) {
        start_receive(call);
    }
    rc = gp__poller_wait(&call->server->poller, &call->received, GP__FOREVER, interrupt);
    if (rc < 0) {
        return rc; /* the receive goes on; the next call takes its result */
    }
    call->receiving = false;
    *out = gp__message_from_buffer(call->incoming);
    call->incoming = NULL;
    return *out != NULL;
}

/* Add the initial metadata (none of the application's) to |ops| unless they have gone out. */
static size_t
add_initial_metadata(gp_server_call *call, grpc_op *ops)
{
    bool needed;

    pthread_mutex_lock(&call->lock);
    needed = !call->initial_sent;
    call->initial_sent = true;
    pthread_mutex_unlock(&call->lock);
    if (needed) {
        ops[0] = (grpc_op){.op = GRPC_OP_SEND_INITIAL_METADATA};
    }
    return needed;
}

/* Wait for the send under way, if any, and take its place. */
static int
take_send(gp_server_call *call, const gp_interrupt *interrupt)
{
    int rc = gp__poller_wait(&call->server->poller, &call->sent, GP__FOREVER, interrupt);

    if (rc == 0) {
        gp__gate_close(&call->sent);
    }
    return rc;
}

/* Start a batch in the place that take_send() took. */
static int
start_send(gp_server_call *call, const grpc_op *ops, size_t count)
{
    if (start_batch(call, ops, count, &call->send) < 0) {
        drop_outgoing(call);
        gp__gate_open(&call->server->poller, &call->sent);
        return GP_ECLOSED;
    }
    return 0;
}

int
gp_server_call_send_initial_metadata(gp_server_call *call, gp_metadata metadata)
{
    grpc_metadata *items;
    grpc_op op;
    int rc = gp__metadata_to_grpc(&items, metadata, 0);

    if (rc < 0) {
        return rc;
    }
    if ((rc = take_send(call, NULL)) == 0) {
        if (add_initial_metadata(call, &op) == 0) {
            gp__gate_open(&call->server->poller, &call->sent);
            rc = GP_ECLOSED;
        } else {
            op.data.send_initial_metadata.metadata = items;
            op.data.send_initial_metadata.count = metadata.count;
            rc = start_send(call, &op, 1);
        }
    }
    gp__metadata_free(items, metadata.count);
    return rc;
}

int
gp_server_call_send(gp_server_call *call, gp_bytes message, const gp_interrupt *interrupt)
{
    grpc_op ops[2];
    size_t count;
    int rc = take_send(call, interrupt);

    if (rc < 0) {
        return rc;
    }
    if (gp_server_call_over(call)) {
        gp__gate_open(&call->server->poller, &call->sent);
        return GP_ECLOSED;
    }
    call->outgoing = gp__byte_buffer_from_bytes(message);
    count = add_initial_metadata(call, ops);
    ops[count++] =
        (grpc_op){.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = call->outgoing};
    return start_send(call, ops, count);
}

static void
end(gp_server_call *call, const gp_bytes *message, int code, gp_bytes details, gp_metadata trailing)
{
    grpc_slice details_slice = gp__slice_from_bytes(details);
    grpc_metadata *items;
    grpc_op ops[3];
    size_t count;
    bool first;

    pthread_mutex_lock(&call->lock);
    first = !call->finished;
    call->finished = true;
    pthread_mutex_unlock(&call->lock);
    if (!first || gp__metadata_to_grpc(&items, trailing, 0) < 0) {
        if (first) {
            gp_server_call_cancel(call, GRPC_STATUS_RESOURCE_EXHAUSTED, "out of memory");
        }
        grpc_slice_unref(details_slice);
        return;
    }
    take_send(call, NULL); /* the status must not overtake a message that waits for flow control */
    count = add_initial_metadata(call, ops);
    if (message != NULL) {
        call->outgoing = gp__byte_buffer_from_bytes(*message);
        ops[count++] =
            (grpc_op){.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = call->outgoing};
    }
    ops[count++] = (grpc_op){.op = GRPC_OP_SEND_STATUS_FROM_SERVER,
                             .data.send_status_from_server = {
                                 trailing.count, items, (grpc_status_code)code, &details_slice}};
    start_batch(call, ops, count, &call->finish);
    gp__metadata_free(items, trailing.count);
    grpc_slice_unref(details_slice);
}

void
gp_server_call_finish(gp_server_call *call, int code, gp_bytes details, gp_metadata trailing)
{
    end(call, NULL, code, details, trailing);
}

void
gp_server_call_reply(gp_server_call *call, gp_bytes message, int code, gp_bytes details,
                     gp_metadata trailing)
{
    end(call, &message, code, details, trailing);
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
    return atomic_load(&call->cancelled);
}

int
gp_server_call_on_over(gp_server_call *call, void (*done)(void *ctx), void *ctx)
{
    int rc = GP_ECLOSED;

    pthread_mutex_lock(&call->lock);
    if (!call->over) {
        call->on_over = done;
        call->on_over_ctx = ctx;
        rc = 0;
    }
    pthread_mutex_unlock(&call->lock);
    return rc;
}
