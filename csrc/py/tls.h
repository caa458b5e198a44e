/*
 * Layer: py. TLS objects.
 */
#ifndef PYGO_TLS_H
#define PYGO_TLS_H

#include "gp/tls.h"
#include "py/state.h"

/* The gp_tls in |object|, borrowed; NULL for None. Returns 0, or -1 with a TypeError. */
int pygo_tls(gp_tls **out, PyObject *object);

#endif
