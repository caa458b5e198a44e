#include "plugin/secure.h"

#include <stdbool.h>
#include <string.h>

#include "base/thread.h"
#include "os/socket.h"
#include "plugin/early_exit.h"
#include "services/health.h"
#include "tls/probe.h"

/* How long gRPC takes until it tries again. It never does if it cannot use the credentials. */
static const int64_t retry_ms = 2000;
/* How long a call may take to report why gRPC refuses to connect. */
static const int64_t refusal_ms = 1000;
/* How often gRPC may fail to connect although no fault is found. */
enum { MOST_UNEXPLAINED = 2 };

/*
 * gRPC could not connect: try the same without gRPC. |*reached| is set to whether a listener has
 * accepted the connection.
 *
 * Returns: 0 if nothing is wrong with TLS, so that gRPC's next attempt may succeed; otherwise as
 * gp__secure_connect().
 */
static int
find_fault(const gp__secure_spec *spec, bool *reached, const gp_interrupt *interrupt, gp_error *err)
{
    int fd;
    int rc = gp__socket_connect(&fd, spec->network, spec->address, spec->deadline, interrupt, err);

    *reached = rc == 0 && fd >= 0;
    if (*reached) {
        rc = gp__tls_probe(spec->tls, fd, spec->deadline, interrupt, err);
    }
    if (rc < 0 && rc != GP_EUSER) {
        rc = gp__early_exit(rc, spec->process, err);
    }
    return rc == GP_EREATTACH ? 0 : rc;
}

/*
 * Our own handshake has succeeded, and gRPC's has failed more than once: gRPC refuses something
 * that our handshake accepts. A call fails with gRPC's reason. Returns 0 if it does not fail.
 */
static int
report_refusal(const gp__secure_spec *spec, const gp_interrupt *interrupt, gp_error *err)
{
    int64_t left_ms = (spec->deadline - gp__now()) / GP__MS;
    gp_error why = GP_ERROR_INIT;
    int rc = gp__health_check(spec->channel, "plugin", left_ms < refusal_ms ? left_ms : refusal_ms,
                              interrupt, &why);

    if (rc == GP_ERPC && gp_channel_state(spec->channel, true) != GP_READY) {
        rc = gp_error_set(err, GP_ETLS,
                          "gRPC does not accept the settings of TLS of the host or the plugin: %s",
                          gp_error_message(&why));
        gp_error_set_detail(err, GP_TLS_CONFIGURATION, strlen(GP_TLS_CONFIGURATION));
    } else if (rc != GP_EUSER) {
        rc = 0; /* it is connected, even if the plugin has no health service */
    }
    gp_error_release(&why);
    return rc;
}

static int
report_timeout(gp_error *err)
{
    gp_error_set(err, GP_ETLS, "no secure connection to the plugin could be made in time");
    gp_error_set_detail(err, GP_TLS_TIMEOUT, strlen(GP_TLS_TIMEOUT));
    return GP_ETLS;
}

int
gp__secure_connect(const gp__secure_spec *spec, const gp_interrupt *interrupt, gp_error *err)
{
    int state = gp_channel_state(spec->channel, true);
    int unexplained = 0;
    int rc = 0;

    while (rc == 0 && state != GP_READY) {
        int64_t left_ms = (spec->deadline - gp__now()) / GP__MS;

        if (left_ms <= 0) {
            return report_timeout(err);
        }
        if (state == GP_TRANSIENT_FAILURE) {
            bool reached;

            rc = find_fault(spec, &reached, interrupt, err);
            unexplained += reached;
            if (rc == 0 && unexplained >= MOST_UNEXPLAINED) {
                rc = report_refusal(spec, interrupt, err);
            }
        }
        if (rc == 0) {
            bool again = state == GP_TRANSIENT_FAILURE && left_ms > retry_ms;
            int next =
                gp_channel_wait_state(spec->channel, state, again ? retry_ms : left_ms, interrupt);

            rc = next < 0 && next != GP_ETIMEOUT ? next : 0;
            state = gp_channel_state(spec->channel, true);
        }
    }
    return rc == GP_EUSER ? gp_error_set(err, rc, "the start was interrupted") : rc;
}
