#include "rpc/outbox.h"

#include "rpc/convert.h"

void
gp__outbox_init(gp__outbox *outbox, void *call, gp__start_batch *start_batch, gp__poller *poller,
                gp_mutex *lock, void (*complete)(gp__event *event, bool ok))
{
    outbox->event.complete = complete;
    outbox->call = call;
    outbox->start_batch = start_batch;
    outbox->poller = poller;
    outbox->lock = lock;
    atomic_init(&outbox->idle.open, true);
    atomic_init(&outbox->room.open, true);
}

void
gp__outbox_release(gp__outbox *outbox)
{
    if (outbox->buffer != NULL) {
        grpc_byte_buffer_destroy(outbox->buffer);
        outbox->buffer = NULL;
    }
}

/* Acquire an idle outbox. */
static int acquire_locked(gp__outbox *outbox) GP_REQUIRES(outbox->lock);

static int
acquire_locked(gp__outbox *outbox)
{
    if (outbox->ended) {
        return GP_ECLOSED;
    }
    gp__gate_close(&outbox->idle);
    return 0;
}

int
gp__outbox_acquire(gp__outbox *outbox, const gp_interrupt *interrupt)
{
    int rc = gp__poller_wait(outbox->poller, &outbox->idle, GP__FOREVER, interrupt);

    if (rc < 0) {
        return rc;
    }
    gp_mutex_lock(outbox->lock);
    rc = acquire_locked(outbox);
    gp_mutex_unlock(outbox->lock);
    return rc;
}

int
gp__outbox_acquire_then(gp__outbox *outbox, gp_sent *then, void *ctx)
{
    int rc;

    gp_mutex_lock(outbox->lock);
    rc = gp__gate_is_open(&outbox->idle) ? acquire_locked(outbox) : GP_EINVAL;
    if (rc == 0) {
        outbox->then = then;
        outbox->ctx = ctx;
    }
    gp_mutex_unlock(outbox->lock);
    return rc;
}

static bool is_full_locked(const gp__outbox *outbox) GP_REQUIRES(outbox->lock);

static bool
is_full_locked(const gp__outbox *outbox)
{
    return outbox->count == GP__OUTBOX_MESSAGES || outbox->bytes >= GP__OUTBOX_BYTES;
}

/*
 * Append a copy of |message| to the queue, or the end of the messages if it is NULL. If the queue
 * is empty, the caller has counted it as urgent.
 */
static void append_locked(gp__outbox *outbox, const gp_bytes *message, uint32_t flags)
    GP_REQUIRES(outbox->lock);

static void
append_locked(gp__outbox *outbox, const gp_bytes *message, uint32_t flags)
{
    unsigned last = (outbox->first + outbox->count++) % GP__OUTBOX_MESSAGES;

    outbox->queue[last] = message != NULL ? gp__byte_buffer_from_bytes(*message) : NULL;
    outbox->flags[last] = flags;
    outbox->bytes += message != NULL ? message->len : 0;
}

/* What try_queue() has done with a message. */
typedef enum queued {
    QUEUED,
    FULL,   /* not queued: to be tried again when |room| opens */
    DIRECT, /* not queued: this thread is to send it, as no other polls or no send is under way */
} queued;

static queued
try_queue(gp__outbox *outbox, gp_bytes message, uint32_t flags)
{
    queued outcome;

    gp_mutex_lock(outbox->lock);
    if (gp__gate_is_open(&outbox->idle)) {
        outcome = DIRECT;
    } else if (is_full_locked(outbox)) {
        gp__gate_close(&outbox->room);
        outcome = FULL;
    } else if (outbox->count > 0 || gp__poller_urgent_if_polled(outbox->poller)) {
        append_locked(outbox, &message, flags);
        outcome = QUEUED;
    } else {
        outcome = DIRECT;
    }
    gp_mutex_unlock(outbox->lock);
    return outcome;
}

int
gp__outbox_queue(gp__outbox *outbox, gp_bytes message, uint32_t flags,
                 const gp_interrupt *interrupt)
{
    queued outcome = DIRECT;
    int rc = 0;

    while (rc == 0 && !gp__gate_is_open(&outbox->idle) &&
           (outcome = try_queue(outbox, message, flags)) == FULL) {
        rc = gp__poller_wait(outbox->poller, &outbox->room, GP__FOREVER, interrupt);
    }
    if (rc < 0 || outcome == QUEUED) {
        return rc < 0 ? rc : 1;
    }
    return gp__outbox_acquire(outbox, interrupt);
}

