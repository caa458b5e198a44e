#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "mux/mux.h"
#include "os/socket.h"
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

/*
 * Without TLS, a socket that is connected here: gRPC can send the first call at once. The other side
 * listens before it announces, so what does not answer now is not going to.
 */
static int
dial_socket(gp_broker *broker, uint32_t id, const char *network, const char *address,
            int64_t deadline, const gp_interrupt *interrupt, gp_channel **out, gp_error *err)
{
    gp_error why = GP_ERROR_INIT;
    char *target = NULL;
    int fd;
    int rc = gp__dial_target(id, network, address, &target, &why);

    if (rc == 0 && (rc = gp__socket_reach(&fd, network, address, deadline, interrupt, &why)) == 0) {
        rc = gp__channel_open_over(out, fd, target,
                                   strcmp(network, "unix") == 0 ? "localhost" : address, &why);
    }
    if (rc == GP_EUSER) {
        gp_error_set(err, rc, "interrupted while dialling connection %u", (unsigned)id);
    } else if (rc < 0) {
        rc = gp_error_set(err, rc == GP_ENOMEM ? rc : GP_EBROKER,
                          "connection %u, which %s has announced, cannot be dialled: %s",
                          (unsigned)id, gp__broker_other_side(broker), gp_error_message(&why));
    }
    gp_error_release(&why);
    gp__free(target);
    return rc;
}

static int
dial_secure(gp_broker *broker, uint32_t id, const char *network, const char *address,
            gp_channel **out, gp_error *err)
{
    char *target = NULL;
    int rc = gp__dial_target(id, network, address, &target, err);

    if (rc == 0) {
        rc = gp_channel_open_tls(out, target, broker->tls, err);
    }
    gp__free(target);
    return rc;
}

int
gp_broker_dial(gp_broker *broker, uint32_t id, int64_t timeout_ms, const gp_interrupt *interrupt,
               gp_channel **out, gp_error *err)
{
    gp__listener where = {NULL, NULL};
    gp_runner_address translated;
    const char *network;
    const char *address;
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
    network = where.network;
    address = where.address;
    rc = gp__dial_place(broker->elsewhere, id, &network, &address, &translated, err);
    if (rc == 0 && broker->tls != NULL) {
        rc = dial_secure(broker, id, network, address, out, err);
    } else if (rc == 0) {
        rc = dial_socket(broker, id, network, address, gp__deadline_in(timeout_ms), interrupt, out,
                         err);
    }
    gp__broker_release_listener(&where);
    return rc;
}
