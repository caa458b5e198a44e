#include "mux/yamux_stream.h"

#include <string.h>

#include "base/alloc.h"

enum { SLOTS = 16, DEFAULT_BACKLOG = 256 };

/* ---- The table ---- */

int
gp__yamux_table_init(gp__yamux *session)
{
    session->slots = gp__calloc(SLOTS, sizeof(gp__yamux_stream *));
    session->slots_count = SLOTS;
    gp_list_init(&session->all);
    gp_list_init(&session->queue);
    gp_list_init(&session->unblocked);
    return session->slots != NULL ? 0 : GP_ENOMEM;
}

void
gp__yamux_table_release(gp__yamux *session)
{
    gp__yamux_stream *stream;

    while ((stream = gp_list_first_entry(&session->all, gp__yamux_stream, link)) != NULL) {
        gp_link_remove(&stream->link);
        gp__free(stream);
    }
    gp__free(session->slots);
}

/* The slot of |id|. All ids of a side are odd, or all are even, so the last bit is not used. */
static gp__yamux_stream **
slot_of(const gp__yamux *session, uint32_t id)
{
    return &session->slots[(id >> 1) & (session->slots_count - 1)];
}

gp__yamux_stream *
gp__yamux_find(const gp__yamux *session, uint32_t id)
{
    gp__yamux_stream *stream = *slot_of(session, id);

    while (stream != NULL && stream->id != id) {
        stream = stream->chained;
    }
    return stream;
}

/* Double the table. If memory is short it stays as it is, and lookups get slower. */
static void
grow_table(gp__yamux *session)
{
    gp__yamux_stream **slots = gp__calloc(session->slots_count * 2, sizeof(gp__yamux_stream *));

    if (slots == NULL) {
        return;
    }
    gp__free(session->slots);
    session->slots = slots;
    session->slots_count *= 2;
    for (gp__yamux_stream *stream = gp_list_first_entry(&session->all, gp__yamux_stream, link);
         stream != NULL;
         stream = gp_list_next_entry(&session->all, stream, gp__yamux_stream, link)) {
        if (stream->listed) {
            gp__yamux_stream **slot = slot_of(session, stream->id);

            stream->chained = *slot;
            *slot = stream;
        }
    }
}

static bool
is_ours(const gp__yamux *session, uint32_t id)
{
    return (id & 1) == (session->options.client ? 1 : 0);
}

static gp__yamux_stream *
add_stream(gp__yamux *session, uint32_t id, gp__yamux_state state)
{
    gp__yamux_stream *stream = gp__calloc(1, sizeof(*stream));
    gp__yamux_stream **slot;

    if (stream == NULL) {
        return NULL;
    }
    if (session->count >= session->slots_count) {
        grow_table(session);
    }
    slot = slot_of(session, id);
    stream->session = session;
    stream->id = id;
    stream->state = state;
    stream->send_window = GP__YAMUX_WINDOW;
    stream->recv_window = GP__YAMUX_WINDOW;
    stream->chained = *slot;
    *slot = stream;
    stream->listed = true;
    gp_list_append(&session->all, &stream->link);
    session->count++;
    session->peers += is_ours(session, id) ? 0 : 1;
    return stream;
}

gp__yamux_stream *
gp__yamux_take_unblocked(gp__yamux *session)
{
    gp__yamux_stream *first =
        gp_list_first_entry(&session->unblocked, gp__yamux_stream, queue_link);

    if (first != NULL) {
        gp_link_remove(&first->queue_link);
    }
    return first;
}

static void
free_stream(gp__yamux_stream *stream)
{
    gp__yamux *session = stream->session;

    if (session->current == stream) {
        session->current = NULL;
        session->due = 0;
    }
    gp_link_remove(&stream->queue_link);
    gp_link_remove(&stream->link);
    gp__free(stream);
}

/* Take a QUEUED stream out of the queue. */
static void
dequeue(gp__yamux_stream *stream)
{
    gp_link_remove(&stream->queue_link);
    stream->session->unsent--;
}

void
gp__yamux_stream_unlist(gp__yamux_stream *stream)
{
    gp__yamux *session = stream->session;

    if (stream->listed) {
        gp__yamux_stream **at = slot_of(session, stream->id);

        while (*at != stream) {
            at = &(*at)->chained;
        }
        *at = stream->chained;
        stream->listed = false;
        session->count--;
        session->peers -= is_ours(session, stream->id) ? 0 : 1;
        if (stream->state == GP__YAMUX_STATE_QUEUED) {
            dequeue(stream);
        } else if (stream->state == GP__YAMUX_STATE_OFFERED) {
            gp__yamux_stream_answered(stream);
        }
    }
    if (stream->released) {
        free_stream(stream);
    }
}

/* ---- Opening ---- */

/*
 * Extend the window from the protocol's initial size to the session's. Returns by how much, which
 * SYN and ACK announce to the other side.
 */
static uint32_t
extend_window(gp__yamux_stream *stream)
{
    uint32_t more = stream->session->options.window - GP__YAMUX_WINDOW;

    stream->recv_window += more;
    return more;
}

static void
send_syn(gp__yamux_stream *stream)
{
    stream->state = GP__YAMUX_STATE_OFFERED;
    stream->session->offered++;
    gp__yamux_put(stream->session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_SYN, stream->id,
                  extend_window(stream));
    if (stream->sent_fin) { /* the stream was shut down while it was QUEUED */
        gp__yamux_put(stream->session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_FIN, stream->id, 0);
    }
}

