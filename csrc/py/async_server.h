/*
 * Layer: py. From a server to the event loop that answers its calls: what server_type.c and
 * async_server_call_type.c share.
 */
#ifndef PYGO_ASYNC_SERVER_H
#define PYGO_ASYNC_SERVER_H

#include "gp/server.h"
#include "py/state.h"

/* The way of the calls of a server of pygo_plugin.aio to its loop. Lives as long as the C server. */
typedef struct pygo_arrivals pygo_arrivals;

/*
 * |arrived|(context, handler) will be called on the loop for each call. |contexts| is the type of
 * the context. |registered| is a dict of handlers by method; if it has none, the handler is None.
 * NULL with an exception.
 */
pygo_arrivals *pygo_arrivals_new(PyObject *arrived, PyObject *contexts, PyObject *registered);

/* Before the server starts. 0, or -1 with TypeError. */
int pygo_arrivals_set_queue(pygo_arrivals *arrivals, PyObject *loop_queue);

/* For the garbage collector, as pygo_dispatcher_traverse() and pygo_dispatcher_clear(). */
int pygo_arrivals_traverse(pygo_arrivals *arrivals, visitproc visit, void *arg);
void pygo_arrivals_clear(pygo_arrivals *arrivals);

/* With the GIL. NULL is fine. */
void pygo_arrivals_free(pygo_arrivals *arrivals);

/* For gp_server_handler.take. */
void pygo_arrivals_take(pygo_arrivals *arrivals, gp_server_call *call);

#endif
