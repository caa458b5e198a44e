/*
 * Layer: py. From what a plugin prints to a Python callback.
 */
#ifndef PYGO_OUTPUT_SINK_H
#define PYGO_OUTPUT_SINK_H

#include "gp/stdio.h"
#include "py/state.h"

/*
 * A sink that calls |callback|(channel, bytes); None makes one that goes nowhere. Keeps a reference
 * until its release.
 */
gp_output_sink pygo_output_sink(PyObject *callback);

#endif
