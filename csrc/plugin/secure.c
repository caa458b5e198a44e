#include <string.h>

#include "base/thread.h"
#include "os/fd.h"
#include "os/socket.h"
#include "plugin/client.h"
#include "services/health.h"
#include "tls/probe.h"

/* How long a process that has begun to exit may take to do so. */
static const int64_t dying_ms = 1000;
/* How long a plugin that was joined may take; one that was launched has its start timeout. */
static const int64_t joined_ms = 10000;

/*
 * How long gRPC takes until it tries again, if it does: without credentials that it can use, never.
 */
static const int64_t retry_ms = 2000;
/* How often gRPC may fail to connect to a plugin that nothing is wrong with. */
enum { MOST_UNEXPLAINED = 2 };

static bool
is_gone(gp__process *process)
{
    if (gp__process_inspect(process) == GP__PROCESS_DYING) {
        gp__process_wait(process, gp_deadline_in(dying_ms), NULL);
    }
    return gp__process_gone(process);
}

/*
 * gRPC could not connect. Returns 0 if nothing is wrong with TLS, so that its next attempt may
 * succeed, or as gp__client_secure(). |*reached|: a listener has taken the connection.
 */
static int
find_fault(gp_client *client, int64_t deadline, bool *reached, const gp_interrupt *interrupt,
           gp_error *err)
{
    const gp_endpoint *endpoint = &client->endpoint.view;
    /*
     * A multiplexed plugin takes one connection, which is there: this is to be one more of its
     * streams.
     */
    const char *network = client->mux != NULL ? "unix" : endpoint->network;
    const char *address = client->mux != NULL ? gp_grpc_mux_path(client->mux) : endpoint->address;
    gp__process *process = client->process;
    char fate[96];
    int fd;
    int rc = gp__socket_connect(&fd, network, address, deadline, interrupt, err);

    *reached = rc == 0 && fd >= 0;
    if (*reached) {
        rc = gp__tls_probe(client->tls, fd, deadline, interrupt, err);
        gp__fd_close(&fd);
    }
    if (rc < 0 && rc != GP_EUSER && process != NULL && is_gone(process)) {
        int status = gp__process_status(process);

        gp_error_set(err, GP_EEXITED, "the plugin %s before the host could connect to it",
                     gp__process_fate(status, fate, sizeof(fate)));
        if (err != NULL) {
            err->number = status;
        }
        return GP_EEXITED;
    }
    return rc == GP_EREATTACH ? 0 : rc;
}

/*
 * Our own handshake succeeds, and gRPC's does not: time and again, so it is no accident. What gRPC
 * has against it is what its calls fail with. Returns 0 if they do not.
 */
static int
report_refusal(gp_client *client, int64_t deadline, const gp_interrupt *interrupt, gp_error *err)
{
    static const int64_t moment_ms = 1000;
    int64_t left = (deadline - gp__now()) / GP__MS;
    gp_error why = GP_ERROR_INIT;
    int rc = gp__health_check(client->channel, "plugin", left < moment_ms ? left : moment_ms,
                              interrupt, &why);

    if (rc == GP_ERPC && gp_channel_state(client->channel, true) != GP_READY) {
        rc = gp_error_set(err, GP_ETLS,
                          "gRPC does not accept the settings of TLS of the host or the plugin: %s",
                          gp_error_message(&why));
        gp_error_set_detail(err, GP_TLS_CONFIGURATION, strlen(GP_TLS_CONFIGURATION));
    } else if (rc != GP_EUSER) {
        rc = 0; /* it is connected; whether the plugin has a health service is not the question */
    }
    gp_error_release(&why);
    return rc;
}

static int
timed_out(gp_error *err)
{
    gp_error_set(err, GP_ETLS, "no secure connection to the plugin came about in time");
    gp_error_set_detail(err, GP_TLS_TIMEOUT, strlen(GP_TLS_TIMEOUT));
    return GP_ETLS;
}

int
gp__client_secure(gp_client *client, const gp_interrupt *interrupt, gp_error *err)
{
    gp__client_interrupt both = {client, interrupt};
    const gp_interrupt stop = gp__client_interrupt_of(&both);
    int64_t deadline =
        gp__client_launched(client) ? client->launch.deadline : gp_deadline_in(joined_ms);
    int state = gp_channel_state(client->channel, true);
    int unexplained = 0;
    int rc = 0;

    while (rc == 0 && state != GP_READY) {
        int64_t left = (deadline - gp__now()) / GP__MS;

        if (left <= 0) {
            return timed_out(err);
        }
        if (state == GP_TRANSIENT_FAILURE) {
            bool reached;

            rc = find_fault(client, deadline, &reached, &stop, err);
            unexplained += reached;
            if (rc == 0 && unexplained >= MOST_UNEXPLAINED) {
                rc = report_refusal(client, deadline, &stop, err);
            }
        }
        if (rc == 0) {
            bool again = state == GP_TRANSIENT_FAILURE && left > retry_ms;
            int next =
                gp_channel_wait_state(client->channel, state, again ? retry_ms : left, &stop);

            rc = next < 0 && next != GP_ETIMEOUT ? next : 0;
            state = gp_channel_state(client->channel, true);
        }
    }
    if (rc == GP_EUSER && gp__client_kill_wanted(client)) {
        return gp_error_set(err, GP_ECLOSED, "it was killed while it started");
    }
    return rc == GP_EUSER ? gp_error_set(err, rc, "the start was interrupted") : rc;
}
