#include <string.h>

#include "support.h"
#include "wire/yamux_frame.h"

static void
written_and_read(void **state)
{
    const gp__yamux_header headers[] = {
        {GP__YAMUX_TYPE_DATA, 0, 1, 0},
        {GP__YAMUX_TYPE_DATA, GP__YAMUX_SYN | GP__YAMUX_FIN, UINT32_MAX, UINT32_MAX},
        {GP__YAMUX_TYPE_WINDOW, GP__YAMUX_ACK, 0x01020304, 0x05060708},
        {GP__YAMUX_TYPE_PING, GP__YAMUX_SYN, 0, 77},
        {GP__YAMUX_TYPE_GO_AWAY, 0, 0, GP__YAMUX_INTERNAL_ERROR},
        {GP__YAMUX_TYPE_WINDOW, 0xfff0, 7, 1}, /* unknown flags are accepted */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        unsigned char bytes[GP__YAMUX_HEADER];
        gp__yamux_header back;

        gp__yamux_header_write(bytes, &headers[i]);
        assert_int_equal(gp__yamux_header_read(&back, bytes, NULL), 0);
        assert_int_equal(back.type, headers[i].type);
        assert_int_equal(back.flags, headers[i].flags);
        assert_int_equal(back.id, headers[i].id);
        assert_int_equal(back.length, headers[i].length);
    }
}

static void
big_endian(void **state)
{
    const gp__yamux_header header = {GP__YAMUX_TYPE_WINDOW, 0x0102, 0x03040506, 0x0708090a};
    unsigned char bytes[GP__YAMUX_HEADER];

    (void)state;
    gp__yamux_header_write(bytes, &header);
    assert_memory_equal(bytes, "\0\1\1\2\3\4\5\6\7\x8\x9\xa", GP__YAMUX_HEADER);
}

static void
refused(void **state)
{
    static const struct {
        const char *bytes;
        const char *reason;
    } cases[] = {
        {"\1\0\0\0\0\0\0\1\0\0\0\0", "expected a frame of yamux version 0, found 1"},
        {"GET / HTTP/1", "expected a frame of yamux version 0, found 71"},
        {"\0\4\0\0\0\0\0\1\0\0\0\0", "expected a yamux frame of type 0 to 3, found 4"},
        {"\0\0\0\0\0\0\0\0\0\0\0\0", "the id 0, which is the session's"},
        {"\0\1\0\1\0\0\0\0\0\0\0\0", "the id 0, which is the session's"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        gp_error err = GP_ERROR_INIT;
        gp__yamux_header header;
        int rc = gp__yamux_header_read(&header, (const unsigned char *)cases[i].bytes, &err);

        assert_int_equal(rc, GP_EPROTOCOL);
        assert_non_null(strstr(gp_error_message(&err), cases[i].reason));
        gp_error_release(&err);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_and_read),
        cmocka_unit_test(big_endian),
        cmocka_unit_test(refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
