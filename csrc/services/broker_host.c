#include "services/broker.h"

#include "base/alloc.h"
#include "gp/call.h"
#include "gp/grpc_status.h"
#include "rpc/channel.h"
#include "services/broker_state.h"

/* The stream, which must not be over. Borrowed. */
static gp_call *
call_of(gp_broker *broker)
{
    gp_call *call;

    gp_mutex_lock(&broker->lock);
    call = broker->call;
    gp_mutex_unlock(&broker->lock);
    return call;
}

/* Called on the polling thread: the stream has its status. */
static void
stream_ended(void *ctx)
{
    gp_broker *broker = ctx;
    gp_call *call = call_of(broker);
    bool unimplemented = gp_call_get_status(call)->code == GP_GRPC_UNIMPLEMENTED;

    gp_mutex_lock(&broker->lock);
    broker->call = NULL;
    if (unimplemented) {
        gp__broker_set_gone_locked(broker, "%s has no broker service (plugin.GRPCBroker)",
                                   gp__broker_other_side(broker));
    } else {
        gp__broker_set_gone_locked(broker, "%s has gone", gp__broker_other_side(broker));
    }
    gp_mutex_unlock(&broker->lock);
    gp__broker_report_gone(broker);
    gp_call_unref(call);
    gp_broker_unref(broker); /* the stream's */
}

/* Called on the polling thread. |message| is NULL if no more messages will come. */
static void
message_received(void *ctx, gp_message *message)
{
    gp_broker *broker = ctx;
    gp_call *call = call_of(broker);

    while (message != NULL) {
        gp__broker_handle_message(broker, message);
        if (gp_call_receive_then(call, &message, message_received, broker) == 0) {
            return;
        }
    }
    gp_call_on_done(call, stream_ended, broker);
}

int
gp__broker_open(gp_broker **out, gp_channel *channel, gp_tls *tls, gp_grpc_mux *mux,
                gp__process *process, const char *directory, gp_error *err)
{
    const gp_call_options options = {.method = {GP__BROKER_STREAM, sizeof(GP__BROKER_STREAM) - 1},
                                     .timeout_ns = -1,
                                     .compression = GP_COMPRESS_DEFAULT};
    gp_broker *broker = gp__broker_new(tls, mux);
    gp_message *message;
    gp_call *call;
    int rc;

    if (broker == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a plugin's broker");
    }
    broker->of_host = true;
    if (directory != NULL && (broker->directory = gp__strdup(directory)) == NULL) {
        gp_broker_close(broker);
        gp_broker_unref(broker);
        return gp_error_set(err, GP_ENOMEM, "out of memory for a plugin's broker");
    }
    rc = gp_call_start_stream(&call, channel, &options, NULL, err);
    if (rc < 0) {
        gp_broker_close(broker);
        gp_broker_unref(broker);
        return rc;
    }
    gp_mutex_lock(&broker->lock);
    broker->call = call;
    gp_mutex_unlock(&broker->lock);
    if (process != NULL) {
        broker->process = gp__process_ref(process);
    }
    if (process != NULL && gp__process_runner(process) != NULL) {
        broker->translator = gp__process_ref(process);
    }
    gp_broker_ref(broker); /* the stream's */
    if (gp_call_receive_then(call, &message, message_received, broker) == 1) {
        message_received(broker, message);
    }
    *out = broker;
    return 0;
}
