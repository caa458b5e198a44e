/*
 * Layer: netrpc. Streams of a transport that have no user for a moment.
 */
#ifndef GP_NETRPC_TRANSPORT_HOLD_H
#define GP_NETRPC_TRANSPORT_HOLD_H

#include "netrpc/transport.h"

/*
 * Keep |stream| until gp__transport_stream_use_locked() gives it its next user, which is told of
 * what has come meanwhile. As with other functions of streams, its caller holds the lock of the
 * stream's transport.
 */
void gp__transport_stream_hold_locked(gp__transport_stream *stream);

#endif
