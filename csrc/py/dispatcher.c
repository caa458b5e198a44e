#include "py/dispatcher.h"

#include <stdlib.h>
#include <string.h>

#include "gp/grpc.h"
#include "py/callbacks.h"
#include "py/gil.h"
#include "py/metadata.h"
#include "py/server.h"

/* The Python side of a server's threads. Lives as long as the C server, not the Python object. */
typedef struct dispatcher {
    PyObject *find;       /* owned: find(details) -> grpc.RpcMethodHandler or None; NULL: cleared */
    PyObject *registered; /* owned dict: method -> handler; asked first; NULL: cleared */
    PyTypeObject *contexts;  /* owned: a subclass of ServerCall */
    pygo_arrivals *arrivals; /* owned: where an event loop takes the calls; otherwise NULL */
} dispatcher;

PyObject *
pygo_handler_details_new(gp_server_call *call)
{
    PyObject *details = PyStructSequence_New(pygo_module_state->handler_details_type);

    if (details != NULL) {
        PyStructSequence_SetItem(details, 0, pygo_server_call_method(call));
        PyStructSequence_SetItem(details, 1,
                                 pygo_metadata_to_python(gp_server_call_metadata(call)));
        if (PyErr_Occurred()) {
            Py_CLEAR(details);
        }
    }
    return details;
}

/*
 * A new reference to the handler, or to a tuple of it and the contextvars.Context in which
 * interceptors have looked for it: variables that they set are seen by this call's handler alone.
 */
static PyObject *
find_handler(dispatcher *self, gp_server_call *call)
{
    PyObject *method = pygo_server_call_method(call);
    PyObject *handler;
    PyObject *details;
    PyObject *variables;

    if (method == NULL) {
        return NULL;
    }
    handler = PyDict_GetItemWithError(self->registered, method);
    if (handler != NULL || PyErr_Occurred()) {
        Py_DECREF(method);
        return Py_XNewRef(handler);
    }
    Py_DECREF(method);
    details = pygo_handler_details_new(call);
    variables = PyContext_New();
    handler = NULL;
    if (details != NULL && variables != NULL && PyContext_Enter(variables) == 0) {
        handler = PyObject_CallOneArg(self->find, details);
        if (PyContext_Exit(variables) < 0) {
            Py_CLEAR(handler);
        }
    }
    Py_XDECREF(details);
    if (handler != NULL && handler != Py_None) {
        Py_SETREF(handler, PyTuple_Pack(2, handler, variables));
    }
    Py_XDECREF(variables);
    return handler;
}

/* Whether a result of find_handler() is a tuple made by it. grpcio's handlers are tuples, too. */
static bool
has_context(PyObject *found)
{
    return PyTuple_CheckExact(found) && PyTuple_GET_SIZE(found) == 2 &&
           PyContext_CheckExact(PyTuple_GET_ITEM(found, 1));
}

/* The handler in a result of find_handler(), borrowed. */
static PyObject *
handler_of(PyObject *found)
{
    return has_context(found) ? PyTuple_GET_ITEM(found, 0) : found;
}

/* A new reference to the contextvars.Context to run the handler in. */
static PyObject *
variables_of(PyObject *found)
{
    return has_context(found) ? Py_NewRef(PyTuple_GET_ITEM(found, 1)) : PyContext_New();
}

/* For gp_server_handler.begin. */
static int
begin_call(void *ctx, gp_server_call *call, void **data)
{
    PyObject *handler;
    int wants_message = -1;

    if (!pygo_gil_enter("pygo-worker")) {
        pygo_server_call_refuse(call, GP_GRPC_UNAVAILABLE, "the server is shutting down");
        return -1;
    }
    if (((dispatcher *)ctx)->find == NULL) { /* the garbage collector has cleared it */
        pygo_server_call_refuse(call, GP_GRPC_UNAVAILABLE, "the server is gone");
        pygo_gil_leave();
        return -1;
    }
    handler = find_handler(ctx, call);
    if (handler == NULL) {
        PyErr_WriteUnraisable(((dispatcher *)ctx)->find);
        pygo_server_call_refuse(call, GP_GRPC_UNKNOWN, "Exception in service handler!");
    } else if (handler == Py_None) {
        Py_DECREF(handler);
    } else {
        *data = handler;
        wants_message = !pygo_servicer_streams_in(handler_of(handler));
    }
    pygo_gil_leave();
    return wants_message;
}

/* Have |pool|, the thread pool of the method's author, answer the call: see run_in_pool(). */
static void
move_to_pool(PyObject *pool, ServerCallObject *context, PyObject *handler, PyObject *variables)
{
    PyObject *run_in_pool = pygo_provided(PYGO_RUN_IN_POOL);
    PyObject *result = NULL;

    gp_server_call_keep(context->call);
    if (run_in_pool != NULL) {
        result = PyObject_CallFunctionObjArgs(run_in_pool, pool, (PyObject *)context, handler,
                                              variables, NULL);
    }
    if (result == NULL) {
        pygo_servicer_refuse(context);
        Py_BEGIN_ALLOW_THREADS
        gp_server_call_hand_back(context->call);
        Py_END_ALLOW_THREADS
    }
    Py_XDECREF(result);
}

