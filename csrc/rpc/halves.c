#include "rpc/halves.h"

#include "gp/lock.h"
#include "rpc/convert.h"
#include "rpc/trim.h"

/* ---- Receiving ---- */

void
gp__inbox_init(gp__inbox *inbox, void *call, gp__start_batch *start_batch, gp__poller *poller,
               gp_mutex *lock, void (*complete)(gp__event *event, bool ok))
{
    inbox->event.complete = complete;
    inbox->call = call;
    inbox->start_batch = start_batch;
    inbox->poller = poller;
    inbox->lock = lock;
}

void
gp__inbox_release(gp__inbox *inbox)
{
    if (inbox->incoming != NULL) {
        grpc_byte_buffer_destroy(inbox->incoming);
        inbox->incoming = NULL;
    }
}

grpc_op
gp__inbox_op(gp__inbox *inbox)
{
    return (grpc_op){.op = GRPC_OP_RECV_MESSAGE,
                     .data.recv_message.recv_message = &inbox->incoming};
}

static void
start_receive(gp__inbox *inbox)
{
    grpc_op op = gp__inbox_op(inbox);

    gp__gate_close(&inbox->there);
    inbox->receiving = true;
    if (inbox->start_batch(inbox->call, &op, 1, &inbox->event) < 0) {
        gp__gate_open(inbox->poller, &inbox->there);
    }
}

void
gp__inbox_start(gp__inbox *inbox)
{
    start_receive(inbox);
}

/* For somebody who does not poll, and wants it now. */
static void
receive_here(gp__inbox *inbox)
{
    gp__poller_begin_here(inbox->poller);
    start_receive(inbox);
    gp__poller_end_here(inbox->poller);
}

gp_message *
gp__inbox_take(gp__inbox *inbox)
{
    gp_message *message = gp__message_from_buffer(inbox->incoming);

    inbox->receiving = false;
    inbox->incoming = NULL;
    return message;
}

void
gp__inbox_put_back(gp__inbox *inbox, gp_message *message)
{
    inbox->incoming = gp__buffer_of_message(message);
    inbox->receiving = true;
    gp__gate_open(inbox->poller, &inbox->there);
}

bool
gp__inbox_complete(gp__inbox *inbox)
{
    gp_received *then;
    void *ctx;
    size_t len = inbox->incoming != NULL ? grpc_byte_buffer_length(inbox->incoming) : 0;

    if (len >= GP__TRIM_MESSAGE) {
        gp__trim_count(len);
    }
    /* With one lock for both, whoever finds the gate closed is told. */
    gp_mutex_lock(inbox->lock);
    then = inbox->then;
    ctx = inbox->ctx;
    inbox->then = NULL;
    if (then == NULL) {
        gp__gate_open(inbox->poller, &inbox->there);
    }
    gp_mutex_unlock(inbox->lock);
    if (then != NULL) {
        then(ctx, gp__inbox_take(inbox));
    }
    return then != NULL;
}

int
gp__inbox_receive(gp__inbox *inbox, gp_message **out, const gp_interrupt *interrupt)
{
    int rc;

    *out = NULL;
    if (!inbox->receiving) {
        receive_here(inbox);
    }
    rc = gp__poller_wait(inbox->poller, &inbox->there, GP__FOREVER, interrupt);
    if (rc < 0) {
        return rc; /* the receive goes on; the next call takes its result */
    }
    *out = gp__inbox_take(inbox);
    return *out != NULL;
}

int
gp__inbox_receive_then(gp__inbox *inbox, gp_message **out, gp_received *then, void *ctx)
{
    bool there;

    *out = NULL;
    if (!inbox->receiving) {
        receive_here(inbox);
    }
    /*
     * It may also have been started before, for somebody who waited in vain or ahead of everybody.
     */
    gp_mutex_lock(inbox->lock);
    there = gp__gate_is_open(&inbox->there);
    if (!there) {
        inbox->then = then;
        inbox->ctx = ctx;
    }
    gp_mutex_unlock(inbox->lock);
    if (there) {
        *out = gp__inbox_take(inbox);
    }
    return there;
}

/* ---- Sending ---- */

void
gp__outbox_init(gp__outbox *outbox, void *call, gp__start_batch *start_batch, gp__poller *poller,
                gp_mutex *lock, void (*complete)(gp__event *event, bool ok))
{
    outbox->event.complete = complete;
    outbox->call = call;
    outbox->start_batch = start_batch;
    outbox->poller = poller;
    outbox->lock = lock;
    atomic_init(&outbox->free.open, true);
    atomic_init(&outbox->room.open, true);
}

void
gp__outbox_release(gp__outbox *outbox)
{
    if (outbox->outgoing != NULL) {
        grpc_byte_buffer_destroy(outbox->outgoing);
        outbox->outgoing = NULL;
    }
}

