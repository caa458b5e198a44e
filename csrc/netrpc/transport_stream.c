#include <string.h>

#include "base/alloc.h"
#include "netrpc/transport.h"
#include "netrpc/transport_state.h"

enum {
    RAW_OUTPUT_FULL = GP__YAMUX_OUTPUT_FULL,
    RAW_INPUT_FULL = GP__YAMUX_WINDOW, /* bytes stored unused from which on nothing is read */
};

/* ---- Making and freeing ---------------------------------------------------------------------- */

static gp__transport_stream *
new_stream_locked(gp__transport *transport, gp__yamux_stream *mux) GP_REQUIRES(&transport->lock)
{
    gp__transport_stream *stream = gp__calloc(1, sizeof(*stream));

    if (stream != NULL) {
        stream->transport = transport;
        stream->mux = mux;
        gp_list_append(&transport->streams.all, &stream->link);
    }
    return stream;
}

static void
free_stream_locked(gp__transport *transport, gp__transport_stream *stream)
    GP_REQUIRES(&transport->lock)
{
    if (transport->streams.raw == stream) {
        transport->streams.raw = NULL;
    }
    if (stream->mux != NULL) {
        gp__yamux_stream_release(stream->mux);
    }
    if (stream->freed != NULL) {
        *stream->freed = true;
    }
    gp_link_remove(&stream->link);
    gp_link_remove(&stream->waiting);
    gp__fifo_release(&stream->in);
    gp__fifo_release(&stream->out);
    gp_error_release(&stream->why);
    gp__free(stream);
}

int
gp__transport_stream_open_locked(gp__transport_stream **out, gp__transport *transport,
                                 const gp__transport_stream_ops *ops, void *ctx, gp_error *err)
{
    bool raw = transport->options.raw;
    gp__transport_stream *stream;
    int rc;

    if (gp__transport_is_over_locked(transport)) {
        return gp_error_set(err, GP_ECLOSED, "%s", gp_error_message(&transport->channel.why));
    }
    if (raw && transport->streams.raw_opened) {
        return gp_error_set(err, GP_EINVAL, "a connection without yamux is only one stream");
    }
    stream = new_stream_locked(transport, NULL);
    if (stream == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a stream");
    }
    if (!raw && (rc = gp__yamux_open(&stream->mux, transport->channel.session, stream, err)) < 0) {
        free_stream_locked(transport, stream);
        return rc;
    }
    stream->ops = ops;
    stream->ctx = ctx;
    if (raw) {
        transport->streams.raw = stream;
        transport->streams.raw_opened = true;
        gp__transport_role_update_locked(transport); /* it is read from now on */
    }
    *out = stream;
    return 0;
}

/* ---- Data that has come ---------------------------------------------------------------------- */

/* The user has used |len| bytes: the other side may send as many again. */
static void
report_used_locked(gp__transport *transport, gp__transport_stream *stream, size_t len)
    GP_REQUIRES(&transport->lock)
{
    if (stream->mux != NULL) {
        gp__yamux_stream_consumed(stream->mux, len);
    } else if (len > 0) {
        gp__transport_role_update_locked(transport); /* raw: it may be read again */
    }
}

/* Tell the user that no more data will come, once. The stream may be freed after this. */
static void
report_end_locked(gp__transport *transport, gp__transport_stream *stream)
    GP_REQUIRES(&transport->lock)
{
    (void)transport;
    if (stream->ended && !stream->end_reported && stream->ops != NULL && stream->freed == NULL) {
        stream->end_reported = true;
        stream->ops->ended(stream->ctx, &stream->why);
    }
}

/*
 * Pass |bytes| to the user, repeatedly as long as the user changes or asks for them again. Returns
 * how many were used; -1 if the stream has been freed.
 */
static ptrdiff_t
pass_data_locked(gp__transport *transport, gp__transport_stream *stream, const unsigned char *bytes,
                 size_t len) GP_REQUIRES(&transport->lock)
{
    size_t used = 0;
    bool freed = false;

    stream->freed = &freed;
    do {
        stream->again = false;
        if (stream->ops != NULL && used < len) {
            used += stream->ops->received(stream->ctx, bytes + used, len - used);
        }
        if (freed) {
            return -1;
        }
    } while (stream->again);
    stream->freed = NULL;
    report_used_locked(transport, stream, used);
    return (ptrdiff_t)used;
}

/* Pass the stored data to the user, then the end. The stream may be freed after this. */
static void
pass_stored_locked(gp__transport *transport, gp__transport_stream *stream)
    GP_REQUIRES(&transport->lock)
{
    ptrdiff_t used;

    if (stream->freed != NULL) { /* called by the user in |received| */
        stream->again = true;
        return;
    }
    if (stream->in.len > 0) {
        used = pass_data_locked(transport, stream, gp__fifo_front(&stream->in), stream->in.len);
        if (used < 0) {
            return;
        }
        gp__fifo_drop(&stream->in, (size_t)used);
    }
    report_end_locked(transport, stream);
}

