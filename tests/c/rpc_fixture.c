#include "rpc_fixture.h"

gp_bytes
text(const char *s)
{
    return (gp_bytes){s, strlen(s)};
}

gp_metadata
no_metadata(void)
{
    return (gp_metadata){NULL, 0};
}

int
fixture_begin(void *ctx, gp_server_call *call, void **data)
{
    static const struct {
        const char *path;
        int wants_message;
    } methods[] = {
        {"/t/Echo", 1}, {"/t/Count", 1}, {"/t/Chat", 0}, {"/t/Block", 1}, {"/t/Fail", 1},
    };
    gp_bytes path = gp_server_call_method(call);

    (void)ctx;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (path.len == strlen(methods[i].path) &&
            memcmp(path.data, methods[i].path, path.len) == 0) {
            *data = (void *)(uintptr_t)methods[i].path;
            return methods[i].wants_message;
        }
    }
    return -1;
}

void
count_finished(void *ctx)
{
    atomic_fetch_add((atomic_int *)ctx, 1);
}

static void
reply_with(gp_server_call *call, gp_message *message)
{
    size_t size = gp_message_size(message);
    char *bytes = malloc(size + 1);

    gp_message_copy(message, bytes);
    gp_message_free(message);
    gp_server_call_reply(call, (gp_bytes){bytes, size}, GP_GRPC_OK, text(""), no_metadata());
    free(bytes);
}

static void
run_stream(gp_server_call *call, const char *method)
{
    char bytes[65536] = {0};
    gp_message *message;
    size_t size = 0;
    int rc = 0;

    if (strcmp(method, "/t/Count") == 0) {
        if (gp_server_call_receive(call, &message, NULL) == 1) {
            size = gp_message_size(message);
            gp_message_free(message);
        }
        while (rc == 0) {
            rc = gp_server_call_send(call, (gp_bytes){bytes, size}, NULL);
        }
    } else {
        while (rc == 0 && gp_server_call_receive(call, &message, NULL) == 1) {
            size = gp_message_size(message);
            gp_message_copy(message, bytes);
            gp_message_free(message);
            rc = gp_server_call_send(call, (gp_bytes){bytes, size}, NULL);
        }
    }
    gp_server_call_finish(call, GP_GRPC_OK, text(""), no_metadata());
}

void
fixture_run(void *ctx, gp_server_call *call, void *data)
{
    fixture *self = ctx;
    const char *method = data;
    gp_message *message;

    if (strcmp(method, "/t/Count") == 0 || strcmp(method, "/t/Chat") == 0) {
        run_stream(call, method);
        return;
    }
    if (gp_server_call_receive(call, &message, NULL) != 1) {
        gp_server_call_finish(call, GP_GRPC_INTERNAL, text("no request"), no_metadata());
        return;
    }
    if (strcmp(method, "/t/Fail") == 0) {
        gp_metadatum item = {text("why"), text("because")};

        gp_message_free(message);
        gp_server_call_finish(call, GP_GRPC_FAILED_PRECONDITION, text("as asked"),
                              (gp_metadata){&item, 1});
        return;
    }
    if (strcmp(method, "/t/Block") == 0) {
        gp_server_call_on_finished(call, count_finished, &self->finished);
        gp_mutex_lock(&self->lock);
        self->inside++;
        gp_cond_broadcast(&self->changed);
        while (!self->gate_open) {
            gp_cond_wait(&self->changed, &self->lock);
        }
        self->inside--;
        gp_mutex_unlock(&self->lock);
    }
    reply_with(call, message);
}

void
fixture_release(void *ctx)
{
    fixture *self = ctx;

    gp_mutex_lock(&self->lock);
    self->released = true;
    gp_cond_broadcast(&self->changed);
    gp_mutex_unlock(&self->lock);
}

void
fixture_take(void *ctx, gp_server_call *call)
{
    fixture *self = ctx;

    gp_mutex_lock(&self->lock);
    self->taken = call;
    gp_cond_broadcast(&self->changed);
    gp_mutex_unlock(&self->lock);
}

gp_server_call *
take_call(fixture *self)
{
    int64_t deadline = gp_deadline_in(20000);
    gp_server_call *call;

    gp_mutex_lock(&self->lock);
    while (self->taken == NULL) {
        assert_int_equal(gp_cond_wait_until(&self->changed, &self->lock, deadline), 0);
    }
    call = self->taken;
    self->taken = NULL;
    gp_mutex_unlock(&self->lock);
    return call;
}

void
open_gate(fixture *self)
{
    gp_mutex_lock(&self->lock);
    self->gate_open = true;
    gp_cond_broadcast(&self->changed);
    gp_mutex_unlock(&self->lock);
}

void
wait_inside(fixture *self, int count)
{
    int64_t deadline = gp_deadline_in(20000);

    gp_mutex_lock(&self->lock);
    while (self->inside < count) {
        assert_int_equal(gp_cond_wait_until(&self->changed, &self->lock, deadline), 0);
    }
    gp_mutex_unlock(&self->lock);
}

