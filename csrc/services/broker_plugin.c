#include "base/alloc.h"
#include "gp/grpc_status.h"
#include "rpc/method.h"
#include "services/broker_state.h"

void
gp__host_stream_finish(gp__host_stream *ended)
{
    gp_server_call_finish(ended->call, GP_GRPC_OK, (gp_bytes){"", 0}, (gp_metadata){NULL, 0});
    gp_server_call_unref(ended->call);
    gp_broker_unref(ended->broker);
    gp__free(ended);
}

/*
 * The host has ended its stream. Finishing the call here would wait for a message that is being
 * sent on it; but this is the polling thread, which has to complete that send. In this case
 * message_sent() finishes the call.
 */
static void
stream_ended(gp__host_stream *stream)
{
    gp_broker *broker = gp_broker_ref(stream->broker);
    gp_server_call *call = stream->call;
    bool current;
    bool later;

    gp_mutex_lock(&broker->lock);
    current = broker->stream == call;
    if (current) {
        broker->stream = NULL;
    }
    later = broker->sending_on == call;
    if (later) {
        broker->ended = stream;
    }
    gp_mutex_unlock(&broker->lock);
    if (!later) {
        gp__host_stream_finish(stream);
    }
    if (current) {
        gp_server_call_unref(call);
        gp__broker_report_gone(broker);
    }
    gp_broker_unref(broker);
}

/* Called on the polling thread. |message| is NULL if no more messages will come. */
static void
message_received(void *ctx, gp_message *message)
{
    gp__host_stream *stream = ctx;

    while (message != NULL) {
        gp__broker_handle_message(stream->broker, message);
        if (gp_server_call_receive_then(stream->call, &message, message_received, stream) == 0) {
            return;
        }
    }
    stream_ended(stream);
}

static void
answer_stream(void *ctx, gp_server_call *call, const gp_message *request)
{
    gp_broker *broker = ctx;
    gp__host_stream *stream = gp__malloc(sizeof(*stream));
    gp_server_call *before;
    gp_message *message;

    (void)request;
    if (stream == NULL) {
        gp_server_call_finish(call, GP_GRPC_RESOURCE_EXHAUSTED, (gp_bytes){"out of memory", 13},
                              (gp_metadata){NULL, 0});
        return;
    }
    *stream = (gp__host_stream){gp_broker_ref(broker), gp_server_call_ref(call)};
    gp_mutex_lock(&broker->lock);
    before = broker->stream;
    broker->stream = gp_server_call_ref(call);
    gp_mutex_unlock(&broker->lock);
    gp_server_call_unref(before);
    if (gp_server_call_receive_then(call, &message, message_received, stream) == 1) {
        message_received(stream, message);
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
        return gp_error_set(err, GP_ENOMEM, "out of memory for the broker service");
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
