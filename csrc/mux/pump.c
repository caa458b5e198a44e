#include "mux/pump.h"

#include "base/alloc.h"
#include "base/thread.h"
#include "mux/bridge.h"
#include "os/fd.h"

enum {
    INPUT = 256 * 1024,
    TICK_MS = 30000,
    WAKE_MOST = 8, /* bridges that are woken at a time when the output has room again */
};

/*
 * All pumps read into this buffer: they run on the reactor's thread, one at a time, and store
 * nothing in it.
 */
static unsigned char input[INPUT];

/* ---- Output ---------------------------------------------------------------------------------- */

static void want_locked(gp__pump *pump, unsigned wants) GP_REQUIRES(&pump->lock);
static int send_output_locked(gp__pump *pump, gp_error *err) GP_REQUIRES(&pump->lock);
static void flush_locked(gp__pump *pump) GP_REQUIRES(&pump->lock);

static void
want_locked(gp__pump *pump, unsigned wants)
{
    if (wants != pump->wants && pump->watch != NULL) {
        pump->wants = wants;
        gp__reactor_want(pump->watch, wants);
    }
}

/*
 * Returns 0 when everything is sent, GP__WOULD_BLOCK, or a GP_E* code. In the last case the output
 * is dropped.
 */
static int
send_output_locked(gp__pump *pump, gp_error *err)
{
    const unsigned char *bytes;
    size_t len;

    while ((bytes = gp__yamux_output(pump->session, &len)) != NULL) {
        ptrdiff_t sent = gp__stream_write(pump->stream, bytes, len, err);

        if (sent == GP__WOULD_BLOCK) {
            return GP__WOULD_BLOCK;
        }
        gp__yamux_sent(pump->session, sent < 0 ? len : (size_t)sent);
        if (sent < 0) {
            return (int)sent;
        }
    }
    return 0;
}

/*
 * Send as much of the output as the stream takes. If the other side has closed the connection, this
 * shows when the stream is next read, after the data that the other side sent last. Any other
 * failure ends the session in the next callback.
 */
static void
flush_locked(gp__pump *pump)
{
    gp_error err = GP_ERROR_INIT;
    unsigned wanted = GP__STREAM_READ;
    int rc = send_output_locked(pump, &err);

    if (rc != 0) {
        wanted |= GP__STREAM_WRITE;
    }
    pump->unflushed = false;
    if (rc == 0 || rc == GP__WOULD_BLOCK) {
        int flushed = gp__stream_flush(pump->stream, &err);

        pump->unflushed = flushed == GP__WOULD_BLOCK;
        rc = flushed < 0 && flushed != GP__WOULD_BLOCK ? flushed : rc;
    }
    wanted = gp__stream_events(pump->stream, wanted);
    if (rc < 0 && rc != GP__WOULD_BLOCK && rc != GP_ECLOSED && rc != GP_EOS) {
        gp_error_release(&pump->unsendable);
        pump->unsendable = err;
        err = (gp_error)GP_ERROR_INIT;
        wanted = GP__STREAM_READ | GP__STREAM_WRITE; /* so that the callback runs at once */
    }
    gp_error_release(&err);
    want_locked(pump, wanted);
    /*
     * Wake a few bridges at a time: each of them fills the output again, and ends in this function.
     */
    for (int i = 0; i < WAKE_MOST && !gp__yamux_full(pump->session); i++) {
        gp__bridge *bridge = gp_list_first_entry(&pump->waiting, gp__bridge, waiting);

        if (bridge == NULL) {
            break;
        }
        gp_link_remove(&bridge->waiting);
        gp__bridge_want(bridge, bridge->wants | GP__WATCH_READ);
    }
}

/* ---- The session ----------------------------------------------------------------------------- */

static void end_session_locked(gp__pump *pump, const gp_error *why) GP_REQUIRES(&pump->lock);
static void accept_stream_locked(gp__pump *pump, gp__yamux_stream *stream) GP_REQUIRES(&pump->lock);
static int handle_event_locked(gp__pump *pump, const gp__yamux_event *event, gp_error *err)
    GP_REQUIRES(&pump->lock);
static int process_locked(gp__pump *pump, const unsigned char *bytes, size_t len, gp_error *err)
    GP_REQUIRES(&pump->lock);
