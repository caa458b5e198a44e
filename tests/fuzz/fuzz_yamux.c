/*
 * A session between a peer that sends anything and a user that does anything in any order. The
 * input is a list of steps: bytes as they are, frames that are likely to be meaningful, calls of
 * the user.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mux/yamux.h"

#define CHECK(condition)    \
    do {                    \
        if (!(condition)) { \
            abort();        \
        }                   \
    } while (0)

enum { MOST_STREAMS = 16, WINDOW = GP__YAMUX_WINDOW };

/* What the user of the session knows of a stream, to check events against. */
typedef struct held {
    gp__yamux_stream *stream;
    size_t unconsumed; /* received and not yet consumed */
    bool ended;
    bool reset;
} held;

typedef struct fuzzed {
    gp__yamux *session;
    held streams[MOST_STREAMS];
    const uint8_t *at;
    size_t left;
    uint32_t in_frame; /* of a frame of data in the output, what is not taken yet */
    int64_t now;
    bool over;
} fuzzed;

static uint8_t
take_byte(fuzzed *it)
{
    if (it->left == 0) {
        return 0;
    }
    it->left--;
    return *it->at++;
}

static held *
find(fuzzed *it, const gp__yamux_stream *stream)
{
    for (size_t i = 0; i < MOST_STREAMS; i++) {
        if (it->streams[i].stream == stream) {
            return &it->streams[i];
        }
    }
    return NULL;
}

static void
release_held(held *one)
{
    gp__yamux_stream_release(one->stream);
    *one = (held){NULL, 0, false, false};
}

static void
take_opened(fuzzed *it, gp__yamux_stream *stream)
{
    held *one;

    CHECK(find(it, stream) == NULL);
    one = find(it, NULL);
    if (one == NULL) {
        gp__yamux_stream_release(stream);
        return;
    }
    *one = (held){stream, 0, false, false};
    if (gp__yamux_stream_id(stream) % 5 != 0) {
        gp__yamux_stream_accept(stream, it);
    }
}

static void
take_event(fuzzed *it, const gp__yamux_event *event)
{
    held *one;

    if (event->kind == GP__YAMUX_GO_AWAY) {
        CHECK(event->stream == NULL);
        return;
    }
    if (event->kind == GP__YAMUX_OPENED) {
        take_opened(it, event->stream);
        return;
    }
    one = find(it, event->stream);
    CHECK(one != NULL && !one->reset);
    switch (event->kind) {
    case GP__YAMUX_DATA:
        CHECK(event->len > 0 && !one->ended);
        one->unconsumed += event->len;
        CHECK(one->unconsumed <= WINDOW);
        break;
    case GP__YAMUX_ENDED:
        CHECK(!one->ended);
        one->ended = true;
        break;
    case GP__YAMUX_RESET:
        one->reset = true;
        break;
    default:
        break;
    }
}

static void
receive(fuzzed *it, const uint8_t *bytes, size_t len)
{
    gp__yamux_event event;
    int rc;

    while ((rc = gp__yamux_receive(it->session, &bytes, &len, &event, NULL)) > 0) {
        take_event(it, &event);
    }
    CHECK(rc < 0 || len == 0);
    CHECK(rc <= 0 && (!it->over || rc < 0));
    it->over = rc < 0;
}

static void
receive_frame(fuzzed *it)
{
    static const uint32_t lengths[] = {0, 1, 5, 200, WINDOW / 2, WINDOW, WINDOW + 1, UINT32_MAX};
    static const uint8_t zeros[WINDOW + 1];
    uint8_t what = take_byte(it);
    uint8_t id = take_byte(it);
    gp__yamux_header header = {what & 3, what >> 4, id & 15, lengths[id >> 5]};
    unsigned char bytes[GP__YAMUX_HEADER];
    size_t body =
        header.type == GP__YAMUX_TYPE_DATA && header.length <= sizeof(zeros) ? header.length : 0;

    gp__yamux_header_write(bytes, &header);
    if (id & 16) {
        receive(it, bytes, 5);
        receive(it, bytes + 5, sizeof(bytes) - 5);
        receive(it, zeros, body / 2);
        receive(it, zeros, body - body / 2);
    } else {
        receive(it, bytes, sizeof(bytes));
        receive(it, zeros, body);
    }
}

