#include "plugin/output.h"

#include <stdatomic.h>
#include <stdbool.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/thread.h"
#include "gp/lock.h"
#include "plugin/delivery.h"
#include "services/stdio_call.h"

enum { MOST_WAITING = 1024 * 1024 }; /* more that is undelivered stops the reading */

/* Pieces of one channel that came in a row. */
typedef struct run {
    struct run *next;
    int channel;
    gp__buf bytes;
} run;

struct gp__output {
    gp__delivery_item item; /* queued while something is pending: holds a reference then */
    atomic_int refs;        /* the owner's, the queue's, and one until the stream has ended */
    gp_output_sink sink;    /* owned: released with the last reference */
    gp_call *call;          /* held: the owner's reference keeps it running */

    gp_mutex lock;
    gp_cond changed;
    run *first; /* owned: what waits for the delivery thread */
    run *last;
    size_t waiting; /* size of what was read and not delivered */
    bool delivering;
    bool paused; /* the next message has not been asked for */
    bool ended;
};

static void
free_runs(run *one)
{
    while (one != NULL) {
        run *next = one->next;

        gp__buf_release(&one->bytes);
        gp__free(one);
        one = next;
    }
}

static void
unref(gp__output *output)
{
    if (atomic_fetch_sub(&output->refs, 1) != 1) {
        return;
    }
    if (output->sink.release != NULL) {
        output->sink.release(output->sink.ctx);
    }
    if (output->call != NULL) {
        gp_call_release(output->call);
    }
    free_runs(output->first);
    gp_cond_release(&output->changed);
    gp_mutex_release(&output->lock);
    gp__free(output);
}

/* ---- Taking in ------------------------------------------------------------------------------- */

/* With the lock held. Memory that is short costs the piece. */
static void
append(gp__output *output, const gp__stdio_piece *piece)
{
    run *last = output->last;

    if (last == NULL || last->channel != piece->channel) {
        last = gp__calloc(1, sizeof(*last));
        if (last == NULL) {
            return;
        }
        last->channel = piece->channel;
        if (output->first == NULL) {
            output->first = last;
        } else {
            output->last->next = last;
        }
        output->last = last;
    }
    if (gp__buf_append(&last->bytes, piece->bytes.data, piece->bytes.len) == 0) {
        output->waiting += piece->bytes.len;
    }
}

/* Queue a piece for delivery. Returns whether there is room for more. */
static bool
queue_piece(gp__output *output, const gp__stdio_piece *piece)
{
    int queued;
    bool more;

    atomic_fetch_add(&output->refs, 1); /* the queue's */
    gp_mutex_lock(&output->lock);
    queued = gp__delivery_post(&output->item);
    if (queued >= 0) { /* else there is nobody to deliver it any more */
        append(output, piece);
    }
    more = output->waiting <= MOST_WAITING;
    output->paused = !more;
    gp_mutex_unlock(&output->lock);
    if (queued != 1) {
        unref(output);
    }
    return more;
}

/* Returns whether the next message may be asked for. */
static bool
take_in(gp__output *output, gp_message *message)
{
    gp__stdio_piece piece;
    bool more = true;

    /* What is no output is left out: other versions of the protocol may have more channels. */
    if (output->sink.deliver != NULL && gp__stdio_read(&piece, message) == 0) {
        if (piece.bytes.len > 0) {
            more = queue_piece(output, &piece);
        }
        gp__stdio_piece_release(&piece);
    }
    gp_message_free(message);
    return more;
}

static void
end(gp__output *output)
{
    gp_mutex_lock(&output->lock);
    output->ended = true;
    gp_cond_broadcast(&output->changed);
    gp_mutex_unlock(&output->lock);
    unref(output); /* the stream's */
}

/* On the polling thread, or when the delivery thread resumes the reading. */
static void
received(void *ctx, gp_message *message)
{
    gp__output *output = ctx;

    while (message != NULL) {
        if (!take_in(output, message) ||
            gp_call_receive_then(output->call, &message, received, output) == 0) {
            return;
        }
    }
    end(output);
}

static void
receive_next(gp__output *output)
{
    gp_message *message;

    if (gp_call_receive_then(output->call, &message, received, output) == 1) {
        received(output, message);
    }
}

/* ---- Delivery -------------------------------------------------------------------------------- */

/* On the delivery thread. */
static void
run_delivery(gp__delivery_item *item)
{
    gp__output *output = (gp__output *)item; /* its first member */
    size_t size = 0;
    bool resume;
    run *runs;

    gp_mutex_lock(&output->lock);
    runs = output->first;
    output->first = NULL;
    output->last = NULL;
    output->delivering = runs != NULL;
    gp_mutex_unlock(&output->lock);
    for (run *one = runs; one != NULL; one = one->next) {
        if (one->bytes.len == 0) {
            continue; /* there was no memory for it */
        }
        output->sink.deliver(output->sink.ctx, one->channel, one->bytes.data, one->bytes.len);
        size += one->bytes.len;
    }
    free_runs(runs);
    gp_mutex_lock(&output->lock);
    output->delivering = false;
    output->waiting -= size;
    resume = output->paused;
    output->paused = false;
    gp_cond_broadcast(&output->changed);
    gp_mutex_unlock(&output->lock);
    if (resume) {
        receive_next(output);
    }
    unref(output);
}

/* ---- For the owner --------------------------------------------------------------------------- */

int
gp__output_open(gp__output **out, gp_channel *channel, const gp_output_sink *sink, gp_error *err)
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
    gp_cond_init(&output->changed);
    output->item.run = run_delivery;
    atomic_init(&output->refs, 2); /* the owner's and the stream's */
    rc = gp__stdio_open(&output->call, channel, err);
    if (rc < 0) {
        output->call = NULL;
        unref(output);
        unref(output);
        return rc;
    }
    gp_call_hold(output->call);
    output->sink = *sink;
    receive_next(output);
    *out = output;
    return 0;
}

/* Wait for |changed| while |output| is |busy|. */
static int
wait_while(gp__output *output, bool (*busy)(const gp__output *), int64_t deadline,
           const gp_interrupt *interrupt)
{
    int rc = 0;

    gp_mutex_lock(&output->lock);
    while (rc == 0 && busy(output)) {
        rc = gp__cond_wait_interruptible(&output->changed, &output->lock, deadline, interrupt);
    }
    if (!busy(output)) {
        rc = 0;
    }
    gp_mutex_unlock(&output->lock);
    return rc;
}

static bool
goes_on(const gp__output *output)
{
    return !output->ended;
}

static bool
is_undelivered(const gp__output *output)
{
    return output->first != NULL || output->delivering;
}

int
gp__output_await_end(gp__output *output, int64_t deadline, const gp_interrupt *interrupt)
{
    int64_t left = deadline - gp__now();
    int rc;

    if (output->sink.deliver == NULL || gp__delivery_current()) {
        return 0;
    }
    /* Waiting for the call is polling; for what comes of it, others do so. */
    rc = gp_call_wait(output->call, left > 0 ? left : 0, interrupt);
    return rc < 0 ? rc : wait_while(output, goes_on, deadline, interrupt);
}

int
gp__output_flush(gp__output *output, int64_t deadline, const gp_interrupt *interrupt)
{
    return gp__delivery_current() ? 0 : wait_while(output, is_undelivered, deadline, interrupt);
}

void
gp__output_close(gp__output *output)
{
    if (output != NULL) {
        gp_call_unref(output->call);
        unref(output);
    }
}
