/*
 * Layer: py. The module's functions that belong to no type.
 */
#ifndef PYGO_FUNCTIONS_H
#define PYGO_FUNCTIONS_H

#include "py/state.h"

extern PyMethodDef pygo_functions[];

#endif
