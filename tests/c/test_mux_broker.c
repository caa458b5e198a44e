#include "netrpc/mux_broker.h"

#include <pthread.h>
#include <string.h>

#include "base/alloc.h"
#include "netrpc/workers.h"
#include "os/fd.h"
#include "support.h"

/* One side of a connection. */
typedef struct side {
    gp__transport *transport;
    gp_mux_broker *broker;
} side;

GP_NO_THREAD_SAFETY_ANALYSIS static void
take_stream(void *ctx, gp__transport_stream *stream)
{
    side *it = ctx;

    gp__mux_broker_take_stream_locked(it->broker, stream);
}

GP_NO_THREAD_SAFETY_ANALYSIS static void
end_broker(void *ctx, const gp_error *why)
{
    side *it = ctx;

    (void)why;
    gp__mux_broker_end_locked(it->broker);
}

static void
open_side(side *it, int fd, bool client)
{
    const gp__transport_options options = {
        .client = client, .accept = take_stream, .over = end_broker, .ctx = it};
    gp__stream *stream;

    assert_int_equal(gp__stream_socket_new(&stream, fd, NULL), 0);
    assert_int_equal(gp__transport_open(&it->transport, stream, &options, NULL), 0);
    assert_int_equal(gp__mux_broker_new(&it->broker, it->transport, NULL), 0);
}

static void
open_sides(side sides[2])
{
    int fds[2];

    assert_int_equal(gp__fd_socketpair(fds, NULL), 0);
    open_side(&sides[0], fds[0], true);
    open_side(&sides[1], fds[1], false);
}

static void
close_side(side *it)
{
    gp__mux_broker_close(it->broker);
    gp__transport_close(it->transport, NULL, 0);
    gp_mux_broker_unref(it->broker);
    gp__transport_unref(it->transport);
}

static void
close_sides(side sides[2])
{
    close_side(&sides[0]);
    close_side(&sides[1]);
}

/* A dial or an accept on a thread of its own. */
typedef struct attempt {
    gp_mux_broker *broker;
    uint32_t id;
    bool dials;
    pthread_t thread;
    gp_netrpc_file *file;
    gp_error err;
    int rc;
} attempt;

static void *
run_attempt(void *ctx)
{
    attempt *it = ctx;

    it->rc = (it->dials ? gp_mux_broker_dial_file : gp_mux_broker_accept_file)(
        it->broker, it->id, patience(), NULL, &it->file, &it->err);
    return NULL;
}

static void
begin_attempt(attempt *it, gp_mux_broker *broker, uint32_t id, bool dials)
{
    *it = (attempt){.broker = broker, .id = id, .dials = dials};
    assert_int_equal(pthread_create(&it->thread, NULL, run_attempt, it), 0);
}

static void
await_attempt(attempt *it)
{
    pthread_join(it->thread, NULL);
}

static void
write_text(gp_netrpc_file *file, const char *text)
{
    size_t written;

    assert_int_equal(
        gp_netrpc_file_write(file, text, strlen(text), &written, patience(), NULL, NULL), 0);
}

static void
assert_reads(gp_netrpc_file *file, const char *text)
{
    char bytes[16] = "";
    size_t got = 0;

    while (got < strlen(text)) {
        ptrdiff_t some =
            gp_netrpc_file_read(file, bytes + got, sizeof(bytes) - got, patience(), NULL, NULL);

        assert_true(some > 0);
        got += (size_t)some;
    }
    assert_int_equal(got, strlen(text));
    assert_memory_equal(bytes, text, got);
}

static void
ids_begin_at_one(void **state)
{
    side sides[2];

    (void)state;
    open_sides(sides);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(gp_mux_broker_next_id(sides[i].broker), 1);
        assert_int_equal(gp_mux_broker_next_id(sides[i].broker), 2);
        assert_true(gp_mux_broker_connected(sides[i].broker));
    }
    close_sides(sides);
}

static void
either_side_may_dial(void **state)
{
    side sides[2];

    (void)state;
    open_sides(sides);
    for (int dialler = 0; dialler < 2; dialler++) {
        for (int first = 0; first < 2; first++) {
            attempt accepting;
            attempt dialling;

            begin_attempt(first ? &accepting : &dialling, sides[first ? !dialler : dialler].broker,
                          7, !first);
            begin_attempt(first ? &dialling : &accepting, sides[first ? dialler : !dialler].broker,
                          7, first);
            await_attempt(&accepting);
            await_attempt(&dialling);
            assert_int_equal(accepting.rc, 0);
            assert_int_equal(dialling.rc, 0);
            write_text(accepting.file, "first"); /* right behind the answer */
            assert_reads(dialling.file, "first");
            write_text(dialling.file, "second");
            assert_reads(accepting.file, "second");
            gp_netrpc_file_free(dialling.file);
            gp_netrpc_file_free(accepting.file);
        }
    }
    close_sides(sides);
}

