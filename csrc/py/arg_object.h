/*
 * Layer: py. Channel arguments that are objects of gRPC's.
 */
#ifndef PYGO_ARG_OBJECT_H
#define PYGO_ARG_OBJECT_H

#include "gp/channel.h"
#include "py/state.h"

/* The one that |object| holds, borrowed from it; NULL if it is something else. No exception. */
gp_arg_object *pygo_arg_object(PyObject *object);

#endif