int
gp__yamux_open(gp__yamux_stream **out, gp__yamux *session, void *ctx, gp_error *err)
{
    uint32_t backlog =
        session->options.backlog > 0 ? session->options.backlog : (uint32_t)DEFAULT_BACKLOG;
    gp__yamux_stream *stream;

    if (session->failure.code < 0) {
        return gp_error_set(err, GP_ECLOSED, "%s", gp_error_message(&session->failure));
    }
    if (session->going_away || session->peer_going_away) {
        return gp_error_set(err, GP_ECLOSED, "%s takes no new streams",
                            session->going_away ? "this side" : "the other side");
    }
    if (session->next_id > UINT32_MAX - 2) {
        return gp_error_set(err, GP_ECLOSED, "the session has used up its stream ids");
    }
    stream = add_stream(session, session->next_id, GP__YAMUX_STATE_QUEUED);
    if (stream == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a stream");
    }
    session->next_id += 2;
    stream->ctx = ctx;
    if (session->offered < backlog) {
        send_syn(stream);
    } else {
        session->unsent++;
        gp_list_append(&session->queue, &stream->queue_link);
    }
    *out = stream;
    return 0;
}

void
gp__yamux_stream_answered(gp__yamux_stream *stream)
{
    gp__yamux *session = stream->session;
    gp__yamux_stream *next = gp_list_first_entry(&session->queue, gp__yamux_stream, queue_link);

    stream->state = GP__YAMUX_STATE_ACCEPTED;
    session->offered--;
    if (next != NULL) {
        dequeue(next);
        send_syn(next);
        if (next->blocked && !next->released) {
            gp_list_append(&session->unblocked, &next->queue_link);
        }
    }
}

gp__yamux_stream *
gp__yamux_stream_opened(gp__yamux *session, uint32_t id)
{
    return add_stream(session, id, GP__YAMUX_STATE_OPENED);
}

void
gp__yamux_stream_accept(gp__yamux_stream *stream, void *ctx)
{
    stream->ctx = ctx;
    if (stream->state == GP__YAMUX_STATE_OPENED) {
        stream->state = GP__YAMUX_STATE_ACCEPTED;
        if (stream->listed) {
            gp__yamux_put(stream->session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_ACK, stream->id,
                          extend_window(stream));
        }
    }
}

void *
gp__yamux_stream_ctx(const gp__yamux_stream *stream)
{
    return stream->ctx;
}

uint32_t
gp__yamux_stream_id(const gp__yamux_stream *stream)
{
    return stream->id;
}

/* ---- Data ---- */

ptrdiff_t
gp__yamux_stream_reserve(gp__yamux_stream *stream, unsigned char **out, size_t most)
{
    gp__yamux *session = stream->session;
    unsigned char *room;

    if (session->failure.code < 0 || stream->dead || stream->sent_fin) {
        return GP_ECLOSED;
    }
    if (stream->send_window == 0 || stream->state == GP__YAMUX_STATE_QUEUED) {
        stream->blocked = true;
        return 0;
    }
    if (gp__yamux_full(session)) {
        return 0;
    }
    most = most < stream->send_window ? most : stream->send_window;
    most = most < GP__YAMUX_FRAME_MOST ? most : GP__YAMUX_FRAME_MOST;
    room = gp__fifo_reserve(&session->out, GP__YAMUX_HEADER + most);
    if (room == NULL) {
        return gp__yamux_fail(session, GP_ENOMEM, "out of memory for a stream's data");
    }
    *out = room + GP__YAMUX_HEADER;
    return (ptrdiff_t)most;
}

void
gp__yamux_stream_commit(gp__yamux_stream *stream, size_t len)
{
    gp__fifo *out = &stream->session->out;
    const gp__yamux_header header = {GP__YAMUX_TYPE_DATA, 0, stream->id, (uint32_t)len};

    if (len > 0) {
        gp__yamux_header_write(out->data + out->head + out->len, &header);
        gp__fifo_commit(out, GP__YAMUX_HEADER + len);
        stream->send_window -= (uint32_t)len;
    }
}

void
gp__yamux_stream_consumed(gp__yamux_stream *stream, size_t len)
{
    gp__yamux *session = stream->session;

    stream->unreported += (uint32_t)len;
    if (stream->dead || stream->got_fin || stream->unreported < session->options.window / 2) {
        return;
    }
    stream->recv_window += stream->unreported;
    gp__yamux_put(session, GP__YAMUX_TYPE_WINDOW, 0, stream->id, stream->unreported);
    stream->unreported = 0;
}

/* ---- Ending ---- */

void
gp__yamux_stream_shutdown(gp__yamux_stream *stream)
{
    if (stream->dead || stream->sent_fin) {
        return;
    }
    stream->sent_fin = true;
    if (stream->state != GP__YAMUX_STATE_QUEUED) {
        gp__yamux_put(stream->session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_FIN, stream->id, 0);
    }
    if (stream->got_fin) {
        gp__yamux_stream_unlist(stream);
    }
}

void
gp__yamux_stream_reset(gp__yamux_stream *stream)
{
    if (!stream->dead) {
        stream->dead = true;
        if (stream->listed && stream->state != GP__YAMUX_STATE_QUEUED) {
            gp__yamux_put(stream->session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_RST, stream->id, 0);
        }
    }
    gp__yamux_stream_unlist(stream);
}

void
gp__yamux_stream_release(gp__yamux_stream *stream)
{
    gp__yamux *session = stream->session;

    stream->released = true;
    stream->released_at = session->now;
    stream->ctx = NULL;
    if (stream->state != GP__YAMUX_STATE_QUEUED) {
        gp_link_remove(&stream->queue_link); /* its user needs no GP__YAMUX_WRITABLE any more */
    }
    if (!stream->listed) {
        free_stream(stream);
    } else if (!stream->sent_fin) {
        gp__yamux_stream_reset(stream);
    } else if (session->current == stream) {
        session->due = 0; /* the rest of the frame that is being read is skipped */
    }
}
