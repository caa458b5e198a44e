#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"
#include "services/broker_state.h"
#include "services/grpc_mux.h"
#include "services/translate.h"

/* What a peer that knocks, and does not read the answers, may make us store. */
enum { MOST_NOTES = 1024 };

/*
 * The mark of a knock, in a field that means nothing in knocks to go-plugin: it answers without. 0
 * is none.
 */
static uint32_t
read_mark(const char *address)
{
    const gp__text text = {address, strlen(address)};
    int mark;

    return gp__text_int(text, &mark) && mark > 0 ? (uint32_t)mark : 0;
}

/* ---- What the other side says ---------------------------------------------------------------- */

void
gp__broker_take_in(gp_broker *broker, gp_message *message)
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
        gp__broker_take_place(broker, info);
    } else if (info != NULL && broker->mux != NULL && info->knock->ack) {
        gp__grpc_mux_answered(broker->mux, info->service_id, read_mark(info->address),
                              info->knock->error);
    } else if (info != NULL && broker->mux != NULL && info->knock->knock) {
        gp__grpc_mux_knocked(broker->mux, info->service_id, read_mark(info->address));
    }
    if (info != NULL) {
        plugin__conn_info__free_unpacked(info, NULL);
    }
}

/* ---- What this side says --------------------------------------------------------------------- */

static void
sent(void *ctx, bool ok)
{
    gp_broker *broker = ctx;
    gp__hosted *ended;

    (void)ok; /* if it was not, the stream is over, which the receiving side notices */
    gp_mutex_lock(&broker->lock);
    broker->sending = false;
    broker->sending_on = NULL;
    ended = broker->ended;
    broker->ended = NULL;
    gp_mutex_unlock(&broker->lock);
    if (ended != NULL) {
        gp__broker_finish_hosted(ended);
    }
    gp__broker_send_next(broker);
    gp_broker_unref(broker);
}

void
gp__broker_send_next(gp_broker *broker)
{
    gp_server_call *stream = NULL;
    gp_call *call = NULL;
    gp__note *first = NULL;
    gp_bytes bytes;
    int rc;

    gp_mutex_lock(&broker->lock);
    if (!broker->sending && (broker->call != NULL || broker->stream != NULL)) {
        first = broker->notes;
    }
    if (first != NULL) {
        broker->notes = first->next;
        broker->notes_count--;
        if (broker->notes == NULL) {
            broker->notes_end = &broker->notes;
        }
        broker->sending = true;
        stream = broker->stream != NULL ? gp_server_call_ref(broker->stream) : NULL;
        call = stream == NULL ? gp_call_hold(broker->call) : NULL;
        broker->sending_on = stream;
    }
    gp_mutex_unlock(&broker->lock);
    if (first == NULL) {
        return;
    }
    gp_broker_ref(broker); /* for |sent| */
    bytes = (gp_bytes){first->bytes, first->len};
    rc = stream != NULL ? gp_server_call_send_then(stream, bytes, sent, broker)
                        : gp_call_send_then(call, &bytes, sent, broker);
    gp__free(first);
    gp_server_call_unref(stream);
    if (call != NULL) {
        gp_call_release(call);
    }
    if (rc < 0) {
        sent(broker, false);
    }
}

static int
post(gp_broker *broker, const Plugin__ConnInfo *info, gp_error *err)
{
    gp__note *packed = gp__malloc(sizeof(*packed) + plugin__conn_info__get_packed_size(info));
    int rc = 0;

    if (packed == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory to announce a connection");
    }
    packed->next = NULL;
    packed->len = plugin__conn_info__pack(info, packed->bytes);
    gp_mutex_lock(&broker->lock);
    if (broker->gone[0] != '\0') {
        rc = gp_error_set(err, GP_EBROKER, "%s cannot be told of connection %u: %s",
                          gp__broker_other_side(broker), (unsigned)info->service_id, broker->gone);
        gp__free(packed);
    } else if (info->knock != NULL && broker->notes_count >= MOST_NOTES) {
        rc = gp_error_set(err, GP_EBROKER, "%s asks without end, and takes no answers",
                          gp__broker_other_side(broker));
        gp__free(packed);
    } else {
        *broker->notes_end = packed;
        broker->notes_end = &packed->next;
        broker->notes_count++;
    }
    gp_mutex_unlock(&broker->lock);
    if (rc == 0) {
        gp__broker_send_next(broker);
    }
    return rc;
}

static int
post_knocking(gp_broker *broker, uint32_t id, uint32_t mark, bool ack, const char *error)
{
    char address[12];
    Plugin__ConnInfo info = PLUGIN__CONN_INFO__INIT;
    Plugin__ConnInfo__Knock knock = PLUGIN__CONN_INFO__KNOCK__INIT;

    knock.knock = true;
    knock.ack = ack;
    knock.error = (char *)(uintptr_t)error;
    info.service_id = id;
    info.knock = &knock;
    if (mark != 0) {
        snprintf(address, sizeof(address), "%u", (unsigned)mark);
        info.address = address;
    }
    return post(broker, &info, NULL);
}

int
gp__broker_post_knock(void *ctx, uint32_t id, uint32_t mark)
{
    return post_knocking(ctx, id, mark, false, "");
}

int
gp__broker_post_answer(void *ctx, uint32_t id, uint32_t mark, const char *error)
{
    return post_knocking(ctx, id, mark, true, error);
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
    if (broker->elsewhere != NULL) {
        rc = gp__translate(broker->elsewhere, false, id, network, address, &translated, err);
        if (rc < 0) {
            return rc;
        }
        network = translated.network;
        address = translated.address;
    }
    info.service_id = id;
    info.network = (char *)(uintptr_t)network;
    info.address = (char *)(uintptr_t)address;
    return post(broker, &info, err);
}

void
gp_broker_forget(gp_broker *broker, uint32_t id)
{
    if (broker->mux != NULL && !gp_runtime_forked()) {
        gp__grpc_mux_forget(broker->mux, id);
    }
}

void
gp__broker_drop_notes(gp_broker *broker)
{
    while (broker->notes != NULL) {
        gp__note *next = broker->notes->next;

        gp__free(broker->notes);
        broker->notes = next;
    }
    broker->notes_end = &broker->notes;
    broker->notes_count = 0;
}
