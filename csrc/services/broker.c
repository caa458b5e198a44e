#include "services/broker_state.h"

#include <stdio.h>

#include "base/alloc.h"
#include "gp/grpc_status.h"
#include "rpc/engine.h"
#include "services/grpc_mux.h"

const char *
gp__broker_other_side(const gp_broker *broker)
{
    return broker->of_host ? "the plugin" : "the host";
}

static void
ref_sender(void *broker)
{
    gp_broker_ref(broker);
}

static void
unref_sender(void *broker)
{
    gp_broker_unref(broker);
}

gp_broker *
gp__broker_new(gp_tls *tls, gp_grpc_mux *mux)
{
    gp_broker *broker = gp__calloc(1, sizeof(*broker));

    if (broker == NULL || gp__engine_start(&broker->poller, NULL) < 0) {
        gp__free(broker);
        return NULL;
    }
    gp_mutex_init(&broker->lock);
    atomic_init(&broker->refs, 1);
    gp_mutex_lock(&broker->lock);
    gp_list_init(&broker->diallers);
    gp_list_init(&broker->announcements);
    gp_list_init(&broker->messages);
    gp_mutex_unlock(&broker->lock);
    broker->tls = tls != NULL ? gp_tls_ref(tls) : NULL;
    if (mux != NULL) {
        const gp__grpc_mux_sender sender = {.send_request = gp__broker_send_request,
                                            .send_answer = gp__broker_send_answer,
                                            .ref = ref_sender,
                                            .unref = unref_sender,
                                            .ctx = broker};

        broker->mux = gp_grpc_mux_ref(mux);
        gp__grpc_mux_set_sender(mux, &sender);
    }
    return broker;
}

gp_broker *
gp_broker_ref(gp_broker *broker)
{
    atomic_fetch_add(&broker->refs, 1);
    return broker;
}

/* The last reference is gone, so no other thread uses the broker. */
static void free_broker(gp_broker *broker) GP_NO_THREAD_SAFETY_ANALYSIS;

static void
free_broker(gp_broker *broker)
{
    gp__broker_drop_announcements_locked(broker);
    gp__broker_free_sockets(broker->sockets);
    gp__broker_drop_messages_locked(broker);
    if (broker->release_gone != NULL) {
        broker->release_gone(broker->gone_ctx);
    }
    gp_call_unref(broker->call);
    gp__process_unref(broker->process);
    gp__process_unref(broker->translator);
    gp_channel_args_unref(broker->args);
    gp__free(broker->directory);
    gp_tls_unref(broker->tls);
    gp_grpc_mux_unref(broker->mux);
    gp_mutex_release(&broker->lock);
    gp__free(broker);
}

void
gp_broker_unref(gp_broker *broker)
{
    if (broker == NULL || gp_runtime_forked() || atomic_fetch_sub(&broker->refs, 1) != 1) {
        return;
    }
    if (broker->mux != NULL) {
        gp__grpc_mux_set_sender(broker->mux, NULL);
    }
    free_broker(broker);
}

uint32_t
gp_broker_next_id(gp_broker *broker)
{
    unsigned last = atomic_load(&broker->last_id);

    while (last != UINT32_MAX && !atomic_compare_exchange_weak(&broker->last_id, &last, last + 1)) {
    }
    return last != UINT32_MAX ? last + 1 : 0;
}

bool
gp_broker_multiplexed(const gp_broker *broker)
{
    return broker->mux != NULL;
}

const char *
gp_broker_directory(const gp_broker *broker)
{
    return broker->mux != NULL ? gp_grpc_mux_directory(broker->mux) : NULL;
}

void
gp_broker_use_args(gp_broker *broker, gp_channel_args *args)
{
    broker->args = args != NULL ? gp_channel_args_ref(args) : NULL;
}

gp_tls *
gp_broker_tls(const gp_broker *broker)
{
    return broker->tls;
}

bool
gp_broker_on_gone(gp_broker *broker, gp_then *then, gp_then *release, void *ctx)
{
    bool there;

    gp_mutex_lock(&broker->lock);
    there = broker->gone[0] == '\0';
    broker->on_gone = then;
    broker->release_gone = release;
    broker->gone_ctx = ctx;
    gp_mutex_unlock(&broker->lock);
    return there;
}

void
gp__broker_set_gone_locked(gp_broker *broker, const char *format, const char *what)
{
    if (broker->gone[0] == '\0') {
        snprintf(broker->gone, sizeof(broker->gone), format, what);
        gp__broker_drop_messages_locked(broker);
    }
}

void
gp_broker_close(gp_broker *broker)
{
    gp_call *call;

    if (gp_runtime_forked()) {
        return;
    }
    if (broker->mux != NULL) {
        gp__grpc_mux_set_sender(broker->mux, NULL);
    }
    gp_mutex_lock(&broker->lock);
    broker->closed = true;
    gp__broker_set_gone_locked(broker, "the connection to %s has been closed",
                               gp__broker_other_side(broker));
    gp__broker_wake_diallers_locked(broker, 0);
    call = broker->call != NULL ? gp_call_ref(broker->call) : NULL;
    gp_mutex_unlock(&broker->lock);
    if (call != NULL) {
        gp_call_cancel(call, GP_GRPC_CANCELLED, "the broker is closed");
        gp_call_unref(call);
    }
}

void
gp__broker_report_gone(gp_broker *broker)
{
    gp_then *then;
    void *ctx;

    gp_mutex_lock(&broker->lock);
    then = broker->closed ? NULL : broker->on_gone;
    ctx = broker->gone_ctx;
    gp__broker_wake_diallers_locked(broker, 0);
    gp_mutex_unlock(&broker->lock);
    if (then != NULL) {
        then(ctx);
    }
}
