#include "plugin/reattach.h"

#include <stdbool.h>
#include <string.h>

#include "base/thread.h"

/* A local listener answers at once; a remote one may be behind a firewall that drops packets. */
static const int64_t connect_ms = 5000;

/*
 * Check that |process|, which has the options' pid, is the plugin. |listener| is the pid that
 * answered at the address, 0 if that is unknown. Returns |process|; or drops it and returns NULL if
 * another process has the pid, or the plugin is in another pid namespace, so that the pid is of no
 * use.
 */
static gp__process *
confirm_process(const gp_client_options *options, gp__process *process, int listener)
{
    if (listener > 0 && !gp__process_recognise(process, listener) &&
        options->reattach_start_time == 0) {
        gp__process_unref(process);
        return NULL;
    }
    return process;
}

static int
make_endpoint(const gp_client_options *options, const char *network, gp__endpoint *endpoint,
              gp_error *err)
{
    const char *address = options->reattach_address;
    const char *protocol = options->reattach_protocol;
    /* As in the handshake line, no protocol means net/rpc. */
    bool grpc = protocol != NULL && strcmp(protocol, "grpc") == 0;
    int rc = gp__endpoint_init(endpoint, network, (gp__text){address, strlen(address)}, NULL,
                               grpc ? "grpc" : "netrpc", options->reattach_version, err);

    if (rc == GP_EHANDSHAKE) { /* the address is the user's, not that of a handshake */
        rc = GP_EREATTACH;
        if (err != NULL) {
            err->code = rc;
        }
    }
    return rc;
}

int
gp__reattach(const gp_client_options *options, gp__endpoint *endpoint, gp__process **out,
             gp__socket_found *found, const gp_interrupt *interrupt, gp_error *err)
{
    const char *network = strcmp(options->reattach_network, "unix") == 0 ? "unix" : "tcp";
    gp__process *process = NULL;
    int rc = 0;

    if (options->reattach_pid > 0) {
        rc = gp__process_attach(&process, options->reattach_pid, options->reattach_start_time, err);
        if (rc < 0) {
            return rc;
        }
    }
    rc = gp__socket_probe(network, options->reattach_address, found, gp_deadline_in(connect_ms),
                          interrupt, err);
    if (rc < 0) {
        goto fail_probe;
    }
    if (process != NULL) {
        process = confirm_process(options, process, found->listener);
    }
    if (process != NULL && (rc = gp__process_watch(process, NULL, NULL, err)) < 0) {
        goto fail_probe;
    }
    rc = make_endpoint(options, network, endpoint, err);
    if (rc < 0) {
        goto fail_endpoint;
    }
    *out = process;
    return 0;

fail_endpoint:
    if (process != NULL) {
        gp__process_unwatch(process);
    }
fail_probe:
    gp__process_unref(process);
    return rc;
}
