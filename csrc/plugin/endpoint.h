/*
 * Layer: plugin. The strings behind a gp_endpoint.
 */
#ifndef GP_PLUGIN_ENDPOINT_H
#define GP_PLUGIN_ENDPOINT_H

#include "base/text.h"
#include "gp/client.h"
#include "rpc/target.h"

typedef struct gp__endpoint {
    gp_endpoint view;  /* for users; it points to the strings below and to literals */
    char *address;     /* owned; a path is absolute */
    gp__target target; /* owned */
} gp__endpoint;

/*
 * |network| and |protocol| are literals. The |address| of a unix socket is relative to |directory|
 * (NULL: this process's). Returns: 0, GP_ENOMEM or GP_EHANDSHAKE (gRPC cannot connect to such an
 * address).
 */
int gp__endpoint_init(gp__endpoint *endpoint, const char *network, gp__text address,
                      const char *directory, const char *protocol, int version, gp_error *err);
void gp__endpoint_release(gp__endpoint *endpoint);

#endif
