/*
 * Layer: plugin. The directories in which a plugin makes its sockets, and what is left in them.
 */
#ifndef GP_PLUGIN_SOCKETS_H
#define GP_PLUGIN_SOCKETS_H

#include "gp/client.h"
#include "os/leftover.h"

/*
 * Whether the names of sockets fit into the directory that a plugin launched with |options| chooses
 * by itself.
 */
bool gp__sockets_fit(const gp_client_options *options);

/*
 * Set |out| to the sockets of |process| that may be removed. The process, which is borrowed, was
 * launched or joined with |options|, and is dead. |out| is to be released.
 */
void gp__sockets_left(gp__leftover *out, const gp_client_options *options, gp__process *process);

#endif
