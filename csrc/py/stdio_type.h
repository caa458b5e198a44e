/*
 * Layer: py. The output of this process, which hosts read.
 */
#ifndef PYGO_STDIO_TYPE_H
#define PYGO_STDIO_TYPE_H

#include "gp/stdio.h"
#include "py/state.h"

/* The gp_stdio in |object|, borrowed. NULL with TypeError unless it is a Stdio. */
gp_stdio *pygo_stdio_of(PyObject *object);

#endif
