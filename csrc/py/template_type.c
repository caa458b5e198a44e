#include "py/template.h"

#include <errno.h>

#include "gp/grpc.h"
#include "py/errors.h"
#include "py/functions.h"
#include "py/gil.h"

typedef struct TemplateObject {
    PyObject_HEAD
    gp_template *tmpl; /* owned; NULL while it is made */
} TemplateObject;

int
pygo_template(gp_template **out, PyObject *object)
{
    if (pygo_check_type(object, pygo_module_state->template_type) < 0) {
        return -1;
    }
    *out = ((TemplateObject *)object)->tmpl;
    return 0;
}

/*
 * A tuple of bytes of the items of |sequence|, and a NULL-terminated array of pointers into it,
 * which the caller frees with PyMem_Free(). Returns NULL with an exception.
 */
static PyObject *
make_array(const char ***out, PyObject *sequence)
{
    PyObject *items = PySequence_Tuple(sequence);
    Py_ssize_t count;
    PyObject *owner;

    if (items == NULL) {
        return NULL;
    }
    count = PyTuple_GET_SIZE(items);
    owner = PyTuple_New(count);
    *out = PyMem_Calloc((size_t)count + 1, sizeof(**out));
    for (Py_ssize_t i = 0; i < count && owner != NULL && *out != NULL; i++) {
        PyObject *bytes = NULL;

        if (!PyUnicode_FSConverter(PyTuple_GET_ITEM(items, i), &bytes)) {
            PyMem_Free(*out);
            Py_CLEAR(owner);
            break;
        }
        PyTuple_SET_ITEM(owner, i, bytes);
        (*out)[i] = PyBytes_AS_STRING(bytes);
    }
    Py_DECREF(items);
    if (owner != NULL && *out == NULL) {
        Py_CLEAR(owner);
        PyErr_NoMemory();
    }
    return owner;
}

/* Run the program. Returns 0, or -1 with an exception. */
static int
open_template(TemplateObject *self, PyObject *argv, PyObject *env, const char *directory)
{
    gp_error err = GP_ERROR_INIT;
    const char **arguments = NULL;
    const char **variables = NULL;
    PyObject *argv_owner = make_array(&arguments, argv);
    PyObject *env_owner = argv_owner != NULL ? make_array(&variables, env) : NULL;
    int rc = -1;

    if (env_owner != NULL) {
        Py_BEGIN_ALLOW_THREADS
        rc = gp_template_open(&self->tmpl, arguments, variables, directory, &err);
        Py_END_ALLOW_THREADS
        if (rc < 0) {
            pygo_raise(&err, NULL);
        }
        PyMem_Free(variables);
    }
    if (argv_owner != NULL) {
        PyMem_Free(arguments);
    }
    Py_XDECREF(argv_owner);
    Py_XDECREF(env_owner);
    return rc < 0 ? -1 : 0;
}

static PyObject *
template_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "", "", NULL};
    PyObject *directory;
    PyObject *bytes = NULL;
    TemplateObject *self;
    PyObject *argv;
    PyObject *env;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO:Template", names, &argv, &env,
                                     &directory) ||
        (directory != Py_None && !PyUnicode_FSConverter(directory, &bytes))) {
        return NULL;
    }
    self = (TemplateObject *)type->tp_alloc(type, 0);
    if (self != NULL &&
        open_template(self, argv, env, bytes != NULL ? PyBytes_AS_STRING(bytes) : NULL) < 0) {
        Py_CLEAR(self);
    }
    Py_XDECREF(bytes);
    return (PyObject *)self;
}

