#include "py/netrpc.h"

#include <string.h>

#include "py/errors.h"
#include "py/gil.h"
#include "py/gob.h"

typedef struct ServicesObject {
    PyObject_HEAD
    gp_netrpc_services *services; /* shared: ref */
} ServicesObject;

/* ---- Calling a method ---- */

pygo_netrpc_text
pygo_netrpc_describe_failure(const pygo_netrpc_method *method, bool decoding)
{
    PyObject *error = pygo_take_exception();
    PyObject *describe = pygo_provided(PYGO_METHOD_FAILED);
    PyObject *text = NULL;
    PyObject *bytes = NULL;
    pygo_netrpc_text made = {NULL, 0};

    if (describe != NULL) {
        text = PyObject_CallFunctionObjArgs(describe, method->name, error,
                                            decoding ? Py_True : Py_False, NULL);
    }
    if (text != NULL && PyUnicode_Check(text)) {
        bytes = PyUnicode_AsEncodedString(text, "utf-8", "surrogateescape");
    }
    if (bytes != NULL) {
        made.len = (size_t)PyBytes_GET_SIZE(bytes);
        made.data = PyMem_RawMalloc(made.len + 1);
    }
    if (made.data != NULL) {
        memcpy(made.data, PyBytes_AS_STRING(bytes), made.len);
    } else {
        PyErr_WriteUnraisable(method->callable);
    }
    Py_XDECREF(bytes);
    Py_XDECREF(text);
    Py_XDECREF(error);
    return made;
}

PyObject *
pygo_netrpc_call_method(pygo_netrpc_method *method, const gp_netrpc_request *request,
                        pygo_netrpc_text *failure)
{
    PyObject *argument;
    PyObject *result;

    if (method->argument == NULL) {
        result = PyObject_CallNoArgs(method->callable);
    } else {
        argument = pygo_gob_decode(gp_netrpc_request_decoder(request),
                                   gp_netrpc_request_args(request), method->argument);
        if (argument == NULL) {
            *failure = pygo_netrpc_describe_failure(method, true);
            return NULL;
        }
        result = PyObject_CallOneArg(method->callable, argument);
        Py_DECREF(argument);
    }
    if (result == NULL) {
        *failure = pygo_netrpc_describe_failure(method, false);
    }
    return result;
}

gp_gob_output *
pygo_netrpc_encode_result(pygo_netrpc_method *method, PyObject *result, pygo_netrpc_text *failure)
{
    gp_gob_output *output = atomic_exchange(&method->spare, NULL);
    PyObject *type = method->reply;
    int rc = -1;

    if (type == Py_None) {
        type = result == Py_None ? method->nothing : NULL;
    }
    if (output == NULL && gp_gob_output_new(&output, NULL) < 0) {
        output = NULL;
        PyErr_NoMemory();
    } else {
        rc = pygo_netrpc_encode(output, result, type);
    }
    Py_DECREF(result);
    if (rc < 0) {
        gp_gob_output_free(output);
        *failure = pygo_netrpc_describe_failure(method, false);
        return NULL;
    }
    return output;
}

void
pygo_netrpc_refuse(gp_netrpc_request *request, const char *text)
{
    gp_netrpc_request_fail(request, (gp_bytes){text, strlen(text)});
}

void
pygo_netrpc_answer(gp_netrpc_request *request, gp_gob_output *output, pygo_netrpc_text failure)
{
    if (output != NULL) {
        gp_netrpc_request_reply(request, output);
    } else if (failure.data != NULL) {
        gp_netrpc_request_fail(request, (gp_bytes){failure.data, failure.len});
    } else {
        pygo_netrpc_refuse(request, "out of memory");
    }
    PyMem_RawFree(failure.data);
}

/* For gp_netrpc_method.handle, on a worker. */
static void
run_method(void *Py_UNUSED(ctx), void *data, gp_netrpc_request *request)
{
    pygo_netrpc_method *method = data;
    pygo_netrpc_text failure = {NULL, 0};
    gp_gob_output *output = NULL;
    PyObject *variables;
    PyObject *result;

    if (!pygo_gil_enter("pygo-worker")) {
        pygo_netrpc_refuse(request, "the server is shutting down");
        return;
    }
    /* Variables that it sets are seen by this handler alone. */
    variables = PyContext_New();
    if (variables == NULL || PyContext_Enter(variables) < 0) {
        PyErr_WriteUnraisable(method->callable);
    } else {
        result = pygo_netrpc_call_method(method, request, &failure);
        if (result != NULL) {
            output = pygo_netrpc_encode_result(method, result, &failure);
        }
        if (PyContext_Exit(variables) < 0) {
            PyErr_WriteUnraisable(method->callable);
        }
    }
    Py_XDECREF(variables);
    pygo_gil_leave();
    pygo_netrpc_answer(request, output, failure);
    if (output != NULL) {
        gp_gob_output_free(atomic_exchange(&method->spare, output));
    }
}

/* ---- The type ---- */

/* For gp_netrpc_services_new(): on any thread, with or without the GIL. */
static void
free_shared(void *ctx)
{
    pygo_netrpc_shared *shared = ctx;
    PyGILState_STATE gil;

    if (!pygo_gil_is_open()) { /* the interpreter is ending */
        return;
    }
    gil = PyGILState_Ensure();
    gp_link_remove(&shared->member.link);
    for (Py_ssize_t i = 0; i < shared->count; i++) {
        pygo_netrpc_method *method = &shared->methods[i];

        Py_XDECREF(method->name);
        Py_XDECREF(method->callable);
        Py_XDECREF(method->argument);
        Py_XDECREF(method->reply);
        Py_XDECREF(method->nothing);
        gp_gob_output_free(method->spare);
    }
    Py_XDECREF(shared->loop);
    PyGILState_Release(gil);
    gp_queue_unref(shared->queue);
    PyMem_RawFree(shared);
}

