/*
 * Layer: py. From status codes to exceptions: the only place that knows both.
 */
#ifndef PYGO_ERRORS_H
#define PYGO_ERRORS_H

#include "py/state.h"

/*
 * Raise the exception for |err|, with "|name|: " before its message if |name| is not NULL, and
 * release it. GP_EUSER: the exception that the callback has set stays. Returns NULL, always.
 */
PyObject *pygo_raise(gp_error *err, const char *name);

/*
 * Raise |exception|, whose reference is taken over. NULL: the one that is set already stays.
 * Returns NULL, always.
 */
PyObject *pygo_raise_object(PyObject *exception);

/* Clear the exception that is set and return it with its traceback: a new reference. */
PyObject *pygo_take_exception(void);

/* |callable|(). What it raises goes to sys.unraisablehook, since it has no caller in Python. */
void pygo_call_back(PyObject *callable);

/* 0, or -1 with ForkedError in a child that was forked while the library was in use. */
int pygo_check_forked(void);

#endif
