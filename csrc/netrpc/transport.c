#include "netrpc/transport.h"

#include <unistd.h>

#include "base/alloc.h"
#include "netrpc/transport_state.h"

enum {
    INPUT = 64 * 1024, /* bytes that are read at a time */
    READS_MOST = 4,    /* reads in a row, for the sake of those who want the lock */
};

/* Those of go's yamux: its EnableKeepAlive and ConnectionWriteTimeout. */
static const int64_t default_keepalive = 30000 * GP__MS;
static const int64_t default_timeout = 10000 * GP__MS;

void
gp__transport_copy_error(gp_error *to, const gp_error *from)
{
    gp_error_set(to, from->code, "%s", gp_error_message(from));
    to->number = from->number;
    if (from->detail != NULL) {
        gp_error_set_detail(to, from->detail, from->detail_len);
    }
}

/* ---- Output ---------------------------------------------------------------------------------- */

/* The bytes that are to be sent. NULL: there are none. */
static const unsigned char *
output_locked(const gp__transport *transport, size_t *len) GP_REQUIRES(&transport->lock)
{
    const gp__transport_channel *channel = &transport->channel;

    if (channel->session != NULL) {
        return gp__yamux_output(channel->session, len);
    }
    *len = channel->raw_out.len;
    return *len > 0 ? gp__fifo_front(&channel->raw_out) : NULL;
}

static void
drop_output_locked(gp__transport *transport, size_t len) GP_REQUIRES(&transport->lock)
{
    if (transport->channel.session != NULL) {
        gp__yamux_sent(transport->channel.session, len);
    } else {
        gp__fifo_drop(&transport->channel.raw_out, len);
    }
}

bool
gp__transport_is_full_locked(const gp__transport *transport)
{
    const gp__transport_channel *channel = &transport->channel;

    return channel->session != NULL ? gp__yamux_full(channel->session)
                                    : channel->raw_out.len >= GP__YAMUX_OUTPUT_FULL;
}

/* Whether there are bytes that the connection has not taken. */
static bool
has_output_locked(const gp__transport *transport) GP_REQUIRES(&transport->lock)
{
    size_t len;

    return transport->channel.unflushed || output_locked(transport, &len) != NULL;
}

/*
 * The connection takes no bytes any more, which ends it in the next dispatch. But if the other side
 * has closed it, and it is still read, this shows there, after what the other side sent last.
 */
static void
fail_output_locked(gp__transport *transport, gp_error *err) GP_REQUIRES(&transport->lock)
{
    bool shows = !transport->options.raw || gp__transport_streams_raw_wants_data_locked(transport);

    if ((err->code != GP_ECLOSED || !shows) && transport->channel.unsendable.code == 0) {
        transport->channel.unsendable = *err;
        *err = (gp_error)GP_ERROR_INIT;
    }
    gp_error_release(err);
}

void
gp__transport_send_output_locked(gp__transport *transport)
{
    gp__transport_channel *channel = &transport->channel;
    gp_error err = GP_ERROR_INIT;
    const unsigned char *bytes;
    bool progress = false;
    ptrdiff_t sent = 0;
    size_t len;
    int flushed;

    while ((bytes = output_locked(transport, &len)) != NULL) {
        sent = gp__stream_write(channel->stream, bytes, len, &err);
        if (sent == GP__WOULD_BLOCK) {
            break;
        }
        progress = progress || sent > 0;
        drop_output_locked(transport, sent < 0 ? len : (size_t)sent);
        if (sent < 0) {
            fail_output_locked(transport, &err);
        }
    }
    flushed = gp__stream_flush(channel->stream, &err);
    channel->unflushed = flushed == GP__WOULD_BLOCK;
    if (flushed < 0 && flushed != GP__WOULD_BLOCK) {
        fail_output_locked(transport, &err);
    }
    if (!has_output_locked(transport)) {
        channel->stuck_since = 0;
    } else if (channel->stuck_since == 0 || progress) {
        channel->stuck_since = gp__now();
    }
}

void
gp__transport_shutdown_output_locked(gp__transport *transport)
{
    transport->channel.raw_shut = true;
}

/* Everything is sent: end this side's direction of a raw connection, if that is due. */
static void
end_raw_output_locked(gp__transport *transport) GP_REQUIRES(&transport->lock)
{
    gp_error err = GP_ERROR_INIT;
    int rc;

    if (transport->channel.raw_shut && !has_output_locked(transport)) {
        rc = gp__stream_shutdown(transport->channel.stream, &err);
        transport->channel.raw_shut = rc == GP__WOULD_BLOCK;
        transport->channel.unflushed = rc == GP__WOULD_BLOCK;
        if (rc < 0 && rc != GP__WOULD_BLOCK) {
            fail_output_locked(transport, &err);
        }
    }
}

