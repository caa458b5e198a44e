#include "mux/yamux.h"

#include <stdarg.h>
#include <string.h>

#include "base/alloc.h"
#include "mux/yamux_stream.h"

enum {
    DEFAULT_STREAMS = 1024,
    /*
     * Bytes of output, beyond those that streams may fill, for answers. A peer that reads never
     * lets so many collect.
     */
    ANSWERS_MOST = 1024 * 1024,
};

static const int64_t default_linger = INT64_C(300000000000);

int
gp__yamux_new(gp__yamux **out, const gp__yamux_options *options, int64_t now, gp_error *err)
{
    gp__yamux *session = gp__calloc(1, sizeof(*session));

    if (session == NULL || gp__yamux_table_init(session) < 0) {
        gp__free(session);
        return gp_error_set(err, GP_ENOMEM, "out of memory for a multiplexed connection");
    }
    session->options = *options;
    if (session->options.window < GP__YAMUX_WINDOW) {
        session->options.window = GP__YAMUX_WINDOW;
    }
    if (session->options.max_streams == 0) {
        session->options.max_streams = DEFAULT_STREAMS;
    }
    if (session->options.linger == 0) {
        session->options.linger = default_linger;
    }
    session->next_id = options->client ? 1 : 2;
    session->now = now;
    session->pinged_at = now;
    *out = session;
    return 0;
}

void
gp__yamux_free(gp__yamux *session)
{
    if (session != NULL) {
        gp__yamux_table_release(session);
        gp__fifo_release(&session->out);
        gp_error_release(&session->failure);
        gp__free(session);
    }
}

size_t
gp__yamux_count(const gp__yamux *session)
{
    return session->count;
}

size_t
gp__yamux_waiting(const gp__yamux *session, size_t *unsent)
{
    if (unsent != NULL) {
        *unsent = session->unsent;
    }
    return (size_t)session->offered + session->unsent;
}

/* ---- Output ---- */

int
gp__yamux_fail(gp__yamux *session, int code, const char *format, ...)
{
    va_list args;
    char *message;

    if (session->failure.code == 0) {
        va_start(args, format);
        message = gp__vformat(format, args);
        va_end(args);
        session->failure.code = code;
        session->failure.message = message; /* NULL stands for the code's own text */
    }
    return session->failure.code;
}

void
gp__yamux_put(gp__yamux *session, uint8_t type, unsigned flags, uint32_t id, uint32_t length)
{
    const gp__yamux_header header = {type, (uint16_t)flags, id, length};
    unsigned char bytes[GP__YAMUX_HEADER];

    if (session->failure.code < 0) {
        return;
    }
    if (session->out.len >= GP__YAMUX_OUTPUT_FULL + GP__YAMUX_FRAME_MOST + ANSWERS_MOST) {
        gp__yamux_fail(session, GP_EPROTOCOL,
                       "the other side does not read the answers to what it sends");
        return;
    }
    gp__yamux_header_write(bytes, &header);
    if (gp__fifo_put(&session->out, bytes, sizeof(bytes)) < 0) {
        gp__yamux_fail(session, GP_ENOMEM, "out of memory to answer the other side");
    }
}

const unsigned char *
gp__yamux_output(const gp__yamux *session, size_t *len)
{
    *len = session->out.len;
    return session->out.len > 0 ? gp__fifo_front(&session->out) : NULL;
}

void
gp__yamux_sent(gp__yamux *session, size_t len)
{
    gp__fifo_drop(&session->out, len);
}

bool
gp__yamux_full(const gp__yamux *session)
{
    return session->out.len >= GP__YAMUX_OUTPUT_FULL;
}

void
gp__yamux_go_away(gp__yamux *session, uint32_t reason)
{
    if (!session->going_away) {
        session->going_away = true;
        gp__yamux_put(session, GP__YAMUX_TYPE_GO_AWAY, 0, 0, reason);
    }
}

/* ---- Time ---- */