/* |bytes| have come for the stream, which may be freed after this. */
static void
receive_locked(gp__transport *transport, gp__transport_stream *stream, const unsigned char *bytes,
               size_t len) GP_REQUIRES(&transport->lock)
{
    bool had_stored = stream->in.len > 0;
    ptrdiff_t used = 0;

    if (stream->released) {
        /* The data will not be read: tell the sender. */
        if (stream->mux != NULL) {
            free_stream_locked(transport, stream);
        }
        return;
    }
    if (!had_stored && (used = pass_data_locked(transport, stream, bytes, len)) < 0) {
        return;
    }
    if ((size_t)used < len && gp__fifo_put(&stream->in, bytes + used, len - (size_t)used) < 0) {
        gp_error why = GP_ERROR_INIT;

        gp_error_set(&why, GP_ENOMEM, "out of memory for a stream's data");
        gp__transport_end_locked(transport, &why);
        gp_error_release(&why);
    } else if (had_stored) {
        pass_stored_locked(transport, stream);
    } else {
        report_end_locked(transport, stream); /* the user may have ended the connection */
    }
}

void
gp__transport_stream_use_locked(gp__transport_stream *stream, const gp__transport_stream_ops *ops,
                                void *ctx)
{
    gp__transport *transport = stream->transport;

    gp_mutex_assert_held(&transport->lock);
    stream->ops = ops;
    stream->ctx = ctx;
    stream->end_reported = false;
    pass_stored_locked(transport, stream);
}

void
gp__transport_stream_resume_locked(gp__transport_stream *stream)
{
    gp__transport *transport = stream->transport;

    gp_mutex_assert_held(&transport->lock);
    pass_stored_locked(transport, stream);
}

size_t
gp__transport_stream_unused_locked(const gp__transport_stream *stream)
{
    return stream->in.len;
}

size_t
gp__transport_stream_read_locked(gp__transport_stream *stream, void *bytes, size_t size)
{
    gp__transport *transport = stream->transport;
    size_t len = stream->in.len < size ? stream->in.len : size;

    gp_mutex_assert_held(&transport->lock);
    if (len > 0) {
        memcpy(bytes, gp__fifo_front(&stream->in), len);
        gp__fifo_drop(&stream->in, len);
        report_used_locked(transport, stream, len);
    }
    return len;
}

/* ---- Data to be sent ------------------------------------------------------------------------- */

/* Why nothing can be written; 0 if something can. */
static int
check_writable_locked(const gp__transport *transport, const gp__transport_stream *stream,
                      gp_error *err) GP_REQUIRES(&transport->lock)
{
    if (stream->shut) {
        return gp_error_set(err, GP_ECLOSED, "this side has ended the stream");
    }
    if (gp__transport_is_over_locked(transport)) {
        return gp_error_set(err, GP_ECLOSED, "%s", gp_error_message(&transport->channel.why));
    }
    if (stream->mux == NULL && !transport->options.raw) {
        return gp_error_set(err, GP_ECLOSED, "%s", gp_error_message(&stream->why));
    }
    return 0;
}

/* Have the stream written to when the output has room again. */
static void
await_room_locked(gp__transport *transport, gp__transport_stream *stream)
    GP_REQUIRES(&transport->lock)
{
    if (!gp_link_is_linked(&stream->waiting)) {
        gp_list_append(&transport->streams.waiting, &stream->waiting);
    }
}

/* Returns how many bytes the output has taken, or GP_ENOMEM. */
static ptrdiff_t
put_raw_locked(gp__transport *transport, const unsigned char *bytes, size_t len)
    GP_REQUIRES(&transport->lock)
{
    gp__fifo *out = &transport->channel.raw_out;
    size_t room = out->len < RAW_OUTPUT_FULL ? RAW_OUTPUT_FULL - out->len : 0;
    size_t part = len < room ? len : room;

    if (part > 0 && gp__fifo_put(out, bytes, part) < 0) {
        return GP_ENOMEM;
    }
    return (ptrdiff_t)part;
}

static ptrdiff_t
put_mux(gp__transport_stream *stream, const unsigned char *bytes, size_t len)
{
    unsigned char *room;
    ptrdiff_t part = gp__yamux_stream_reserve(stream->mux, &room, len);

    if (part > 0) {
        memcpy(room, bytes, (size_t)part);
        gp__yamux_stream_commit(stream->mux, (size_t)part);
    }
    return part;
}

/*
 * Put as many of |bytes| into the output as there is room for. If that is not all, the stream is
 * written to again when there is room. Returns how many, GP_ECLOSED or GP_ENOMEM.
 */