/* Take the place, which is free or will not be needed any more. Lock held. */
static int
take(gp__outbox *outbox)
{
    if (outbox->over) {
        return GP_ECLOSED;
    }
    gp__gate_close(&outbox->free);
    return 0;
}

int
gp__outbox_take(gp__outbox *outbox, const gp_interrupt *interrupt)
{
    int rc = gp__poller_wait(outbox->poller, &outbox->free, GP__FOREVER, interrupt);

    if (rc < 0) {
        return rc;
    }
    gp_mutex_lock(outbox->lock);
    rc = take(outbox);
    gp_mutex_unlock(outbox->lock);
    return rc;
}

int
gp__outbox_take_then(gp__outbox *outbox, gp_sent *then, void *ctx)
{
    int rc;

    gp_mutex_lock(outbox->lock);
    rc = gp__gate_is_open(&outbox->free) ? take(outbox) : GP_EINVAL;
    if (rc == 0) {
        outbox->then = then;
        outbox->ctx = ctx;
    }
    gp_mutex_unlock(outbox->lock);
    return rc;
}

static bool
is_full(const gp__outbox *outbox)
{
    return outbox->count == GP__OUTBOX_MESSAGES || outbox->bytes >= GP__OUTBOX_BYTES;
}

/* Append a copy of |message|, or if it is NULL the end. It is urgent business. Lock held. */
static void
append(gp__outbox *outbox, const gp_bytes *message, uint32_t flags)
{
    unsigned place = (outbox->first + outbox->count++) % GP__OUTBOX_MESSAGES;

    outbox->queue[place].message = message != NULL ? gp__byte_buffer_from_bytes(*message) : NULL;
    outbox->queue[place].flags = flags;
    outbox->bytes += message != NULL ? message->len : 0;
}

/* What became of a message that should be queued. */
typedef enum queued {
    QUEUED,
    FULL,  /* |room| says when to try again */
    ALONE, /* nobody polls, or nothing is under way: it is not for the queue */
} queued;

static queued
try_queue(gp__outbox *outbox, gp_bytes message, uint32_t flags)
{
    queued outcome = ALONE;

    gp_mutex_lock(outbox->lock);
    if (gp__gate_is_open(&outbox->free)) {
        outcome = ALONE;
    } else if (is_full(outbox)) {
        gp__gate_close(&outbox->room);
        outcome = FULL;
    } else if (outbox->count > 0 || gp__poller_urgent_if_polled(outbox->poller)) {
        append(outbox, &message, flags);
        outcome = QUEUED;
    }
    gp_mutex_unlock(outbox->lock);
    return outcome;
}

int
gp__outbox_queue(gp__outbox *outbox, gp_bytes message, uint32_t flags,
                 const gp_interrupt *interrupt)
{
    queued outcome = ALONE;
    int rc = 0;

    while (rc == 0 && !gp__gate_is_open(&outbox->free) &&
           (outcome = try_queue(outbox, message, flags)) == FULL) {
        rc = gp__poller_wait(outbox->poller, &outbox->room, GP__FOREVER, interrupt);
    }
    if (rc < 0 || outcome == QUEUED) {
        return rc < 0 ? rc : 1;
    }
    return gp__outbox_take(outbox, interrupt);
}

int
gp__outbox_post(gp__outbox *outbox, const gp_bytes *message, uint32_t flags, gp_sent *then,
                void *ctx)
{
    int rc = GP_EINVAL;

    gp_mutex_lock(outbox->lock);
    if (gp__gate_is_open(&outbox->free)) {
        rc = take(outbox);
        rc = rc < 0 ? rc : GP__POSTED_TAKEN;
    } else if (outbox->then == NULL && outbox->on_room == NULL && !is_full(outbox)) {
        if (outbox->count == 0) {
            gp__poller_urgent_add(outbox->poller);
        }
        append(outbox, message, flags);
        rc = is_full(outbox) ? GP__POSTED_FULL : GP__POSTED;
        if (rc == GP__POSTED_FULL) {
            outbox->on_room = then;
            outbox->on_room_ctx = ctx;
        }
    }
    gp_mutex_unlock(outbox->lock);
    return rc;
}

int
gp__outbox_flush_then(gp__outbox *outbox, gp_sent *then, void *ctx)
{
    bool free;

    gp_mutex_lock(outbox->lock);
    free = gp__gate_is_open(&outbox->free);
    if (!free) {
        outbox->then = then;
        outbox->ctx = ctx;
    }
    gp_mutex_unlock(outbox->lock);
    return free;
}

int
gp__outbox_yield(gp__outbox *outbox)
{
    bool told;

    gp__outbox_release(outbox);
    gp_mutex_lock(outbox->lock);
    told = outbox->told;
    outbox->then = NULL;
    gp__gate_open(outbox->poller, &outbox->free);
    gp_mutex_unlock(outbox->lock);
    return told ? 0 : GP_ECLOSED;
}

