#include "py/mux_broker.h"

#include "gp/lock.h"
#include "py/convert.h"
#include "py/errors.h"
#include "py/gil.h"
#include "py/netrpc.h"

typedef struct MuxBrokerObject {
    PyObject_HEAD
    gp_mux_broker *broker; /* shared: ref */
    PyObject *name;        /* owned str */
} MuxBrokerObject;

typedef struct MuxServingObject {
    PyObject_HEAD
    gp_mux_serving *serving; /* shared: ref */
} MuxServingObject;

PyObject *
pygo_mux_broker_wrap(gp_mux_broker *broker, PyObject *name)
{
    PyTypeObject *type = pygo_module_state->mux_broker_type;
    MuxBrokerObject *self = (MuxBrokerObject *)type->tp_alloc(type, 0);

    if (self == NULL) {
        gp_mux_broker_unref(broker);
        return NULL;
    }
    self->broker = broker;
    self->name = Py_NewRef(name);
    return (PyObject *)self;
}

static void
broker_dealloc(MuxBrokerObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_BEGIN_ALLOW_THREADS
    gp_mux_broker_unref(self->broker);
    Py_END_ALLOW_THREADS
    Py_XDECREF(self->name);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
raise_named(MuxBrokerObject *self, gp_error *err)
{
    const char *name = PyUnicode_AsUTF8(self->name);

    return pygo_raise(err, name != NULL && name[0] != '\0' ? name : NULL);
}

static PyObject *
broker_next_id(MuxBrokerObject *self, PyObject *Py_UNUSED(ignored))
{
    uint32_t id = gp_mux_broker_next_id(self->broker);
    gp_error err = GP_ERROR_INIT;

    if (id == 0) {
        gp_error_set(&err, GP_EBROKER, "all ids of connections have been used up");
        return raise_named(self, &err);
    }
    return PyLong_FromUnsignedLong(id);
}

static PyObject *
broker_dial(MuxBrokerObject *self, PyObject *args)
{
    const gp_interrupt *interrupt = pygo_call_interrupt();
    gp_error err = GP_ERROR_INIT;
    gp_netrpc_client *client;
    PyTypeObject *type;
    PyObject *explain;
    PyObject *given;
    PyObject *timeout;
    gp_gob_limits limits;
    int64_t timeout_ms;
    unsigned int id;
    int rc;

    if (!PyArg_ParseTuple(args, "O!IOOO:dial", &PyType_Type, &type, &id, &timeout, &given,
                          &explain) ||
        pygo_check_forked() < 0 || pygo_timeout_ms(&timeout_ms, timeout) < 0 ||
        pygo_netrpc_limits(&limits, given) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_mux_broker_dial(self->broker, id, &limits, gp_deadline_in(timeout_ms), interrupt,
                            &client, &err);
    Py_END_ALLOW_THREADS
    return rc < 0 ? raise_named(self, &err)
                  : pygo_netrpc_client_wrap(type, client, explain != Py_None ? explain : NULL);
}

typedef int file_function(gp_mux_broker *, uint32_t, int64_t, const gp_interrupt *,
                          gp_netrpc_file **, gp_error *);

/* The file that |open| makes for the arguments (id, timeout). */
static PyObject *
open_file(MuxBrokerObject *self, PyObject *args, file_function *open)
{
    const gp_interrupt *interrupt = pygo_call_interrupt();
    gp_error err = GP_ERROR_INIT;
    gp_netrpc_file *file;
    PyObject *timeout;
    int64_t timeout_ms;
    unsigned int id;
    int rc;

    if (!PyArg_ParseTuple(args, "IO", &id, &timeout) || pygo_check_forked() < 0 ||
        pygo_timeout_ms(&timeout_ms, timeout) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = open(self->broker, id, gp_deadline_in(timeout_ms), interrupt, &file, &err);
    Py_END_ALLOW_THREADS
    return rc < 0 ? raise_named(self, &err) : pygo_netrpc_file_wrap(file);
}

static PyObject *
broker_dial_file(MuxBrokerObject *self, PyObject *args)
{
    return open_file(self, args, gp_mux_broker_dial_file);
}

static PyObject *
broker_accept_file(MuxBrokerObject *self, PyObject *args)
{
    return open_file(self, args, gp_mux_broker_accept_file);
}

static PyObject *
broker_serve(MuxBrokerObject *self, PyObject *args)
{
    PyTypeObject *type = pygo_module_state->mux_serving_type;
    gp_netrpc_server_options options = {0};
    gp_error err = GP_ERROR_INIT;
    gp_netrpc_services *services;
    MuxServingObject *serving;
    PyObject *object;
    PyObject *given;
    PyObject *timeout;
    gp_gob_limits limits;
    int64_t timeout_ms;
    unsigned int id;
    int rc;

    if (!PyArg_ParseTuple(args, "IOOiO:serve", &id, &object, &timeout, &options.max_workers,
                          &given) ||
        pygo_check_forked() < 0 || pygo_timeout_ms(&timeout_ms, timeout) < 0 ||
        pygo_netrpc_limits(&limits, given) < 0 ||
        (services = pygo_netrpc_services_of(object)) == NULL) {
        return NULL;
    }
    serving = (MuxServingObject *)type->tp_alloc(type, 0);
    if (serving == NULL) {
        return NULL;
    }
    options.limits = &limits;
    Py_BEGIN_ALLOW_THREADS
    rc = gp_mux_broker_serve(self->broker, id, services, &options, gp_deadline_in(timeout_ms),
                             &serving->serving, &err);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        serving->serving = NULL;
        Py_DECREF(serving);
        return raise_named(self, &err);
    }
    return (PyObject *)serving;
}

static PyObject *
broker_connected(MuxBrokerObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(gp_mux_broker_connected(self->broker));
}

static PyMethodDef broker_methods[] = {
    {"next_id", (PyCFunction)broker_next_id, METH_NOARGS,
     "next_id($self)\n--\n\nAn id that this side has not used before."},
    {"dial", (PyCFunction)broker_dial, METH_VARARGS,
     "dial($self, kind, service_id, timeout, limits, explain, /)\n--\n\nA client, of this subclass "
     "of "
     "NetRpcClient, of what the other side serves under the id."},
    {"dial_file", (PyCFunction)broker_dial_file, METH_VARARGS,
     "dial_file($self, service_id, timeout, /)\n--\n\nThe NetRpcFile that the other side accepts "
     "under the "
     "id."},
    {"accept_file", (PyCFunction)broker_accept_file, METH_VARARGS,
     "accept_file($self, service_id, timeout, /)\n--\n\nWait until the other side dials the id. "
     "Returns: a "
     "NetRpcFile."},
    {"serve", (PyCFunction)broker_serve, METH_VARARGS,
     "serve($self, service_id, services, timeout, max_workers, limits, /)\n--\n\nServe a "
     "NetRpcServices to "
     "the caller that dials the id within timeout seconds. Never blocks."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef broker_getters[] = {
    {"connected", (getter)broker_connected, NULL, "Whether the other side is there.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot broker_slots[] = {
    {Py_tp_dealloc, broker_dealloc},
    {Py_tp_methods, broker_methods},
    {Py_tp_getset, broker_getters},
    {Py_tp_doc, "Further connections between a host and a plugin that speak net/rpc."},
    {0, NULL},
};

static PyType_Spec broker_spec = {
    .name = "pygo_plugin._core.MuxBroker",
    .basicsize = sizeof(MuxBrokerObject),
    .flags = Py_TPFLAGS_DEFAULT | PYGO_DISALLOW_INSTANTIATION,
    .slots = broker_slots,
};

/* ---- MuxServing ---- */

static void
serving_dealloc(MuxServingObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_BEGIN_ALLOW_THREADS
    gp_mux_serving_unref(self->serving);
    Py_END_ALLOW_THREADS
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
serving_stop(MuxServingObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_ALLOW_THREADS
    gp_mux_serving_stop(self->serving);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyMethodDef serving_methods[] = {
    {"stop", (PyCFunction)serving_stop, METH_NOARGS,
     "stop($self)\n--\n\nAccept the id no more, or end the connection. Idempotent."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot serving_slots[] = {
    {Py_tp_dealloc, serving_dealloc},
    {Py_tp_methods, serving_methods},
    {Py_tp_doc, "An id that is accepted and served."},
    {0, NULL},
};

static PyType_Spec serving_spec = {
    .name = "pygo_plugin._core.MuxServing",
    .basicsize = sizeof(MuxServingObject),
    .flags = Py_TPFLAGS_DEFAULT | PYGO_DISALLOW_INSTANTIATION,
    .slots = serving_slots,
};

int
pygo_mux_broker_setup(PyObject *module, pygo_state *state)
{
    state->mux_broker_type = pygo_add_type(module, &broker_spec);
    state->mux_serving_type = pygo_add_type(module, &serving_spec);
    return state->mux_broker_type != NULL && state->mux_serving_type != NULL ? 0 : -1;
}
