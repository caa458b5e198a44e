/*
 * Layer: netrpc. The answering side of net/rpc over one stream of a transport; see gp/netrpc.h.
 */
#ifndef GP_NETRPC_SERVER_H
#define GP_NETRPC_SERVER_H

#include "gp/netrpc.h"
#include "netrpc/transport.h"

/*
 * Serve |services| on |stream|, whose transport's lock the caller holds, and which the server owns,
 * also when this fails. It takes a reference of the transport and of |services|. |options| may be
 * NULL. The server lives until it is finished: the stream has ended, all requests are answered, and
 * no handler runs. Then |finished|(|ctx|) (|finished| may be NULL) is called once, as a deferred
 * task of the transport, which must not block. |*out| (|out| may be NULL) gets another reference.
 *
 * Requests that have come with the stream are taken before this returns.
 *
 * Returns: 0 or GP_ENOMEM; then |finished| is not called.
 */
int gp__netrpc_server_open_locked(gp_netrpc_server **out, gp__transport_stream *stream,
                                  gp_netrpc_services *services,
                                  const gp_netrpc_server_options *options, gp_then *finished,
                                  void *ctx, gp_error *err);

/* How many requests are not answered yet. */
size_t gp__netrpc_server_unanswered_locked(gp_netrpc_server *server);

#endif