static void
an_id_is_accepted_once_at_a_time(void **state)
{
    gp_netrpc_services *services;
    gp_mux_serving *serving;
    gp_error err = GP_ERROR_INIT;
    side sides[2];

    (void)state;
    open_sides(sides);
    assert_int_equal(gp_netrpc_services_new(&services, NULL, 0, NULL, NULL, NULL), 0);
    assert_int_equal(
        gp_mux_broker_serve(sides[0].broker, 3, services, NULL, patience(), &serving, NULL), 0);
    assert_int_equal(
        gp_mux_broker_serve(sides[0].broker, 3, services, NULL, patience(), NULL, &err),
        GP_EBROKER);
    assert_non_null(strstr(gp_error_message(&err), "is being accepted already"));
    gp_mux_serving_stop(serving);
    gp_mux_serving_stop(serving);
    assert_int_equal(
        gp_mux_broker_serve(sides[0].broker, 3, services, NULL, patience(), NULL, NULL), 0);
    gp_mux_serving_unref(serving);
    gp_netrpc_services_unref(services);
    gp_error_release(&err);
    close_sides(sides);
}

static void
what_is_not_dialled_or_not_accepted_times_out(void **state)
{
    gp_netrpc_file *file;
    gp_error err = GP_ERROR_INIT;
    side sides[2];

    (void)state;
    open_sides(sides);
    assert_int_equal(
        gp_mux_broker_dial_file(sides[0].broker, 1, gp_deadline_in(20), NULL, &file, &err),
        GP_EBROKER);
    assert_non_null(strstr(gp_error_message(&err), "connection 1 cannot be dialled"));
    assert_int_equal(
        gp_mux_broker_accept_file(sides[0].broker, 2, gp_deadline_in(20), NULL, &file, &err),
        GP_EBROKER);
    assert_non_null(strstr(gp_error_message(&err), "connection 2 was not dialled"));
    gp_error_release(&err);
    close_sides(sides);
}

static void
the_end_of_the_connection_ends_waits(void **state)
{
    attempt accepting;
    attempt dialling;
    side sides[2];

    (void)state;
    open_sides(sides);
    begin_attempt(&accepting, sides[0].broker, 1, false);
    begin_attempt(&dialling, sides[0].broker, 2, true);
    close_side(&sides[1]);
    await_attempt(&accepting);
    await_attempt(&dialling);
    assert_int_equal(accepting.rc, GP_EBROKER);
    assert_int_equal(dialling.rc, GP_EBROKER);
    assert_int_equal(dialling.err.code, GP_EBROKER);
    assert_false(gp_mux_broker_connected(sides[0].broker));
    gp_error_release(&accepting.err);
    gp_error_release(&dialling.err);
    close_side(&sides[0]);
}

/* ---- A dialler that does not follow the protocol ---- */

enum { FLOOD = 700 };

static size_t
ignore_bytes(void *ctx, const unsigned char *bytes, size_t len)
{
    (void)ctx;
    (void)bytes;
    return len;
}

static void
ignore_end(void *ctx, const gp_error *why)
{
    (void)ctx;
    (void)why;
}

static const gp__transport_stream_ops ignoring = {.received = ignore_bytes, .ended = ignore_end};

/* Open |count| streams and write |len| bytes of an id that is not accepted to each. */
static void
flood(side *it, gp__transport_stream **streams, int count, size_t len)
{
    gp_mutex_lock(&it->transport->lock);
    for (int i = 0; i < count; i++) {
        assert_int_equal(
            gp__transport_stream_open_locked(&streams[i], it->transport, &ignoring, NULL, NULL), 0);
        if (len > 0) {
            gp__transport_stream_send_locked(streams[i], "\377\0\0\0", len, NULL);
        }
    }
    gp__transport_flush_locked(it->transport);
    gp_mutex_unlock(&it->transport->lock);
}

static void
streams_that_nobody_accepts_do_not_hinder_others(void **state)
{
    static const size_t lengths[] = {0, 3, 4};
    gp__transport_stream *streams[FLOOD];

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        attempt accepting;
        attempt dialling;
        side sides[2];

        open_sides(sides);
        flood(&sides[0], streams, FLOOD, lengths[i]);
        begin_attempt(&accepting, sides[1].broker, 9, false);
        begin_attempt(&dialling, sides[0].broker, 9, true);
        await_attempt(&accepting);
        await_attempt(&dialling);
        assert_int_equal(accepting.rc, 0);
        assert_int_equal(dialling.rc, 0);
        gp_netrpc_file_free(accepting.file);
        gp_netrpc_file_free(dialling.file);
        gp_mutex_lock(&sides[0].transport->lock);
        for (int k = 0; k < FLOOD; k++) {
            gp__transport_stream_release_locked(streams[k]);
        }
        gp_mutex_unlock(&sides[0].transport->lock);
        close_sides(sides);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_begin_at_one),
        cmocka_unit_test(either_side_may_dial),
        cmocka_unit_test(an_id_is_accepted_once_at_a_time),
        cmocka_unit_test(what_is_not_dialled_or_not_accepted_times_out),
        cmocka_unit_test(the_end_of_the_connection_ends_waits),
        cmocka_unit_test(streams_that_nobody_accepts_do_not_hinder_others),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    gp__workers_end(patience());
    gp__reactor_stop();
    return failed;
}
