/*
 * Layer: py. The keyword arguments of _core.Client: one table has all of them.
 */
#ifndef PYGO_CLIENT_OPTIONS_H
#define PYGO_CLIENT_OPTIONS_H

#include "gp/client.h"
#include "py/state.h"

typedef struct pygo_client_options {
    /*
     * For gp_client_new(), which takes over the sinks and the runner. Everything else is borrowed:
     * from the arguments, from |memory| and from the owned fields below.
     */
    gp_client_options core;

    PyObject *name;          /* owned str: begins messages; "" by default */
    PyObject *versions;      /* owned tuple: those that the host speaks */
    PyObject *grpc_pointers; /* owned: what gRPC may have pointers to; NULL: nothing */
    PyObject *memory;        /* owned list of bytes-like objects */

    /* What the sinks and the runner are made of; all borrowed from the arguments, NULL: none. */
    PyObject *log;
    PyObject *output;
    PyObject *on_exit;
    PyObject *runner;
    int log_level;
    bool want_raw;
} pygo_client_options;

/*
 * Parse the arguments of Client(). None stands for the default. Returns 0, or -1 with an exception
 * and nothing to release.
 */
int pygo_client_options_init(pygo_client_options *options, PyObject *args, PyObject *kwargs);

/* Once gp_client_new() has returned; the arguments may go afterwards. */
void pygo_client_options_release(pygo_client_options *options);

#endif