/* Send the output, and have the streams that wait for room fill it again. */
static void
send_all_locked(gp__transport *transport) GP_REQUIRES(&transport->lock)
{
    for (;;) {
        gp__transport_send_output_locked(transport);
        if (gp__transport_is_full_locked(transport) ||
            gp_list_is_empty(&transport->streams.waiting)) {
            break;
        }
        gp__transport_streams_write_locked(transport);
        if (gp__transport_is_over_locked(transport)) {
            break;
        }
    }
    if (gp__transport_is_over_locked(transport)) {
        return;
    }
    end_raw_output_locked(transport);
    if (transport->channel.drained.waiters != NULL && !has_output_locked(transport) &&
        !gp__transport_streams_have_output_locked(transport)) {
        gp__transport_gate_open_locked(transport, &transport->channel.drained);
    }
}

/* ---- Input ----------------------------------------------------------------------------------- */

/* Returns 0, or what ends the connection. */
static int
process_locked(gp__transport *transport, const unsigned char *bytes, size_t len, gp_error *err)
    GP_REQUIRES(&transport->lock)
{
    gp__yamux_event event;
    int rc = 0;

    if (transport->options.raw) {
        if (len > 0) {
            gp__transport_streams_raw_data_locked(transport, bytes, len);
        }
        return 0;
    }
    while (!gp__transport_is_over_locked(transport) &&
           (rc = gp__yamux_receive(transport->channel.session, &bytes, &len, &event, err)) > 0) {
        gp__transport_streams_event_locked(transport, &event);
    }
    return rc < 0 ? rc : 0;
}

/* The other side has closed the connection. Returns 0, or what ends the connection. */
static int
handle_end_locked(gp__transport *transport, ptrdiff_t got, gp_error *err)
    GP_REQUIRES(&transport->lock)
{
    if (got == 0 && transport->streams.raw != NULL) {
        gp__transport_streams_raw_end_locked(transport);
        return 0;
    }
    if (got == 0 || got == GP_ECLOSED) {
        return gp_error_set(err, GP_ECLOSED, "the other side has closed the connection");
    }
    return gp_error_prefix(err, "the connection is lost");
}

/* Returns 0, or what ends the connection. */
static int
receive_locked(gp__transport *transport, gp_error *err) GP_REQUIRES(&transport->lock)
{
    gp__transport_channel *channel = &transport->channel;
    ptrdiff_t got;
    int rc;

    for (int reads = 0; !gp__transport_is_over_locked(transport); reads++) {
        if (transport->options.raw && !gp__transport_streams_raw_wants_data_locked(transport)) {
            return 0;
        }
        got = gp__stream_read(channel->stream, channel->input, INPUT, err);
        if (got == GP__WOULD_BLOCK) {
            return 0;
        }
        if (got <= 0) {
            return handle_end_locked(transport, got, err);
        }
        if ((rc = process_locked(transport, channel->input, (size_t)got, err)) < 0) {
            return rc;
        }
        if (gp__transport_is_over_locked(transport) ||
            (!gp__stream_pending(channel->stream) && (got < INPUT || reads == READS_MOST))) {
            return 0;
        }
    }
    return 0;
}

void
gp__transport_dispatch_locked(gp__transport *transport)
{
    gp__transport_channel *channel = &transport->channel;
    gp_error err = GP_ERROR_INIT;
    int rc;

    channel->dispatching = true;
    if (channel->unsendable.code != 0) {
        rc = gp_error_set(&err, channel->unsendable.code, "the connection is lost: %s",
                          gp_error_message(&channel->unsendable));
    } else {
        rc = receive_locked(transport, &err);
    }
    if (rc == 0 && !gp__transport_is_over_locked(transport)) {
        send_all_locked(transport);
    }
    if (rc < 0) {
        gp__transport_end_locked(transport, &err);
    }
    channel->dispatching = false;
    gp_error_release(&err);
}

unsigned
gp__transport_events_locked(const gp__transport *transport)
{
    const gp__transport_channel *channel = &transport->channel;
    unsigned wanted = 0;

    if (!transport->options.raw || gp__transport_streams_raw_wants_data_locked(transport)) {
        wanted |= GP__STREAM_READ;
        if (transport->options.raw && gp__stream_pending(channel->stream)) {
            wanted |= GP__STREAM_WRITE; /* it can be read at once, and is most likely writable */
        }
    }
    if (has_output_locked(transport)) {
        wanted |= GP__STREAM_WRITE;
    }
    wanted = gp__stream_events(channel->stream, wanted);
    return channel->unsendable.code != 0 ? GP__STREAM_READ | GP__STREAM_WRITE : wanted;
}