/* Reset the streams that the other side has not closed in time. */
static void
reset_lingering(gp__yamux *session)
{
    gp__yamux_stream *next;

    for (gp__yamux_stream *stream = gp_list_first_entry(&session->all, gp__yamux_stream, link);
         stream != NULL; stream = next) {
        next = gp_list_next_entry(&session->all, stream, gp__yamux_stream, link);
        if (stream->released && session->now - stream->released_at >= session->options.linger) {
            gp__yamux_stream_reset(stream);
        }
    }
}

int
gp__yamux_tick(gp__yamux *session, int64_t now, gp_error *err)
{
    const gp__yamux_options *options = &session->options;

    session->now = now;
    reset_lingering(session);
    if (options->keepalive > 0 && session->ping_out &&
        now - session->pinged_at >= options->timeout) {
        gp__yamux_fail(session, GP_ETIMEOUT, "the other side has not answered a ping for %.3g s",
                       (double)(now - session->pinged_at) / 1e9);
    } else if (options->keepalive > 0 && !session->ping_out &&
               now - session->pinged_at >= options->keepalive) {
        session->ping_out = true;
        session->pinged_at = now;
        gp__yamux_put(session, GP__YAMUX_TYPE_PING, GP__YAMUX_SYN, 0, ++session->ping);
    }
    if (session->failure.code < 0) {
        return gp_error_set(err, session->failure.code, "%s", gp_error_message(&session->failure));
    }
    return 0;
}

/* ---- Frames of the session ---- */

static int
handle_ping(gp__yamux *session, const gp__yamux_header *header)
{
    if (header->flags & GP__YAMUX_SYN) {
        gp__yamux_put(session, GP__YAMUX_TYPE_PING, GP__YAMUX_ACK, 0, header->length);
    }
    return session->failure.code;
}

static int
handle_go_away(gp__yamux *session, const gp__yamux_header *header)
{
    switch (header->length) {
    case GP__YAMUX_NORMAL:
        session->peer_going_away = true;
        session->due = 1u << GP__YAMUX_GO_AWAY;
        return 0;
    case GP__YAMUX_PROTOCOL_ERROR:
        return gp__yamux_fail(
            session, GP_ECLOSED,
            "the other side ended the session: it reports a protocol error of this side");
    case GP__YAMUX_INTERNAL_ERROR:
        return gp__yamux_fail(
            session, GP_ECLOSED,
            "the other side ended the session: it reports an internal error of its own");
    default:
        return gp__yamux_fail(session, GP_EPROTOCOL,
                              "the other side goes away with reason %u, which is unknown",
                              (unsigned)header->length);
    }
}

/* ---- Frames of streams ---- */

static bool
is_peers(const gp__yamux *session, uint32_t id)
{
    return (id & 1) != (session->options.client ? 1u : 0u);
}

static int
handle_syn(gp__yamux *session, const gp__yamux_header *header)
{
    if (!is_peers(session, header->id)) {
        return gp__yamux_fail(session, GP_EPROTOCOL,
                              "the other side opens stream %u, an id of this side",
                              (unsigned)header->id);
    }
    if (gp__yamux_find(session, header->id) != NULL) {
        return gp__yamux_fail(session, GP_EPROTOCOL, "the other side opens stream %u twice",
                              (unsigned)header->id);
    }
    if (session->going_away || session->peers >= session->options.max_streams) {
        gp__yamux_put(session, GP__YAMUX_TYPE_WINDOW, GP__YAMUX_RST, header->id, 0);
        return session->failure.code;
    }
    session->current = gp__yamux_stream_opened(session, header->id);
    if (session->current == NULL) {
        return gp__yamux_fail(session, GP_ENOMEM, "out of memory for a stream");
    }
    session->due |= 1u << GP__YAMUX_OPENED;
    return 0;
}

/*
 * A frame for a stream that does not exist is normal if it was sent before the other side received
 * RST, or the end of the second direction.
 */
static int
check_unknown(gp__yamux *session, const gp__yamux_header *header)
{
    if (!is_peers(session, header->id) && header->id >= session->next_id) {
        return gp__yamux_fail(session, GP_EPROTOCOL,
                              "the other side uses stream %u, which this side never opened",
                              (unsigned)header->id);
    }
    return 0;
}

