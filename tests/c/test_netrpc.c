#include <pthread.h>
#include <string.h>

#include "base/alloc.h"
#include "netrpc/client.h"
#include "netrpc/server.h"
#include "transport_fixture.h"

/* A service of C, and a client of it over a connection of its own or a stream of yamux. */
typedef struct stage {
    end ends[2];
    gp_netrpc_services *services;
    gp_netrpc_client *client;
    gp_netrpc_server *server;
    gp_netrpc_request *kept; /* of Test.Keep; guarded by |lock| */
    gp_mutex lock;
    gp_cond changed;
    bool blocked; /* Test.Block waits while it is set */
    int begun;    /* calls of Test.Block */
    int finished; /* calls of |finished| of the server */
    int done;     /* calls of |done| of calls */
    int released; /* the services */
} stage;

static gp_gob_type *text_type;
static const gp_gob_member text_member = {NULL, GP_GOB_STRING, 0};

/* ---- The service ----------------------------------------------------------------------------- */

static gp_bytes
bytes_of(const char *text)
{
    return (gp_bytes){text, strlen(text)};
}

/* An encoded text; NULL when memory is short. */
static gp_gob_output *
encode(const char *text)
{
    const gp_gob_text value = {text, strlen(text)};
    gp_gob_output *output;

    if (gp_gob_output_new(&output, NULL) < 0) {
        return NULL;
    }
    if (gp_gob_record_encode(output, text_type, &value, NULL) < 0) {
        gp_gob_output_free(output);
        return NULL;
    }
    return output;
}

static void
answer(gp_netrpc_request *request, const char *text)
{
    gp_gob_output *output = encode(text);

    if (output == NULL) {
        gp_netrpc_request_fail(request, bytes_of("out of memory"));
    } else {
        gp_netrpc_request_reply(request, output);
    }
    gp_gob_output_free(output);
}

/* Answers with the argument. */
static void
handle_echo(void *ctx, void *data, gp_netrpc_request *request)
{
    gp_gob_text value;
    char text[64] = "";

    (void)ctx;
    (void)data;
    if (gp_gob_record_decode(gp_netrpc_request_decoder(request), gp_netrpc_request_args(request),
                             text_type, &value, NULL) < 0) {
        gp_netrpc_request_fail(request, bytes_of("no text"));
        return;
    }
    memcpy(text, value.data, value.len < sizeof(text) ? value.len : sizeof(text) - 1);
    answer(request, text);
}

static void
handle_fail(void *ctx, void *data, gp_netrpc_request *request)
{
    (void)ctx;
    gp_netrpc_request_fail(request, bytes_of(data));
}

static void
handle_keep(void *ctx, void *data, gp_netrpc_request *request)
{
    stage *it = ctx;

    (void)data;
    gp_mutex_lock(&it->lock);
    it->kept = request;
    gp_cond_broadcast(&it->changed);
    gp_mutex_unlock(&it->lock);
}

static void
handle_block(void *ctx, void *data, gp_netrpc_request *request)
{
    stage *it = ctx;

    (void)data;
    gp_mutex_lock(&it->lock);
    it->begun++;
    gp_cond_broadcast(&it->changed);
    while (it->blocked) {
        gp_cond_wait(&it->changed, &it->lock);
    }
    gp_mutex_unlock(&it->lock);
    answer(request, "unblocked");
}

static const gp_netrpc_method methods[] = {
    {"Echo", handle_echo, NULL, false},       {"Quick", handle_echo, NULL, true},
    {"Fail", handle_fail, "it broke", false}, {"Empty", handle_fail, "", true},
    {"Keep", handle_keep, NULL, true},        {"Block", handle_block, NULL, false},
};
static const gp_netrpc_service service = {"Test", methods, sizeof(methods) / sizeof(methods[0])};

static void
count(stage *it, int *what)
{
    gp_mutex_lock(&it->lock);
    (*what)++;
    gp_cond_broadcast(&it->changed);
    gp_mutex_unlock(&it->lock);
}

static void
on_finished(void *ctx)
{
    count(ctx, &((stage *)ctx)->finished);
}

static void
on_done(void *ctx)
{
    count(ctx, &((stage *)ctx)->done);
}

static void
on_release(void *ctx)
{
    count(ctx, &((stage *)ctx)->released);
}

/* Wait until |*what| is |value|. */
static void
await_count(stage *it, const int *what, int value)
{
    int64_t deadline = gp_deadline_in(PATIENCE_MS);

    gp_mutex_lock(&it->lock);
    while (*what < value) {
        assert_int_equal(gp_cond_wait_until(&it->changed, &it->lock, deadline), 0);
    }
    gp_mutex_unlock(&it->lock);
}

