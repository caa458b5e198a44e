#include "rpc/outbox.h"

#include "rpc/convert.h"

/*
 * A message is held if it and the three before it each followed another one so soon. Round trips
 * take longer, so that answers are sent at once.
 */
static const int64_t quick_ns = 15000;
enum { BURST = 4 };

/* For how long the sender holds messages if it goes on sending. */
static const int64_t held_ns = 100000;

static void hold_ref(gp__hold *hold);
static void send_overdue(gp__task *task);
static bool send_held(gp__outbox *outbox);

void
gp__outbox_init(gp__outbox *outbox, void *call, const gp__sending_call *ops, gp__poller *poller,
                gp_mutex *lock, void (*complete)(gp__event *event, bool ok))
{
    outbox->event.complete = complete;
    outbox->hold.task.run = send_overdue;
    outbox->hold.ref = hold_ref;
    outbox->call = call;
    outbox->ops = ops;
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
    int rc;

    send_held(outbox);
    rc = gp__poller_wait(outbox->poller, &outbox->idle, GP__FOREVER, interrupt);
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
    outbox->flags[last] = (uint8_t)flags;
    outbox->bytes += message != NULL ? message->len : 0;
}

/* Whether a message to be sent now belongs to a burst. */
static bool in_burst_locked(gp__outbox *outbox, gp_bytes message) GP_REQUIRES(outbox->lock);

static bool
in_burst_locked(gp__outbox *outbox, gp_bytes message)
{
    int64_t now = gp__now();

    if (now - outbox->last >= quick_ns) {
        outbox->quick = 0;
    } else if (outbox->quick < BURST) {
        outbox->quick++;
    }
    outbox->last = now;
    return outbox->quick == BURST && message.len < GP__OUTBOX_HELD_BYTES;
}

/* Begin to hold messages. The queue is empty. */
static void begin_hold_locked(gp__outbox *outbox) GP_REQUIRES(outbox->lock);

static void
begin_hold_locked(gp__outbox *outbox)
{
    bool idle = gp__gate_is_open(&outbox->idle);

    outbox->holding = idle ? GP__HOLDING_IDLE : GP__HOLDING_UNDER_WAY;
    outbox->oldest = outbox->last;
    gp__gate_close(&outbox->idle);
    gp__poller_hold(outbox->poller, &outbox->hold);
}

/* Cease to hold messages: from here on they count as urgent. */
static void end_hold_locked(gp__outbox *outbox) GP_REQUIRES(outbox->lock);

static void
end_hold_locked(gp__outbox *outbox)
{
    if (outbox->holding != GP__NOT_HOLDING) {
        outbox->holding = GP__NOT_HOLDING;
        gp__poller_end_hold(outbox->poller, &outbox->hold);
    }
}

/* Whether what is held is to be sent. */
static bool is_due_locked(const gp__outbox *outbox) GP_REQUIRES(outbox->lock);

static bool
is_due_locked(const gp__outbox *outbox)
{
    return outbox->count == GP__OUTBOX_MESSAGES || outbox->bytes >= GP__OUTBOX_HELD_BYTES ||
           outbox->last - outbox->oldest >= held_ns;
}

/* What try_queue() has done with a message. */
typedef enum queued {
    QUEUED,
    DUE,    /* queued; this thread is to send what is held */
    FULL,   /* not queued: to be tried again when |room| opens */
    DIRECT, /* not queued: this thread is to send it, as no other polls or no send is under way */
} queued;