static int
handle_window(gp__yamux *session, gp__yamux_stream *stream, uint32_t more)
{
    if (more > UINT32_MAX - stream->send_window) {
        return gp__yamux_fail(session, GP_EPROTOCOL, "the window of stream %u overflows",
                              (unsigned)stream->id);
    }
    stream->send_window += more;
    if (stream->blocked && stream->send_window > 0) {
        stream->blocked = false;
        session->due |= 1u << GP__YAMUX_WRITABLE;
    }
    return 0;
}

/*
 * Data that comes after the stream's FIN is dropped: hashicorp/yamux sends what one goroutine is
 * writing while another one closes the stream.
 */
static int
handle_data(gp__yamux *session, gp__yamux_stream *stream, uint32_t len)
{
    if (len > stream->recv_window) {
        return gp__yamux_fail(
            session, GP_EPROTOCOL,
            "the other side sends %u bytes on stream %u, whose window has room for %u",
            (unsigned)len, (unsigned)stream->id, (unsigned)stream->recv_window);
    }
    stream->recv_window -= len;
    if (len > 0 && stream->released) {
        /* The data will not be read: tell the sender. */
        gp__yamux_stream_reset(stream);
        session->due = 0;
    } else if (len > 0 && !stream->got_fin) {
        session->due |= 1u << GP__YAMUX_DATA;
    }
    return session->failure.code;
}

/*
 * Handle the flags that end the stream or a direction of it. Their events follow those of the
 * frame's body. Frees the stream if it ends and has been released.
 */
static void
handle_end_flags(gp__yamux *session, gp__yamux_stream *stream, unsigned flags)
{
    if (flags & GP__YAMUX_RST) {
        stream->dead = true;
        session->due = (session->due & 1u << GP__YAMUX_OPENED) | 1u << GP__YAMUX_RESET;
        gp__yamux_stream_unlist(stream);
    } else if (flags & GP__YAMUX_FIN && !stream->got_fin) {
        stream->got_fin = true;
        session->due |= 1u << GP__YAMUX_ENDED;
        if (stream->sent_fin) {
            gp__yamux_stream_unlist(stream);
        }
    }
}

static int
handle_stream_frame(gp__yamux *session, const gp__yamux_header *header)
{
    bool is_data = header->type == GP__YAMUX_TYPE_DATA;
    gp__yamux_stream *stream;
    int rc = 0;

    if (is_data && header->length > session->options.window) {
        return gp__yamux_fail(
            session, GP_EPROTOCOL,
            "the other side sends a frame of %u bytes; no window is larger than %u",
            (unsigned)header->length, (unsigned)session->options.window);
    }
    session->body_left = is_data ? header->length : 0;
    if (header->flags & GP__YAMUX_SYN) {
        rc = handle_syn(session, header);
    } else {
        session->current = gp__yamux_find(session, header->id);
        rc = session->current == NULL ? check_unknown(session, header) : 0;
    }
    stream = session->current;
    if (rc < 0 || stream == NULL) {
        return rc;
    }
    if (header->flags & GP__YAMUX_ACK && stream->state == GP__YAMUX_STATE_OFFERED) {
        gp__yamux_stream_answered(stream);
        session->due |= 1u << GP__YAMUX_ACCEPTED;
    }
    rc = is_data ? handle_data(session, stream, header->length)
                 : handle_window(session, stream, header->length);
    if (rc == 0 && session->current != NULL) {
        handle_end_flags(session, stream, header->flags);
    }
    if (rc == 0 && session->current != NULL && stream->released) {
        session->due = 0;
    }
    return rc;
}

static int
handle_frame(gp__yamux *session, const gp__yamux_header *header)
{
    session->current = NULL;
    session->due = 0;
    session->body_left = 0;
    switch (header->type) {
    case GP__YAMUX_TYPE_PING:
        return handle_ping(session, header);
    case GP__YAMUX_TYPE_GO_AWAY:
        return handle_go_away(session, header);
    default:
        return handle_stream_frame(session, header);
    }
}

/* ---- Receiving ---- */

/* Set |*event|. Returns 1. */
static int
set_event(gp__yamux_event *event, gp__yamux_kind kind, gp__yamux_stream *stream)
{
    *event = (gp__yamux_event){.kind = kind, .stream = stream};
    return 1;
}