static gp_netrpc_request *
await_kept(stage *it)
{
    int64_t deadline = gp_deadline_in(PATIENCE_MS);
    gp_netrpc_request *kept;

    gp_mutex_lock(&it->lock);
    while (it->kept == NULL) {
        assert_int_equal(gp_cond_wait_until(&it->changed, &it->lock, deadline), 0);
    }
    kept = it->kept;
    it->kept = NULL;
    gp_mutex_unlock(&it->lock);
    return kept;
}

/* Uses no data, which waits for the next user. */
static size_t
leave_data(void *ctx, const unsigned char *bytes, size_t len)
{
    (void)ctx;
    (void)bytes;
    (void)len;
    return 0;
}

static void
ignore_end(void *ctx, const gp_error *why)
{
    (void)ctx;
    (void)why;
}

static const gp__transport_stream_ops unused_ops = {leave_data, ignore_end, NULL};

/* ---- The stage ------------------------------------------------------------------------------- */

/* Open a stream of |it|, or take the one that has come. */
static gp__transport_stream *
take_stream(end *it, bool opens)
{
    line *taken = opens ? line_open(it) : line_arrive(it);
    gp__transport_stream *stream = taken->stream;

    gp_mutex_lock(&it->transport->lock);
    gp__transport_stream_use_locked(stream, &unused_ops, NULL);
    gp_mutex_unlock(&it->transport->lock);
    gp__buf_release(&taken->in);
    gp_error_release(&taken->why);
    gp__free(taken);
    return stream;
}

/* The client's stream, and the server's. */
static void
take_streams(stage *it, gp__transport_stream *streams[2])
{
    streams[0] = take_stream(&it->ends[0], true);
    streams[1] = take_stream(&it->ends[1], it->ends[1].transport->options.raw);
}

/* Returns 0 or GP_ENOMEM. */
static int
open_client(stage *it, gp__transport_stream *stream)
{
    int rc;

    gp_mutex_lock(&it->ends[0].transport->lock);
    rc = gp__netrpc_client_new_locked(&it->client, stream, false, NULL, NULL);
    gp_mutex_unlock(&it->ends[0].transport->lock);
    return rc;
}

static int
open_server(stage *it, gp__transport_stream *stream)
{
    int rc;

    gp_mutex_lock(&it->ends[1].transport->lock);
    rc = gp__netrpc_server_open_locked(&it->server, stream, it->services, NULL, on_finished, it,
                                       NULL);
    gp_mutex_unlock(&it->ends[1].transport->lock);
    return rc;
}

static void
stage_init(stage *it, carrier how)
{
    *it = (stage){.client = NULL};
    gp_mutex_init(&it->lock);
    gp_cond_init(&it->changed);
    ends_open(it->ends, how, NULL);
}

static void
stage_open(stage *it, carrier how)
{
    gp__transport_stream *streams[2];

    stage_init(it, how);
    take_streams(it, streams);
    assert_int_equal(gp_netrpc_services_new(&it->services, &service, 1, it, on_release, NULL), 0);
    assert_int_equal(open_client(it, streams[0]), 0);
    assert_int_equal(open_server(it, streams[1]), 0);
}

/* Whatever has been opened. */
static void
stage_close(stage *it)
{
    gp_netrpc_client_unref(it->client);
    if (it->server != NULL) {
        gp_netrpc_server_close(it->server);
        assert_int_equal(gp_netrpc_server_wait(it->server, gp_deadline_in(PATIENCE_MS), NULL), 0);
        await_count(it, &it->finished, 1);
        gp_netrpc_server_unref(it->server);
    }
    gp_netrpc_services_unref(it->services);
    ends_release(it->ends);
    /* By the worker that has run the last handler, it may be a moment later. */
    await_count(it, &it->released, it->services != NULL);
    gp_mutex_release(&it->lock);
    gp_cond_release(&it->changed);
}

static void
expect_text(gp_gob_decoder *decoder, const gp_gob_message *message, const char *expected)
{
    gp_gob_text value;

    assert_int_equal(gp_gob_record_decode(decoder, message, text_type, &value, NULL), 0);
    assert_int_equal(value.len, strlen(expected));
    assert_memory_equal(value.data, expected, value.len);
}

/* Call, and expect this reply. */
static void
expect_reply(stage *it, const char *method, const char *text, const char *expected)
{
    gp_gob_output *args = encode(text);
    gp_gob_message reply = GP_GOB_MESSAGE_INIT;

    assert_int_equal(gp_netrpc_call(it->client, bytes_of(method), args, gp_deadline_in(PATIENCE_MS),
                                    NULL, &reply, NULL),
                     0);
    expect_text(gp_netrpc_client_decoder(it->client), &reply, expected);
    gp_gob_message_release(&reply);
    gp_gob_output_free(args);
}

