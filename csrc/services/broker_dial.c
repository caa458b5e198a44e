#include <stdio.h>

#include "base/alloc.h"
#include "mux/mux.h"
#include "rpc/channel.h"
#include "services/broker_state.h"
#include "services/translate.h"

/* Over one connection: whatever connects to a path of ours becomes a stream, after a knock. */
static int
dial_stream(gp_broker *broker, uint32_t id, int64_t timeout_ms, const gp_interrupt *interrupt,
            gp_channel **out, gp_error *err)
{
    char target[sizeof("unix:") + GP__MUX_PATH];
    gp_channel *channel = NULL;
    gp__mux_local *local;
    int rc = gp__mux_dial(broker->mux, id, &local, err);

    if (rc < 0) {
        return rc;
    }
    snprintf(target, sizeof(target), "unix:%s", gp__mux_local_path(local));
    if ((rc = gp_channel_open_tls(&channel, target, broker->tls, err)) < 0) {
        gp__mux_await(local, gp__broker_other_side(broker), 0, NULL, NULL);
        return rc;
    }
    gp__channel_explain(channel, broker->mux);
    gp_channel_state(channel, true);
    if (broker->poller != NULL) {
        gp__poller_urgent_add(broker->poller);
    }
    rc = gp__mux_await(local, gp__broker_other_side(broker), timeout_ms, interrupt, err);
    if (broker->poller != NULL) {
        gp__poller_urgent_drop(broker->poller);
    }
    if (rc < 0) {
        gp_channel_close(channel);
        gp_channel_unref(channel);
        return rc;
    }
    *out = channel;
    return 0;
}

int
gp_broker_dial(gp_broker *broker, uint32_t id, int64_t timeout_ms, const gp_interrupt *interrupt,
               gp_channel **out, gp_error *err)
{
    gp__listener where = {NULL, NULL};
    char *target = NULL;
    int rc;

    if (gp_runtime_forked()) {
        return gp_error_set(err, GP_EFORKED, "plugins cannot be used in a forked child");
    }
    if (broker->mux != NULL) {
        return dial_stream(broker, id, timeout_ms, interrupt, out, err);
    }
    rc = gp__broker_find(broker, id, timeout_ms, interrupt, &where, err);
    if (rc < 0) {
        return rc;
    }
    rc = gp__dial_target(broker->elsewhere, id, where.network, where.address, &target, err);
    if (rc == 0) {
        rc = gp_channel_open_tls(out, target, broker->tls, err);
    }
    gp__free(target);
    gp__broker_release_listener(&where);
    return rc;
}
