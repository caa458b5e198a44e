/*
 * Layer: py. Channels, and what they make.
 */
#ifndef PYGO_CHANNEL_H
#define PYGO_CHANNEL_H

#include "gp/channel.h"
#include "py/loop.h"

/* Which side streams: request first, then reply. */
typedef enum pygo_arity {
    PYGO_UNARY_UNARY,
    PYGO_UNARY_STREAM,
    PYGO_STREAM_UNARY,
    PYGO_STREAM_STREAM,
} pygo_arity;

/* A _grpc.channel.Channel around |channel|, whose reference is taken over, also on failure. */
PyObject *pygo_channel_wrap(gp_channel *channel);

/* Add a call of an asyncio program to those of |channel|, which it keeps. */
void pygo_channel_add_call(PyObject *channel, gp_link *link);

/* A multicallable. |connection| belongs to |channel|. */
PyObject *pygo_multicallable_new(pygo_arity arity, PyObject *channel, gp_channel *connection,
                                 PyObject *method, PyObject *serializer, PyObject *deserializer);

/* An array of channel arguments that borrows from a tuple, in which |options| has its pairs. */
typedef struct pygo_options {
    gp_channel_arg *args; /* owned */
    size_t count;
    PyObject *owner; /* owned: keeps the strings and the objects */
} pygo_options;

/*
 * Convert None, or an iterable of (name, value) pairs as grpcio takes them: names are str or bytes,
 * values int, str, bytes, or objects with __int__ that gives an address. 0, or -1 with TypeError or
 * ValueError.
 */
int pygo_options_from_python(pygo_options *out, PyObject *options);
void pygo_options_release(pygo_options *options);

/*
 * The same as a copy, NULL if there are none. What it may have addresses of is in |*keep| (a new
 * reference, or NULL), which has to outlive its use.
 */
int pygo_options_copy(gp_channel_args **out, PyObject **keep, PyObject *options);

#endif
