/*
 * Layer: py. Runners written in Python.
 */
#ifndef PYGO_RUNNER_H
#define PYGO_RUNNER_H

#include "gp/runner.h"
#include "py/state.h"

/* A runner that calls |adapter|'s methods; NULL makes one without a start. Keeps a reference. */
gp_runner pygo_runner(PyObject *adapter);

#endif
