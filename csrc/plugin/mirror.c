#include "plugin/mirror.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "gp/list.h"
#include "gp/lock.h"
#include "os/fd.h"
#include "os/reactor.h"
#include "plugin/batch.h"
#include "plugin/delivery.h"
#include "plugin/lines.h"

enum {
    CHUNK = 16 * 1024,              /* bytes of one read; on the stack, which may be small */
    MOST_WAITING = 1024 * 1024,     /* bytes; if more is undelivered, reading stops */
    MOST_LEFT_BEHIND = 1024 * 1024, /* bytes that a pipe can hold at most; usually 64 KiB */
};

struct gp__mirror {
    gp__delivery_item item; /* while it is queued, it holds a reference */
    atomic_int refs;
    gp_log_sink sink; /* owned: released with the last reference */
    atomic_int level; /* the lowest level that the sink wants */

    /*
     * Used only by the reader: the reactor's callback, or the owner once |watch| has been removed.
     */
    int fd; /* owned */
    gp__lines lines;
    gp__tail *tail; /* borrowed: outlives finish and close */

    gp_mutex lock;
    gp_cond delivered;
    gp__watch *watch GP_GUARDED_BY(&lock);   /* owned; NULL after finish or close */
    gp__batch *pending GP_GUARDED_BY(&lock); /* owned; NULL while the reader adds to it */
    size_t waiting GP_GUARDED_BY(&lock);     /* bytes that were read and not delivered */
    bool delivering GP_GUARDED_BY(&lock);    /* a batch is being delivered */
    bool paused GP_GUARDED_BY(&lock);        /* the pipe is not read until the batch is delivered */
    bool ended GP_GUARDED_BY(&lock);         /* the pipe is at its end */
};

/* The last reference is gone, so no other thread uses the mirror. */
static void
mirror_destroy(gp__mirror *mirror) GP_NO_THREAD_SAFETY_ANALYSIS
{
    if (mirror->sink.release != NULL) {
        mirror->sink.release(mirror->sink.ctx);
    }
    gp__fd_close(&mirror->fd);
    gp__lines_release(&mirror->lines);
    gp__batch_free(mirror->pending);
    gp_cond_release(&mirror->delivered);
    gp_mutex_release(&mirror->lock);
    gp__free(mirror);
}

static void
mirror_unref(gp__mirror *mirror)
{
    if (atomic_fetch_sub(&mirror->refs, 1) == 1) {
        mirror_destroy(mirror);
    }
}

/* ---- Delivery -------------------------------------------------------------------------------- */

static void
deliver_batch(gp__mirror *mirror, const gp__batch *batch)
{
    const gp_log_batch view = {
        .raw = mirror->sink.want_raw ? batch->raw.data : NULL,
        .raw_len = batch->raw.len,
        .records = batch->records,
        .records_count = batch->count,
        .skipped = batch->skipped,
    };

    atomic_store(&mirror->level, mirror->sink.deliver(mirror->sink.ctx, &view));
}

static void resume_reading_locked(gp__mirror *mirror) GP_REQUIRES(&mirror->lock);

static void
resume_reading_locked(gp__mirror *mirror)
{
    if (mirror->paused && !mirror->ended && mirror->watch != NULL) {
        gp__reactor_enable(mirror->watch, true);
    }
    mirror->paused = false;
}

/* On the delivery thread. */
static void
run_delivery(gp__delivery_item *item)
{
    gp__mirror *mirror = gp_container_of(item, gp__mirror, item);
    gp__batch *batch;
    size_t size = 0;

    gp_mutex_lock(&mirror->lock);
    batch = mirror->pending;
    mirror->pending = NULL;
    mirror->delivering = batch != NULL;
    gp_mutex_unlock(&mirror->lock);
    if (batch != NULL) {
        size = gp__batch_size(batch);
        deliver_batch(mirror, batch);
        gp__batch_free(batch);
    }
    gp_mutex_lock(&mirror->lock);
    mirror->delivering = false;
    mirror->waiting -= size;
    resume_reading_locked(mirror);
    gp_cond_broadcast(&mirror->delivered);
    gp_mutex_unlock(&mirror->lock);
    mirror_unref(mirror);
}

/* ---- Reading --------------------------------------------------------------------------------- */

/*
 * Take the pending batch, or a new one, to add to it. Until it is put back, its size is not part of
 * |waiting|. NULL when memory is short.
 */
static gp__batch *
take_pending(gp__mirror *mirror)
{
    gp__batch *batch;

    gp_mutex_lock(&mirror->lock);
    batch = mirror->pending;
    mirror->pending = NULL;
    if (batch != NULL) {
        mirror->waiting -= gp__batch_size(batch);
    }
    gp_mutex_unlock(&mirror->lock);
    return batch != NULL ? batch : gp__batch_new();
}

static void
put_pending(gp__mirror *mirror, gp__batch *batch)
{
    int queued = GP_ECLOSED;

    if (batch->count > 0 || batch->raw.len > 0 || batch->skipped) {
        atomic_fetch_add(&mirror->refs, 1); /* of the queued item */
        gp_mutex_lock(&mirror->lock);
        queued = gp__delivery_post(&mirror->item);
        if (queued >= 0) {
            mirror->pending = batch;
            mirror->waiting += gp__batch_size(batch);
            if (mirror->waiting > MOST_WAITING && !mirror->paused && mirror->watch != NULL) {
                mirror->paused = true;
                gp__reactor_enable(mirror->watch, false);
            }
        }
        gp_mutex_unlock(&mirror->lock);
        if (queued != 1) {
            mirror_unref(mirror);
        }
    }
    if (queued < 0) {
        gp__batch_free(batch); /* it is empty, or the delivery thread has ended */
    }
}