static ptrdiff_t
put_locked(gp__transport *transport, gp__transport_stream *stream, const unsigned char *bytes,
           size_t len) GP_REQUIRES(&transport->lock)
{
    bool full = false;
    size_t put = 0;

    while (put < len) {
        ptrdiff_t part = transport->options.raw ? put_raw_locked(transport, bytes + put, len - put)
                                                : put_mux(stream, bytes + put, len - put);

        if (part < 0) {
            return part;
        }
        put += (size_t)part;
        if (part == 0) {
            if (full || !gp__transport_is_full_locked(transport)) {
                break; /* the output stays full, or the stream's window is empty */
            }
            full = true;
            gp__transport_send_output_locked(transport);
        } else {
            full = false;
        }
    }
    if (put < len && full) {
        await_room_locked(transport, stream);
    }
    return (ptrdiff_t)put;
}

ptrdiff_t
gp__transport_stream_write_locked(gp__transport_stream *stream, const void *bytes, size_t len,
                                  gp_error *err)
{
    gp__transport *transport = stream->transport;
    ptrdiff_t put;

    gp_mutex_assert_held(&transport->lock);
    put = check_writable_locked(transport, stream, err);
    if (put < 0 || len == 0) {
        return put;
    }
    /* What has been stored goes first. */
    put = stream->out.len > 0 ? 0 : put_locked(transport, stream, bytes, len);
    if (put < 0) {
        return gp_error_set(err, (int)put,
                            put == GP_ENOMEM ? "out of memory for a stream's data"
                                             : "the stream is over");
    }
    stream->blocked = stream->blocked || (size_t)put < len;
    return put;
}

int
gp__transport_stream_send_locked(gp__transport_stream *stream, const void *bytes, size_t len,
                                 gp_error *err)
{
    ptrdiff_t put = gp__transport_stream_write_locked(stream, bytes, len, err);

    if (put < 0) {
        return (int)put;
    }
    if ((size_t)put < len &&
        gp__fifo_put(&stream->out, (const unsigned char *)bytes + put, len - (size_t)put) < 0) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a stream's data");
    }
    return 0;
}

size_t
gp__transport_stream_stored_locked(const gp__transport_stream *stream)
{
    return stream->out.len;
}

/* Everything has been put into the output, and nothing will follow: tell the other side. */
static void
send_end_locked(gp__transport *transport, gp__transport_stream *stream)
    GP_REQUIRES(&transport->lock)
{
    if (transport->options.raw) {
        gp__transport_shutdown_output_locked(transport);
    } else if (stream->mux != NULL) {
        gp__yamux_stream_shutdown(stream->mux);
    }
}

void
gp__transport_stream_shutdown_locked(gp__transport_stream *stream)
{
    gp__transport *transport = stream->transport;

    gp_mutex_assert_held(&transport->lock);
    if (!stream->shut) {
        stream->shut = true;
        if (stream->out.len == 0) {
            send_end_locked(transport, stream);
        }
    }
}

/*
 * There may be room for the stream in the output. Writes what it has stored; then its user may
 * write. The stream may be freed after this.
 */
static void
write_more_locked(gp__transport *transport, gp__transport_stream *stream)
    GP_REQUIRES(&transport->lock)
{
    if (stream->out.len > 0) {
        ptrdiff_t put =
            put_locked(transport, stream, gp__fifo_front(&stream->out), stream->out.len);

        gp__fifo_drop(&stream->out, put < 0 ? stream->out.len : (size_t)put);
        if (stream->out.len > 0) {
            return;
        }
        if (stream->shut) {
            send_end_locked(transport, stream);
        }
    }
    if (stream->released) {
        free_stream_locked(transport, stream);
    } else if (stream->blocked) {
        stream->blocked = false;
        if (stream->ops != NULL && stream->ops->writable != NULL) {
            stream->ops->writable(stream->ctx);
        }
    }
}

void
gp__transport_streams_write_locked(gp__transport *transport)
{
    while (!gp__transport_is_over_locked(transport) && !gp__transport_is_full_locked(transport)) {
        gp_link *link = gp_list_pop(&transport->streams.waiting);

        if (link == NULL) {
            break;
        }
        write_more_locked(transport, gp_container_of(link, gp__transport_stream, waiting));
    }
}

bool
gp__transport_streams_have_output_locked(const gp__transport *transport)
{
    const gp_list *all = &transport->streams.all;

    for (gp__transport_stream *stream = gp_list_first_entry(all, gp__transport_stream, link);
         stream != NULL; stream = gp_list_next_entry(all, stream, gp__transport_stream, link)) {
        if (stream->out.len > 0) {
            return true;
        }
    }
    return false;
}

/* ---- The end --------------------------------------------------------------------------------- */

