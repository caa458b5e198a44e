#include "netrpc/stdio_consumer.h"

#include "base/alloc.h"
#include "gp/container.h"
#include "os/stdio_state.h"

/*
 * Locks: that of the gp_stdio is taken before the transport's. So callbacks of the transport defer
 * what needs the former, to a task. No task is queued once the streams are released.
 *
 * The consumer ends when the output does or a stream does. It has a reference to itself, which is
 * dropped at the end by the task if it is queued then, else by end_output().
 */
typedef struct consumer {
    gp__stdio_consumer base;
    gp__transport *transport; /* shared: ref */
    void (*ended)(void *ctx);
    void *ctx; /* borrowed: until |ended| has been called */
    gp__task task;

    /* Guarded by the transport's lock. */
    gp__transport_stream *streams[2]; /* owned; NULL: released */
    const unsigned char *rest;        /* borrowed: the part of the chunk that is not written yet */
    size_t rest_len;
    int rest_of;   /* the index of its stream */
    bool queued;   /* the task is to run: |rest| has been written, or |lost| has been set */
    bool lost;     /* the host has closed one of the streams, or memory was short */
    bool ending;   /* the output has ended */
    bool finished; /* |ended| has been called, or is about to be */
} consumer;

static consumer *
from_base(gp__stdio_consumer *base)
{
    return gp_container_of(base, consumer, base);
}

static void
free_consumer(gp__stdio_consumer *base)
{
    gp__transport_unref(from_base(base)->transport);
    gp__free(from_base(base));
}

/* ---- Under the transport's lock -------------------------------------------------------------- */

static void release_streams_locked(consumer *self) GP_REQUIRES(&self->transport->lock);
static void queue_task_locked(consumer *self) GP_REQUIRES(&self->transport->lock);
static void lose_locked(consumer *self) GP_REQUIRES(&self->transport->lock);
static void write_rest_locked(consumer *self) GP_REQUIRES(&self->transport->lock);
static bool finishes_locked(consumer *self) GP_REQUIRES(&self->transport->lock);

static void
release_streams_locked(consumer *self)
{
    for (int i = 0; i < 2; i++) {
        gp__transport_stream_release_locked(self->streams[i]);
        self->streams[i] = NULL;
    }
}

static void
queue_task_locked(consumer *self)
{
    if (!self->queued) {
        self->queued = true;
        gp__transport_defer_locked(self->transport, &self->task);
    }
}

/* No more can be sent. */
static void
lose_locked(consumer *self)
{
    self->lost = true;
    release_streams_locked(self);
    queue_task_locked(self);
}

/* Write as much of the chunk as there is room for. */
static void
write_rest_locked(consumer *self)
{
    gp__transport_stream *stream = self->streams[self->rest_of];
    ptrdiff_t written = gp__transport_stream_write_locked(stream, self->rest, self->rest_len, NULL);

    if (written < 0) {
        lose_locked(self);
    } else {
        self->rest += written;
        self->rest_len -= (size_t)written;
    }
}

/* Whether the caller has to call finish(). */
static bool
finishes_locked(consumer *self)
{
    bool finishes = !self->finished && !self->queued && (self->ending || self->lost);

    self->finished = self->finished || finishes;
    return finishes;
}

static void
finish(consumer *self)
{
    self->ended(self->ctx);
    gp__stdio_consumer_unref(&self->base);
}

/* ---- Callbacks of the streams ---------------------------------------------------------------- */

static size_t
ignore_bytes(void *ctx, const unsigned char *bytes, size_t len)
{
    (void)ctx;
    (void)bytes;
    return len; /* hosts send nothing on these streams */
}

GP_NO_THREAD_SAFETY_ANALYSIS static void
stream_ended(void *ctx, const gp_error *why)
{
    (void)why;
    lose_locked(ctx);
}

GP_NO_THREAD_SAFETY_ANALYSIS static void
stream_writable(void *ctx)
{
    consumer *self = ctx;

    if (self->rest_len > 0) {
        write_rest_locked(self);
        if (self->rest_len == 0) {
            queue_task_locked(self);
        }
    }
}

