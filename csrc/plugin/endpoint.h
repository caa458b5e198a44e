/*
 * Layer: plugin. The strings behind a gp_endpoint.
 */
#ifndef GP_PLUGIN_ENDPOINT_H
#define GP_PLUGIN_ENDPOINT_H

#include "base/text.h"
#include "gp/client.h"

typedef struct gp__endpoint {
    gp_endpoint view; /* what users see; points to the strings below and to literals */
    char *address;    /* owned */
    char *target;     /* owned */
} gp__endpoint;

/* |network| and |protocol| are literals. Returns 0 or GP_ENOMEM. */
int gp__endpoint_init(gp__endpoint *endpoint, const char *network, gp__text address,
                      const char *protocol, int version);
void gp__endpoint_release(gp__endpoint *endpoint);

#endif
