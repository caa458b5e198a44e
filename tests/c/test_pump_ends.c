#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/fd.h"
#include "pump_fixture.h"

static void
put_frame(int fd, uint8_t type, uint16_t flags, uint32_t id, uint32_t length)
{
    const gp__yamux_header header = {type, flags, id, length};
    unsigned char bytes[GP__YAMUX_HEADER];

    gp__yamux_header_write(bytes, &header);
    pump_put(fd, bytes, sizeof(bytes));
}

/* A session's end does not take away what came before it, wherever that is stored. */
static void
what_has_come_is_delivered(void **state)
{
    static char much[300000];
    int streams[2];
    int ends[2];
    side it;

    (void)state;
    assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
    side_init(&it);
    assert_int_equal(side_open(&it, ends[0], (gp__yamux_options){.client = false}), 0);
    memset(much, 'x', sizeof(much));
    for (uint32_t id = 1; id <= 3; id += 2) {
        put_frame(ends[1], GP__YAMUX_TYPE_DATA, GP__YAMUX_SYN, id, GP__YAMUX_WINDOW);
        pump_put(ends[1], much, GP__YAMUX_WINDOW);
    }
    put_frame(ends[1], GP__YAMUX_TYPE_WINDOW, GP__YAMUX_FIN, 1, 0);
    close(ends[1]);
    pump_await_over(&it);
    assert_int_equal(it.over, GP_ECLOSED);
    assert_int_equal(pump_try_dial(it.pump, &streams[0]), GP_ECLOSED);
    for (int i = 0; i < 2; i++) {
        streams[i] = pump_await_arrival(&it);
        memset(much, 0, sizeof(much));
        assert_int_equal(pump_get(streams[i], much, sizeof(much)), GP__YAMUX_WINDOW);
        assert_int_equal(much[GP__YAMUX_WINDOW - 1], 'x');
        close(streams[i]);
    }
    side_release(&it);
}

static void
hostile(void **state)
{
    side it;
    int ends[2];
    int fds[3];
    unsigned char answer[200];
    size_t len;

    (void)state;
    assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
    side_init(&it);
    assert_int_equal(side_open(&it, ends[0], (gp__yamux_options){.client = true}), 0);
    for (int i = 0; i < 3; i++) {
        fds[i] = pump_dial(&it);
    }
    pump_put(ends[1], "HTTP/1.1 400 Bad Request\r\n", 26);
    pump_await_over(&it);
    assert_int_equal(it.over, GP_EPROTOCOL);
    assert_non_null(strstr(it.reason, "yamux version 0, found 72"));
    for (int i = 0; i < 3; i++) {
        pump_expect_end(fds[i]);
        close(fds[i]);
    }
    len = pump_get(ends[1], answer, sizeof(answer));
    assert_int_equal(len, 4 * GP__YAMUX_HEADER); /* three that open, and the reason */
    assert_memory_equal(answer + 3 * GP__YAMUX_HEADER, "\0\3\0\0\0\0\0\0\0\0\0\1", 12);
    close(ends[1]);
    side_release(&it);
}

static void
silent(void **state)
{
    const gp__yamux_options options = {
        .client = true, .keepalive = 20 * GP__MS, .timeout = 20 * GP__MS};
    side it;
    int ends[2];

    (void)state;
    assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
    side_init(&it);
    assert_int_equal(side_open(&it, ends[0], options), 0);
    pump_await_over(&it);
    assert_int_equal(it.over, GP_ETIMEOUT);
    close(ends[1]);
    side_release(&it);
}

/* ---- Over TLS -------------------------------------------------------------------------------- */

static void
a_connection_that_is_cut(void **state)
{
    gp_error why = GP_ERROR_INIT;
    side sides[2];
    int ends[2];
    int here;
    int there;

    (void)state;
    assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
    side_init(&sides[0]);
    side_init(&sides[1]);
    assert_int_equal(
        side_open_secure(&sides[0], ends[0], pump_host_tls, (gp__yamux_options){.client = true}),
        0);
    assert_int_equal(
        side_open_secure(&sides[1], ends[1], pump_plugin_tls, (gp__yamux_options){.client = false}),
        0);
    here = pump_dial(&sides[0]);
    there = pump_await_arrival(&sides[1]);
    pump_put(there, "hello", 5);
    pump_expect(here, "hello");
    shutdown(ends[1], SHUT_RDWR);
    pump_await_over(&sides[0]);
    assert_int_equal(sides[0].over, GP_ETLS);
    assert_int_equal(gp__pump_why(sides[0].pump, &why), GP_ETLS);
    assert_non_null(strstr(gp_error_message(&why), "the multiplexed connection is lost: the plugin "
                                                   "cut the connection without ending TLS"));
    gp_error_release(&why);
    pump_expect_end(here);
    close(here);
    close(there);
    side_release(&sides[0]);
    side_release(&sides[1]);
}

static void
a_handshake_that_fails(void **state)
{
    side sides[2];
    gp_tls *stranger;
    int ends[2];
    int here;

    (void)state;
    assert_int_equal(gp_tls_new_automatic(&stranger, gp_tls_certificate(pump_plugin_tls), NULL), 0);
    assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
    side_init(&sides[0]);
    side_init(&sides[1]);
    assert_int_equal(
        side_open_secure(&sides[0], ends[0], stranger, (gp__yamux_options){.client = true}), 0);
    here = pump_dial(&sides[0]);
    assert_int_equal(
        side_open_secure(&sides[1], ends[1], pump_plugin_tls, (gp__yamux_options){.client = false}),
        0);
    pump_await_over(&sides[0]);
    pump_await_over(&sides[1]);
    assert_int_equal(sides[0].over, GP_ETLS);
    assert_int_equal(sides[1].over, GP_ETLS);
    assert_non_null(strstr(sides[1].reason, "the host's certificate is not the one"));
    pump_expect_end(here);
    close(here);
    side_release(&sides[0]);
    side_release(&sides[1]);
    gp_tls_unref(stranger);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_has_come_is_delivered),
        cmocka_unit_test(hostile),
        cmocka_unit_test(silent),
        cmocka_unit_test(a_connection_that_is_cut),
        cmocka_unit_test(a_handshake_that_fails),
    };

    return cmocka_run_group_tests(tests, pump_make_tls, pump_free_tls);
}
