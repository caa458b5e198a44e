/*
 * Layer: py. Objects of gRPC's as values of channel options: MemoryQuota, SSLSessionCacheLRU.
 */
#ifndef PYGO_ARG_OBJECT_H
#define PYGO_ARG_OBJECT_H

#include "gp/channel.h"
#include "py/state.h"

/* The object of gRPC's in |object|, borrowed; NULL without an exception if it has none. */
gp_arg_object *pygo_arg_object(PyObject *object);

#endif