static void process_inner_events_locked(gp__pump *pump) GP_REQUIRES(&pump->lock);
static void report_answers_locked(gp__pump *pump) GP_REQUIRES(&pump->lock);
static int receive_locked(gp__pump *pump, gp_error *err) GP_REQUIRES(&pump->lock);

/* On the reactor's thread. Releases and re-acquires the lock while |over| runs. */
static void
end_session_locked(gp__pump *pump, const gp_error *why)
{
    gp__bridge *bridge;
    gp__bridge *next;

    /*
     * All of this happens with the lock held: a user who notices the end of a stream and calls
     * gp__pump_why() gets the reason.
     */
    flush_locked(pump); /* the GO_AWAY frame, if there is one */
    gp_error_set(&pump->failure, why->code, "%s", gp_error_message(why));
    for (bridge = gp_list_first_entry(&pump->bridges, gp__bridge, link); bridge != NULL;
         bridge = next) {
        next = gp_list_next_entry(&pump->bridges, bridge, gp__bridge, link);
        gp__bridge_detach_locked(pump, bridge);
    }
    want_locked(pump, 0);
    gp__stream_close(pump->stream);
    pump->stream = NULL;
    gp__yamux_free(pump->session);
    pump->session = NULL;
    pump->unflushed = false;
    if (pump->options.over != NULL) {
        gp_mutex_unlock(&pump->lock);
        pump->options.over(pump->options.ctx, why);
        gp_mutex_lock(&pump->lock);
    }
}

/* The other side has opened |stream|. Releases and re-acquires the lock while |accept| runs. */
static void
accept_stream_locked(gp__pump *pump, gp__yamux_stream *stream)
{
    gp__bridge *bridge;
    int fd;

    gp_mutex_unlock(&pump->lock);
    fd = pump->options.accept(pump->options.ctx);
    gp_mutex_lock(&pump->lock);
    if (pump->closing) {
        gp__fd_close(&fd);
    } else if (fd < 0 || gp__bridge_new_locked(&bridge, pump, fd, NULL) < 0) {
        gp__yamux_stream_release(stream);
    } else {
        bridge->stream = stream;
        gp__yamux_stream_accept(stream, bridge);
    }
}

/* Returns 0, or what ends the session. Releases and re-acquires the lock while |accept| runs. */
static int
handle_event_locked(gp__pump *pump, const gp__yamux_event *event, gp_error *err)
{
    gp__bridge *bridge = event->stream != NULL ? gp__yamux_stream_ctx(event->stream) : NULL;

    switch (event->kind) {
    case GP__YAMUX_OPENED:
        accept_stream_locked(pump, event->stream);
        break;
    case GP__YAMUX_WRITABLE:
        if (!bridge->local_ended) {
            gp__bridge_want(bridge, bridge->wants | GP__WATCH_READ);
        }
        break;
    case GP__YAMUX_DATA: {
        int rc = gp__bridge_receive_locked(pump, bridge, event->data, event->len);

        if (rc < 0) {
            return gp_error_set(err, rc, "out of memory for a stream's data");
        }
        gp__bridge_check_end_locked(pump, bridge);
        break;
    }
    case GP__YAMUX_ENDED:
        gp__bridge_end_remote_locked(pump, bridge);
        break;
    case GP__YAMUX_RESET:
        gp__bridge_drop_locked(pump, bridge);
        break;
    case GP__YAMUX_ACCEPTED:
    case GP__YAMUX_GO_AWAY:
        break;
    }
    return 0;
}

/* Returns as handle_event_locked(). Releases and re-acquires the lock while |accept| runs. */
static int
process_locked(gp__pump *pump, const unsigned char *bytes, size_t len, gp_error *err)
{
    gp__yamux_event event;
    int rc = 0;

    while (!pump->closing &&
           (rc = gp__yamux_receive(pump->session, &bytes, &len, &event, err)) > 0) {
        if ((rc = handle_event_locked(pump, &event, err)) < 0) {
            break;
        }
    }
    return rc;
}

/* Handle the events that a callback caused inside the session, and send the output. */
static void
process_inner_events_locked(gp__pump *pump)
{
    gp_error err = GP_ERROR_INIT;

    if (process_locked(pump, NULL, 0, &err) < 0) {
        end_session_locked(pump, &err);
    } else if (!pump->closing) {
        flush_locked(pump);
    }
    gp_error_release(&err);
}