/* Call, and expect an error of this code and with this text. */
static void
expect_error(stage *it, const char *method, int64_t deadline, int code, const char *text)
{
    gp_gob_output *args = encode("");
    gp_gob_message reply;
    gp_error err = GP_ERROR_INIT;

    assert_int_equal(
        gp_netrpc_call(it->client, bytes_of(method), args, deadline, NULL, &reply, &err), code);
    assert_string_equal(gp_error_message(&err), text);
    gp_error_release(&err);
    gp_gob_output_free(args);
}

static gp_netrpc_pending *
start_call(stage *it, const char *method)
{
    gp_netrpc_pending *call;

    assert_int_equal(
        gp_netrpc_start(&call, it->client, bytes_of(method), encode("text"), on_done, it, NULL), 0);
    return call;
}

/* ---- Tests ----------------------------------------------------------------------------------- */

static carrier
carrier_of(void **state)
{
    return *(const carrier *)*state;
}

static void
calls_are_answered(void **state)
{
    int64_t patience = gp_deadline_in(PATIENCE_MS);
    stage it;

    stage_open(&it, carrier_of(state));
    for (int i = 0; i < rounds(100); i++) {
        expect_reply(&it, "Test.Echo", "there", "there");
        expect_reply(&it, "Test.Quick", "and back", "and back");
    }
    expect_error(&it, "Test.Fail", patience, GP_ESERVER, "it broke");
    expect_error(&it, "Test.Empty", patience, GP_ESERVER, "error");
    expect_error(&it, "Test.Nope", patience, GP_ESERVER, "rpc: can't find method Test.Nope");
    expect_error(&it, "Tes.Echo", patience, GP_ESERVER, "rpc: can't find service Tes.Echo");
    expect_error(&it, "Test", patience, GP_ESERVER, "rpc: service/method request ill-formed: Test");
    stage_close(&it);
}

static void
answers_may_come_later(void **state)
{
    gp_netrpc_pending *call;
    const gp_gob_message *reply;
    stage it;

    stage_open(&it, carrier_of(state));
    call = start_call(&it, "Test.Keep");
    assert_int_equal(gp_netrpc_pending_wait(call, gp_deadline_in(1), NULL), GP_ETIMEOUT);
    assert_false(gp_netrpc_pending_over(call));
    answer(await_kept(&it), "late");
    await_count(&it, &it.done, 1); /* no thread waits for the call itself */
    assert_int_equal(gp_netrpc_pending_wait(call, gp_deadline_in(0), NULL), 0);
    assert_int_equal(gp_netrpc_pending_result(call, &reply, NULL), 0);
    expect_text(gp_netrpc_client_decoder(it.client), reply, "late");
    assert_false(gp_netrpc_pending_cancel(call));
    gp_netrpc_pending_unref(call);
    stage_close(&it);
}

static void
calls_are_given_up(void **state)
{
    gp_netrpc_pending *call;
    const gp_gob_message *reply;
    stage it;

    stage_open(&it, carrier_of(state));
    expect_error(&it, "Test.Keep", gp_deadline_in(1), GP_ETIMEOUT,
                 "Test.Keep was not answered in time");
    answer(await_kept(&it), "too late");
    call = start_call(&it, "Test.Keep");
    assert_true(gp_netrpc_pending_cancel(call));
    assert_true(gp_netrpc_pending_over(call));
    assert_int_equal(gp_netrpc_pending_result(call, &reply, NULL), GP_EUSER);
    gp_netrpc_pending_unref(call);
    gp_netrpc_request_fail(await_kept(&it), bytes_of("too late"));
    expect_reply(&it, "Test.Echo", "on time", "on time");
    assert_int_equal(it.done, 0);
    stage_close(&it);
}

static void
the_end_of_the_client(void **state)
{
    gp_netrpc_pending *call;
    const gp_gob_message *reply;
    gp_error err = GP_ERROR_INIT;
    gp_netrpc_request *kept;
    stage it;

    stage_open(&it, carrier_of(state));
    call = start_call(&it, "Test.Keep");
    gp_netrpc_request_fail(await_kept(&it), bytes_of("answered"));
    await_count(&it, &it.done, 1);
    gp_netrpc_pending_unref(call);
    call = start_call(&it, "Test.Keep");
    kept = await_kept(&it);
    gp_netrpc_client_close(it.client);
    await_count(&it, &it.done, 2);
    assert_true(gp_netrpc_client_closed(it.client));
    assert_int_equal(gp_netrpc_pending_result(call, &reply, &err), GP_ECLOSED);
    assert_string_equal(gp_error_message(&err), "connection is shut down");
    gp_error_release(&err);
    gp_netrpc_pending_unref(call);
    expect_error(&it, "Test.Echo", GP__FOREVER, GP_ECLOSED, "connection is shut down");
    answer(kept, "nothing reads this");
    stage_close(&it);
}