void
fixture_open(fixture *self, int max_workers, int max_concurrent,
             void (*take)(void *ctx, gp_server_call *call))
{
    static atomic_int number;
    gp_error err = GP_ERROR_INIT;
    gp_server_options options = {
        .handler = {fixture_begin, fixture_run, fixture_release, take},
        .handler_ctx = self,
        .max_workers = max_workers,
        .max_concurrent = max_concurrent,
    };

    memset(self, 0, sizeof(*self));
    gp_mutex_init(&self->lock);
    gp_cond_init(&self->changed);
    completions_init(&self->completions);
    snprintf(self->target, sizeof(self->target), "unix:/tmp/gp-test-%d-%d", (int)getpid(),
             atomic_fetch_add(&number, 1));
    assert_int_equal(gp_server_new(&self->server, &options, &err), 0);
    assert_int_equal(gp_server_add_health(self->server, "plugin", &err), 0);
    assert_int_equal(gp_server_add_controller(self->server, 2000, &err), 0);
    assert_int_equal(gp_server_add_broker(self->server, NULL, NULL, &self->broker, &err), 0);
    assert_int_equal(gp_server_listen(self->server, self->target, NULL, &err), 0);
    assert_int_equal(gp_server_start(self->server, &err), 0);
    assert_int_equal(gp_channel_open(&self->channel, self->target, NULL, &err), 0);
}

void
fixture_start(fixture *self, int max_workers, int max_concurrent)
{
    fixture_open(self, max_workers, max_concurrent, NULL);
}

void
fixture_stop(fixture *self)
{
    int64_t deadline = gp_deadline_in(20000);

    open_gate(self);
    gp_channel_close(self->channel);
    gp_channel_unref(self->channel);
    gp_server_stop(self->server, 0);
    assert_int_equal(gp_server_join(self->server, 20000, NULL), 0);
    gp_server_release(self->server);
    gp_broker_unref(self->broker);
    gp_mutex_lock(&self->lock);
    while (!self->released) {
        assert_int_equal(gp_cond_wait_until(&self->changed, &self->lock, deadline), 0);
    }
    gp_mutex_unlock(&self->lock);
    gp_message_free(self->completions.message);
    completions_release(&self->completions);
    gp_cond_release(&self->changed);
    gp_mutex_release(&self->lock);
}

static int
allocate(void **state, int max_workers, void (*take)(void *ctx, gp_server_call *call))
{
    fixture *self = malloc(sizeof(*self));

    fixture_open(self, max_workers, 0, take);
    *state = self;
    return 0;
}

int
fixture_setup(void **state)
{
    return allocate(state, 4, NULL);
}

int
fixture_setup_taking(void **state)
{
    return allocate(state, 2, fixture_take);
}

int
fixture_teardown(void **state)
{
    fixture_stop(*state);
    free(*state);
    return 0;
}

gp_call_options
options_for(const char *method)
{
    return (gp_call_options){.method = text(method),
                             .timeout_ns = INT64_C(20000000000),
                             .compression = GP_COMPRESS_DEFAULT};
}

gp_call *
start_call(fixture *self, const char *method, const char *request)
{
    gp_call_options options = options_for(method);
    gp_error err = GP_ERROR_INIT;
    gp_call *call = NULL;

    assert_int_equal(gp_call_start_unary(&call, self->channel, &options, text(request), &err), 0);
    return call;
}

gp_call *
open_stream(fixture *self, const char *method, const char *request)
{
    gp_call_options options = options_for(method);
    gp_bytes bytes = text(request != NULL ? request : "");
    gp_call *call;

    assert_int_equal(
        gp_call_start_stream(&call, self->channel, &options, request != NULL ? &bytes : NULL, NULL),
        0);
    gp_call_attend(call);
    return call;
}

int
outcome(gp_call *call)
{
    assert_int_equal(gp_call_wait(call, -1, NULL), 0);
    return gp_call_get_status(call)->code;
}

void
finish_call(gp_call *call, int code)
{
    assert_int_equal(outcome(call), code);
    gp_call_unref(call);
}

void
on_received(void *ctx, gp_message *message)
{
    completions *self = ctx;

    gp_message_free(self->message);
    self->message = message;
    self->ends += message == NULL;
    count_completion(self);
}

void
assert_message(const gp_message *message, const char *expected)
{
    char bytes[64];

    assert_non_null(message);
    assert_int_equal(gp_message_size(message), strlen(expected));
    gp_message_copy(message, bytes);
    assert_memory_equal(bytes, expected, strlen(expected));
}

void
assert_reply(gp_call *call, const char *expected)
{
    gp_message *reply = gp_call_take_reply(call);

    assert_message(reply, expected);
    gp_message_free(reply);
}

void
expect_message(gp_call *call, const char *expected)
{
    gp_message *message;

    assert_int_equal(gp_call_receive(call, &message, NULL), 1);
    assert_message(message, expected);
    gp_message_free(message);
}

void
expect_numbers(gp_call *call, unsigned count)
{
    gp_message *message;
    unsigned number;

    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(gp_call_receive(call, &message, NULL), 1);
        assert_int_equal(gp_message_size(message), sizeof(number));
        gp_message_copy(message, &number);
        assert_int_equal(number, i);
        gp_message_free(message);
    }
}

void
expect_end(gp_call *call, int code)
{
    gp_message *message;

    assert_int_equal(gp_call_receive(call, &message, NULL), 0);
    assert_int_equal(outcome(call), code);
}
