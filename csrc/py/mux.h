/*
 * Layer: py. Mux objects.
 */
#ifndef PYGO_MUX_H
#define PYGO_MUX_H

#include "gp/grpc_mux.h"
#include "py/state.h"

/* The gp_grpc_mux in |object|, borrowed; NULL for None. Returns 0, or -1 with a TypeError. */
int pygo_mux(gp_grpc_mux **out, PyObject *object);

#endif
