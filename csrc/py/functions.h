/*
 * Layer: py. The module's functions that belong to no type, by subject. Each table ends with a
 * zeroed entry.
 */
#ifndef PYGO_FUNCTIONS_H
#define PYGO_FUNCTIONS_H

#include "py/state.h"

extern PyMethodDef pygo_launch_functions[];     /* for a plugin that starts to serve */
extern PyMethodDef pygo_template_functions[];   /* for a plugin that waits as a template */
extern PyMethodDef pygo_hclog_functions[];      /* a Python plugin's log lines */
extern PyMethodDef pygo_reflection_functions[]; /* server reflection's messages */

#endif
