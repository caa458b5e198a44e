#include "py/dispatcher.h"

#include <stdlib.h>
#include <string.h>

#include "py/callbacks.h"
#include "py/gil.h"
#include "py/metadata.h"
#include "py/server.h"

enum { STATUS_UNKNOWN = 2, STATUS_UNAVAILABLE = 14 };

/* What the server's threads need of Python. Lives as long as the C server, not the Python one. */
typedef struct dispatcher {
    PyObject *find;       /* owned: find(details) -> grpc.RpcMethodHandler or None; NULL: cleared */
    PyObject *registered; /* owned dict: method -> handler; asked first; NULL: cleared */
    PyTypeObject *contexts;  /* owned: _grpc.server.ServicerContext */
    pygo_arrivals *arrivals; /* owned: where an event loop takes the calls; otherwise NULL */
} dispatcher;

PyObject *
pygo_handler_details_new(gp_server_call *call)
{
    gp_bytes path = gp_server_call_method(call);
    PyObject *details = PyStructSequence_New(pygo_module_state->handler_details_type);

    if (details != NULL) {
        PyStructSequence_SetItem(details, 0,
                                 PyUnicode_DecodeUTF8(path.data, (Py_ssize_t)path.len, "replace"));
        PyStructSequence_SetItem(details, 1,
                                 pygo_metadata_to_python(gp_server_call_metadata(call)));
        if (PyErr_Occurred()) {
            Py_CLEAR(details);
        }
    }
    return details;
}

/*
 * The handler, new; or a tuple of it and the contextvars.Context in which it was looked for, since
 * what interceptors set there is for the handler to see, and for no other call.
 */
static PyObject *
find_handler(dispatcher *self, gp_server_call *call)
{
    gp_bytes path = gp_server_call_method(call);
    PyObject *method = PyUnicode_DecodeUTF8(path.data, (Py_ssize_t)path.len, "replace");
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

/* The handler in what find_handler() gave, lent. */
static PyObject *
handler_of(PyObject *found)
{
    /* grpcio's handlers are tuples of a subclass. */
    return PyTuple_CheckExact(found) ? PyTuple_GET_ITEM(found, 0) : found;
}

/* The context to run it in, new; its own if it came without one. */
static PyObject *
variables_of(PyObject *found)
{
    return PyTuple_CheckExact(found) ? Py_NewRef(PyTuple_GET_ITEM(found, 1)) : PyContext_New();
}

static void
end_with(gp_server_call *call, int code, const char *details)
{
    gp_server_call_finish(call, code, (gp_bytes){details, strlen(details)}, (gp_metadata){NULL, 0});
}

static int
begin(void *ctx, gp_server_call *call, void **data)
{
    PyObject *handler;
    int wants_message = -1;

    if (!pygo_gil_enter("pygo-worker")) {
        end_with(call, STATUS_UNAVAILABLE, "the server is shutting down");
        return -1;
    }
    if (((dispatcher *)ctx)->find == NULL) { /* the collector has been there */
        end_with(call, STATUS_UNAVAILABLE, "the server is gone");
        pygo_gil_leave();
        return -1;
    }
    handler = find_handler(ctx, call);
    if (handler == NULL) {
        PyErr_WriteUnraisable(((dispatcher *)ctx)->find);
        end_with(call, STATUS_UNKNOWN, "Exception in service handler!");
    } else if (handler == Py_None) {
        Py_DECREF(handler);
    } else {
        *data = handler;
        wants_message = !pygo_servicer_streams_in(handler_of(handler));
    }
    pygo_gil_leave();
    return wants_message;
}

/* Have the pool of the method's author answer the call: see _grpc.server.run_in_pool. */
static void
move(PyObject *pool, ServerCallObject *context, PyObject *handler, PyObject *variables)
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

static void
run(void *ctx, gp_server_call *call, void *data)
{
    ServerCallObject *context;
    PyObject *variables;
    PyObject *pool;

    if (!pygo_gil_enter("pygo-worker")) {
        end_with(call, STATUS_UNAVAILABLE, "the server is shutting down");
        return;
    }
    context = pygo_server_call_new(((dispatcher *)ctx)->contexts, call);
    variables = context != NULL ? variables_of(data) : NULL;
    if (variables == NULL || PyContext_Enter(variables) < 0) {
        PyErr_WriteUnraisable(NULL);
        end_with(call, STATUS_UNKNOWN, "out of memory");
    } else {
        pool = pygo_servicer_run(context, handler_of(data), true);
        if (PyContext_Exit(variables) < 0) {
            PyErr_WriteUnraisable(NULL);
        }
        if (pool != NULL) {
            move(pool, context, handler_of(data), variables);
            Py_DECREF(pool);
        }
    }
    Py_XDECREF(variables);
    Py_XDECREF(context);
    Py_DECREF((PyObject *)data);
    pygo_gil_leave();
}

static void
take(void *ctx, gp_server_call *call)
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
 * Not by Python's allocator: tracemalloc would have it take the GIL, with the server's lock held.
 */
static void
full(void *Py_UNUSED(ctx), int max_workers)
{
    full_report *report = pygo_gil_is_open() ? calloc(1, sizeof(*report)) : NULL;

    if (report != NULL) {
        report->callback.run = report_full;
        report->max_workers = max_workers;
        pygo_callback_post(&report->callback);
    }
}

/* The last reference to the server may go on any thread, with or without the GIL. */
static void
release(void *ctx)
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

    if (!PyType_Check(contexts) ||
        !PyType_IsSubtype((PyTypeObject *)contexts, pygo_module_state->server_call_type)) {
        PyErr_Format(PyExc_TypeError, "contexts must be a subclass of ServerCall, not %R",
                     contexts);
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
        .begin = begin,
        .run = run,
        .release = release,
        .take = arrivals != NULL ? take : NULL,
        .full = reports_full ? full : NULL,
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
                                                "What a call asks for.", fields, 2};

    state->handler_details_type = PyStructSequence_NewType(&description);
    if (state->handler_details_type == NULL) {
        return -1;
    }
    Py_INCREF(state->handler_details_type);
    if (PyModule_AddObject(module, "HandlerCallDetails", (PyObject *)state->handler_details_type) <
        0) {
        return -1;
    }
    gp_server_on_thread_exit(pygo_gil_thread_exit);
    return pygo_servicer_setup();
}
