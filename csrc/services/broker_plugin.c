#include "base/alloc.h"
#include "rpc/method.h"
#include "services/broker_state.h"

void
gp__broker_finish_hosted(gp__hosted *it)
{
    gp_server_call_finish(it->call, 0, (gp_bytes){"", 0}, (gp_metadata){NULL, 0});
    gp_server_call_unref(it->call);
    gp_broker_unref(it->broker);
    gp__free(it);
}

/*
 * The host has ended its stream. The end of ours would wait for what is being sent, on the polling
 * thread, which is the one to see that through: so it is left to |sent|.
 */
static void
hosted_ended(gp__hosted *it)
{
    gp_broker *broker = gp_broker_ref(it->broker);
    gp_server_call *call = it->call;
    bool current;
    bool later;

    gp_mutex_lock(&broker->lock);
    current = broker->stream == call;
    if (current) {
        broker->stream = NULL;
    }
    later = broker->sending_on == call;
    if (later) {
        broker->ended = it;
    }
    gp_mutex_unlock(&broker->lock);
    if (!later) {
        gp__broker_finish_hosted(it);
    }
    if (current) {
        gp_server_call_unref(call);
        gp__broker_tell_gone(broker);
    }
    gp_broker_unref(broker);
}

/* On the polling thread. */
static void
hosted_received(void *ctx, gp_message *message)
{
    gp__hosted *it = ctx;

    while (message != NULL) {
        gp__broker_take_in(it->broker, message);
        if (gp_server_call_receive_then(it->call, &message, hosted_received, it) == 0) {
            return;
        }
    }
    hosted_ended(it);
}

static void
answer_stream(void *ctx, gp_server_call *call, const gp_message *request)
{
    gp_broker *broker = ctx;
    gp__hosted *it = gp__malloc(sizeof(*it));
    gp_server_call *before;
    gp_message *message;

    (void)request;
    if (it == NULL) {
        gp_server_call_finish(call, 8, (gp_bytes){"out of memory", 13}, (gp_metadata){NULL, 0});
        return;
    }
    *it = (gp__hosted){gp_broker_ref(broker), gp_server_call_ref(call)};
    gp_mutex_lock(&broker->lock);
    before = broker->stream;
    broker->stream = gp_server_call_ref(call);
    gp_mutex_unlock(&broker->lock);
    gp_server_call_unref(before);
    if (gp_server_call_receive_then(call, &message, hosted_received, it) == 1) {
        hosted_received(it, message);
    }
    gp__broker_send_next(broker);
}

static void
release_service(void *ctx)
{
    gp_broker_close(ctx);
    gp_broker_unref(ctx);
}

int
gp_server_add_broker(gp_server *server, gp_tls *tls, gp_grpc_mux *mux, gp_broker **out,
                     gp_error *err)
{
    gp__method *method = gp__calloc(1, sizeof(*method));
    gp_broker *broker = gp__broker_new(tls, mux);
    int rc;

    if (method == NULL || broker == NULL) {
        gp__free(method);
        if (broker != NULL) {
            gp_broker_close(broker);
            gp_broker_unref(broker);
        }
        return gp_error_set(err, GP_ENOMEM, "broker service");
    }
    *method = (gp__method){.path = GP__BROKER_STREAM,
                           .answer = answer_stream,
                           .release = release_service,
                           .ctx = gp_broker_ref(broker),
                           .endless = true,
                           .streams = true};
    rc = gp__server_add_methods(server, method, 1, method, err);
    if (rc < 0) {
        gp_broker_close(broker);
        gp_broker_unref(broker); /* the method's */
        gp_broker_unref(broker);
        return rc;
    }
    *out = broker;
    return 0;
}
