/*
 * Layer: py. How a server passes calls to the event loop that answers them (arrivals.c), and the
 * calls on that loop (async_server_call_type.c).
 */
#ifndef PYGO_ASYNC_SERVER_H
#define PYGO_ASYNC_SERVER_H

#include "gp/server.h"
#include "py/state.h"

/* Passes the calls of a server of pygo_plugin.aio to its loop. Lives as long as the C server. */
typedef struct pygo_arrivals pygo_arrivals;

/*
 * |arrived|(context, handler) will be called on the loop for each call. |contexts| is the type of
 * the context. |registered| is a dict of handlers by method; for other methods the handler is None.
 * NULL with an exception.
 */
pygo_arrivals *pygo_arrivals_new(PyObject *arrived, PyObject *contexts, PyObject *registered);

/* Set the LoopQueue of the loop, before the server starts. 0, or -1 with TypeError. */
int pygo_arrivals_set_queue(pygo_arrivals *arrivals, PyObject *loop_queue);

/* For the garbage collector, as pygo_dispatcher_traverse() and pygo_dispatcher_clear(). */
int pygo_arrivals_traverse(pygo_arrivals *arrivals, visitproc visit, void *arg);
void pygo_arrivals_clear(pygo_arrivals *arrivals);

/* With the GIL. NULL is fine. */
void pygo_arrivals_free(pygo_arrivals *arrivals);

/* For gp_server_handler.take. */
void pygo_arrivals_take(pygo_arrivals *arrivals, gp_server_call *call);

/*
 * Remember that the method takes one request. If there is no room or no memory, its calls are
 * announced as those of other methods. With the GIL.
 */
void pygo_arrivals_expect_one(pygo_arrivals *arrivals, gp_bytes path);

/*
 * A context of |type|, a subclass of AsyncServerCall, which answers |call| on the loop of
 * |loop_queue| and then hands it back to the core. NULL with an exception.
 */
PyObject *pygo_async_server_call_new(PyTypeObject *type, gp_server_call *call,
                                     pygo_arrivals *arrivals, PyObject *loop_queue);

/* Give it its first message, which is taken over; NULL: the call has none. */
void pygo_async_server_call_put_first(PyObject *call, gp_message *message);

#endif
