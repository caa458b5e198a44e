/*
 * Layer: plugin. Reads a plugin's stdout after the handshake, and discards it. A plugin should not
 * print there any more; if it does, it must not block on a full pipe. The owner uses this from one
 * thread at a time.
 */
#ifndef GP_PLUGIN_DRAIN_H
#define GP_PLUGIN_DRAIN_H

#include "gp/error.h"

typedef struct gp__drain gp__drain;

/* Make a drain. On success it owns |fd|, which must be non-blocking. */
int gp__drain_open(gp__drain **out, int fd, gp_error *err);
void gp__drain_close(gp__drain *drain);

#endif