static void
take_bytes(gp__mirror *mirror, const char *bytes, size_t len)
{
    gp__batch *batch;

    gp__tail_add(mirror->tail, bytes, len);
    batch = take_pending(mirror);
    if (batch == NULL) {
        mirror->lines.lost++;
        return;
    }
    if (mirror->sink.want_raw && gp__buf_append(&batch->raw, bytes, len) < 0) {
        mirror->lines.lost++;
    }
    gp__lines_feed(&mirror->lines, batch, bytes, len, atomic_load(&mirror->level));
    put_pending(mirror, batch);
}

/*
 * Read once. Returns the number of bytes, 0 at the pipe's end, or -1 with EAGAIN when the pipe is
 * empty.
 */
static ssize_t
read_once(gp__mirror *mirror)
{
    char chunk[CHUNK];
    ssize_t got = gp__fd_read(mirror->fd, chunk, sizeof(chunk));

    if (got > 0) {
        take_bytes(mirror, chunk, (size_t)got);
    }
    return got;
}

static void
end_lines(gp__mirror *mirror)
{
    gp__batch *batch = take_pending(mirror);

    if (batch != NULL) {
        gp__lines_finish(&mirror->lines, batch, atomic_load(&mirror->level));
        put_pending(mirror, batch);
    }
}

/*
 * Called on the reactor's thread. Reads once each time, so that a noisy plugin does not hold up
 * others.
 */
static void
read_pipe(void *ctx)
{
    gp__mirror *mirror = ctx;
    ssize_t got = read_once(mirror);

    if (got > 0 || (got < 0 && errno == EAGAIN)) {
        return;
    }
    end_lines(mirror);
    gp__tail_end(mirror->tail);
    gp_mutex_lock(&mirror->lock);
    mirror->ended = true;
    if (mirror->watch != NULL) {
        gp__reactor_enable(mirror->watch, false);
    }
    gp_mutex_unlock(&mirror->lock);
}

void
gp__mirror_add(gp__mirror *mirror, const char *message)
{
    gp__batch *batch = take_pending(mirror);

    if (batch != NULL) {
        gp__lines_add(&mirror->lines, batch, message, atomic_load(&mirror->level));
        put_pending(mirror, batch);
    }
}

/* ---- For the owner --------------------------------------------------------------------------- */

int
gp__mirror_open(gp__mirror **out, int fd, gp__tail *tail, const gp_log_sink *sink,
                size_t buffer_size, gp_error *err)
{
    gp__mirror *mirror;
    int rc = gp__delivery_start(err);

    if (rc < 0) {
        return rc;
    }
    mirror = gp__calloc(1, sizeof(*mirror));
    if (mirror == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a plugin's log");
    }
    gp_mutex_init(&mirror->lock);
    gp_cond_init(&mirror->delivered);
    mirror->item.run = run_delivery;
    atomic_init(&mirror->refs, 1);
    atomic_init(&mirror->level, sink->level);
    mirror->fd = fd;
    mirror->tail = tail;
    mirror->sink = *sink;
    gp__lines_init(&mirror->lines, buffer_size);
    gp__tail_begin(tail);
    gp_mutex_lock(&mirror->lock);
    rc = gp__reactor_add(&mirror->watch, fd, read_pipe, mirror, err);
    gp_mutex_unlock(&mirror->lock);
    if (rc < 0) {
        gp__tail_end(tail);
        mirror->fd = -1; /* on failure the caller keeps |fd| and the sink */
        mirror->sink.release = NULL;
        mirror_unref(mirror);
        return rc;
    }
    *out = mirror;
    return 0;
}

/* Stop the reactor's callback. It takes the lock, so this waits for it without the lock. */
static void
stop_watching(gp__mirror *mirror)
{
    gp__watch *watch;

    gp_mutex_lock(&mirror->lock);
    watch = mirror->watch;
    mirror->watch = NULL;
    gp_mutex_unlock(&mirror->lock);
    gp__reactor_remove(watch);
}

void
gp__mirror_finish(gp__mirror *mirror)
{
    size_t total = 0;
    ssize_t got = 0;
    bool ended;

    stop_watching(mirror);
    if (mirror->fd < 0) {
        return;
    }
    gp_mutex_lock(&mirror->lock);
    ended = mirror->ended;
    mirror->ended = true; /* the reactor reads no more */
    gp_mutex_unlock(&mirror->lock);
    /* There is a limit, since a grandchild may go on writing. */
    while (!ended && total < MOST_LEFT_BEHIND && (got = read_once(mirror)) > 0) {
        total += (size_t)got;
    }
    end_lines(mirror);
    gp__tail_end(mirror->tail);
    gp__fd_close(&mirror->fd);
}

static bool is_undelivered_locked(const gp__mirror *mirror) GP_REQUIRES(&mirror->lock);

static bool
is_undelivered_locked(const gp__mirror *mirror)
{
    return mirror->pending != NULL || mirror->delivering;
}

int
gp__mirror_flush(gp__mirror *mirror, int64_t deadline, const gp_interrupt *interrupt)
{
    int rc = 0;

    if (gp__delivery_current()) {
        return 0;
    }
    gp_mutex_lock(&mirror->lock);
    while (rc == 0 && is_undelivered_locked(mirror)) {
        rc = gp__cond_wait_interruptible(&mirror->delivered, &mirror->lock, deadline, interrupt);
    }
    rc = is_undelivered_locked(mirror) ? rc : 0;
    gp_mutex_unlock(&mirror->lock);
    return rc;
}

void
gp__mirror_close(gp__mirror *mirror)
{
    if (mirror != NULL) {
        stop_watching(mirror);
        gp__tail_end(mirror->tail);
        mirror_unref(mirror);
    }
}
