/*
 * Layer: plugin. Sessions over gRPC: one channel, with the services health, controller, stdio and
 * broker at its other end; all of it over one yamux connection if the options say so.
 */
#ifndef GP_PLUGIN_SESSION_GRPC_H
#define GP_PLUGIN_SESSION_GRPC_H

#include "plugin/session.h"

extern const gp__protocol gp__protocol_grpc;

#endif
