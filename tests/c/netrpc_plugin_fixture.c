#include "netrpc_plugin_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gp/gob.h"

static const gp_gob_member text_member = {NULL, GP_GOB_STRING, 0};

static gp_gob_type *
text_type(void)
{
    static gp_mutex lock = GP_MUTEX_INIT;
    static gp_gob_type *type;

    gp_mutex_lock(&lock);
    if (type == NULL) {
        assert_int_equal(gp_gob_record_new(&type, NULL, &text_member, 1, NULL), 0);
    }
    gp_mutex_unlock(&lock);
    return type;
}

char *
call_text(gp_netrpc_client *client, const char *method, const char *text, gp_error *err)
{
    gp_gob_text value = {text, strlen(text)};
    gp_gob_message reply = GP_GOB_MESSAGE_INIT;
    gp_gob_output *args;
    char *found = NULL;

    assert_int_equal(gp_gob_output_new(&args, NULL), 0);
    assert_int_equal(gp_gob_record_encode(args, text_type(), &value, NULL), 0);
    if (gp_netrpc_call(client, (gp_bytes){method, strlen(method)}, args, patience(), NULL, &reply,
                       err) == 0) {
        assert_int_equal(gp_gob_record_decode(gp_netrpc_client_decoder(client), &reply, text_type(),
                                              &value, NULL),
                         0);
        found = strndup(value.data != NULL ? value.data : "", value.len);
    }
    gp_gob_message_release(&reply);
    gp_gob_output_free(args);
    return found;
}

static void
answer_echo(void *ctx, void *data, gp_netrpc_request *request)
{
    gp_gob_text value = {NULL, 0};
    gp_gob_output *reply;

    (void)ctx;
    (void)data;
    assert_int_equal(gp_gob_record_decode(gp_netrpc_request_decoder(request),
                                          gp_netrpc_request_args(request), text_type(), &value,
                                          NULL),
                     0);
    assert_int_equal(gp_gob_output_new(&reply, NULL), 0);
    assert_int_equal(gp_gob_record_encode(reply, text_type(), &value, NULL), 0);
    gp_netrpc_request_reply(request, reply);
    gp_gob_output_free(reply);
}

static void
hold_call(void *ctx, void *data, gp_netrpc_request *request)
{
    netrpc_plugin *it = ctx;

    (void)data;
    gp_mutex_lock(&it->lock);
    it->held = request;
    gp_cond_broadcast(&it->changed);
    gp_mutex_unlock(&it->lock);
}

static const gp_netrpc_method methods[] = {
    {.name = "Echo", .handle = answer_echo},
    {.name = "Hold", .handle = hold_call},
};
static const gp_netrpc_service service = {"Plugin", methods, 2};

static void
count_release(void *ctx)
{
    netrpc_plugin *it = ctx;

    gp_mutex_lock(&it->lock);
    it->released++;
    gp_cond_broadcast(&it->changed);
    gp_mutex_unlock(&it->lock);
}

static void
dispense(void *ctx, gp_dispense *request)
{
    netrpc_plugin *it = ctx;
    gp_bytes name = gp_dispense_name(request);
    gp_mux_broker *broker = gp_dispense_broker(request);
    uint32_t id = gp_mux_broker_next_id(broker);
    gp_netrpc_services *services;

    if (name.len != 4 || memcmp(name.data, "echo", 4) != 0) {
        gp_dispense_fail(request, (gp_bytes){"unknown plugin type", 19});
        return;
    }
    assert_int_equal(gp_netrpc_services_new(&services, &service, 1, it, count_release, NULL), 0);
    assert_int_equal(
        gp_mux_broker_serve(broker, id, services, NULL, gp_deadline_in(5000), NULL, NULL), 0);
    gp_netrpc_services_unref(services);
    gp_mutex_lock(&it->lock);
    it->made++;
    gp_mutex_unlock(&it->lock);
    gp_dispense_reply(request, id);
}

void
netrpc_plugin_start(netrpc_plugin *it)
{
    static int number;
    gp_netrpc_plugin_options options = {.dispense = dispense, .ctx = it};

    memset(it, 0, sizeof(*it));
    gp_mutex_init(&it->lock);
    gp_cond_init(&it->changed);
    snprintf(it->path, sizeof(it->path), "/tmp/gp-netrpc-%d-%d", (int)getpid(), number++);
    assert_int_equal(gp_stdio_new(&it->stdio, NULL), 0);
    options.stdio = it->stdio;
    assert_int_equal(gp_netrpc_plugin_new(&it->server, &options, NULL), 0);
    assert_int_equal(gp_netrpc_plugin_listen(it->server, "unix", it->path, NULL, NULL), 0);
    assert_int_equal(gp_netrpc_plugin_start(it->server, NULL), 0);
}

void
netrpc_plugin_await_held(netrpc_plugin *it)
{
    gp_mutex_lock(&it->lock);
    while (it->held == NULL) {
        assert_int_equal(gp_cond_wait_until(&it->changed, &it->lock, patience()), 0);
    }
    gp_mutex_unlock(&it->lock);
}

void
netrpc_plugin_answer_held(netrpc_plugin *it)
{
    gp_netrpc_request *request;

    gp_mutex_lock(&it->lock);
    request = it->held;
    it->held = NULL;
    gp_mutex_unlock(&it->lock);
    answer_echo(NULL, NULL, request);
}

void
netrpc_plugin_finish(netrpc_plugin *it)
{
    gp_netrpc_plugin_stop(it->server, 0);
    assert_int_equal(gp_netrpc_plugin_wait(it->server, PATIENCE_MS, NULL), 0);
    gp_netrpc_plugin_release(it->server);
    gp_mutex_lock(&it->lock);
    while (it->released < it->made) {
        assert_int_equal(gp_cond_wait_until(&it->changed, &it->lock, patience()), 0);
    }
    gp_mutex_unlock(&it->lock);
    gp_stdio_unref(it->stdio);
    unlink(it->path);
    gp_cond_release(&it->changed);
    gp_mutex_release(&it->lock);
}
