#include "gp/netrpc_file.h"

#include "gp/lock.h"
#include "py/convert.h"
#include "py/errors.h"
#include "py/gil.h"
#include "py/mux_broker.h"
#include "py/operation.h"

typedef struct NetRpcFileObject {
    PyObject_HEAD
    gp_netrpc_file *file; /* owned */
} NetRpcFileObject;

PyObject *
pygo_netrpc_file_wrap(gp_netrpc_file *file)
{
    PyTypeObject *type = pygo_module_state->netrpc_file_type;
    NetRpcFileObject *self = (NetRpcFileObject *)type->tp_alloc(type, 0);

    if (self == NULL) {
        gp_netrpc_file_free(file);
        return NULL;
    }
    self->file = file;
    return (PyObject *)self;
}

static void
file_dealloc(NetRpcFileObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_BEGIN_ALLOW_THREADS
    gp_netrpc_file_free(self->file);
    Py_END_ALLOW_THREADS
    type->tp_free(self);
    Py_DECREF(type);
}

/* When to stop waiting; 0: do not wait. Returns 0, or -1 with an exception. */
static int
deadline_of(int64_t *out, PyObject *timeout)
{
    int64_t timeout_ms;

    if (pygo_timeout_ms(&timeout_ms, timeout) < 0) {
        return -1;
    }
    *out = timeout_ms != 0 ? gp_deadline_in(timeout_ms) : 0;
    return 0;
}

static PyObject *
file_read_into(NetRpcFileObject *self, PyObject *args)
{
    const gp_interrupt *interrupt = pygo_call_interrupt();
    gp_error err = GP_ERROR_INIT;
    PyObject *timeout;
    Py_buffer buffer;
    ptrdiff_t found = 0;
    int64_t deadline;

    if (!PyArg_ParseTuple(args, "w*O:read_into", &buffer, &timeout)) {
        return NULL;
    }
    if (pygo_check_forked() < 0 || deadline_of(&deadline, timeout) < 0) {
        PyBuffer_Release(&buffer);
        return NULL;
    }
    if (buffer.len > 0) {
        Py_BEGIN_ALLOW_THREADS
        found = gp_netrpc_file_read(self->file, buffer.buf, (size_t)buffer.len, deadline, interrupt,
                                    &err);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&buffer);
    if (found == GP_ETIMEOUT) {
        gp_error_release(&err);
        Py_RETURN_NONE;
    }
    return found < 0 ? pygo_raise(&err, NULL) : PyLong_FromSsize_t(found);
}

static PyObject *
file_write(NetRpcFileObject *self, PyObject *args)
{
    const gp_interrupt *interrupt = pygo_call_interrupt();
    gp_error err = GP_ERROR_INIT;
    PyObject *timeout;
    Py_buffer buffer;
    size_t written = 0;
    int64_t deadline;
    int rc;

    if (!PyArg_ParseTuple(args, "y*O:write", &buffer, &timeout)) {
        return NULL;
    }
    if (pygo_check_forked() < 0 || deadline_of(&deadline, timeout) < 0) {
        PyBuffer_Release(&buffer);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_netrpc_file_write(self->file, buffer.buf, (size_t)buffer.len, &written, deadline,
                              interrupt, &err);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&buffer);
    if (rc < 0 && rc != GP_ETIMEOUT) {
        return pygo_raise(&err, NULL);
    }
    gp_error_release(&err);
    return PyLong_FromSize_t(written);
}

static PyObject *
file_when_ready(NetRpcFileObject *self, PyObject *args)
{
    PyObject *loop_queue;
    PyObject *future;
    gp_queue *queue;
    pygo_operation *op;
    int writing;
    int rc;

    if (!PyArg_ParseTuple(args, "pOO:when_ready", &writing, &loop_queue, &future)) {
        return NULL;
    }
    queue = pygo_queue_of(loop_queue);
    op = queue != NULL ? pygo_operation_new(queue, future, pygo_operation_resolve, NULL, NULL)
                       : NULL;
    if (op == NULL) {
        return NULL;
    }
    rc = gp_netrpc_file_when_ready(self->file, writing, pygo_operation_finished, op);
    if (rc != 1) {
        pygo_operation_free(op);
    }
    return rc < 0 ? PyErr_NoMemory() : PyBool_FromLong(rc);
}

static PyObject *
file_shutdown(NetRpcFileObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_ALLOW_THREADS
    gp_netrpc_file_shutdown(self->file);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
file_close(NetRpcFileObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_ALLOW_THREADS
    gp_netrpc_file_close(self->file);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"read_into", (PyCFunction)file_read_into, METH_VARARGS,
     "read_into($self, buffer, timeout, /)\n--\n\nRead what there is, at least a byte. Returns: "
     "how "
     "many; 0 at the end; None after timeout seconds."},
    {"write", (PyCFunction)file_write, METH_VARARGS,
     "write($self, data, timeout, /)\n--\n\nWrite data, or what there is room for within timeout "
     "seconds. Returns: how many bytes."},
    {"when_ready", (PyCFunction)file_when_ready, METH_VARARGS,
     "when_ready($self, writing, queue, future, /)\n--\n\nResolve the future when the file can be "
     "read or written. Returns: False if that is so now."},
    {"shutdown", (PyCFunction)file_shutdown, METH_NOARGS,
     "shutdown($self)\n--\n\nTell the other side that nothing more will be written."},
    {"close", (PyCFunction)file_close, METH_NOARGS,
     "close($self)\n--\n\nEnd both directions. Idempotent."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, file_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_doc, "A stream of bytes in both directions, over a net/rpc connection."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.NetRpcFile",
    .basicsize = sizeof(NetRpcFileObject),
    .flags = Py_TPFLAGS_DEFAULT | PYGO_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int
pygo_netrpc_file_setup(PyObject *module, pygo_state *state)
{
    state->netrpc_file_type = pygo_add_type(module, &spec);
    return state->netrpc_file_type != NULL ? 0 : -1;
}
