#include "plugin/output.h"

#include <stdatomic.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/thread.h"
#include "gp/list.h"
#include "gp/lock.h"
#include "plugin/delivery.h"

enum { MOST_WAITING = 1024 * 1024 }; /* bytes; if more is undelivered, reading stops */

/* Consecutive pieces of one channel. */
typedef struct run {
    gp_link link;
    int channel;
    gp__buf bytes;
} run;

struct gp__output {
    gp__delivery_item item; /* while it is queued, it holds a reference */
    atomic_int refs;
    gp_output_sink sink; /* owned: released with the last reference */
    void (*resume)(void *ctx);
    void *ctx; /* borrowed: outlives a call of |resume| that is due */

    gp_mutex lock;
    gp_cond delivered;
    gp_list pending GP_GUARDED_BY(&lock);    /* run: owned; wait for the delivery thread */
    size_t waiting GP_GUARDED_BY(&lock);     /* bytes that were added and are not delivered */
    bool delivering GP_GUARDED_BY(&lock);    /* runs are being delivered */
    bool source_paused GP_GUARDED_BY(&lock); /* |resume| is to be called */
};

static void
free_runs(gp_list *runs)
{
    gp_link *link;

    while ((link = gp_list_pop(runs)) != NULL) {
        run *one = gp_container_of(link, run, link);

        gp__buf_release(&one->bytes);
        gp__free(one);
    }
}

/* ---- Adding ---------------------------------------------------------------------------------- */

static void append_locked(gp__output *output, int channel, const char *bytes, size_t len)
    GP_REQUIRES(&output->lock);

static void
append_locked(gp__output *output, int channel, const char *bytes, size_t len)
{
    run *last = gp_list_is_empty(&output->pending)
                    ? NULL
                    : gp_container_of(output->pending.ends.prev, run, link);

    if (last == NULL || last->channel != channel) {
        last = gp__calloc(1, sizeof(*last));
        if (last == NULL) {
            return;
        }
        last->channel = channel;
        gp_list_append(&output->pending, &last->link);
    }
    if (gp__buf_append(&last->bytes, bytes, len) == 0) {
        output->waiting += len;
    }
}

bool
gp__output_add(gp__output *output, int channel, const char *bytes, size_t len)
{
    int queued;
    bool room;

    gp__output_ref(output); /* of the queued item */
    gp_mutex_lock(&output->lock);
    queued = gp__delivery_post(&output->item);
    if (queued >= 0) { /* otherwise the delivery thread has ended */
        append_locked(output, channel, bytes, len);
    }
    room = output->waiting <= MOST_WAITING;
    output->source_paused = !room;
    gp_mutex_unlock(&output->lock);
    if (queued != 1) {
        gp__output_unref(output);
    }
    return room;
}

/* ---- Delivery -------------------------------------------------------------------------------- */

/* On the delivery thread. Returns how many bytes it has delivered. */
static size_t
deliver_runs(gp__output *output, gp_list *runs)
{
    size_t size = 0;
    run *one;

    for (one = gp_list_first_entry(runs, run, link); one != NULL;
         one = gp_list_next_entry(runs, one, run, link)) {
        if (one->bytes.len > 0) { /* otherwise memory was short */
            output->sink.deliver(output->sink.ctx, one->channel, one->bytes.data, one->bytes.len);
            size += one->bytes.len;
        }
    }
    return size;
}

/* On the delivery thread. */
static void
run_delivery(gp__delivery_item *item)
{
    gp__output *output = gp_container_of(item, gp__output, item);
    gp_list runs;
    size_t size;
    bool resume;

    gp_list_init(&runs);
    gp_mutex_lock(&output->lock);
    gp_list_move(&runs, &output->pending);
    output->delivering = !gp_list_is_empty(&runs);
    gp_mutex_unlock(&output->lock);
    size = deliver_runs(output, &runs);
    free_runs(&runs);
    gp_mutex_lock(&output->lock);
    output->delivering = false;
    output->waiting -= size;
    resume = output->source_paused;
    output->source_paused = false;
    gp_cond_broadcast(&output->delivered);
    gp_mutex_unlock(&output->lock);
    if (resume) {
        output->resume(output->ctx);
    }
    gp__output_unref(output);
}

/* ---- For the owner --------------------------------------------------------------------------- */

int
gp__output_new(gp__output **out, const gp_output_sink *sink, gp_error *err)
{
    gp__output *output;
    int rc = gp__delivery_start(err);

    if (rc < 0) {
        return rc;
    }
    output = gp__calloc(1, sizeof(*output));
    if (output == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a plugin's output");
    }
    gp_mutex_init(&output->lock);
    gp_cond_init(&output->delivered);
    gp_mutex_lock(&output->lock);
    gp_list_init(&output->pending);
    gp_mutex_unlock(&output->lock);
    output->item.run = run_delivery;
    atomic_init(&output->refs, 1);
    output->sink = *sink;
    *out = output;
    return 0;
}

gp__output *
gp__output_ref(gp__output *output)
{
    atomic_fetch_add(&output->refs, 1);
    return output;
}

/* The last reference is gone, so no other thread uses the output. */
static void
output_destroy(gp__output *output) GP_NO_THREAD_SAFETY_ANALYSIS
{
    if (output->sink.release != NULL) {
        output->sink.release(output->sink.ctx);
    }
    free_runs(&output->pending);
    gp_cond_release(&output->delivered);
    gp_mutex_release(&output->lock);
    gp__free(output);
}

void
gp__output_unref(gp__output *output)
{
    if (output != NULL && atomic_fetch_sub(&output->refs, 1) == 1) {
        output_destroy(output);
    }
}

void
gp__output_set_source(gp__output *output, void (*resume)(void *ctx), void *ctx)
{
    output->resume = resume;
    output->ctx = ctx;
}

bool
gp__output_is_wanted(const gp__output *output)
{
    return output->sink.deliver != NULL;
}

static bool is_undelivered_locked(const gp__output *output) GP_REQUIRES(&output->lock);

static bool
is_undelivered_locked(const gp__output *output)
{
    return output->delivering || !gp_list_is_empty(&output->pending);
}

int
gp__output_flush(gp__output *output, int64_t deadline, const gp_interrupt *interrupt)
{
    int rc = 0;

    if (gp__delivery_current()) {
        return 0;
    }
    gp_mutex_lock(&output->lock);
    while (rc == 0 && is_undelivered_locked(output)) {
        rc = gp__cond_wait_interruptible(&output->delivered, &output->lock, deadline, interrupt);
    }
    rc = is_undelivered_locked(output) ? rc : 0;
    gp_mutex_unlock(&output->lock);
    return rc;
}
