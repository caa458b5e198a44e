/*
 * Layer: plugin. Reads a plugin's stdout after the handshake and discards what comes. A plugin is
 * not supposed to print there any more; if it does, it must not block on a full pipe. The owner
 * uses this from one thread at a time.
 */
#ifndef GP_PLUGIN_DRAIN_H
#define GP_PLUGIN_DRAIN_H

#include "gp/error.h"

typedef struct gp__drain gp__drain;

/* On success |fd|, which is non-blocking, belongs to the drain. */
int gp__drain_open(gp__drain **out, int fd, gp_error *err);
void gp__drain_close(gp__drain *drain);

#endif
