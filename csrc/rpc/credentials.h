/* Layer: rpc. gRPC's objects inside those of gp/credentials.h. */
#ifndef GP_RPC_CREDENTIALS_H
#define GP_RPC_CREDENTIALS_H

#include "gp/credentials.h"
#include "rpc/grpc_symbols.h"

/* All borrowed. */
grpc_channel_credentials *gp__channel_credentials(const gp_channel_credentials *credentials);
grpc_server_credentials *gp__server_credentials(const gp_server_credentials *credentials);
grpc_call_credentials *gp__call_credentials(const gp_call_credentials *credentials);

/* What TLS says about the peer of |call|. Owned by the caller. NULL when memory is short. */
gp_auth_context *gp__auth_context(grpc_call *call);

#endif