/*
 * Call |answered| if fewer streams wait for an answer than before. Releases and re-acquires the
 * lock while it runs.
 */
static void
report_answers_locked(gp__pump *pump)
{
    size_t before = pump->unanswered;

    pump->unanswered = pump->session != NULL ? gp__yamux_waiting(pump->session, NULL) : 0;
    if (pump->unanswered < before && pump->options.answered != NULL) {
        gp_mutex_unlock(&pump->lock);
        pump->options.answered(pump->options.ctx);
        gp_mutex_lock(&pump->lock);
    }
}

void
gp__pump_finish_callback_locked(gp__pump *pump)
{
    if (pump->session != NULL && !pump->closing) {
        process_inner_events_locked(pump);
    }
    report_answers_locked(pump);
    pump->busy = false;
    gp_cond_broadcast(&pump->idle);
}

/* Returns 0, or what ends the session. Releases and re-acquires the lock while |accept| runs. */
static int
receive_locked(gp__pump *pump, gp_error *err)
{
    int rc = 0;

    if (pump->unsendable.code != 0) {
        return gp_error_set(err, pump->unsendable.code, "the multiplexed connection is lost: %s",
                            gp_error_message(&pump->unsendable));
    }
    do {
        ptrdiff_t got = gp__stream_read(pump->stream, input, sizeof(input), err);

        if (got == GP__WOULD_BLOCK) {
            return 0;
        }
        if (got == 0 || got == GP_ECLOSED) {
            pump->closed_by_peer = true;
            return gp_error_set(err, GP_ECLOSED, "the other side has closed the connection");
        }
        if (got < 0) {
            return gp_error_prefix(err, "the multiplexed connection is lost");
        }
        rc = process_locked(pump, input, (size_t)got, err);
    } while (rc == 0 && !pump->closing && gp__stream_pending(pump->stream));
    return rc;
}

/* On the reactor's thread. */
static void
stream_ready(void *ctx)
{
    gp__pump *pump = ctx;
    gp_error err = GP_ERROR_INIT;

    gp_mutex_lock(&pump->lock);
    if (!pump->closing) {
        pump->busy = true;
        if (pump->session != NULL && receive_locked(pump, &err) < 0) {
            end_session_locked(pump, &err);
        }
        gp__pump_finish_callback_locked(pump);
    }
    gp_mutex_unlock(&pump->lock);
    gp_error_release(&err);
}

/* On the reactor's thread. */
static void
tick(void *ctx)
{
    gp__pump *pump = ctx;
    gp_error err = GP_ERROR_INIT;

    gp_mutex_lock(&pump->lock);
    if (!pump->closing) {
        pump->busy = true;
        if (pump->session != NULL && gp__yamux_tick(pump->session, gp__now(), &err) < 0) {
            end_session_locked(pump, &err);
        }
        gp__pump_finish_callback_locked(pump);
    }
    gp_mutex_unlock(&pump->lock);
    gp_error_release(&err);
}

/* ---- Opening, closing ------------------------------------------------------------------------ */

static int
tick_ms(const gp__yamux_options *options)
{
    int64_t shorter = options->keepalive < options->timeout ? options->keepalive : options->timeout;

    return shorter > 0 ? (int)((shorter + GP__MS - 1) / GP__MS) : TICK_MS;
}

int
gp__pump_open(gp__pump **out, gp__stream *stream, const gp__pump_options *options, gp_error *err)
{
    gp__pump *pump = gp__calloc(1, sizeof(*pump));
    int rc;

    if (pump == NULL) {
        gp__stream_close(stream);
        return gp_error_set(err, GP_ENOMEM, "out of memory for a multiplexed connection");
    }
    pump->options = *options;
    gp_mutex_init(&pump->lock);
    gp_cond_init(&pump->idle);
    gp_mutex_lock(&pump->lock);
    pump->stream = stream;
    pump->wants = GP__WATCH_READ;
    gp_list_init(&pump->bridges);
    gp_list_init(&pump->waiting);
    if ((rc = gp__yamux_new(&pump->session, &options->session, gp__now(), err)) == 0 &&
        (rc = gp__reactor_every(&pump->ticks, tick_ms(&options->session), tick, pump, err)) == 0) {
        rc = gp__reactor_add(&pump->watch, gp__stream_fd(stream), stream_ready, pump, err);
    }
    if (rc == 0) {
        flush_locked(pump); /* begins the stream's handshake, if there is one */
    }
    *out = pump;
    gp_mutex_unlock(&pump->lock);
    if (rc < 0) {
        *out = NULL;
        gp__pump_close(pump, 0);
    }
    return rc;
}