/*
 * Fill |method| and |core| from (service, name on the wire, name for logs, callable, argument,
 * reply, is_async), as |nothing| of which stands for the result None. 0, or -1 with an exception.
 */
static int
fill_method(pygo_netrpc_method *method, gp_netrpc_service *service, gp_netrpc_method *core,
            PyObject *row, PyObject *nothing)
{
    PyObject *name;
    PyObject *callable;
    PyObject *argument;
    PyObject *reply;
    int is_async;

    if (!PyArg_ParseTuple(row, "ssUOOOp", &service->name, &core->name, &name, &callable, &argument,
                          &reply, &is_async)) {
        return -1;
    }
    *method = (pygo_netrpc_method){
        .name = Py_NewRef(name),
        .callable = Py_NewRef(callable),
        .argument = argument != Py_False ? Py_NewRef(argument) : NULL,
        .reply = Py_NewRef(reply),
        .nothing = Py_NewRef(nothing),
        .is_async = is_async,
    };
    core->handle = is_async ? pygo_netrpc_post_request : run_method;
    core->data = method;
    core->quick = is_async;
    service->methods = core;
    service->count = 1;
    return 0;
}

/* |rows| is a tuple. The names in it live as long as it. */
static gp_netrpc_services *
make_services(pygo_netrpc_shared *shared, PyObject *rows, PyObject *nothing)
{
    size_t count = (size_t)PyTuple_GET_SIZE(rows);
    gp_netrpc_service *services = PyMem_New(gp_netrpc_service, count);
    gp_netrpc_method *methods = PyMem_New(gp_netrpc_method, count);
    gp_netrpc_services *made = NULL;
    gp_error err = GP_ERROR_INIT;
    int rc = 0;

    if (services == NULL || methods == NULL) {
        PyErr_NoMemory();
        rc = -1;
    }
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = fill_method(&shared->methods[i], &services[i], &methods[i],
                         PyTuple_GET_ITEM(rows, (Py_ssize_t)i), nothing);
        shared->count += rc == 0;
    }
    if (rc == 0 && gp_netrpc_services_new(&made, services, count, shared, free_shared, &err) < 0) {
        pygo_raise(&err, NULL);
        made = NULL;
    }
    PyMem_Free(services);
    PyMem_Free(methods);
    return made;
}

static pygo_netrpc_shared *
new_shared(Py_ssize_t count, PyObject *loop_queue, PyObject *loop)
{
    gp_queue *queue = loop_queue != Py_None ? pygo_queue_of(loop_queue) : NULL;
    pygo_netrpc_shared *shared;

    if (loop_queue != Py_None && queue == NULL) {
        return NULL;
    }
    shared = PyMem_RawCalloc(1, sizeof(*shared) + (size_t)count * sizeof(shared->methods[0]));
    if (shared == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    gp_list_init(&shared->tasks);
    if (queue != NULL) {
        shared->queue = gp_queue_ref(queue);
        shared->loop = Py_NewRef(loop);
        shared->member.orphaned = pygo_netrpc_drop_tasks;
        pygo_loop_add(loop_queue, &shared->member);
    }
    return shared;
}

static PyObject *
services_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"rows", "nothing", "queue", "loop", NULL};
    PyObject *rows;
    PyObject *nothing;
    PyObject *loop_queue = Py_None;
    PyObject *loop = Py_None;
    pygo_netrpc_shared *shared;
    ServicesObject *self;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O|OO:NetRpcServices", names, &PyTuple_Type,
                                     &rows, &nothing, &loop_queue, &loop)) {
        return NULL;
    }
    self = (ServicesObject *)type->tp_alloc(type, 0);
    shared = self != NULL ? new_shared(PyTuple_GET_SIZE(rows), loop_queue, loop) : NULL;
    if (shared == NULL) {
        Py_XDECREF(self);
        return NULL;
    }
    self->services = make_services(shared, rows, nothing);
    if (self->services == NULL) {
        free_shared(shared);
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void
services_dealloc(ServicesObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    gp_netrpc_services_unref(self->services);
    type->tp_free(self);
    Py_DECREF(type);
}

gp_netrpc_services *
pygo_netrpc_services_of(PyObject *object)
{
    return pygo_check_type(object, pygo_module_state->netrpc_services_type) == 0
               ? ((ServicesObject *)object)->services
               : NULL;
}

static PyType_Slot slots[] = {
    {Py_tp_new, services_new},
    {Py_tp_dealloc, services_dealloc},
    {Py_tp_doc,
     "NetRpcServices(rows, nothing, queue=None, loop=None)\n--\n\nWhat net/rpc can call. Each of "
     "rows is a service's name, a method's name, its name for log records, the callable, the "
     "argument's type (None: untyped; False: there is none), the reply's type (None: that of the "
     "result), and whether it is a coroutine, which runs on the loop. nothing is the type of the "
     "result None."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.NetRpcServices",
    .basicsize = sizeof(ServicesObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

int
pygo_netrpc_services_setup(PyObject *module, pygo_state *state)
{
    gp_netrpc_on_worker_exit(pygo_gil_thread_exit);
    state->netrpc_services_type = pygo_add_type(module, &spec);
    return state->netrpc_services_type != NULL ? 0 : -1;
}
