/*
 * Layer: plugin. A client's own copy of its options.
 */
#ifndef GP_PLUGIN_OPTIONS_H
#define GP_PLUGIN_OPTIONS_H

#include "base/arena.h"
#include "gp/client.h"

typedef struct gp__options {
    gp_client_options view; /* points into |memory| */
    gp__arena memory;
} gp__options;

/* Check and copy. Returns 0, GP_EINVAL or GP_ENOMEM; then there is nothing to release. */
int gp__options_init(gp__options *options, const gp_client_options *from, gp_error *err);
void gp__options_release(gp__options *options);

#endif
