/* Hostile peers. */
#include "yamux_fixture.h"

static void
hostile_frames(void **state)
{
    static const struct {
        uint8_t version;
        uint8_t type;
        uint16_t flags;
        uint32_t id;
        uint32_t length;
        const char *reason;
    } cases[] = {
        {1, 0, 0, 1, 0, "version 0, found 1"},
        {0, 9, 0, 1, 0, "type 0 to 3, found 9"},
        {0, 0, 0, 0, 5, "the id 0"},
        {0, 0, 0, 2, GP__YAMUX_WINDOW + 1, "no window is larger than 262144"},
        {0, 0, 0, 99, UINT32_MAX, "a frame of 4294967295 bytes"},
        {0, 1, 0, 2, UINT32_MAX, "the window of stream 2 overflows"},
        {0, 1, GP__YAMUX_SYN, 2, 0, "opens stream 2 twice"},
        {0, 1, GP__YAMUX_SYN, 3, 0, "opens stream 3, an id of this side"},
        {0, 0, GP__YAMUX_SYN, 1, 9, "opens stream 1, an id of this side"},
        {0, 1, 0, 3, 0, "stream 3, which this side never opened"},
        {0, 0, GP__YAMUX_ACK, 101, 9, "stream 101, which this side never opened"},
        {0, 0, 0, 6, 1, "1 bytes on stream 6, whose window has room for 0"},
        {0, 3, 0, 0, 17, "goes away with reason 17"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        gp__yamux *session = make_session(&plain[0]);
        const gp__yamux_header header = {cases[i].type, cases[i].flags, cases[i].id,
                                         cases[i].length};
        gp__yamux_stream *ours;
        gp__yamux_event event;
        gp_error err = GP_ERROR_INIT;
        unsigned char bytes[GP__YAMUX_HEADER];
        const unsigned char *at = bytes;
        size_t len = sizeof(bytes);

        assert_int_equal(gp__yamux_open(&ours, session, NULL, NULL), 0); /* 1 */
        for (uint32_t id = 2; id <= 6; id += 2) {
            unsigned flags = GP__YAMUX_SYN | (id == 4 ? GP__YAMUX_FIN : 0);

            assert_int_equal(give_frame(session, GP__YAMUX_TYPE_WINDOW, flags, id, 0, &event), 1);
            if (id == 4) {
                assert_int_equal(give_bytes(session, 0, &event), 1);
            }
        }
        give_frame(session, GP__YAMUX_TYPE_DATA, 0, 6, GP__YAMUX_WINDOW, &event);
        give_bytes(session, GP__YAMUX_WINDOW, &event);
        next_frame(session);
        expect_silence(session);

        gp__yamux_header_write(bytes, &header);
        bytes[0] = cases[i].version;
        assert_int_equal(gp__yamux_receive(session, &at, &len, &event, &err), GP_EPROTOCOL);
        assert_non_null(strstr(gp_error_message(&err), cases[i].reason));
        gp_error_release(&err);
        expect_frame(session, GP__YAMUX_TYPE_GO_AWAY, 0, 0, GP__YAMUX_PROTOCOL_ERROR);
        /* Afterwards the output is the reason alone. */
        at = bytes;
        len = sizeof(bytes);
        assert_int_equal(gp__yamux_receive(session, &at, &len, &event, NULL), GP_EPROTOCOL);
        assert_int_equal(gp__yamux_tick(session, 5, &err), GP_EPROTOCOL);
        assert_non_null(strstr(gp_error_message(&err), cases[i].reason));
        gp_error_release(&err);
        gp__yamux_stream_release(ours);
        expect_silence(session);
        gp__yamux_free(session);
    }
}

static void
unread_answers(void **state)
{
    gp__yamux *session = make_session(&plain[0]);
    gp__yamux_event event;
    size_t len;
    int rc;

    (void)state;
    do {
        rc = give_frame(session, GP__YAMUX_TYPE_PING, GP__YAMUX_SYN, 0, 1, &event);
        gp__yamux_output(session, &len);
        assert_true(len < 2 * 1024 * 1024);
    } while (rc == 0);
    assert_int_equal(rc, GP_EPROTOCOL);
    gp__yamux_free(session);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_frames),
        cmocka_unit_test(unread_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
