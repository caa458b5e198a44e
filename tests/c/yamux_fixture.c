#include "yamux_fixture.h"

const gp__yamux_options plain[2] = {{.client = true}, {.client = false}};

gp__yamux *
make_session(const gp__yamux_options *options)
{
    gp__yamux *session;

    assert_int_equal(gp__yamux_new(&session, options, 0, NULL), 0);
    return session;
}

int
give_frame(gp__yamux *session, uint8_t type, unsigned flags, uint32_t id, uint32_t length,
           gp__yamux_event *event)
{
    const gp__yamux_header header = {type, (uint16_t)flags, id, length};
    unsigned char bytes[GP__YAMUX_HEADER];
    const unsigned char *at = bytes;
    size_t len = sizeof(bytes);

    gp__yamux_header_write(bytes, &header);
    return gp__yamux_receive(session, &at, &len, event, NULL);
}

int
give_bytes(gp__yamux *session, size_t len, gp__yamux_event *event)
{
    static const unsigned char zeros[300000];
    const unsigned char *at = zeros;
    int rc;

    assert_true(len <= sizeof(zeros));
    rc = gp__yamux_receive(session, &at, &len, event, NULL);
    assert_int_equal(len, 0);
    return rc;
}

void
expect_no_event(gp__yamux *session)
{
    gp__yamux_event event;
    const unsigned char *at = NULL;
    size_t len = 0;

    assert_int_equal(gp__yamux_receive(session, &at, &len, &event, NULL), 0);
}

gp__yamux_header
next_frame(gp__yamux *session)
{
    gp__yamux_header header;
    size_t len;
    const unsigned char *out = gp__yamux_output(session, &len);

    assert_true(len >= GP__YAMUX_HEADER);
    assert_int_equal(gp__yamux_header_read(&header, out, NULL), 0);
    gp__yamux_sent(session,
                   GP__YAMUX_HEADER + (header.type == GP__YAMUX_TYPE_DATA ? header.length : 0));
    return header;
}

void
expect_frame(gp__yamux *session, uint8_t type, unsigned flags, uint32_t id, uint32_t length)
{
    gp__yamux_header header = next_frame(session);

    assert_int_equal(header.type, type);
    assert_int_equal(header.flags, flags);
    assert_int_equal(header.id, id);
    assert_int_equal(header.length, length);
}

void
expect_silence(gp__yamux *session)
{
    size_t len;

    assert_null(gp__yamux_output(session, &len));
    assert_int_equal(len, 0);
}

size_t
write_zeros(gp__yamux_stream *stream, size_t len)
{
    size_t written = 0;

    while (written < len) {
        unsigned char *room;
        ptrdiff_t some = gp__yamux_stream_reserve(stream, &room, len - written);

        assert_true(some >= 0);
        if (some == 0) {
            break;
        }
        memset(room, 0, (size_t)some);
        gp__yamux_stream_commit(stream, (size_t)some);
        written += (size_t)some;
    }
    return written;
}
