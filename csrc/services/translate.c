#include "services/translate.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"

static bool
is_network(const char *network)
{
    return strcmp(network, "unix") == 0 || strcmp(network, "tcp") == 0;
}

/* Translate an address. Returns 0 or a GP_E* code. */
static int
ask_runner(const gp_runner *runner, bool to_host, const char *network, const char *address,
           gp_runner_address *out, gp_error *err)
{
    int rc;

    if (strlen(network) >= sizeof(out->network) || strlen(address) >= sizeof(out->address)) {
        return gp_error_set(err, GP_EBROKER, "it is too long");
    }
    snprintf(out->network, sizeof(out->network), "%s", network);
    snprintf(out->address, sizeof(out->address), "%s", address);
    rc = (to_host ? runner->plugin_to_host : runner->host_to_plugin)(runner->ctx, out, err);
    if (rc == 0 && !is_network(out->network)) {
        rc = gp_error_set(err, GP_EBROKER, "the runner gave the network %s, not unix or tcp",
                          out->network);
    }
    return rc;
}

int
gp__translate(const gp__process *process, bool to_host, uint32_t id, const char *network,
              const char *address, gp_runner_address *out, gp_error *err)
{
    int rc = ask_runner(gp__process_runner(process), to_host, network, address, out, err);

    if (rc < 0) {
        rc = rc == GP_ECLOSED ? rc : GP_EBROKER;
        gp_error_prefix(err, "connection %u is at %s, which cannot be put into the %s's terms",
                        (unsigned)id, address, to_host ? "host" : "plugin");
        if (err != NULL) {
            err->code = rc;
        }
    }
    return rc;
}

int
gp__dial_place(const gp__process *process, uint32_t id, const char **network, const char **address,
               gp_runner_address *translated, gp_error *err)
{
    int rc;

    if (!is_network(*network)) {
        return gp_error_set(
            err, GP_EBROKER,
            "connection %u is announced at %s of network \"%s\"; expected unix or tcp",
            (unsigned)id, *address, *network);
    }
    if (process != NULL) {
        rc = gp__translate(process, true, id, *network, *address, translated, err);
        if (rc < 0) {
            return rc;
        }
        *network = translated->network;
        *address = translated->address;
    }
    return 0;
}
