/*
 * Layer: py. What a Mux object holds.
 */
#ifndef PYGO_MUX_H
#define PYGO_MUX_H

#include "gp/grpc_mux.h"
#include "py/state.h"

/* What |object| holds, borrowed from it; NULL for None. Returns 0, or -1 with a TypeError. */
int pygo_mux(gp_grpc_mux **out, PyObject *object);

#endif
