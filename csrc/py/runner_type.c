/* Runners written in Python, and the type Process, with which they run local commands. */
#include "py/runner.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "gp/process.h"
#include "gp/runtime.h"
#include "py/convert.h"
#include "py/errors.h"
#include "py/gil.h"

/* ---- A runner in Python ----
 *
 * The context is the adapter of pygo_runner(), which checks and converts what users' runners
 * return.
 */

/*
 * Turn the exception that is set into an error with |code|. The adapter keeps the exception itself.
 * With the GIL. Returns |code|.
 */
static int
set_error(int code, gp_error *err)
{
    PyObject *exception = pygo_take_exception();
    PyObject *text = PyObject_Str(exception);
    const char *why = text != NULL ? PyUnicode_AsUTF8(text) : NULL;

    gp_error_set(err, code, "the runner failed: %s: %s", Py_TYPE(exception)->tp_name,
                 why != NULL ? why : "?");
    PyErr_Clear();
    Py_XDECREF(text);
    Py_DECREF(exception);
    return code;
}

static PyObject *
list_of(const char *const *strings)
{
    PyObject *list = PyList_New(0);

    for (; list != NULL && *strings != NULL; strings++) {
        PyObject *item = PyUnicode_DecodeFSDefault(*strings);

        if (item == NULL || PyList_Append(list, item) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(item);
    }
    return list;
}

static int
refuse_at_exit(gp_error *err)
{
    return gp_error_set(err, GP_ECLOSED, "the interpreter is ending");
}

/* ---- For gp_runner ---- */

static int
runner_start(void *ctx, const char *const *env, int *out_fd, int *err_fd, gp_error *err)
{
    PyObject *list;
    PyObject *fds = NULL;
    PyGILState_STATE gil;
    int rc = 0;

    if (!pygo_gil_is_open()) {
        return refuse_at_exit(err);
    }
    gil = PyGILState_Ensure();
    list = list_of(env);
    fds = list != NULL ? PyObject_CallMethod(ctx, "start", "(O)", list) : NULL;
    if (fds == NULL || !PyArg_ParseTuple(fds, "ii", out_fd, err_fd)) {
        rc = set_error(GP_ESTART, err);
    }
    Py_XDECREF(list);
    Py_XDECREF(fds);
    PyGILState_Release(gil);
    return rc;
}

/* Called on a thread that ends afterwards, as runner_kill() is. */
static int
runner_wait(void *ctx)
{
    PyObject *result;
    int status = GP_STATUS_UNKNOWN;

    if (!pygo_gil_enter("pygo-runner")) {
        return status;
    }
    result = PyObject_CallMethod(ctx, "wait", NULL);
    if (result != NULL && result != Py_None) {
        long number = PyLong_AsLong(result);

        status = number >= INT_MIN && number <= INT_MAX ? (int)number : GP_STATUS_UNKNOWN;
    }
    if (PyErr_Occurred()) {
        PyErr_WriteUnraisable(ctx);
        status = GP_STATUS_UNKNOWN;
    }
    Py_XDECREF(result);
    pygo_gil_leave();
    pygo_gil_thread_exit();
    return status;
}

static void
runner_kill(void *ctx)
{
    PyObject *result;

    if (!pygo_gil_enter("pygo-runner")) {
        return;
    }
    result = PyObject_CallMethod(ctx, "kill", NULL);
    if (result == NULL) {
        PyErr_WriteUnraisable(ctx);
    }
    Py_XDECREF(result);
    pygo_gil_leave();
    pygo_gil_thread_exit();
}

static void
runner_diagnose(void *ctx, char *out, size_t size)
{
    PyObject *text;
    PyGILState_STATE gil;
    const char *utf8;

    if (!pygo_gil_is_open()) {
        return;
    }
    gil = PyGILState_Ensure();
    text = PyObject_CallMethod(ctx, "diagnose", NULL);
    utf8 = text != NULL && PyUnicode_Check(text) ? PyUnicode_AsUTF8(text) : NULL;
    if (utf8 != NULL) {
        PyOS_snprintf(out, size, "%s", utf8);
    } else if (PyErr_Occurred()) {
        PyErr_WriteUnraisable(ctx);
    }
    Py_XDECREF(text);
    PyGILState_Release(gil);
}

static int
translate_address(PyObject *adapter, const char *method, gp_runner_address *address, gp_error *err)
{
    PyObject *given;
    PyObject *result;
    PyObject *where = NULL;
    PyGILState_STATE gil;
    const char *network;
    int rc = 0;

    if (!pygo_gil_is_open()) {
        return refuse_at_exit(err);
    }
    gil = PyGILState_Ensure();
    given = PyUnicode_DecodeFSDefault(address->address);
    result = given != NULL ? PyObject_CallMethod(adapter, method, "(sO)", address->network, given)
                           : NULL;
    if (result == NULL ||
        !PyArg_ParseTuple(result, "sO&", &network, PyUnicode_FSConverter, &where)) {
        rc = set_error(GP_EHANDSHAKE, err);
    } else if (strlen(network) >= sizeof(address->network) ||
               strlen(PyBytes_AS_STRING(where)) >= sizeof(address->address)) {
        rc = gp_error_set(err, GP_EHANDSHAKE, "the runner gave an address that is too long");
    } else {
        memmove(address->network, network, strlen(network) + 1);
        memmove(address->address, PyBytes_AS_STRING(where), strlen(PyBytes_AS_STRING(where)) + 1);
    }
    Py_XDECREF(where);
    Py_XDECREF(given);
    Py_XDECREF(result);
    PyGILState_Release(gil);
    return rc;
}

static int
runner_plugin_to_host(void *ctx, gp_runner_address *address, gp_error *err)
{
    return translate_address(ctx, "plugin_to_host", address, err);
}

static int
runner_host_to_plugin(void *ctx, gp_runner_address *address, gp_error *err)
{
    return translate_address(ctx, "host_to_plugin", address, err);
}

gp_runner
pygo_runner(PyObject *adapter)
{
    if (adapter == NULL) {
        return (gp_runner){.start = NULL};
    }
    return (gp_runner){.start = runner_start,
                       .wait = runner_wait,
                       .kill = runner_kill,
                       .diagnose = runner_diagnose,
                       .plugin_to_host = runner_plugin_to_host,
                       .host_to_plugin = runner_host_to_plugin,
                       .release = pygo_gil_release,
                       .ctx = Py_NewRef(adapter)};
}

/* ---- Process ---- */

typedef struct ProcessObject {
    PyObject_HEAD
    gp_process *process; /* owned */
    int out;             /* owned */
    int err;             /* owned */
} ProcessObject;

/* A NULL-terminated array that borrows from the bytes in |tuple|. NULL with an exception. */
static const char **
array_of(PyObject *tuple)
{
    Py_ssize_t count = PyTuple_GET_SIZE(tuple);
    const char **array = PyMem_Calloc((size_t)count + 1, sizeof(*array));

    if (array == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        array[i] = PyBytes_AsString(PyTuple_GET_ITEM(tuple, i));
        if (array[i] == NULL) {
            PyMem_Free((void *)array);
            return NULL;
        }
    }
    return array;
}

static PyObject *
process_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    gp_error err = GP_ERROR_INIT;
    ProcessObject *self;
    PyObject *argv;
    PyObject *env;
    const char **program;
    const char **variables;
    int rc;

    if (!PyArg_ParseTuple(args, "O!O!:Process", &PyTuple_Type, &argv, &PyTuple_Type, &env) ||
        pygo_check_forked() < 0) {
        return NULL;
    }
    program = array_of(argv);
    variables = program != NULL ? array_of(env) : NULL;
    self = variables != NULL ? (ProcessObject *)type->tp_alloc(type, 0) : NULL;
    if (self != NULL) {
        self->out = self->err = -1;
        Py_BEGIN_ALLOW_THREADS
        rc = gp_process_start(&self->process, program, variables, &self->out, &self->err, &err);
        Py_END_ALLOW_THREADS
        if (rc < 0) {
            pygo_raise(&err, NULL);
            Py_CLEAR(self);
        }
    }
    PyMem_Free((void *)program);
    PyMem_Free((void *)variables);
    return (PyObject *)self;
}

