/*
 * Layer: py. Channels, their multicallables, and channel arguments.
 */
#ifndef PYGO_CHANNEL_H
#define PYGO_CHANNEL_H

#include "gp/channel.h"
#include "py/loop.h"

/* Whether the requests and the replies of a method are one each, or a stream. */
typedef enum pygo_arity {
    PYGO_UNARY_UNARY,
    PYGO_UNARY_STREAM,
    PYGO_STREAM_UNARY,
    PYGO_STREAM_STREAM,
} pygo_arity;

/* A PYGO_CHANNEL around |channel|, whose reference is taken over, also on failure. */
PyObject *pygo_channel_wrap(gp_channel *channel);

/* Add a call of an asyncio program to those of |channel|, which it keeps. */
void pygo_channel_add_call(PyObject *channel, gp_link *link);

/* A multicallable. |connection| belongs to |channel|. */
PyObject *pygo_multicallable_new(pygo_arity arity, PyObject *channel, gp_channel *connection,
                                 PyObject *method, PyObject *serializer, PyObject *deserializer);

/* Channel arguments, converted from Python. */
typedef struct pygo_options {
    gp_channel_arg *args; /* owned */
    size_t count;
    PyObject *owner; /* owned: a tuple of the pairs, from which |args| borrow */
} pygo_options;

/*
 * Convert None, or an iterable of (name, value) pairs as grpcio takes them: names are str or bytes,
 * values int, str, bytes, or objects whose __int__ gives the address of a gRPC object. Returns 0,
 * or -1 with TypeError or ValueError.
 */
int pygo_options_from_python(pygo_options *out, PyObject *options);
void pygo_options_release(pygo_options *options);

/*
 * As pygo_options_from_python(), but |*out| is a copy of the arguments, NULL if there are none.
 * |*keep|, a new reference or NULL, must outlive the copy, which may hold addresses of its objects.
 */
int pygo_options_copy(gp_channel_args **out, PyObject **keep, PyObject *options);

#endif