void
gp__transport_stream_release_locked(gp__transport_stream *stream)
{
    gp__transport *transport;

    if (stream == NULL) {
        return;
    }
    transport = stream->transport;
    gp_mutex_assert_held(&transport->lock);
    stream->ops = NULL;
    stream->released = true;
    if (stream->mux != NULL && stream->shut && stream->in.len > 0) {
        /* A sender that waits for room is to go on: what it sends next is answered by a reset. */
        gp__yamux_stream_consumed(stream->mux, stream->in.len);
        gp__fifo_drop(&stream->in, stream->in.len);
    }
    if (!stream->shut || stream->out.len == 0 || gp__transport_is_over_locked(transport)) {
        free_stream_locked(transport, stream);
        return;
    }
    /* It stays until what is stored has been sent. */
    if (stream->freed != NULL) {
        *stream->freed = true;
        stream->freed = NULL;
    }
    gp__fifo_release(&stream->in);
}

/* The stream is over for the reason |why|. It may be freed after this. */
static void
end_locked(gp__transport *transport, gp__transport_stream *stream, const gp_error *why)
    GP_REQUIRES(&transport->lock)
{
    bool was_blocked = stream->blocked;

    if (stream->mux != NULL) {
        gp__yamux_stream_release(stream->mux);
        stream->mux = NULL;
    }
    gp__fifo_drop(&stream->out, stream->out.len);
    if (stream->released) {
        free_stream_locked(transport, stream);
        return;
    }
    stream->blocked = false;
    if (stream->why.code == 0) {
        gp__transport_copy_error(&stream->why, why);
    }
    stream->ended = true;
    if (was_blocked && stream->end_reported && stream->ops != NULL &&
        stream->ops->writable != NULL) {
        stream->ops->writable(stream->ctx); /* the user finds out that nothing can be written */
    } else {
        report_end_locked(transport, stream);
    }
}

void
gp__transport_streams_end_locked(gp__transport *transport)
{
    gp_list rest;
    gp_link *link;

    gp_list_init(&rest);
    gp_list_move(&rest, &transport->streams.all);
    /* Callbacks may release any stream. */
    while ((link = gp_list_pop(&rest)) != NULL) {
        gp_list_append(&transport->streams.all, link);
        end_locked(transport, gp_container_of(link, gp__transport_stream, link),
                   &transport->channel.why);
    }
}

/* ---- Events ---------------------------------------------------------------------------------- */

/* The other side has opened |mux|. */
static void
accept_stream_locked(gp__transport *transport, gp__yamux_stream *mux) GP_REQUIRES(&transport->lock)
{
    gp__transport_stream *stream =
        transport->options.accept != NULL ? new_stream_locked(transport, mux) : NULL;

    if (stream == NULL) {
        gp__yamux_stream_release(mux);
        return;
    }
    gp__yamux_stream_accept(mux, stream);
    transport->options.accept(transport->options.ctx, stream);
}

/* The other side has ended its direction. The stream may be freed after this. */
static void
end_input_locked(gp__transport *transport, gp__transport_stream *stream)
    GP_REQUIRES(&transport->lock)
{
    if (!stream->ended) {
        stream->ended = true;
        report_end_locked(transport, stream);
    }
}

void
gp__transport_streams_event_locked(gp__transport *transport, const gp__yamux_event *event)
{
    gp__transport_stream *stream =
        event->stream != NULL ? gp__yamux_stream_ctx(event->stream) : NULL;

    switch (event->kind) {
    case GP__YAMUX_OPENED:
        accept_stream_locked(transport, event->stream);
        break;
    case GP__YAMUX_WRITABLE:
        write_more_locked(transport, stream);
        break;
    case GP__YAMUX_DATA:
        receive_locked(transport, stream, event->data, event->len);
        break;
    case GP__YAMUX_ENDED:
        end_input_locked(transport, stream);
        break;
    case GP__YAMUX_RESET: {
        gp_error why = GP_ERROR_INIT;

        gp_error_set(&why, GP_ECLOSED, "the other side has reset the stream");
        end_locked(transport, stream, &why);
        gp_error_release(&why);
        break;
    }
    case GP__YAMUX_ACCEPTED:
    case GP__YAMUX_GO_AWAY:
        break;
    }
}

void
gp__transport_streams_raw_data_locked(gp__transport *transport, const unsigned char *bytes,
                                      size_t len)
{
    if (transport->streams.raw != NULL) {
        receive_locked(transport, transport->streams.raw, bytes, len);
    }
}

void
gp__transport_streams_raw_end_locked(gp__transport *transport)
{
    if (transport->streams.raw != NULL) {
        end_input_locked(transport, transport->streams.raw);
    }
}

bool
gp__transport_streams_raw_wants_data_locked(const gp__transport *transport)
{
    const gp__transport_stream *raw = transport->streams.raw;

    return transport->streams.raw_opened &&
           (raw == NULL || (!raw->ended && raw->in.len < RAW_INPUT_FULL));
}