void
gp__transport_flush_locked(gp__transport *transport)
{
    gp__transport_channel *channel = &transport->channel;
    gp_error err = GP_ERROR_INIT;

    if (channel->flushing || channel->dispatching || gp__transport_is_over_locked(transport)) {
        return; /* everything is sent when the callback has returned */
    }
    channel->flushing = true;
    /* Streams may have become writable because others were released. */
    if (process_locked(transport, NULL, 0, &err) < 0) {
        fail_output_locked(transport, &err);
    }
    if (!gp__transport_is_over_locked(transport)) {
        send_all_locked(transport);
    }
    channel->flushing = false;
    gp__transport_role_update_locked(transport);
}

/* ---- Time ------------------------------------------------------------------------------------ */

/* On the reactor's thread. */
static void
check_other_side(void *ctx)
{
    gp__transport *transport = ctx;
    gp__transport_channel *channel;
    gp_error err = GP_ERROR_INIT;
    int64_t now = gp__now();
    int rc = 0;

    gp_mutex_lock(&transport->lock);
    channel = &transport->channel;
    if (!gp__transport_is_over_locked(transport)) {
        int64_t timeout = transport->options.timeout;

        rc = gp__yamux_tick(channel->session, now, &err);
        if (rc == 0 && timeout > 0 && channel->stuck_since != 0 &&
            now - channel->stuck_since >= timeout) {
            rc = gp_error_set(&err, GP_ETIMEOUT, "the other side has read nothing for %.3g s",
                              (double)(now - channel->stuck_since) / 1e9);
        }
        if (rc < 0) {
            gp__transport_end_locked(transport, &err);
        } else {
            gp__transport_flush_locked(transport);
        }
    }
    gp_mutex_unlock(&transport->lock);
    gp_error_release(&err);
    gp__transport_run_deferred(transport);
}

/* ---- Opening, closing ------------------------------------------------------------------------ */

static int
open_session_locked(gp__transport *transport, gp_error *err) GP_REQUIRES(&transport->lock)
{
    const gp__transport_options *options = &transport->options;
    const gp__yamux_options session = {
        .client = options->client,
        .window = options->window,
        .max_streams = options->max_streams,
        .keepalive = options->keepalive > 0 ? options->keepalive : 0,
        .timeout = options->timeout > 0 ? options->timeout : 0,
    };
    int64_t shorter = options->keepalive;
    int rc = gp__yamux_new(&transport->channel.session, &session, gp__now(), err);

    if (shorter <= 0 || (options->timeout > 0 && options->timeout < shorter)) {
        shorter = options->timeout;
    }
    if (rc == 0 && shorter > 0) {
        rc = gp__reactor_every(&transport->channel.keepalive, (shorter + GP__MS - 1) / GP__MS,
                               check_other_side, transport, err);
    }
    return rc;
}

/* With the last reference gone, and no lock held. */
static void free_transport(gp__transport *transport) GP_NO_THREAD_SAFETY_ANALYSIS;

static void
free_transport(gp__transport *transport)
{
    gp__transport_channel *channel = &transport->channel;

    gp__transport_role_release(transport);
    gp__reactor_remove(channel->keepalive);
    gp__stream_close(channel->stream);
    gp__yamux_free(channel->session);
    gp__fifo_release(&channel->raw_out);
    gp__free(channel->input);
    gp_error_release(&channel->why);
    gp_error_release(&channel->unsendable);
    gp_mutex_release(&transport->lock);
    gp__free(transport);
}

int
gp__transport_open(gp__transport **out, gp__stream *stream, const gp__transport_options *options,
                   gp_error *err)
{
    gp__transport *transport = gp__calloc(1, sizeof(*transport));
    int rc;

    if (transport == NULL) {
        gp__stream_close(stream);
        return gp_error_set(err, GP_ENOMEM, "out of memory for a connection");
    }
    transport->options = *options;
    transport->options.keepalive = options->keepalive != 0 ? options->keepalive : default_keepalive;
    transport->options.timeout = options->timeout != 0 ? options->timeout : default_timeout;
    atomic_init(&transport->refs, 1);
    gp_mutex_init(&transport->lock);
    gp_mutex_lock(&transport->lock);
    transport->channel.stream = stream;
    gp_list_init(&transport->streams.all);
    gp_list_init(&transport->streams.waiting);
    gp__transport_service_init_locked(transport);
    transport->channel.input = gp__malloc(INPUT);
    rc = transport->channel.input != NULL
             ? 0
             : gp_error_set(err, GP_ENOMEM, "out of memory for a connection");
    if (rc == 0 && (rc = gp__transport_role_open_locked(transport, err)) == 0 && !options->raw) {
        rc = open_session_locked(transport, err);
    }
    if (rc == 0) {
        *out = transport;
        gp__transport_flush_locked(transport); /* begins the stream's handshake, if it has one */
    } else {
        transport->channel.why.code = rc; /* callbacks of the reactor, which may run, do nothing */
    }
    gp_mutex_unlock(&transport->lock);
    if (rc < 0) {
        free_transport(transport);
    }
    return rc;
}