static void
template_dealloc(TemplateObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    gp_template_unref(self->tmpl);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
template_wait(TemplateObject *self, PyObject *arg)
{
    const gp_interrupt *interrupt = pygo_interrupt();
    double timeout = PyFloat_AsDouble(arg);
    gp_error err = GP_ERROR_INIT;
    const char *files = NULL;
    size_t len = 0;
    int rc;

    if (timeout == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_template_wait(self->tmpl, &files, &len, (int64_t)(timeout * 1e9), interrupt, &err);
    Py_END_ALLOW_THREADS
    if (rc == GP_EUSER) {
        return NULL;
    }
    if (rc == GP_ETIMEOUT) {
        Py_RETURN_NONE;
    }
    return rc < 0 ? pygo_raise(&err, NULL) : PyBytes_FromStringAndSize(files, (Py_ssize_t)len);
}

static PyObject *
template_close(TemplateObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_ALLOW_THREADS
    gp_template_close(self->tmpl);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
template_alive(TemplateObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(gp_template_alive(self->tmpl));
}

static PyObject *
template_pid(TemplateObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(gp_template_pid(self->tmpl));
}

static PyMethodDef methods[] = {
    {"wait", (PyCFunction)template_wait, METH_O,
     "wait($self, timeout, /)\n--\n\n"
     "Wait until it is ready. Returns the files that it has read, each with a NUL after it; None\n"
     "after timeout seconds. Raises ClosedError with the reason if it will never be ready."},
    {"close", (PyCFunction)template_close, METH_NOARGS,
     "close($self)\n--\n\nEnd the process. Plugins that it has launched go on."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getters[] = {
    {"alive", (getter)template_alive, NULL, "Whether it can launch, as far as is known.", NULL},
    {"pid", (getter)template_pid, NULL, "The process id.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, template_new},
    {Py_tp_dealloc, template_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {Py_tp_doc, "Template(argv, env, directory, /)\n--\n\n"
                "A process that has imported a plugin's program, and launches copies of itself."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.Template",
    .basicsize = sizeof(TemplateObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

int
pygo_template_setup(PyObject *module, pygo_state *state)
{
    state->template_type = pygo_add_type(module, &spec);
    return state->template_type == NULL ? -1 : 0;
}

/* ---- In the template ---- */

static PyObject *
template_obstacle(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    const char *obstacle = gp_template_obstacle();

    return obstacle != NULL ? PyUnicode_FromString(obstacle) : Py_NewRef(Py_None);
}

/* As os.fork(), which the interpreter is told of likewise. */
static PyObject *
template_clone(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    pid_t pid;
    int errnum;

    PyOS_BeforeFork();
    pid = gp_template_clone();
    errnum = errno;
    if (pid == 0) {
        PyOS_AfterFork_Child();
    } else {
        PyOS_AfterFork_Parent();
    }
    if (pid < 0) {
        errno = errnum;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromLong(pid);
}

static PyObject *
template_begin(PyObject *Py_UNUSED(module), PyObject *args)
{
    int detached;
    int host;

    if (!PyArg_ParseTuple(args, "pi:template_begin", &detached, &host)) {
        return NULL;
    }
    gp_template_begin(detached != 0, (pid_t)host);
    Py_RETURN_NONE;
}

static PyObject *
load_grpc(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    gp_error err = GP_ERROR_INIT;

    if (gp_grpc_load(&err) < 0) {
        return pygo_raise(&err, NULL);
    }
    Py_RETURN_NONE;
}

PyMethodDef pygo_template_functions[] = {
    {"load_grpc", load_grpc, METH_NOARGS,
     "load_grpc($module)\n--\n\nLoad gRPC's library without starting it. Raises LibraryError."},
    {"template_obstacle", template_obstacle, METH_NOARGS,
     "template_obstacle($module)\n--\n\nNone if this process can copy itself, or why it cannot."},
    {"template_clone", template_clone, METH_NOARGS,
     "template_clone($module)\n--\n\n"
     "As os.fork(), but the parent of the new process is the parent of this one."},
    {"template_begin", template_begin, METH_VARARGS,
     "template_begin($module, detached, host, /)\n--\n\n"
     "In the new process: have it die with the host, whose pid is given, unless it is detached."},
    {NULL, NULL, 0, NULL},
};
