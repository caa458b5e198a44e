/*
 * Layer: py. gRPC's objects that are values of channel options: MemoryQuota, SSLSessionCacheLRU.
 */
#ifndef PYGO_ARG_OBJECT_H
#define PYGO_ARG_OBJECT_H

#include "gp/channel.h"
#include "py/state.h"

/* The gRPC object in |object|, borrowed; NULL without an exception if it is of another type. */
gp_arg_object *pygo_arg_object(PyObject *object);

#endif
