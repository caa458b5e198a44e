/*
 * Layer: py. From status codes to exceptions: the only place that knows both.
 */
#ifndef PYGO_ERRORS_H
#define PYGO_ERRORS_H

#include "py/state.h"

/*
 * Raise what |err| says, with "|name|: " before the message if |name| is not NULL, and release it.
 * GP_EUSER keeps the exception that the callback raised. Returns NULL, always.
 */
PyObject *pygo_raise(gp_error *err, const char *name);

/* The exception under way as one object, with its traceback: a new reference. There must be one. */
PyObject *pygo_take_exception(void);

/* |callable|(). What it raises goes to sys.unraisablehook: nobody is there to catch it. */
void pygo_call_back(PyObject *callable);

/* Raise ForkedError and return -1 in a forked child; 0 otherwise. */
int pygo_check_forked(void);

#endif
