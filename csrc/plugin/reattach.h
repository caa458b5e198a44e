/*
 * Layer: plugin. Joining a plugin that runs already.
 */
#ifndef GP_PLUGIN_REATTACH_H
#define GP_PLUGIN_REATTACH_H

#include "gp/client.h"
#include "os/process/process.h"
#include "os/socket.h"
#include "plugin/endpoint.h"

/*
 * Check that the plugin that the options name listens and, if its pid is known, watch its process.
 *
 * Returns: 0 with |endpoint| (to be released), |*process| (shared: ref; NULL: unknown) and |found|
 * (the listener that answered) filled; or GP_EREATTACH, GP_ENOMEM, GP_EOS or GP_EUSER.
 */
int gp__reattach(const gp_client_options *options, gp__endpoint *endpoint, gp__process **process,
                 gp__socket_found *found, const gp_interrupt *interrupt, gp_error *err);

#endif