static grpc_op
message_op(gp__outbox *outbox, uint32_t flags)
{
    return (grpc_op){.op = GRPC_OP_SEND_MESSAGE,
                     .flags = flags,
                     .data.send_message.send_message = outbox->outgoing};
}

grpc_op
gp__outbox_op(gp__outbox *outbox, gp_bytes message, uint32_t flags)
{
    outbox->outgoing = gp__byte_buffer_from_bytes(message);
    return message_op(outbox, flags);
}

int
gp__outbox_start(gp__outbox *outbox, const grpc_op *ops, size_t count)
{
    return outbox->start_batch(outbox->call, ops, count, &outbox->event) < 0
               ? gp__outbox_yield(outbox)
               : 0;
}

/* Take what is next out of the queue, as the operation that sends it. Lock held. */
static bool
next_op(gp__outbox *outbox, grpc_op *op)
{
    uint32_t flags;

    if (outbox->count == 0) {
        return false;
    }
    outbox->outgoing = outbox->queue[outbox->first].message;
    flags = outbox->queue[outbox->first].flags;
    outbox->first = (outbox->first + 1) % GP__OUTBOX_MESSAGES;
    outbox->count--;
    if (outbox->count == 0) {
        gp__poller_urgent_drop(outbox->poller);
    } else {
        flags |= GRPC_WRITE_BUFFER_HINT; /* one write to the socket for this one and the next */
    }
    if (outbox->outgoing == NULL) {
        *op = (grpc_op){.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
    } else {
        outbox->bytes -= grpc_byte_buffer_length(outbox->outgoing);
        *op = message_op(outbox, flags);
    }
    return true;
}

/* Wake who waits for room once it is worth it; what is returned is to be called. Lock held. */
static gp_sent *
make_room(gp__outbox *outbox, void **ctx)
{
    gp_sent *told = NULL;

    if (outbox->count <= GP__OUTBOX_MESSAGES / 2 && outbox->bytes <= GP__OUTBOX_BYTES / 2) {
        if (!gp__gate_is_open(&outbox->room)) {
            gp__gate_open(outbox->poller, &outbox->room);
        }
        told = outbox->on_room;
        *ctx = outbox->on_room_ctx;
        outbox->on_room = NULL;
    }
    return told;
}

void
gp__outbox_complete(gp__outbox *outbox, bool ok)
{
    gp_sent *then;
    gp_sent *on_room;
    void *room_ctx;
    void *ctx;
    grpc_op op;
    bool more;

    gp__outbox_release(outbox);
    for (;;) {
        gp_mutex_lock(outbox->lock);
        more = next_op(outbox, &op);
        on_room = make_room(outbox, &room_ctx);
        if (!more) {
            break;
        }
        gp_mutex_unlock(outbox->lock);
        ok = ok && outbox->start_batch(outbox->call, &op, 1, &outbox->event) == 0;
        if (on_room != NULL) {
            on_room(room_ctx, ok);
        }
        if (ok) {
            return;
        }
        gp__outbox_release(outbox); /* the call is over */
    }
    then = outbox->then;
    ctx = outbox->ctx;
    outbox->then = NULL;
    gp__gate_open(outbox->poller, &outbox->free);
    gp_mutex_unlock(outbox->lock);
    if (on_room != NULL) {
        on_room(room_ctx, ok);
    }
    if (then != NULL) {
        then(ctx, ok);
    }
}

/* Lock held. */
static void
drop_queue(gp__outbox *outbox)
{
    if (outbox->count > 0) {
        gp__poller_urgent_drop(outbox->poller);
    }
    while (outbox->count > 0) {
        if (outbox->queue[outbox->first].message != NULL) {
            grpc_byte_buffer_destroy(outbox->queue[outbox->first].message);
        }
        outbox->first = (outbox->first + 1) % GP__OUTBOX_MESSAGES;
        outbox->count--;
    }
    outbox->bytes = 0;
}

void
gp__outbox_end(gp__outbox *outbox)
{
    gp_sent *on_room;
    gp_sent *then;
    void *room_ctx;
    void *ctx;

    gp_mutex_lock(outbox->lock);
    outbox->over = true;
    drop_queue(outbox);
    on_room = outbox->on_room;
    room_ctx = outbox->on_room_ctx;
    outbox->on_room = NULL;
    then = outbox->then;
    ctx = outbox->ctx;
    outbox->then = NULL;
    outbox->told = then != NULL;
    if (!gp__gate_is_open(&outbox->room)) {
        gp__gate_open(outbox->poller, &outbox->room);
    }
    if (!gp__gate_is_open(&outbox->free)) {
        gp__gate_open(outbox->poller, &outbox->free);
    }
    gp_mutex_unlock(outbox->lock);
    if (on_room != NULL) {
        on_room(room_ctx, false);
    }
    if (then != NULL) {
        then(ctx, false);
    }
}
