#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"
#include "services/broker_state.h"
#include "services/grpc_mux.h"
#include "services/translate.h"

/* How many messages are stored for a peer that sends requests and does not read the answers. */
enum { MESSAGES_MOST = 1024 };

/* ---- From the other side --------------------------------------------------------------------- */

/*
 * The serial number of a request or an answer (ConnInfo.Knock); 0 is none. It is in the address,
 * which go-plugin ignores in such messages: its answers have no serial number.
 */
static uint32_t
read_serial(const char *address)
{
    const gp__text text = {address, strlen(address)};
    int serial;

    return gp__text_int(text, &serial) && serial > 0 ? (uint32_t)serial : 0;
}

void
gp__broker_handle_message(gp_broker *broker, gp_message *message)
{
    size_t len = gp_message_size(message);
    unsigned char *bytes = gp__malloc(len);
    Plugin__ConnInfo *info = NULL;

    if (bytes != NULL) {
        gp_message_copy(message, bytes);
        info = plugin__conn_info__unpack(NULL, len, bytes);
        gp__free(bytes);
    }
    gp_message_free(message);
    if (info != NULL && info->knock == NULL) {
        gp__broker_add_announcement(broker, info);
    } else if (info != NULL && broker->mux != NULL && info->knock->ack) {
        gp__grpc_mux_answered(broker->mux, info->service_id, read_serial(info->address),
                              info->knock->error);
    } else if (info != NULL && broker->mux != NULL && info->knock->knock) {
        gp__grpc_mux_requested(broker->mux, info->service_id, read_serial(info->address));
    }
    if (info != NULL) {
        plugin__conn_info__free_unpacked(info, NULL);
    }
}

/* ---- To the other side ----------------------------------------------------------------------- */

/* Called on the polling thread, or on the thread that sends. */
static void
message_sent(void *ctx, bool ok)
{
    gp_broker *broker = ctx;
    gp__host_stream *ended;

    (void)ok; /* if it is false, the stream is over, which message_received() reports */
    gp_mutex_lock(&broker->lock);
    broker->sending = false;
    broker->sending_on = NULL;
    ended = broker->ended;
    broker->ended = NULL;
    gp_mutex_unlock(&broker->lock);
    if (ended != NULL) {
        gp__host_stream_finish(ended);
    }
    gp__broker_send_next(broker);
    gp_broker_unref(broker);
}

void
gp__broker_send_next(gp_broker *broker)
{
    gp_server_call *stream = NULL;
    gp_call *call = NULL;
    gp__broker_message *first = NULL;
    gp_bytes bytes;
    int rc;

    gp_mutex_lock(&broker->lock);
    if (!broker->sending && (broker->call != NULL || broker->stream != NULL)) {
        first = gp_list_first_entry(&broker->messages, gp__broker_message, link);
    }
    if (first != NULL) {
        gp_link_remove(&first->link);
        broker->messages_count--;
        broker->sending = true;
        stream = broker->stream != NULL ? gp_server_call_ref(broker->stream) : NULL;
        call = stream == NULL ? gp_call_hold(broker->call) : NULL;
        broker->sending_on = stream;
    }
    gp_mutex_unlock(&broker->lock);
    if (first == NULL) {
        return;
    }
    gp_broker_ref(broker); /* message_sent()'s */
    bytes = (gp_bytes){first->bytes, first->len};
    rc = stream != NULL ? gp_server_call_send_then(stream, bytes, message_sent, broker)
                        : gp_call_send_then(call, &bytes, message_sent, broker);
    gp__free(first);
    gp_server_call_unref(stream);
    if (call != NULL) {
        gp_call_release(call);
    }
    if (rc < 0) {
        message_sent(broker, false);
    }
}

/* Queue a message, which is sent after those before it. Returns 0, GP_EBROKER or GP_ENOMEM. */
static int
send_message(gp_broker *broker, const Plugin__ConnInfo *info, gp_error *err)
{
    gp__broker_message *packed =
        gp__malloc(sizeof(*packed) + plugin__conn_info__get_packed_size(info));
    int rc = 0;

    if (packed == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory to announce a connection");
    }
    packed->link = (gp_link){NULL, NULL};
    packed->len = plugin__conn_info__pack(info, packed->bytes);
    gp_mutex_lock(&broker->lock);
    if (broker->gone[0] != '\0') {
        rc = gp_error_set(err, GP_EBROKER, "connection %u cannot be announced to %s: %s",
                          (unsigned)info->service_id, gp__broker_other_side(broker), broker->gone);
        gp__free(packed);
    } else if (info->knock != NULL && broker->messages_count >= MESSAGES_MOST) {
        rc = gp_error_set(err, GP_EBROKER, "%s sends requests and does not read the answers",
                          gp__broker_other_side(broker));
        gp__free(packed);
    } else {
        gp_list_append(&broker->messages, &packed->link);
        broker->messages_count++;
    }
    gp_mutex_unlock(&broker->lock);
    if (rc == 0) {
        gp__broker_send_next(broker);
    }
    return rc;
}

/* Send a ConnInfo.Knock: a request to accept a stream, or the answer to one. */
static int
send_knock(gp_broker *broker, uint32_t id, uint32_t serial, bool ack, const char *error)
{
    char address[12];
    Plugin__ConnInfo info = PLUGIN__CONN_INFO__INIT;
    Plugin__ConnInfo__Knock knock = PLUGIN__CONN_INFO__KNOCK__INIT;

    knock.knock = true;
    knock.ack = ack;
    knock.error = (char *)(uintptr_t)error;
    info.service_id = id;
    info.knock = &knock;
    if (serial != 0) {
        snprintf(address, sizeof(address), "%u", (unsigned)serial);
        info.address = address;
    }
    return send_message(broker, &info, NULL);
}

int
gp__broker_send_request(void *ctx, uint32_t id, uint32_t serial)
{
    return send_knock(ctx, id, serial, false, "");
}

int
gp__broker_send_answer(void *ctx, uint32_t id, uint32_t serial, const char *error)
{
    return send_knock(ctx, id, serial, true, error);
}

int
gp_broker_announce(gp_broker *broker, uint32_t id, const char *network, const char *address,
                   gp_error *err)
{
    Plugin__ConnInfo info = PLUGIN__CONN_INFO__INIT;
    gp_runner_address translated;
    int rc;

    if (gp_runtime_forked()) {
        return gp_runtime_refuse_fork(err);
    }
    if (broker->mux != NULL) {
        return gp__grpc_mux_accept(broker->mux, id, address, err);
    }
    if (broker->translator != NULL) {
        rc = gp__translate(broker->translator, false, id, network, address, &translated, err);
        if (rc < 0) {
            return rc;
        }
        network = translated.network;
        address = translated.address;
    }
    info.service_id = id;
    info.network = (char *)(uintptr_t)network;
    info.address = (char *)(uintptr_t)address;
    return send_message(broker, &info, err);
}

void
gp_broker_forget(gp_broker *broker, uint32_t id)
{
    if (broker->mux != NULL && !gp_runtime_forked()) {
        gp__grpc_mux_forget(broker->mux, id);
    }
}

void
gp__broker_drop_messages_locked(gp_broker *broker)
{
    gp__broker_message *message;

    while ((message = gp_list_first_entry(&broker->messages, gp__broker_message, link)) != NULL) {
        gp_link_remove(&message->link);
        gp__free(message);
    }
    broker->messages_count = 0;
}
