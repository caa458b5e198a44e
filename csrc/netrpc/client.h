/*
 * Layer: netrpc. The calling side of net/rpc over one stream of a transport; see gp/netrpc.h.
 */
#ifndef GP_NETRPC_CLIENT_H
#define GP_NETRPC_CLIENT_H

#include "gp/netrpc.h"
#include "netrpc/transport.h"

/*
 * Make a client of |stream|, whose transport's lock the caller holds, and which the client owns,
 * also when this fails. It takes a reference of the transport. With |owns_transport|, closing the
 * client closes the transport as well. |limits| may be NULL. Returns: 0 or GP_ENOMEM.
 */
int gp__netrpc_client_new_locked(gp_netrpc_client **out, gp__transport_stream *stream,
                                 bool owns_transport, const gp_gob_limits *limits, gp_error *err);

#endif
