#include "plugin/endpoint.h"

#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"

/* Whether gRPC reads |c| in a "unix:" URI as itself. */
static bool
stands_for_itself(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("/-._~!$&'()*+,;=:@", c) != NULL);
}

/* gRPC takes the target for a URI, so a path with a space or a percent sign has to be escaped. */
static char *
unix_target(gp__text path)
{
    gp__buf target = GP__BUF_INIT;
    /* Go prints a socket in Linux's abstract namespace with an at sign for the leading zero byte. */
    bool abstract = path.len > 0 && path.data[0] == '@';
    int rc = gp__buf_printf(&target, abstract ? "unix-abstract:" : "unix:");
    char *text;

    for (size_t i = abstract ? 1 : 0; i < path.len && rc == 0; i++) {
        rc = stands_for_itself(path.data[i])
                 ? gp__buf_append(&target, path.data + i, 1)
                 : gp__buf_printf(&target, "%%%02X", (unsigned char)path.data[i]);
    }
    text = rc == 0 ? gp__memdup(target.data, target.len) : NULL;
    gp__buf_release(&target);
    return text;
}

int
gp__endpoint_init(gp__endpoint *endpoint, const char *network, gp__text address,
                  const char *protocol, int version)
{
    endpoint->address = gp__memdup(address.data, address.len);
    endpoint->target =
        strcmp(network, "unix") == 0 ? unix_target(address) : gp__memdup(address.data, address.len);
    if (endpoint->address == NULL || endpoint->target == NULL) {
        gp__endpoint_release(endpoint);
        return GP_ENOMEM;
    }
    endpoint->view = (gp_endpoint){
        .network = network,
        .address = endpoint->address,
        .target = endpoint->target,
        .protocol = protocol,
        .version = version,
    };
    return 0;
}

void
gp__endpoint_release(gp__endpoint *endpoint)
{
    gp__free(endpoint->address);
    gp__free(endpoint->target);
    memset(endpoint, 0, sizeof(*endpoint));
}
