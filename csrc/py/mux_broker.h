/*
 * Layer: py. MuxBroker objects, and the files that they open.
 */
#ifndef PYGO_MUX_BROKER_H
#define PYGO_MUX_BROKER_H

#include "py/state.h" /* Python.h comes before the system's headers */

#include "gp/mux_broker.h"

/*
 * An object around |broker|, whose reference is taken over, also on failure. |name| is the
 * plugin's, with which messages begin; "": there is none.
 */
PyObject *pygo_mux_broker_wrap(gp_mux_broker *broker, PyObject *name);

/* An object around |file|, which is taken over, also on failure. */
PyObject *pygo_netrpc_file_wrap(gp_netrpc_file *file);

#endif