static const gp__transport_stream_ops stream_ops = {
    .received = ignore_bytes,
    .ended = stream_ended,
    .writable = stream_writable,
};

/* The deferred task, with no lock held. */
static void
report_to_stdio(gp__task *task)
{
    consumer *self = gp_container_of(task, consumer, task);
    gp_stdio *stdio = self->base.stdio;
    bool finishes;
    bool lost;

    gp_mutex_lock(&self->transport->lock);
    self->queued = false;
    lost = self->lost;
    finishes = finishes_locked(self);
    gp_mutex_unlock(&self->transport->lock);
    gp_mutex_lock(&stdio->lock);
    self->base.busy = false;
    if (lost) {
        gp__stdio_remove_locked(stdio, &self->base);
    }
    gp_mutex_unlock(&stdio->lock);
    gp__stdio_update(stdio);
    if (finishes) {
        finish(self);
    }
}

/* ---- Callbacks of the gp_stdio --------------------------------------------------------------- */

static bool
give_chunk(gp__stdio_consumer *base, const gp__stdio_chunk *chunk)
{
    consumer *self = from_base(base);
    bool taken;

    gp_mutex_lock(&self->transport->lock);
    if (!self->lost) {
        self->rest = chunk->bytes;
        self->rest_len = chunk->len;
        self->rest_of = chunk->channel == GP_STDOUT ? 0 : 1;
        write_rest_locked(self);
        gp__transport_flush_locked(self->transport);
    }
    taken = !self->lost;
    base->busy = taken && self->rest_len > 0;
    gp_mutex_unlock(&self->transport->lock);
    return taken;
}

/* The last bytes precede the end of their stream. |busy|: the host does not read. */
static void
end_output(gp__stdio_consumer *base, bool busy)
{
    consumer *self = from_base(base);
    bool finishes;

    gp_mutex_lock(&self->transport->lock);
    self->ending = true;
    self->rest_len = 0;
    for (int i = 0; i < 2 && !busy; i++) {
        if (self->streams[i] != NULL) {
            gp__transport_stream_shutdown_locked(self->streams[i]);
        }
    }
    release_streams_locked(self);
    gp__transport_flush_locked(self->transport);
    finishes = finishes_locked(self);
    gp_mutex_unlock(&self->transport->lock);
    if (finishes) {
        finish(self);
    }
}

/* ---- Adding ---------------------------------------------------------------------------------- */

int
gp__stdio_consumer_add(gp_stdio *stdio, gp__transport *transport, gp__transport_stream *streams[2],
                       void (*ended)(void *ctx), void *ctx, gp_error *err)
{
    consumer *self = gp__calloc(1, sizeof(*self));

    if (self == NULL) {
        gp_mutex_lock(&transport->lock);
        for (int i = 0; i < 2; i++) {
            gp__transport_stream_release_locked(streams[i]);
        }
        gp_mutex_unlock(&transport->lock);
        return gp_error_set(err, GP_ENOMEM, "out of memory for stdout and stderr");
    }
    self->base = (gp__stdio_consumer){.stdio = gp_stdio_ref(stdio),
                                      .refs = 2, /* its own, and one until it is added */
                                      .busy = true,
                                      .give = give_chunk,
                                      .end = end_output,
                                      .free = free_consumer};
    self->transport = gp__transport_ref(transport);
    self->ended = ended;
    self->ctx = ctx;
    self->task.run = report_to_stdio;
    for (int i = 0; i < 2; i++) {
        self->streams[i] = streams[i];
    }
    gp_mutex_lock(&stdio->lock);
    gp__stdio_append_locked(stdio, &self->base);
    gp_mutex_unlock(&stdio->lock);
    gp_mutex_lock(&transport->lock);
    for (int i = 0; i < 2 && self->streams[i] != NULL; i++) {
        gp__transport_stream_use_locked(self->streams[i], &stream_ops, self);
    }
    gp_mutex_unlock(&transport->lock);
    gp__transport_run_deferred(transport); /* a stream may have ended */
    gp_mutex_lock(&stdio->lock);
    self->base.busy = false;
    gp_mutex_unlock(&stdio->lock);
    gp__stdio_update(stdio);
    gp__stdio_consumer_unref(&self->base);
    return 0;
}
