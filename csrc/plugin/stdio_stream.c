#include "plugin/stdio_stream.h"

#include <stdatomic.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "gp/lock.h"
#include "plugin/delivery.h"
#include "services/stdio_call.h"

struct gp__stdio_stream {
    atomic_int refs;    /* of the owner, and one until the stream has ended */
    gp_call *call;      /* held: the owner's reference keeps it running */
    gp__output *output; /* shared: ref */

    gp_mutex lock;
    gp_cond changed;
    bool ended GP_GUARDED_BY(&lock);
};

static void
stream_unref(gp__stdio_stream *stream)
{
    if (atomic_fetch_sub(&stream->refs, 1) != 1) {
        return;
    }
    if (stream->call != NULL) {
        gp_call_release(stream->call);
    }
    gp__output_unref(stream->output);
    gp_cond_release(&stream->changed);
    gp_mutex_release(&stream->lock);
    gp__free(stream);
}

/* ---- Reading --------------------------------------------------------------------------------- */

/* Add the output in |message|, which is freed. Returns whether the next message may be received. */
static bool
take_message(gp__stdio_stream *stream, gp_message *message)
{
    gp__stdio_piece piece;
    bool room = true;

    /*
     * A message that is not output is ignored: other versions of the protocol may have more
     * channels.
     */
    if (gp__output_is_wanted(stream->output) && gp__stdio_read(&piece, message) == 0) {
        if (piece.bytes.len > 0) {
            room = gp__output_add(stream->output, piece.channel, piece.bytes.data, piece.bytes.len);
        }
        gp__stdio_piece_release(&piece);
    }
    gp_message_free(message);
    return room;
}

static void
end_stream(gp__stdio_stream *stream)
{
    gp_mutex_lock(&stream->lock);
    stream->ended = true;
    gp_cond_broadcast(&stream->changed);
    gp_mutex_unlock(&stream->lock);
    stream_unref(stream); /* the stream's own */
}

/* Called on the polling thread, or on the delivery thread when it resumes the reading. */
static void
message_received(void *ctx, gp_message *message)
{
    gp__stdio_stream *stream = ctx;

    while (message != NULL) {
        if (!take_message(stream, message) ||
            gp_call_receive_then(stream->call, &message, message_received, stream) == 0) {
            return;
        }
    }
    end_stream(stream);
}

/* Receive the next message: called at first, and when the output has room again. */
static void
receive_next(void *ctx)
{
    gp__stdio_stream *stream = ctx;
    gp_message *message;

    if (gp_call_receive_then(stream->call, &message, message_received, stream) == 1) {
        message_received(stream, message);
    }
}

/* ---- For the owner --------------------------------------------------------------------------- */

int
gp__stdio_stream_open(gp__stdio_stream **out, gp_channel *channel, gp__output *output,
                      gp_error *err)
{
    gp__stdio_stream *stream = gp__calloc(1, sizeof(*stream));
    int rc;

    if (stream == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a plugin's output");
    }
    rc = gp__stdio_open(&stream->call, channel, err);
    if (rc < 0) {
        gp__free(stream);
        return rc;
    }
    gp_mutex_init(&stream->lock);
    gp_cond_init(&stream->changed);
    atomic_init(&stream->refs, 2); /* the owner's and the stream's own */
    gp_call_hold(stream->call);
    stream->output = gp__output_ref(output);
    gp__output_set_source(output, receive_next, stream);
    receive_next(stream);
    *out = stream;
    return 0;
}

int
gp__stdio_stream_await_end(gp__stdio_stream *stream, int64_t deadline,
                           const gp_interrupt *interrupt)
{
    int64_t left = deadline - gp__now();
    int rc;

    if (!gp__output_is_wanted(stream->output) || gp__delivery_current()) {
        return 0;
    }
    /*
     * Wait for the call first, since that polls; then for the last messages, which another thread
     * may still be handling.
     */
    rc = gp_call_wait(stream->call, left > 0 ? left : 0, interrupt);
    if (rc < 0) {
        return rc;
    }
    gp_mutex_lock(&stream->lock);
    while (rc == 0 && !stream->ended) {
        rc = gp__cond_wait_interruptible(&stream->changed, &stream->lock, deadline, interrupt);
    }
    rc = stream->ended ? 0 : rc;
    gp_mutex_unlock(&stream->lock);
    return rc;
}

void
gp__stdio_stream_close(gp__stdio_stream *stream)
{
    if (stream != NULL) {
        gp_call_unref(stream->call);
        stream_unref(stream);
    }
}
