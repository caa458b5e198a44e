#include "plugin/output_streams.h"

#include <stdatomic.h>

#include "base/alloc.h"
#include "plugin/delivery.h"

typedef struct output_stream {
    gp__output_streams *owner;    /* borrowed: contains this */
    int channel;                  /* GP_STDOUT or GP_STDERR */
    gp__transport_stream *stream; /* owned; NULL: closed, or not opened */
    bool ended;                   /* no more will come; some may be stored */
} output_stream;

struct gp__output_streams {
    atomic_int refs;          /* the owner's, and one while reading is paused */
    gp__transport *transport; /* shared: ref */
    gp__output *output;       /* shared: ref */

    /* Guarded by the transport's lock. */
    output_stream streams[2];
    bool paused;            /* the output has no room, and calls resume_reading() later */
    gp__transport_gate end; /* open: all has been added, or the streams are closed */
};

static void
streams_unref(gp__output_streams *self)
{
    if (atomic_fetch_sub(&self->refs, 1) == 1) {
        gp__output_unref(self->output);
        gp__transport_unref(self->transport);
        gp__free(self);
    }
}

/* ---- Reading --------------------------------------------------------------------------------- */

static void note_end_locked(gp__output_streams *self) GP_REQUIRES(&self->transport->lock);

/* Open the gate if all that came has been added, and no more will come. */
static void
note_end_locked(gp__output_streams *self)
{
    for (int i = 0; i < 2; i++) {
        const output_stream *one = &self->streams[i];

        if (one->stream != NULL &&
            (!one->ended || gp__transport_stream_unused_locked(one->stream) > 0)) {
            return;
        }
    }
    gp__transport_gate_open_locked(self->transport, &self->end);
}

/* For gp__transport_stream_ops. Called with the transport's lock held. */
GP_NO_THREAD_SAFETY_ANALYSIS static size_t
receive_output(void *ctx, const unsigned char *bytes, size_t len)
{
    output_stream *one = ctx;
    gp__output_streams *self = one->owner;

    if (self->paused) {
        return 0;
    }
    if (gp__output_is_wanted(self->output) &&
        !gp__output_add(self->output, one->channel, (const char *)bytes, len)) {
        self->paused = true;
        atomic_fetch_add(&self->refs, 1);
    }
    return len;
}

/* For gp__transport_stream_ops. Called with the transport's lock held. */
GP_NO_THREAD_SAFETY_ANALYSIS static void
output_ended(void *ctx, const gp_error *why)
{
    output_stream *one = ctx;

    (void)why;
    one->ended = true;
    note_end_locked(one->owner);
}

static const gp__transport_stream_ops stream_ops = {
    .received = receive_output,
    .ended = output_ended,
};

/* On the delivery thread: the output has room again. */
static void
resume_reading(void *ctx)
{
    gp__output_streams *self = ctx;

    if (!gp_runtime_forked()) {
        gp_mutex_lock(&self->transport->lock);
        self->paused = false;
        for (int i = 0; i < 2; i++) {
            if (self->streams[i].stream != NULL) {
                gp__transport_stream_resume_locked(self->streams[i].stream);
            }
        }
        note_end_locked(self);
        gp__transport_flush_locked(self->transport);
        gp_mutex_unlock(&self->transport->lock);
        gp__transport_run_deferred(self->transport);
    }
    streams_unref(self);
}

/* ---- For the owner --------------------------------------------------------------------------- */

int
gp__output_streams_open_locked(gp__output_streams **out, gp__transport *transport,
                               gp__output *output, gp_error *err)
{
    gp__output_streams *self = gp__calloc(1, sizeof(*self));
    int rc = 0;

    if (self == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a plugin's output");
    }
    atomic_init(&self->refs, 1);
    self->transport = gp__transport_ref(transport);
    self->output = gp__output_ref(output);
    gp__output_set_source(output, resume_reading, self);
    *out = self;
    for (int i = 0; rc == 0 && i < 2; i++) {
        self->streams[i].owner = self;
        self->streams[i].channel = i == 0 ? GP_STDOUT : GP_STDERR;
        rc = gp__transport_stream_open_locked(&self->streams[i].stream, transport, &stream_ops,
                                              &self->streams[i], err);
    }
    return rc;
}

int
gp__output_streams_await_end(gp__output_streams *self, int64_t deadline,
                             const gp_interrupt *interrupt)
{
    int rc;

    if (!gp__output_is_wanted(self->output) || gp__delivery_current()) {
        return 0;
    }
    gp_mutex_lock(&self->transport->lock);
    rc = gp__transport_wait_locked(self->transport, &self->end, deadline, interrupt);
    gp_mutex_unlock(&self->transport->lock);
    return rc == GP_ECLOSED ? 0 : rc;
}

void
gp__output_streams_close(gp__output_streams *self)
{
    if (self == NULL) {
        return;
    }
    gp_mutex_lock(&self->transport->lock);
    for (int i = 0; i < 2; i++) {
        if (self->streams[i].stream != NULL) {
            gp__transport_stream_shutdown_locked(self->streams[i].stream);
            gp__transport_stream_release_locked(self->streams[i].stream);
            self->streams[i].stream = NULL;
        }
    }
    gp__transport_gate_open_locked(self->transport, &self->end);
    gp__transport_flush_locked(self->transport);
    gp_mutex_unlock(&self->transport->lock);
}

void
gp__output_streams_free(gp__output_streams *self)
{
    if (self != NULL) {
        gp__output_streams_close(self);
        streams_unref(self);
    }
}
