/*
 * Layer: py. Templates as objects of Python.
 */
#ifndef PYGO_TEMPLATE_H
#define PYGO_TEMPLATE_H

#include "gp/template.h"
#include "py/state.h"

/* The template of a _core.Template, borrowed. Returns 0, or -1 with an exception. */
int pygo_template(gp_template **out, PyObject *object);

#endif
