#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/fd.h"
#include "os/stream.h"
#include "support.h"

static void
open_pair(gp__stream *streams[2])
{
    int ends[2];

    assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(gp__stream_socket_new(&streams[i], ends[i], NULL), 0);
        assert_int_equal(gp__stream_fd(streams[i]), ends[i]);
    }
}

static void
bytes_go_both_ways(void **state)
{
    gp__stream *streams[2];
    char bytes[16];

    (void)state;
    open_pair(streams);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(gp__stream_read(streams[i], bytes, sizeof(bytes), NULL), GP__WOULD_BLOCK);
        assert_int_equal(gp__stream_write(streams[1 - i], "hello", 5, NULL), 5);
        assert_int_equal(gp__stream_flush(streams[1 - i], NULL), 0);
        assert_int_equal(gp__stream_read(streams[i], bytes, 3, NULL), 3);
        assert_int_equal(gp__stream_read(streams[i], bytes + 3, sizeof(bytes) - 3, NULL), 2);
        assert_memory_equal(bytes, "hello", 5);
        assert_false(gp__stream_pending(streams[i]));
        assert_int_equal(gp__stream_events(streams[i], GP__STREAM_WRITE), GP__STREAM_WRITE);
    }
    gp__stream_close(streams[0]);
    gp__stream_close(streams[1]);
    gp__stream_close(NULL);
}

static void
each_direction_ends_by_itself(void **state)
{
    gp__stream *streams[2];
    char byte;

    (void)state;
    open_pair(streams);
    assert_int_equal(gp__stream_shutdown(streams[0], NULL), 0);
    assert_int_equal(gp__stream_read(streams[1], &byte, 1, NULL), 0);
    assert_int_equal(gp__stream_write(streams[1], "x", 1, NULL), 1);
    assert_int_equal(gp__stream_read(streams[0], &byte, 1, NULL), 1);
    assert_int_equal(gp__stream_write(streams[0], "x", 1, NULL), GP_ECLOSED);
    gp__stream_close(streams[0]);
    gp__stream_close(streams[1]);
}

static void
a_stream_that_is_not_read_blocks_its_writer(void **state)
{
    static char much[1 << 16];
    gp__stream *streams[2];
    size_t sent = 0;
    size_t got = 0;
    ptrdiff_t some;

    (void)state;
    open_pair(streams);
    while ((some = gp__stream_write(streams[0], much, sizeof(much), NULL)) > 0) {
        sent += (size_t)some;
        assert_true(sent < 64 << 20);
    }
    assert_int_equal(some, GP__WOULD_BLOCK);
    while ((some = gp__stream_read(streams[1], much, sizeof(much), NULL)) > 0) {
        got += (size_t)some;
    }
    assert_int_equal(got, sent);
    assert_true(gp__stream_write(streams[0], "x", 1, NULL) == 1);
    gp__stream_close(streams[0]);
    gp__stream_close(streams[1]);
}

static void
the_other_side_goes(void **state)
{
    gp_error err = GP_ERROR_INIT;
    gp__stream *streams[2];
    char bytes[8];

    (void)state;
    open_pair(streams);
    assert_int_equal(gp__stream_write(streams[0], "x", 1, NULL), 1);
    gp__stream_close(streams[1]); /* without having read that, which cuts the connection */
    assert_int_equal(gp__stream_write(streams[0], "x", 1, &err), GP_ECLOSED);
    assert_string_equal(gp_error_message(&err), "the other side has closed the connection");
    assert_int_equal(gp__stream_read(streams[0], bytes, sizeof(bytes), &err), GP_ECLOSED);
    gp_error_release(&err);
    gp__stream_close(streams[0]);
}

static void
memory_is_short(void **state)
{
    gp__stream *stream;
    int ends[2];
    char byte;

    (void)state;
    assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
    alloc_begin(0);
    assert_int_equal(gp__stream_socket_new(&stream, ends[0], NULL), GP_ENOMEM);
    alloc_end();
    assert_int_equal(recv(ends[1], &byte, 1, 0), 0); /* it was closed all the same */
    close(ends[1]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_go_both_ways),
        cmocka_unit_test(each_direction_ends_by_itself),
        cmocka_unit_test(a_stream_that_is_not_read_blocks_its_writer),
        cmocka_unit_test(the_other_side_goes),
        cmocka_unit_test(memory_is_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