gp__transport *
gp__transport_ref(gp__transport *transport)
{
    atomic_fetch_add(&transport->refs, 1);
    return transport;
}

void
gp__transport_close_stream_locked(gp__transport *transport)
{
    gp__stream_close(transport->channel.stream);
    transport->channel.stream = NULL;
}

void
gp__transport_end_locked(gp__transport *transport, const gp_error *why)
{
    gp__transport_channel *channel = &transport->channel;

    if (gp__transport_is_over_locked(transport)) {
        return;
    }
    if (channel->session != NULL) {
        gp__yamux_go_away(channel->session, GP__YAMUX_NORMAL);
    }
    gp__transport_send_output_locked(transport);
    gp__transport_copy_error(&channel->why, why);
    gp__transport_streams_end_locked(transport);
    if (transport->options.over != NULL) {
        transport->options.over(transport->options.ctx, &channel->why);
    }
    gp__yamux_free(channel->session);
    channel->session = NULL;
    gp__transport_gate_open_locked(transport, &channel->drained);
    gp__transport_role_end_locked(transport);
}

const gp_error *
gp__transport_why_locked(const gp__transport *transport)
{
    return transport->channel.why.code != 0 ? &transport->channel.why : NULL;
}

static void
end_by_this_side_locked(gp__transport *transport) GP_REQUIRES(&transport->lock)
{
    gp_error why = GP_ERROR_INIT;

    gp_error_set(&why, GP_ECLOSED, "this side has closed the connection");
    gp__transport_end_locked(transport, &why);
    gp_error_release(&why);
}

/* Wait until everything is sent, or the connection is over, or |deadline|. */
static void
drain_locked(gp__transport *transport, int64_t deadline) GP_REQUIRES(&transport->lock)
{
    gp__transport_gate *drained = &transport->channel.drained;

    while (!gp__transport_is_over_locked(transport) &&
           (has_output_locked(transport) || gp__transport_streams_have_output_locked(transport))) {
        drained->open = false;
        if (gp__transport_wait_locked(transport, drained, deadline, NULL) < 0) {
            break;
        }
    }
}

void
gp__transport_drain(gp__transport *transport, int64_t timeout_ms)
{
    if (gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&transport->lock);
    if (!gp__transport_is_over_locked(transport)) {
        gp__transport_flush_locked(transport);
        drain_locked(transport, gp_deadline_in(timeout_ms));
    }
    gp_mutex_unlock(&transport->lock);
    gp__transport_run_deferred(transport);
}

void
gp__transport_close(gp__transport *transport, const gp_error *why, int64_t linger_ms)
{
    if (gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&transport->lock);
    if (!gp__transport_is_over_locked(transport)) {
        if (transport->channel.session != NULL) {
            gp__yamux_go_away(transport->channel.session, GP__YAMUX_NORMAL);
        }
        gp__transport_flush_locked(transport);
        if (linger_ms != 0) {
            drain_locked(transport, gp_deadline_in(linger_ms));
        }
        if (why != NULL) {
            gp__transport_end_locked(transport, why);
        } else {
            end_by_this_side_locked(transport);
        }
    }
    gp_mutex_unlock(&transport->lock);
    gp__transport_run_deferred(transport);
}

/*
 * In a forked child. The connection is the parent's: close this process's copy of the descriptor,
 * without a word to the other side. The rest is not freed, as threads of the parent may have been
 * using it.
 */
static void abandon(const gp__transport *transport) GP_NO_THREAD_SAFETY_ANALYSIS;

static void
abandon(const gp__transport *transport)
{
    if (transport->channel.stream != NULL) {
        close(gp__stream_fd(transport->channel.stream));
    }
}

void
gp__transport_unref(gp__transport *transport)
{
    if (transport == NULL || atomic_fetch_sub(&transport->refs, 1) > 1) {
        return;
    }
    if (gp_runtime_forked()) {
        abandon(transport);
        return;
    }
    gp_mutex_lock(&transport->lock);
    transport->options.over = NULL;
    end_by_this_side_locked(transport);
    gp_mutex_unlock(&transport->lock);
    gp__transport_run_deferred(transport);
    free_transport(transport);
}