static queued
try_queue(gp__outbox *outbox, gp_bytes message, uint32_t flags)
{
    queued outcome;
    bool burst;

    gp_mutex_lock(outbox->lock);
    burst = in_burst_locked(outbox, message);
    if (outbox->ended) {
        outcome = DIRECT; /* which fails */
    } else if (outbox->holding != GP__NOT_HOLDING) {
        append_locked(outbox, &message, flags);
        outcome = is_due_locked(outbox) ? DUE : QUEUED;
    } else if (burst && outbox->count == 0) {
        begin_hold_locked(outbox);
        append_locked(outbox, &message, flags);
        outcome = QUEUED;
    } else if (gp__gate_is_open(&outbox->idle)) {
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
    queued outcome;
    int rc = 0;

    while ((outcome = try_queue(outbox, message, flags)) == FULL) {
        rc = gp__poller_wait(outbox->poller, &outbox->room, GP__FOREVER, interrupt);
        if (rc < 0) {
            return rc;
        }
    }
    if (outcome == DIRECT) {
        return gp__outbox_acquire(outbox, interrupt);
    }
    if (outcome == DUE) {
        send_held(outbox);
        rc = gp__poller_wait(outbox->poller, &outbox->idle, GP__FOREVER, interrupt);
        gp_mutex_lock(outbox->lock);
        outbox->last = gp__now(); /* this time is not the sender's */
        gp_mutex_unlock(outbox->lock);
    }
    return rc < 0 ? rc : 1;
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

    gp__outbox_release_held(outbox);
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
    return outbox->ops->start_batch(outbox->call, ops, count, &outbox->event) < 0
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

/* Start to send the next message of the queue, or make the outbox idle and call |then|. */
static void
send_next(gp__outbox *outbox, bool ok)
{
    gp_sent *then;
    gp_sent *on_room;
    void *room_ctx;
    void *ctx;
    grpc_op op;
    bool more;

    for (;;) {
        gp_mutex_lock(outbox->lock);
        more = next_op_locked(outbox, &op);
        on_room = open_room_locked(outbox, &room_ctx);
        if (!more) {
            break;
        }
        gp_mutex_unlock(outbox->lock);
        ok = ok && outbox->ops->start_batch(outbox->call, &op, 1, &outbox->event) == 0;
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

/* The outbox whose queue this thread sends, and whether the last send is complete. */
static _Thread_local struct {
    gp__outbox *outbox;
    bool completed;
    bool ok;
} draining;

void
gp__outbox_complete(gp__outbox *outbox, bool ok)
{
    gp__outbox_release(outbox);
    if (draining.outbox == outbox) {
        draining.completed = true;
        draining.ok = ok;
        return;
    }
    gp_mutex_lock(outbox->lock);
    end_hold_locked(outbox);
    gp_mutex_unlock(outbox->lock);
    send_next(outbox, ok);
}

/*
 * Send what is in the queue on this thread, while each send is complete at once: then it has only
 * been put into gRPC's buffer. Otherwise the polling thread goes on. No send is under way.
 */
static void
drain(gp__outbox *outbox)
{
    draining.outbox = outbox;
    draining.ok = true;
    do {
        draining.completed = false;
        gp__poller_begin_here(outbox->poller);
        send_next(outbox, draining.ok);
        gp__poller_end_here(outbox->poller);
    } while (draining.completed);
    draining.outbox = NULL;
}

/* Start to send what is held. Returns whether something was. */
static bool
send_held(gp__outbox *outbox)
{
    gp__holding was;

    gp_mutex_lock(outbox->lock);
    was = outbox->holding;
    end_hold_locked(outbox);
    gp_mutex_unlock(outbox->lock);
    if (was == GP__HOLDING_IDLE) {
        drain(outbox);
    }
    return was != GP__NOT_HOLDING;
}

void
gp__outbox_release_held(gp__outbox *outbox)
{
    if (send_held(outbox)) {
        gp__poller_ensure_polled(outbox->poller);
    }
}

/* ---- What the poller does with held messages, if the sender does nothing ---- */

static void
hold_ref(gp__hold *hold)
{
    gp__outbox *outbox = gp_container_of(hold, gp__outbox, hold);

    outbox->ops->ref(outbox->call);
}

static void
send_overdue(gp__task *task)
{
    gp__outbox *outbox = gp_container_of(task, gp__outbox, hold.task);

    send_held(outbox); /* the worker polls next */
    outbox->ops->unref(outbox->call);
}

/* ---- The end ---- */

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
    end_hold_locked(outbox);
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