static void
process_dealloc(ProcessObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    if (self->process != NULL) {
        gp_process_free(self->process);
        close(self->out);
        close(self->err);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
process_wait(ProcessObject *self, PyObject *timeout)
{
    const gp_interrupt *interrupt = pygo_interrupt();
    int64_t timeout_ms;
    int status;
    int rc;

    if (pygo_timeout_ms(&timeout_ms, timeout) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_process_wait(self->process, timeout_ms, interrupt);
    Py_END_ALLOW_THREADS
    if (rc == GP_EUSER) {
        return NULL;
    }
    status = gp_process_status(self->process);
    if (rc < 0 || status == GP_STATUS_UNKNOWN) {
        Py_RETURN_NONE;
    }
    return PyLong_FromLong(status);
}

static PyObject *
process_kill(ProcessObject *self, PyObject *Py_UNUSED(ignored))
{
    gp_process_kill(self->process);
    Py_RETURN_NONE;
}

static PyObject *
process_pid(ProcessObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(gp_process_pid(self->process));
}

static PyObject *
process_out(ProcessObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(self->out);
}

static PyObject *
process_err(ProcessObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(self->err);
}

static PyMethodDef methods[] = {
    {"wait", (PyCFunction)process_wait, METH_O,
     "wait($self, timeout, /)\n--\n\nWait up to timeout seconds for its end: the exit status, -N "
     "for signal N. None: it still runs, or the status is not known."},
    {"kill", (PyCFunction)process_kill, METH_NOARGS,
     "kill($self)\n--\n\nSend SIGKILL, unless it has ended."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getters[] = {
    {"pid", (getter)process_pid, NULL, "Process id.", NULL},
    {"stdout", (getter)process_out, NULL, "A descriptor to read its stdout from. Borrowed.", NULL},
    {"stderr", (getter)process_err, NULL, "A descriptor to read its stderr from. Borrowed.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, process_new},
    {Py_tp_dealloc, process_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {Py_tp_doc, "A child process that dies with this one. Collecting it kills it."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.Process",
    .basicsize = sizeof(ProcessObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

int
pygo_runner_setup(PyObject *module, pygo_state *Py_UNUSED(state))
{
    return pygo_export_type(module, &spec);
}
