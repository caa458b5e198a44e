#include "py/mux.h"

#include "py/errors.h"

typedef struct MuxObject {
    PyObject_HEAD
    gp_grpc_mux *mux; /* shared: ref */
} MuxObject;

int
pygo_mux(gp_grpc_mux **out, PyObject *object)
{
    *out = NULL;
    if (object == Py_None) {
        return 0;
    }
    if (pygo_check_type(object, pygo_module_state->mux_type) < 0) {
        return -1;
    }
    *out = ((MuxObject *)object)->mux;
    return 0;
}

static PyObject *
mux_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    gp_error err = GP_ERROR_INIT;
    MuxObject *self;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":Mux", names)) {
        return NULL;
    }
    self = (MuxObject *)type->tp_alloc(type, 0);
    if (self != NULL && gp_grpc_mux_new(&self->mux, NULL, &err) < 0) {
        pygo_raise(&err, NULL);
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void
mux_dealloc(MuxObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_BEGIN_ALLOW_THREADS
    gp_grpc_mux_unref(self->mux);
    Py_END_ALLOW_THREADS
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
mux_listen(MuxObject *self, PyObject *args)
{
    gp_error err = GP_ERROR_INIT;
    const char *network;
    PyObject *address;
    int port = 0;
    int rc;

    if (!PyArg_ParseTuple(args, "sO&:listen", &network, PyUnicode_FSConverter, &address)) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_grpc_mux_listen(self->mux, network, PyBytes_AS_STRING(address), &port, &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(address);
    return rc < 0 ? pygo_raise(&err, NULL) : PyLong_FromLong(port);
}

static PyObject *
mux_close(MuxObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_ALLOW_THREADS
    gp_grpc_mux_close(self->mux);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
mux_remove(MuxObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_ALLOW_THREADS
    gp_grpc_mux_remove(self->mux);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
mux_log_to(MuxObject *self, PyObject *arg)
{
    gp_error err = GP_ERROR_INIT;
    int fd = PyObject_AsFileDescriptor(arg);

    if (fd < 0) {
        return NULL;
    }
    if (gp_grpc_mux_log_to(self->mux, fd, &err) < 0) {
        return pygo_raise(&err, NULL);
    }
    Py_RETURN_NONE;
}

static PyObject *
mux_target(MuxObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(gp_grpc_mux_target(self->mux));
}

static PyObject *
mux_directory(MuxObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_DecodeFSDefault(gp_grpc_mux_directory(self->mux));
}

static PyMethodDef methods[] = {
    {"listen", (PyCFunction)mux_listen, METH_VARARGS,
     "listen($self, network, address, /)\n--\n\nAccept the host's one connection at the address. "
     "Returns: the TCP port."},
    {"close", (PyCFunction)mux_close, METH_NOARGS,
     "close($self)\n--\n\nEnd the connection and remove its files. Idempotent."},
    {"remove", (PyCFunction)mux_remove, METH_NOARGS,
     "remove($self)\n--\n\nRemove its files now; the connection goes on."},
    {"log_to", (PyCFunction)mux_log_to, METH_O,
     "log_to($self, descriptor, /)\n--\n\nWrite a log line to the descriptor if the connection "
     "ends before the host closes it."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getters[] = {
    {"target", (getter)mux_target, NULL,
     "The address for gRPC at which the plugin's server has to listen.", NULL},
    {"directory", (getter)mux_directory, NULL, "The private directory of its sockets.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, mux_new},
    {Py_tp_dealloc, mux_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {Py_tp_doc, "All connections between a host and this plugin, multiplexed over one."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.Mux",
    .basicsize = sizeof(MuxObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

int
pygo_mux_setup(PyObject *module, pygo_state *state)
{
    state->mux_type = pygo_add_type(module, &spec);
    return state->mux_type != NULL ? 0 : -1;
}