static void
the_end_of_the_server(void **state)
{
    gp_netrpc_pending *calls[3];
    gp_error err = GP_ERROR_INIT;
    const gp_gob_message *reply;
    stage it;

    stage_open(&it, carrier_of(state));
    it.blocked = true;
    for (int i = 0; i < 3; i++) {
        calls[i] = start_call(&it, "Test.Block");
    }
    await_count(&it, &it.begun, 1);
    gp_netrpc_server_close(it.server);
    gp_netrpc_server_close(it.server);
    await_count(&it, &it.done, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(gp_netrpc_pending_result(calls[i], &reply, &err), GP_ECLOSED);
        assert_non_null(strstr(gp_error_message(&err), "connection is shut down: "));
        gp_error_release(&err);
        gp_netrpc_pending_unref(calls[i]);
    }
    /* The handler runs, so the server is not finished. */
    assert_int_equal(gp_netrpc_server_wait(it.server, gp_deadline_in(1), NULL), GP_ETIMEOUT);
    gp_mutex_lock(&it.lock);
    assert_int_equal(it.finished, 0);
    it.blocked = false;
    gp_cond_broadcast(&it.changed);
    gp_mutex_unlock(&it.lock);
    stage_close(&it);
}

enum { THREADS = 4 };

static void *
call_often(void *ctx)
{
    stage *it = ctx;

    for (int i = 0; i < rounds(100); i++) {
        expect_reply(it, i % 2 ? "Test.Echo" : "Test.Quick", "there", "there");
    }
    return NULL;
}

static void
threads_share_a_client(void **state)
{
    pthread_t threads[THREADS];
    stage it;

    stage_open(&it, carrier_of(state));
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, call_often, &it), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        gp_netrpc_pending *call = start_call(&it, "Test.Quick");

        gp_netrpc_pending_unref(call);
        pthread_join(threads[i], NULL);
    }
    await_count(&it, &it.done, THREADS);
    stage_close(&it);
}

static void
release_stream(gp__transport_stream *stream)
{
    gp__transport *transport = stream->transport;

    gp_mutex_lock(&transport->lock);
    gp__transport_stream_release_locked(stream);
    gp_mutex_unlock(&transport->lock);
}

/* Open both sides and call once, with allocation number |failing| failing. */
static void
use_short_memory(carrier how, long failing)
{
    gp_gob_message reply = GP_GOB_MESSAGE_INIT;
    gp__transport_stream *streams[2];
    gp_gob_output *args = encode("text");
    stage it;

    stage_init(&it, how);
    take_streams(&it, streams);
    alloc_begin(failing);
    if (gp_netrpc_services_new(&it.services, &service, 1, &it, on_release, NULL) < 0) {
        release_stream(streams[0]);
        release_stream(streams[1]);
    } else {
        bool opened = open_client(&it, streams[0]) == 0;

        opened = open_server(&it, streams[1]) == 0 && opened;
        if (opened && gp_netrpc_call(it.client, bytes_of("Test.Echo"), args,
                                     gp_deadline_in(PATIENCE_MS), NULL, &reply, NULL) == 0) {
            gp_gob_message_release(&reply);
        }
    }
    stage_close(&it);
    gp_gob_output_free(args);
    gp__reactor_stop(); /* it frees its watches */
}

static void
every_allocation_fails(void **state)
{
    long count;

    use_short_memory(carrier_of(state), -1);
    count = alloc_end();
    assert_true(count > 0);
    for (long i = 0; i < count; i++) {
        use_short_memory(carrier_of(state), i);
        alloc_end();
    }
}

/* ---- The group ------------------------------------------------------------------------------- */

static int
make_types(void **state)
{
    assert_int_equal(gp_gob_record_new(&text_type, NULL, &text_member, 1, NULL), 0);
    return transport_make_tls(state);
}

static int
free_types(void **state)
{
    gp_gob_type_unref(text_type);
    return transport_free_tls(state);
}

#define EACH(test)                                          \
    {#test ": yamux", test, NULL, NULL, &(carrier){PLAIN}}, \
    {                                                       \
        #test ": raw", test, NULL, NULL, &(carrier)         \
        {                                                   \
            RAW                                             \
        }                                                   \
    }

int
main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(calls_are_answered),     EACH(answers_may_come_later), EACH(calls_are_given_up),
        EACH(the_end_of_the_client),  EACH(the_end_of_the_server),  EACH(threads_share_a_client),
        EACH(every_allocation_fails),
    };

    return cmocka_run_group_tests(tests, make_types, free_types);
}
