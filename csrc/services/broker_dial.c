#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"
#include "os/socket.h"
#include "rpc/channel.h"
#include "rpc/target.h"
#include "services/broker_state.h"
#include "services/grpc_mux.h"
#include "services/translate.h"

/*
 * Report that the connection cannot be dialled, because of |rc| and |why|. Returns as
 * gp_broker_dial().
 */
static int
set_dial_error(const gp_broker *broker, uint32_t id, int rc, const gp_error *why, gp_error *err)
{
    bool is_local = rc == GP_EOS || rc == GP_EINVAL || rc == GP_ETIMEOUT;

    return gp_error_set(err, is_local ? GP_EBROKER : rc,
                        "connection %u of %s cannot be dialled: %s", (unsigned)id,
                        gp__broker_other_side(broker), gp_error_message(why));
}

/* ---- Over one connection --------------------------------------------------------------------- */

/*
 * With TLS: gRPC connects to a path at which this process listens, and the connection becomes a
 * stream once the other side has accepted it.
 */
static int
start_secure(gp_broker *broker, uint32_t id, gp__grpc_dial **dial, gp_channel **out, gp_error *err)
{
    gp__target target;
    int rc = gp__grpc_dial_start(broker->mux, id, dial, err);

    if (rc < 0) {
        return rc;
    }
    rc = gp__target_init(&target, "unix", gp__grpc_dial_path(*dial), err);
    if (rc == 0) {
        rc = gp_channel_open_tls(out, target.text, broker->tls, broker->args, err);
        gp__target_release(&target);
    }
    if (rc < 0) {
        gp__grpc_dial_await(*dial, gp__broker_other_side(broker), 0, NULL, NULL);
        return rc;
    }
    gp_channel_state(*out, true);
    return 0;
}

/*
 * Without TLS: gRPC gets one end of a pair of sockets, whose other end becomes the stream. The
 * channel is made while the request is on its way.
 */
static int
start_plain(gp_broker *broker, uint32_t id, gp__grpc_dial **dial, gp_channel **out, gp_error *err)
{
    char name[sizeof("mux:4294967295")];
    int fd;
    int rc = gp__grpc_dial_start_pair(broker->mux, id, dial, &fd, err);

    if (rc < 0) {
        return rc;
    }
    snprintf(name, sizeof(name), "mux:%u", (unsigned)id);
    if ((rc = gp__channel_open_over(out, fd, name, "localhost", broker->args, err)) < 0) {
        gp__grpc_dial_await(*dial, gp__broker_other_side(broker), 0, NULL, NULL);
    }
    return rc;
}

static int
dial_stream(gp_broker *broker, uint32_t id, int64_t timeout_ms, const gp_interrupt *interrupt,
            gp_channel **out, gp_error *err)
{
    gp_channel *channel = NULL;
    gp_error why = GP_ERROR_INIT;
    gp__grpc_dial *dial;
    int rc = (broker->tls != NULL ? start_secure : start_plain)(broker, id, &dial, &channel, &why);

    if (rc < 0) {
        rc = set_dial_error(broker, id, rc, &why, err);
        gp_error_release(&why);
        return rc;
    }
    gp__grpc_mux_explain(broker->mux, channel, broker->process);
    gp__poller_urgent_add(broker->poller);
    rc = gp__grpc_dial_await(dial, gp__broker_other_side(broker), timeout_ms, interrupt, err);
    gp__poller_urgent_drop(broker->poller);
    if (rc < 0) {
        gp_channel_close(channel);
        gp_channel_unref(channel);
        return rc;
    }
    *out = channel;
    return 0;
}

/* ---- With a socket of its own ---------------------------------------------------------------- */

/* The name by which gRPC would call the peer. Owned by the caller. NULL when memory is short. */
static char *
peer_of(const char *network, const char *address)
{
    bool number = address[strspn(address, "0123456789.:")] == '\0';

    if (strcmp(network, "unix") == 0) {
        return address[0] == '@' ? gp__format("unix-abstract:%s", address + 1)
                                 : gp__format("unix:%s", address);
    }
    return number || address[0] == '[' ? gp__format("%s:%s", number ? "ipv4" : "ipv6", address)
                                       : gp__strdup(address);
}

/*
 * Without TLS: connect a socket here, so that gRPC can send the first call at once. The other side
 * listens before it announces the address, so if it does not answer now, it never will.
 */
static int
dial_socket(gp_broker *broker, uint32_t id, const char *network, const char *address,
            int64_t deadline, const gp_interrupt *interrupt, gp_channel **out, gp_error *err)
{
    gp_error why = GP_ERROR_INIT;
    char *peer = peer_of(network, address);
    int fd;
    int rc = peer != NULL ? 0 : gp_error_set(&why, GP_ENOMEM, "out of memory");

    if (rc == 0 && (rc = gp__socket_reach(&fd, network, address, deadline, interrupt, &why)) == 0) {
        rc = gp__channel_open_over(out, fd, peer,
                                   strcmp(network, "unix") == 0 ? "localhost" : address,
                                   broker->args, &why);
    }
    if (rc < 0) {
        rc = set_dial_error(broker, id, rc, &why, err);
    }
    gp_error_release(&why);
    gp__free(peer);
    return rc;
}

static int
dial_secure(gp_broker *broker, uint32_t id, const char *network, const char *address,
            gp_channel **out, gp_error *err)
{
    gp_error why = GP_ERROR_INIT;
    gp__target target;
    int rc = gp__target_init(&target, network, address, &why);

    if (rc == 0 &&
        (rc = gp_channel_open_tls(out, target.text, broker->tls, broker->args, &why)) == 0) {
        gp__channel_keep(*out, &target.fd);
    }
    if (rc < 0) {
        rc = set_dial_error(broker, id, rc, &why, err);
    }
    gp_error_release(&why);
    gp__target_release(&target);
    return rc;
}

int
gp_broker_dial(gp_broker *broker, uint32_t id, int64_t timeout_ms, const gp_interrupt *interrupt,
               gp_channel **out, gp_error *err)
{
    gp__broker_address where = {NULL, NULL};
    gp_runner_address translated;
    const char *network;
    const char *address;
    int rc;

    if (gp_runtime_forked()) {
        return gp_runtime_refuse_fork(err);
    }
    if (broker->mux != NULL) {
        return dial_stream(broker, id, timeout_ms, interrupt, out, err);
    }
    rc = gp__broker_claim(broker, id, timeout_ms, interrupt, &where, err);
    if (rc < 0) {
        return rc;
    }
    network = where.network;
    address = where.address;
    rc = gp__dial_place(broker->translator, id, &network, &address, &translated, err);
    if (rc == 0 && broker->tls != NULL) {
        rc = dial_secure(broker, id, network, address, out, err);
    } else if (rc == 0) {
        rc = dial_socket(broker, id, network, address, gp_deadline_in(timeout_ms), interrupt, out,
                         err);
    }
    if (rc == 0) {
        gp__channel_explain(*out, NULL, broker->process);
    }
    gp__broker_address_release(&where);
    gp__broker_prune_sockets(broker);
    return rc;
}