int
gp__outbox_post(gp__outbox *outbox, const gp_bytes *message, uint32_t flags, gp_sent *then,
                void *ctx)
{
    int rc = GP_EINVAL;

    gp_mutex_lock(outbox->lock);
    if (gp__gate_is_open(&outbox->idle)) {
        rc = acquire_locked(outbox);
        rc = rc < 0 ? rc : GP__POSTED_ACQUIRED;
    } else if (outbox->then == NULL && outbox->on_room == NULL && !is_full_locked(outbox)) {
        if (outbox->count == 0) {
            gp__poller_urgent_add(outbox->poller);
        }
        append_locked(outbox, message, flags);
        rc = is_full_locked(outbox) ? GP__POSTED_FULL : GP__POSTED;
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
    bool idle;

    gp_mutex_lock(outbox->lock);
    idle = gp__gate_is_open(&outbox->idle);
    if (!idle) {
        outbox->then = then;
        outbox->ctx = ctx;
    }
    gp_mutex_unlock(outbox->lock);
    return idle;
}

int
gp__outbox_abandon(gp__outbox *outbox)
{
    bool then_ended;

    gp__outbox_release(outbox);
    gp_mutex_lock(outbox->lock);
    then_ended = outbox->then_ended;
    outbox->then = NULL;
    gp__gate_open(outbox->poller, &outbox->idle);
    gp_mutex_unlock(outbox->lock);
    return then_ended ? 0 : GP_ECLOSED;
}

/* The operation that sends |outbox->buffer|. */
static grpc_op
message_op(const gp__outbox *outbox, uint32_t flags)
{
    return (grpc_op){.op = GRPC_OP_SEND_MESSAGE,
                     .flags = flags,
                     .data.send_message.send_message = outbox->buffer};
}

grpc_op
gp__outbox_op(gp__outbox *outbox, gp_bytes message, uint32_t flags)
{
    outbox->buffer = gp__byte_buffer_from_bytes(message);
    return message_op(outbox, flags);
}

int
gp__outbox_start(gp__outbox *outbox, const grpc_op *ops, size_t count)
{
    return outbox->start_batch(outbox->call, ops, count, &outbox->event) < 0
               ? gp__outbox_abandon(outbox)
               : 0;
}

/*
 * Take the first message out of the queue, and set |*op| to the operation that sends it. Returns
 * false if the queue is empty.
 */
static bool next_op_locked(gp__outbox *outbox, grpc_op *op) GP_REQUIRES(outbox->lock);

static bool
next_op_locked(gp__outbox *outbox, grpc_op *op)
{
    uint32_t flags;

    if (outbox->count == 0) {
        return false;
    }
    outbox->buffer = outbox->queue[outbox->first];
    flags = outbox->flags[outbox->first];
    outbox->first = (outbox->first + 1) % GP__OUTBOX_MESSAGES;
    outbox->count--;
    if (outbox->count == 0) {
        gp__poller_urgent_drop(outbox->poller);
    } else {
        flags |= GRPC_WRITE_BUFFER_HINT; /* this and the next go out in one write */
    }
    if (outbox->buffer == NULL) {
        *op = (grpc_op){.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
    } else {
        outbox->bytes -= grpc_byte_buffer_length(outbox->buffer);
        *op = message_op(outbox, flags);
    }
    return true;
}

/*
 * Open |room| if the queue is at most half full. Returns |on_room|, to be called without the lock,
 * or NULL.
 */
static gp_sent *open_room_locked(gp__outbox *outbox, void **ctx) GP_REQUIRES(outbox->lock);

static gp_sent *
open_room_locked(gp__outbox *outbox, void **ctx)
{
    gp_sent *on_room = NULL;

    if (outbox->count <= GP__OUTBOX_MESSAGES / 2 && outbox->bytes <= GP__OUTBOX_BYTES / 2) {
        if (!gp__gate_is_open(&outbox->room)) {
            gp__gate_open(outbox->poller, &outbox->room);
        }
        on_room = outbox->on_room;
        *ctx = outbox->on_room_ctx;
        outbox->on_room = NULL;
    }
    return on_room;
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
        more = next_op_locked(outbox, &op);
        on_room = open_room_locked(outbox, &room_ctx);
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
        gp__outbox_release(outbox); /* the call has ended */
    }
    then = outbox->then;
    ctx = outbox->ctx;
    outbox->then = NULL;
    gp__gate_open(outbox->poller, &outbox->idle);
    gp_mutex_unlock(outbox->lock);
    if (on_room != NULL) {
        on_room(room_ctx, ok);
    }
    if (then != NULL) {
        then(ctx, ok);
    }
}

static void drop_queue_locked(gp__outbox *outbox) GP_REQUIRES(outbox->lock);

static void
drop_queue_locked(gp__outbox *outbox)
{
    if (outbox->count > 0) {
        gp__poller_urgent_drop(outbox->poller);
    }
    while (outbox->count > 0) {
        if (outbox->queue[outbox->first] != NULL) {
            grpc_byte_buffer_destroy(outbox->queue[outbox->first]);
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
    outbox->ended = true;
    drop_queue_locked(outbox);
    on_room = outbox->on_room;
    room_ctx = outbox->on_room_ctx;
    outbox->on_room = NULL;
    then = outbox->then;
    ctx = outbox->ctx;
    outbox->then = NULL;
    outbox->then_ended = then != NULL;
    if (!gp__gate_is_open(&outbox->room)) {
        gp__gate_open(outbox->poller, &outbox->room);
    }
    if (!gp__gate_is_open(&outbox->idle)) {
        gp__gate_open(outbox->poller, &outbox->idle);
    }
    gp_mutex_unlock(outbox->lock);
    if (on_room != NULL) {
        on_room(room_ctx, false);
    }
    if (then != NULL) {
        then(ctx, false);
    }
}