/* For gp_server_handler.run. */
static void
run_call(void *ctx, gp_server_call *call, void *data)
{
    ServerCallObject *context;
    PyObject *variables;
    PyObject *pool;

    if (!pygo_gil_enter("pygo-worker")) {
        pygo_server_call_refuse(call, GP_GRPC_UNAVAILABLE, "the server is shutting down");
        return;
    }
    context = pygo_server_call_new(((dispatcher *)ctx)->contexts, call);
    variables = context != NULL ? variables_of(data) : NULL;
    if (variables == NULL || PyContext_Enter(variables) < 0) {
        PyErr_WriteUnraisable(NULL);
        pygo_server_call_refuse(call, GP_GRPC_UNKNOWN, "out of memory");
    } else {
        pool = pygo_servicer_run(context, handler_of(data), true);
        if (PyContext_Exit(variables) < 0) {
            PyErr_WriteUnraisable(NULL);
        }
        if (pool != NULL) {
            move_to_pool(pool, context, handler_of(data), variables);
            Py_DECREF(pool);
        }
    }
    Py_XDECREF(variables);
    Py_XDECREF(context);
    Py_DECREF((PyObject *)data);
    pygo_gil_leave();
}

/* For gp_server_handler.take. */
static void
take_call(void *ctx, gp_server_call *call)
{
    pygo_arrivals_take(((dispatcher *)ctx)->arrivals, call);
}

/* ---- Too many handlers ---- */

typedef struct full_report {
    pygo_callback callback;
    int max_workers;
} full_report;

static void
report_full(pygo_callback *callback)
{
    full_report *self = (full_report *)callback;
    PyObject *report = pygo_provided(PYGO_WORKERS_FULL);
    PyObject *limit = PyLong_FromLong(self->max_workers);
    PyObject *result =
        report != NULL && limit != NULL ? pygo_gil_call_user(report, &limit, 1) : NULL;

    if (result == NULL) {
        PyErr_WriteUnraisable(report);
    }
    Py_XDECREF(result);
    Py_XDECREF(limit);
    free(self);
}

/*
 * For gp_server_handler.full, which is called with the server's lock held. Python's allocator is
 * not used, since tracemalloc would have it take the GIL.
 */
static void
post_full_report(void *Py_UNUSED(ctx), int max_workers)
{
    full_report *report = pygo_gil_is_open() ? calloc(1, sizeof(*report)) : NULL;

    if (report != NULL) {
        report->callback.run = report_full;
        report->max_workers = max_workers;
        pygo_callback_post(&report->callback);
    }
}

/* For gp_server_handler.release: on any thread, with or without the GIL. */
static void
free_dispatcher(void *ctx)
{
    dispatcher *self = ctx;

    if (pygo_gil_is_open()) {
        PyGILState_STATE gil = PyGILState_Ensure();

        Py_XDECREF(self->find);
        Py_XDECREF(self->registered);
        Py_DECREF(self->contexts);
        pygo_arrivals_free(self->arrivals);
        PyGILState_Release(gil);
    }
    PyMem_RawFree(self);
}

int
pygo_dispatcher_traverse(void *ctx, visitproc visit, void *arg)
{
    dispatcher *self = ctx;

    Py_VISIT(self->find);
    Py_VISIT(self->registered);
    Py_VISIT(self->contexts);
    return self->arrivals != NULL ? pygo_arrivals_traverse(self->arrivals, visit, arg) : 0;
}

void
pygo_dispatcher_clear(void *ctx)
{
    dispatcher *self = ctx;

    Py_CLEAR(self->find);
    Py_CLEAR(self->registered);
    if (self->arrivals != NULL) {
        pygo_arrivals_clear(self->arrivals);
    }
}

void *
pygo_dispatcher_new(gp_server_handler *handler, PyObject *find, PyObject *registered,
                    PyObject *contexts, pygo_arrivals *arrivals, bool reports_full)
{
    dispatcher *self;

    if (pygo_check_subclass(contexts, pygo_module_state->server_call_type) < 0) {
        pygo_arrivals_free(arrivals);
        return NULL;
    }
    self = PyMem_RawMalloc(sizeof(*self));
    if (self == NULL) {
        PyErr_NoMemory();
        pygo_arrivals_free(arrivals);
        return NULL;
    }
    self->find = Py_NewRef(find);
    self->registered = Py_NewRef(registered);
    self->contexts = (PyTypeObject *)Py_NewRef(contexts);
    self->arrivals = arrivals;
    *handler = (gp_server_handler){
        .begin = begin_call,
        .run = run_call,
        .release = free_dispatcher,
        .take = arrivals != NULL ? take_call : NULL,
        .full = reports_full ? post_full_report : NULL,
    };
    return self;
}

int
pygo_dispatcher_setup(PyObject *module, pygo_state *state)
{
    static PyStructSequence_Field fields[] = {
        {"method", "'/package.Service/Method'"},
        {"invocation_metadata", "the client's metadata"},
        {NULL, NULL},
    };
    static PyStructSequence_Desc description = {"pygo_plugin._core.HandlerCallDetails",
                                                "The method and the metadata of a call.", fields,
                                                2};

    state->handler_details_type = pygo_add_struct(module, &description);
    if (state->handler_details_type == NULL) {
        return -1;
    }
    gp_grpc_on_worker_exit(pygo_gil_thread_exit);
    return pygo_servicer_setup();
}