/* Everything in the output, cut anywhere, has to be frames. */
static void
drain(fuzzed *it, size_t most)
{
    size_t len;
    const unsigned char *out = gp__yamux_output(it->session, &len);

    CHECK(len <= 3 * 1024 * 1024);
    while (len > 0 && most > 0) {
        gp__yamux_header header;
        size_t part = GP__YAMUX_HEADER;

        if (it->in_frame > 0) {
            part = it->in_frame < len ? it->in_frame : len;
            part = part < most ? part : most;
            it->in_frame -= (uint32_t)part;
            most -= part;
        } else {
            CHECK(len >= GP__YAMUX_HEADER && gp__yamux_header_read(&header, out, NULL) == 0);
            if (header.type == GP__YAMUX_TYPE_DATA) {
                CHECK(header.length > 0 && header.length <= GP__YAMUX_FRAME_MOST);
                it->in_frame = header.length;
            }
        }
        gp__yamux_sent(it->session, part);
        out = gp__yamux_output(it->session, &len);
    }
}

static void
write_some(gp__yamux_stream *stream, size_t len)
{
    unsigned char *room;
    ptrdiff_t some = gp__yamux_stream_reserve(stream, &room, len);

    if (some > 0) {
        CHECK((size_t)some <= len);
        memset(room, 'x', (size_t)some);
        gp__yamux_stream_commit(stream, (size_t)some);
    }
}

static void
use(fuzzed *it, held *one, uint8_t how)
{
    if (one->stream == NULL) {
        if (how < 64 && gp__yamux_open(&one->stream, it->session, it, NULL) < 0) {
            one->stream = NULL;
        }
        return;
    }
    switch (how & 7) {
    case 0:
        release_held(one);
        break;
    case 1:
        gp__yamux_stream_shutdown(one->stream);
        break;
    case 2:
        gp__yamux_stream_shutdown(one->stream);
        release_held(one);
        break;
    case 3:
    case 4:
        gp__yamux_stream_consumed(one->stream, one->unconsumed);
        one->unconsumed = 0;
        break;
    default:
        write_some(one->stream, (size_t)how * 1000);
        break;
    }
}

static void
step(fuzzed *it)
{
    uint8_t what = take_byte(it);

    switch (what >> 6) {
    case 0: {
        size_t len = what & 63;

        len = len < it->left ? len : it->left;
        receive(it, it->at, len);
        it->at += len;
        it->left -= len;
        break;
    }
    case 1:
        receive_frame(it);
        break;
    case 2:
        use(it, &it->streams[what % MOST_STREAMS], take_byte(it));
        break;
    default:
        if (what & 1) {
            drain(it, (size_t)take_byte(it) * 997);
        } else if (what & 2) {
            it->now += (int64_t)take_byte(it) * 1000000000;
            it->over = gp__yamux_tick(it->session, it->now, NULL) < 0 || it->over;
        } else if (what == 0xfc) {
            gp__yamux_go_away(it->session, GP__YAMUX_NORMAL);
        }
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzzed it = {.at = data, .left = size};
    uint8_t how = take_byte(&it);
    const gp__yamux_options options = {
        .client = how & 1,
        .max_streams = how & 2 ? 4 : 0,
        .backlog = how & 4 ? 2 : 0,
        .keepalive = how & 8 ? INT64_C(30000000000) : 0,
        .timeout = INT64_C(10000000000),
    };

    CHECK(gp__yamux_new(&it.session, &options, 0, NULL) == 0);
    while (it.left > 0) {
        step(&it);
    }
    for (size_t i = 0; i < MOST_STREAMS; i++) {
        if (it.streams[i].stream != NULL && i % 2 == 0) {
            release_held(&it.streams[i]);
        }
    }
    drain(&it, SIZE_MAX);
    gp__yamux_free(it.session);
    return 0;
}
