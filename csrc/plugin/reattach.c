#include <string.h>

#include "base/thread.h"
#include "os/socket.h"
#include "plugin/client.h"

/* A local listener answers at once; a remote one may be behind a firewall that swallows packets. */
static const int64_t connect_ms = 5000;

bool
gp__client_kill_wanted(gp_client *client)
{
    bool wanted;

    gp_mutex_lock(&client->lock);
    wanted = client->kill_wanted;
    gp_mutex_unlock(&client->lock);
    return wanted;
}

static int
check(void *ctx)
{
    const gp__client_interrupt *both = ctx;

    return gp__client_kill_wanted(both->client) ? 1 : gp__interrupted(both->interrupt);
}

gp_interrupt
gp__client_interrupt_of(gp__client_interrupt *both)
{
    return (gp_interrupt){.check = check, .ctx = both};
}

int
gp__client_reattach(gp_client *client, gp__endpoint *endpoint, gp__process **process,
                    const gp_interrupt *interrupt, gp_error *err)
{
    const gp_client_options *options = &client->options.view;
    const char *network = strcmp(options->reattach_network, "unix") == 0 ? "unix" : "tcp";
    const char *address = options->reattach_address;
    bool grpc =
        options->reattach_protocol != NULL && strcmp(options->reattach_protocol, "grpc") == 0;
    gp__client_interrupt both = {client, interrupt};
    const gp_interrupt stop = gp__client_interrupt_of(&both);
    int rc;

    *process = NULL;
    if (options->reattach_pid > 0) {
        rc = gp__process_attach(process, options->reattach_pid, options->reattach_start_time, err);
        if (rc < 0) {
            return rc;
        }
    }
    rc = gp__socket_probe(network, address, &client->found, gp_deadline_in(connect_ms), &stop, err);
    if (rc == GP_EUSER && gp__client_kill_wanted(client)) {
        rc = GP_ECLOSED;
    }
    if (rc == 0 && *process != NULL && client->found.listener > 0 &&
        !gp__process_recognise(*process, client->found.listener) &&
        options->reattach_start_time == 0) {
        /* A stranger has the pid, or the plugin is in another pid namespace: as good as none. */
        gp__process_unref(*process);
        *process = NULL;
    }
    if (rc == 0 && *process != NULL) {
        rc = gp__process_watch(*process, NULL, NULL, err);
    }
    if (rc == 0) {
        /* As in the handshake line, no protocol means the old one. */
        rc = gp__endpoint_init(endpoint, network, (gp__text){address, strlen(address)}, NULL,
                               grpc ? "grpc" : "netrpc", options->reattach_version, err);
        if (rc == GP_EHANDSHAKE) {
            rc = GP_EREATTACH;
            if (err != NULL) {
                err->code = rc;
            }
        }
    }
    if (rc < 0 && *process != NULL) {
        gp__process_unwatch(*process);
        gp__process_unref(*process);
        *process = NULL;
    }
    return rc;
}