/* Pass on as much of the frame's body as has come. Returns 1 with an event, or 0. */
static int
take_body(gp__yamux *session, const unsigned char **bytes, size_t *len, gp__yamux_event *event)
{
    size_t part = *len < session->body_left ? *len : session->body_left;
    bool wanted = session->current != NULL && session->due & 1u << GP__YAMUX_DATA;

    if (wanted) {
        set_event(event, GP__YAMUX_DATA, session->current);
        event->data = *bytes;
        event->len = part;
    }
    *bytes += part;
    *len -= part;
    session->body_left -= (uint32_t)part;
    if (session->body_left == 0) {
        session->due &= ~(1u << GP__YAMUX_DATA);
    }
    return wanted ? 1 : 0;
}

/*
 * Take the next event that is due, in the order of the enum: data comes before the end that came
 * with it. Returns 1 with an event, or 0.
 */
static int
take_due(gp__yamux *session, const unsigned char **bytes, size_t *len, gp__yamux_event *event)
{
    gp__yamux_stream *unblocked;

    while ((unblocked = gp__yamux_take_unblocked(session)) != NULL) {
        if (unblocked->blocked) {
            unblocked->blocked = false;
            return set_event(event, GP__YAMUX_WRITABLE, unblocked);
        }
    }
    for (int kind = GP__YAMUX_OPENED; kind <= GP__YAMUX_GO_AWAY; kind++) {
        if (kind == GP__YAMUX_DATA && session->body_left > 0) {
            if (*len == 0) {
                return 0;
            }
            if (take_body(session, bytes, len, event) > 0) {
                return 1;
            }
            if (session->body_left > 0) {
                return 0;
            }
        } else if (session->due & 1u << kind) {
            session->due &= ~(1u << kind);
            return set_event(event, (gp__yamux_kind)kind, session->current);
        }
    }
    return 0;
}

/* Take bytes of a header. Returns whether the header is complete. */
static bool
gather_header(gp__yamux *session, const unsigned char **bytes, size_t *len)
{
    size_t missing = GP__YAMUX_HEADER - session->header_len;
    size_t part = *len < missing ? *len : missing;

    if (part > 0) {
        memcpy(session->header + session->header_len, *bytes, part);
    }
    session->header_len += part;
    *bytes += part;
    *len -= part;
    if (session->header_len < GP__YAMUX_HEADER) {
        return false;
    }
    session->header_len = 0;
    return true;
}

/* Return why the session is over, and append a GO_AWAY frame with the reason to the output. */
static int
report_failure(gp__yamux *session, gp_error *err)
{
    int code = session->failure.code;

    if (!session->going_away && code != GP_ECLOSED) {
        const gp__yamux_header header = {GP__YAMUX_TYPE_GO_AWAY, 0, 0,
                                         code == GP_EPROTOCOL ? GP__YAMUX_PROTOCOL_ERROR
                                                              : GP__YAMUX_INTERNAL_ERROR};
        unsigned char bytes[GP__YAMUX_HEADER];

        session->going_away = true;
        gp__yamux_header_write(bytes, &header);
        gp__fifo_put(&session->out, bytes, sizeof(bytes));
    }
    return gp_error_set(err, code, "%s", gp_error_message(&session->failure));
}

int
gp__yamux_receive(gp__yamux *session, const unsigned char **bytes, size_t *len,
                  gp__yamux_event *event, gp_error *err)
{
    gp__yamux_header header;
    gp_error wrong = GP_ERROR_INIT;

    if (*len > 0) {
        session->ping_out = false;
    }
    while (session->failure.code == 0) {
        if (take_due(session, bytes, len, event) > 0) {
            return 1;
        }
        if (session->body_left > 0 || !gather_header(session, bytes, len)) {
            return session->failure.code == 0 ? 0 : report_failure(session, err);
        }
        if (gp__yamux_header_read(&header, session->header, &wrong) < 0) {
            gp__yamux_fail(session, GP_EPROTOCOL, "%s", gp_error_message(&wrong));
            gp_error_release(&wrong);
        } else {
            handle_frame(session, &header);
        }
    }
    return report_failure(session, err);
}
