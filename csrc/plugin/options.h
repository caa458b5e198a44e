/*
 * Layer: plugin. A client's own copy of its options. One thread at a time.
 */
#ifndef GP_PLUGIN_OPTIONS_H
#define GP_PLUGIN_OPTIONS_H

#include "base/arena.h"
#include "gp/client.h"

/* Members of the options that have to be released exactly once. */
enum {
    GP__OPTIONS_LOG = 1 << 0,
    GP__OPTIONS_OUTPUT = 1 << 1,
    GP__OPTIONS_RUNNER = 1 << 2,
    GP__OPTIONS_EXIT = 1 << 3,
};

typedef struct gp__options {
    gp_client_options view; /* its pointers point into |memory| */
    gp__arena memory;
    unsigned owned; /* GP__OPTIONS_*: what gp__options_release() is to release */
} gp__options;

/*
 * Check |from|, and copy it. The sinks and the runner are owned by |options| from here on; if this
 * fails, they have been released. Returns: 0, GP_EINVAL or GP_ENOMEM.
 */
int gp__options_init(gp__options *options, const gp_client_options *from, gp_error *err);
void gp__options_release(gp__options *options);

/* Release the sinks and the runner of |options|, which were not passed to gp__options_init(). */
void gp__options_discard(const gp_client_options *options);

/* Another object releases |which|, one of GP__OPTIONS_*, from now on. */
void gp__options_hand_over(gp__options *options, unsigned which);

#endif
