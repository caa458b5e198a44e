/*
 * Layer: plugin. Sessions over net/rpc: one yamux connection, whose first stream controls the
 * plugin, whose next two carry what it prints, and whose others belong to the broker.
 */
#ifndef GP_PLUGIN_SESSION_NETRPC_H
#define GP_PLUGIN_SESSION_NETRPC_H

#include "plugin/session.h"

extern const gp__protocol gp__protocol_netrpc;

#endif
