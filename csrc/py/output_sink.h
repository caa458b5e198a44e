/*
 * Layer: py. From the output of a plugin to a Python callback.
 */
#ifndef PYGO_OUTPUT_SINK_H
#define PYGO_OUTPUT_SINK_H

#include "gp/stdio.h"
#include "py/state.h"

/*
 * A sink that calls |callback|(channel, bytes), of which it keeps a reference until its release.
 * None: it drops everything.
 */
gp_output_sink pygo_output_sink(PyObject *callback);

#endif
