/*
 * Layer: public. MuxBroker: how a host and a plugin that speak net/rpc make further connections,
 * each of which has a number, its id. They are streams of the one connection. One side accepts an
 * id, which the other side has learned in some call, and the other side dials it. What travels on
 * such a stream is up to its users: calls of net/rpc in either direction, or any bytes.
 *
 * A dialler opens a stream, writes the id as 4 bytes, little-endian, and reads the same 4 bytes,
 * which the other side writes when it accepts the id. A stream is dropped if its id is not accepted
 * within 5 s.
 *
 * Shared by reference. Threads: any.
 */
#ifndef GP_MUX_BROKER_H
#define GP_MUX_BROKER_H

#include <stdbool.h>
#include <stdint.h>

#include "gp/error.h"
#include "gp/netrpc.h"
#include "gp/netrpc_file.h"
#include "gp/runtime.h"

typedef struct gp_mux_broker gp_mux_broker;

/* How long an id is accepted, and how long a dialler waits, as with go-plugin. */
enum { GP_MUX_BROKER_MS = 5000 };

gp_mux_broker *gp_mux_broker_ref(gp_mux_broker *broker);
void gp_mux_broker_unref(gp_mux_broker *broker);

/* An id that this side has not given out before, from 1 on; 0 when all are used up. */
uint32_t gp_mux_broker_next_id(gp_mux_broker *broker);

/*
 * Dial |id|, for calls to what the other side serves there. |limits| (NULL: defaults) are for
 * replies.
 *
 * Returns: 0; GP_EBROKER if the other side has not accepted the id by |deadline|, or has answered
 * with something else, or the connection has ended; GP_EUSER, GP_ENOMEM or GP_EFORKED.
 */
int gp_mux_broker_dial(gp_mux_broker *broker, uint32_t id, const gp_gob_limits *limits,
                       int64_t deadline, const gp_interrupt *interrupt, gp_netrpc_client **out,
                       gp_error *err);

/* As gp_mux_broker_dial(), for bytes. */
int gp_mux_broker_dial_file(gp_mux_broker *broker, uint32_t id, int64_t deadline,
                            const gp_interrupt *interrupt, gp_netrpc_file **out, gp_error *err);

/*
 * Wait until the other side dials |id|. Returns: 0; GP_EBROKER if it has not by |deadline|, if
 * the id is being accepted already, or if the connection has ended; GP_EUSER, GP_ENOMEM or
 * GP_EFORKED.
 */
int gp_mux_broker_accept_file(gp_mux_broker *broker, uint32_t id, int64_t deadline,
                              const gp_interrupt *interrupt, gp_netrpc_file **out, gp_error *err);

/* An id that is accepted and served. Shared by reference. Threads: any. */
typedef struct gp_mux_serving gp_mux_serving;

/*
 * Serve |services| to the one caller that dials |id| by |deadline|. A reference is taken of
 * |services|. |options| are copied; NULL: defaults. |out| (may be NULL) gets a reference. Never
 * blocks.
 *
 * Returns: 0; GP_EBROKER if the id is being accepted already, or the connection has ended;
 * GP_ENOMEM or GP_EFORKED.
 */
int gp_mux_broker_serve(gp_mux_broker *broker, uint32_t id, gp_netrpc_services *services,
                        const gp_netrpc_server_options *options, int64_t deadline,
                        gp_mux_serving **out, gp_error *err);

/* Accept the id no more, or end the stream. Calls that run go on, and their answers are dropped. */
void gp_mux_serving_stop(gp_mux_serving *serving);

/* It goes on without references. NULL is fine. */
void gp_mux_serving_unref(gp_mux_serving *serving);

/* Whether the connection between host and plugin is there. */
bool gp_mux_broker_connected(gp_mux_broker *broker);

#endif
