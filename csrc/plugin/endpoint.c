#include "plugin/endpoint.h"

#include <string.h>

#include "base/alloc.h"
#include "os/path.h"

/* The address as this process can use it. Owned by the caller; NULL when memory is short. */
static char *
resolve_address(const char *network, gp__text address, const char *directory)
{
    return strcmp(network, "unix") != 0 || (address.len > 0 && address.data[0] == '@')
               ? gp__memdup(address.data, address.len)
               : gp__path_absolute(address.data, address.len, directory);
}

int
gp__endpoint_init(gp__endpoint *endpoint, const char *network, gp__text address,
                  const char *directory, const char *protocol, int version, gp_error *err)
{
    gp_error why = GP_ERROR_INIT;
    int rc;

    endpoint->target = (gp__target)GP__TARGET_INIT;
    endpoint->address = resolve_address(network, address, directory);
    if (endpoint->address == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for the plugin's address");
    }
    rc = gp__target_init(&endpoint->target, network, endpoint->address, &why);
    if (rc < 0) {
        rc = rc == GP_ENOMEM ? rc : GP_EHANDSHAKE;
        gp_error_set(err, rc, "the plugin cannot be reached: %s", gp_error_message(&why));
        gp_error_release(&why);
        gp__endpoint_release(endpoint);
        return rc;
    }
    endpoint->view = (gp_endpoint){
        .network = network,
        .address = endpoint->address,
        .target = endpoint->target.text,
        .protocol = protocol,
        .version = version,
    };
    return 0;
}

void
gp__endpoint_release(gp__endpoint *endpoint)
{
    gp__free(endpoint->address);
    if (endpoint->target.text != NULL) { /* a zeroed endpoint has none */
        gp__target_release(&endpoint->target);
    }
    memset(endpoint, 0, sizeof(*endpoint));
}
