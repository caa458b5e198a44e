/*
 * Layer: services. The host's side of GRPCStdio: what a plugin prints after its handshake.
 */
#ifndef GP_SERVICES_STDIO_H
#define GP_SERVICES_STDIO_H

#include "gp/call.h"

/*
 * Open the plugin's one stream of output and read it for ever, discarding it: a plugin whose output
 * nobody takes blocks once its pipe is full. A plugin without the service ends the call at once, which
 * is fine.
 *
 * Returns: 0 with |out| set (give it back with gp_call_unref(), which ends the stream), or GP_ENOMEM,
 * GP_ECLOSED, GP_EFORKED. Never blocks.
 */
int gp__stdio_drain(gp_call **out, gp_channel *channel, gp_error *err);

#endif
