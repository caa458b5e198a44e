/*
 * Layer: plugin. The directories in which a plugin makes its sockets, and what is left in them.
 */
#ifndef GP_PLUGIN_SOCKETS_H
#define GP_PLUGIN_SOCKETS_H

#include "gp/client.h"
#include "os/leftover.h"

/* Whether sockets fit into the directory that a plugin launched with |options| takes by itself. */
bool gp__sockets_fit(const gp_client_options *options);

/*
 * What may be removed after |process|, which is dead, was launched or joined with |options|, and is
 * borrowed. To be released.
 */
void gp__sockets_left(gp__leftover *out, const gp_client_options *options, gp__process *process);

#endif
