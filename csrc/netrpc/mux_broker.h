/*
 * Layer: netrpc. What owns a connection makes the broker of it, and gives it the streams that the
 * other side opens; see gp/mux_broker.h.
 */
#ifndef GP_NETRPC_MUX_BROKER_H
#define GP_NETRPC_MUX_BROKER_H

#include "gp/mux_broker.h"
#include "netrpc/transport.h"

/* Make the broker of |transport|, of which a reference is taken. Returns 0 or GP_ENOMEM. */
int gp__mux_broker_new(gp_mux_broker **out, gp__transport *transport, gp_error *err);

/*
 * The other side has opened |stream| in order to dial: called as gp__transport_options.accept is.
 * The broker owns the stream from here on.
 */
void gp__mux_broker_take_stream_locked(gp_mux_broker *broker, gp__transport_stream *stream)
    GP_REQUIRES(&stream->transport->lock);

/* How many requests to what this side serves by the broker are not answered. */
size_t gp__mux_broker_unanswered_locked(gp_mux_broker *broker);

/*
 * The connection is over: what waits to be accepted is given up. To be called as
 * gp__transport_options.over is.
 */
void gp__mux_broker_end_locked(gp_mux_broker *broker);

/*
 * Drop what waits to be accepted, refuse everything from now on, and end what is served.
 * Idempotent. To be called before the last reference to the transport may be dropped.
 */
void gp__mux_broker_close(gp_mux_broker *broker);

#endif
