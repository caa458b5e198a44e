/*
 * Layer: py. From the C library's log batches to a Python callback.
 */
#ifndef PYGO_LOG_SINK_H
#define PYGO_LOG_SINK_H

#include "gp/log.h"
#include "py/state.h"

/*
 * A sink that calls |callback|(raw, records), of which it keeps a reference until its release.
 * None: it drops everything. |level| is the lowest level that is wanted at first.
 */
gp_log_sink pygo_log_sink(PyObject *callback, int level, bool want_raw);

#endif
