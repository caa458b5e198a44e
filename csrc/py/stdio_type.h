/*
 * Layer: py. What this process prints, on its way to hosts.
 */
#ifndef PYGO_STDIO_TYPE_H
#define PYGO_STDIO_TYPE_H

#include "gp/stdio.h"
#include "py/state.h"

/* What a Stdio holds, borrowed. NULL with TypeError for another object. */
gp_stdio *pygo_stdio_of(PyObject *object);

#endif