int
gp__pump_open_stream(gp__pump *pump, int fd, gp_error *err)
{
    gp__bridge *bridge = NULL;
    int rc;

    if (gp_runtime_forked()) {
        gp__fd_close(&fd);
        return gp_runtime_refuse_fork(err);
    }
    gp_mutex_lock(&pump->lock);
    if (pump->session == NULL) {
        gp__fd_close(&fd);
        rc = gp_error_set(err, GP_ECLOSED, "%s", gp_error_message(&pump->failure));
    } else if ((rc = gp__bridge_new_locked(&bridge, pump, fd, err)) == 0 &&
               (rc = gp__yamux_open(&bridge->stream, pump->session, bridge, err)) < 0) {
        /* The reactor may be about to use the bridge, so only a callback may free it. */
        bridge->local_ended = bridge->remote_ended = true;
        gp__bridge_want(bridge, GP__WATCH_READ | GP__WATCH_WRITE);
    } else if (rc == 0) {
        pump->unanswered++;
        flush_locked(pump);
    }
    gp_mutex_unlock(&pump->lock);
    return rc;
}

int
gp__pump_why(gp__pump *pump, gp_error *why)
{
    int code = 0;

    gp_mutex_lock(&pump->lock);
    if (pump->session == NULL && !pump->closed_by_peer && pump->failure.code != 0) {
        code = gp_error_set(why, pump->failure.code, "%s", gp_error_message(&pump->failure));
    }
    gp_mutex_unlock(&pump->lock);
    return code;
}

size_t
gp__pump_waiting(gp__pump *pump, size_t *unsent)
{
    size_t waiting = 0;

    *unsent = 0;
    gp_mutex_lock(&pump->lock);
    if (pump->session != NULL) {
        waiting = gp__yamux_waiting(pump->session, unsent);
    }
    gp_mutex_unlock(&pump->lock);
    return waiting;
}

/* Whether there are streams that have not ended, or bytes that are still to be sent. */
static bool is_busy_locked(const gp__pump *pump) GP_REQUIRES(&pump->lock);

static bool
is_busy_locked(const gp__pump *pump)
{
    size_t len;

    return pump->session != NULL && (pump->unflushed || !gp_list_is_empty(&pump->bridges) ||
                                     gp__yamux_output(pump->session, &len) != NULL);
}

/*
 * To be called without the lock: this waits for callbacks, which take it. Nothing else uses the
 * pump any more.
 */
static void free_pump(gp__pump *pump) GP_NO_THREAD_SAFETY_ANALYSIS;

static void
free_pump(gp__pump *pump)
{
    gp__bridge *bridge;

    gp__reactor_remove(pump->watch);
    gp__reactor_remove(pump->ticks);
    while ((bridge = gp_list_first_entry(&pump->bridges, gp__bridge, link)) != NULL) {
        gp__bridge_free(bridge);
    }
    gp__yamux_free(pump->session);
    gp__stream_close(pump->stream);
    gp_error_release(&pump->unsendable);
    gp_error_release(&pump->failure);
    gp_cond_release(&pump->idle);
    gp_mutex_release(&pump->lock);
    gp__free(pump);
}

void
gp__pump_close(gp__pump *pump, int64_t linger_ms)
{
    int64_t deadline = gp_deadline_in(linger_ms);

    if (pump == NULL || gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&pump->lock);
    while (is_busy_locked(pump) && gp__now() < deadline) {
        gp_cond_wait_until(&pump->idle, &pump->lock, deadline);
    }
    pump->closing = true; /* from now on callbacks do nothing */
    if (pump->session != NULL) {
        gp__yamux_go_away(pump->session, GP__YAMUX_NORMAL);
        flush_locked(pump);
    }
    while (pump->busy) {
        gp_cond_wait(&pump->idle, &pump->lock);
    }
    gp_mutex_unlock(&pump->lock);
    free_pump(pump);
}
