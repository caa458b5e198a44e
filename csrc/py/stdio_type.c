#include "py/stdio_type.h"

#include "gp/services.h"
#include "py/errors.h"
#include "py/gil.h"

typedef struct StdioObject {
    PyObject_HEAD
    gp_stdio *stdio; /* owned */
} StdioObject;

typedef struct StdioReaderObject {
    PyObject_HEAD
    gp_stdio_reader *reader; /* owned */
} StdioReaderObject;

gp_stdio *
pygo_stdio_of(PyObject *object)
{
    return pygo_check_type(object, pygo_module_state->stdio_type) == 0
               ? ((StdioObject *)object)->stdio
               : NULL;
}

/* ---- Stdio ---- */

static PyObject *
stdio_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    gp_error err = GP_ERROR_INIT;
    StdioObject *self;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":Stdio", names)) {
        return NULL;
    }
    self = (StdioObject *)type->tp_alloc(type, 0);
    if (self != NULL && gp_stdio_new(&self->stdio, &err) < 0) {
        pygo_raise(&err, NULL);
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void
stdio_dealloc(StdioObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_BEGIN_ALLOW_THREADS
    gp_stdio_unref(self->stdio);
    Py_END_ALLOW_THREADS
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
stdio_open(StdioObject *self, PyObject *line)
{
    gp_error err = GP_ERROR_INIT;
    gp_bytes bytes;
    Py_ssize_t len;
    char *data;
    int rc;

    if (PyBytes_AsStringAndSize(line, &data, &len) < 0) {
        return NULL;
    }
    bytes = (gp_bytes){data, (size_t)len};
    Py_BEGIN_ALLOW_THREADS
    rc = gp_stdio_open(self->stdio, bytes, &err);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        return pygo_raise(&err, NULL);
    }
    Py_RETURN_NONE;
}

static PyObject *
stdio_end(StdioObject *self, PyObject *patience)
{
    const gp_interrupt *interrupt = pygo_interrupt();
    double seconds = PyFloat_AsDouble(patience);
    int rc;

    if (seconds == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_stdio_end(self->stdio, (int64_t)(seconds * 1000), interrupt);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
stdio_finish(StdioObject *self, PyObject *patience)
{
    double seconds = PyFloat_AsDouble(patience);

    if (seconds == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    gp_stdio_finish(self->stdio, (int64_t)(seconds * 1000));
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
stdio_reader(StdioObject *self, PyObject *Py_UNUSED(ignored))
{
    PyTypeObject *type = pygo_module_state->stdio_reader_type;
    StdioReaderObject *reader = (StdioReaderObject *)type->tp_alloc(type, 0);
    gp_error err = GP_ERROR_INIT;
    int rc;

    if (reader != NULL) {
        Py_BEGIN_ALLOW_THREADS
        rc = gp_stdio_reader_new(&reader->reader, self->stdio, &err);
        Py_END_ALLOW_THREADS
        if (rc < 0) {
            reader->reader = NULL;
            Py_CLEAR(reader);
            pygo_raise(&err, NULL);
        }
    }
    return (PyObject *)reader;
}

static PyMethodDef stdio_methods[] = {
    {"open", (PyCFunction)stdio_open, METH_O,
     "open($self, line, /)\n--\n\nReplace descriptors 1 and 2, and write the line to the former 1. "
     "Raises OSError or ValueError."},
    {"end", (PyCFunction)stdio_end, METH_O,
     "end($self, patience, /)\n--\n\nRestore the descriptors, and wait up to patience seconds "
     "until hosts have read the output. Idempotent."},
    {"finish", (PyCFunction)stdio_finish, METH_O,
     "finish($self, patience, /)\n--\n\nAs end(), but returns without waiting."},
    {"reader", (PyCFunction)stdio_reader, METH_NOARGS,
     "reader($self)\n--\n\nA reader that gets the output once all earlier readers have ended."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot stdio_slots[] = {
    {Py_tp_new, stdio_new},
    {Py_tp_dealloc, stdio_dealloc},
    {Py_tp_methods, stdio_methods},
    {Py_tp_doc, "Stdio()\n--\n\nStandard output and standard error of this process, for hosts."},
    {0, NULL},
};

static PyType_Spec stdio_spec = {
    .name = "pygo_plugin._core.Stdio",
    .basicsize = sizeof(StdioObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = stdio_slots,
};

/* ---- StdioReader ---- */

static void
reader_dealloc(StdioReaderObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_BEGIN_ALLOW_THREADS
    gp_stdio_reader_free(self->reader);
    Py_END_ALLOW_THREADS
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
reader_next(StdioReaderObject *self)
{
    const gp_interrupt *interrupt = pygo_interrupt();
    gp_bytes message;
    int rc;

    Py_BEGIN_ALLOW_THREADS
    rc = gp_stdio_reader_next(self->reader, &message, interrupt);
    Py_END_ALLOW_THREADS
    if (rc == GP_ENOMEM) {
        return PyErr_NoMemory();
    }
    return rc == 1 ? PyBytes_FromStringAndSize(message.data, (Py_ssize_t)message.len) : NULL;
}

static PyObject *
reader_close(StdioReaderObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_ALLOW_THREADS
    gp_stdio_reader_close(self->reader);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyMethodDef reader_methods[] = {
    {"close", (PyCFunction)reader_close, METH_NOARGS,
     "close($self)\n--\n\nEnd the iteration, also in another thread."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot reader_slots[] = {
    {Py_tp_dealloc, reader_dealloc},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, reader_next},
    {Py_tp_methods, reader_methods},
    {Py_tp_doc, "An iterator over the messages of StreamStdio, for one thread."},
    {0, NULL},
};

static PyType_Spec reader_spec = {
    .name = "pygo_plugin._core.StdioReader",
    .basicsize = sizeof(StdioReaderObject),
    .flags = Py_TPFLAGS_DEFAULT | PYGO_DISALLOW_INSTANTIATION,
    .slots = reader_slots,
};

int
pygo_stdio_setup(PyObject *module, pygo_state *state)
{
    state->stdio_type = pygo_add_type(module, &stdio_spec);
    state->stdio_reader_type = pygo_add_type(module, &reader_spec);
    return state->stdio_type != NULL && state->stdio_reader_type != NULL ? 0 : -1;
}
