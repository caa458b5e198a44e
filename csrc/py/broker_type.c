#include "py/broker.h"

#include <stdatomic.h>

#include "gp/credentials.h"
#include "py/call.h"
#include "py/callbacks.h"
#include "py/channel.h"
#include "py/credentials.h"
#include "py/errors.h"
#include "py/gil.h"

typedef struct BrokerObject {
    PyObject_HEAD
    gp_broker *broker; /* shared: ref */
    PyObject *name;    /* owned str */
    PyObject *options; /* owned: what gRPC may have pointers to; NULL: nothing */
} BrokerObject;

PyObject *
pygo_broker_wrap(gp_broker *broker, PyObject *name, PyObject *options)
{
    PyTypeObject *type = pygo_module_state->broker_type;
    BrokerObject *self = (BrokerObject *)type->tp_alloc(type, 0);

    if (self == NULL) {
        gp_broker_unref(broker);
        return NULL;
    }
    self->broker = broker;
    self->name = Py_NewRef(name);
    self->options = Py_XNewRef(options);
    return (PyObject *)self;
}

static void
broker_dealloc(BrokerObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_BEGIN_ALLOW_THREADS
    gp_broker_unref(self->broker);
    Py_END_ALLOW_THREADS
    Py_XDECREF(self->name);
    Py_XDECREF(self->options);
    type->tp_free(self);
    Py_DECREF(type);
}

static const char *
name_of(BrokerObject *self)
{
    return PyUnicode_AsUTF8(self->name);
}

static PyObject *
broker_next_id(BrokerObject *self, PyObject *Py_UNUSED(ignored))
{
    uint32_t id = gp_broker_next_id(self->broker);
    gp_error err = GP_ERROR_INIT;

    if (id == 0) {
        gp_error_set(&err, GP_EBROKER, "all ids of connections have been used up");
        return pygo_raise(&err, name_of(self));
    }
    return PyLong_FromUnsignedLong(id);
}

static PyObject *
broker_announce(BrokerObject *self, PyObject *args)
{
    gp_error err = GP_ERROR_INIT;
    const char *network;
    PyObject *address;
    unsigned int id;
    int rc;

    if (!PyArg_ParseTuple(args, "IsO&:announce", &id, &network, PyUnicode_FSConverter, &address)) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_broker_announce(self->broker, id, network, PyBytes_AS_STRING(address), &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(address);
    if (rc < 0) {
        return pygo_raise(&err, name_of(self));
    }
    Py_RETURN_NONE;
}

static PyObject *
broker_dial(BrokerObject *self, PyObject *args)
{
    const gp_interrupt *interrupt = pygo_interrupt();
    gp_error err = GP_ERROR_INIT;
    gp_channel *channel;
    int64_t timeout_ns;
    PyObject *timeout;
    unsigned int id;
    int rc;

    if (!PyArg_ParseTuple(args, "IO:dial", &id, &timeout) ||
        pygo_timeout_ns(&timeout_ns, timeout) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_broker_dial(self->broker, id, timeout_ns < 0 ? -1 : timeout_ns / 1000000, interrupt,
                        &channel, &err);
    Py_END_ALLOW_THREADS
    return rc < 0 ? pygo_raise(&err, name_of(self)) : pygo_channel_wrap(channel);
}

static PyObject *
broker_server_credentials(BrokerObject *self, PyObject *Py_UNUSED(ignored))
{
    gp_tls *tls = gp_broker_tls(self->broker);
    gp_server_credentials *credentials;
    gp_error err = GP_ERROR_INIT;
    int rc;

    if (tls == NULL) {
        Py_RETURN_NONE;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_server_credentials_tls(&credentials, tls, &err);
    Py_END_ALLOW_THREADS
    return rc < 0 ? pygo_raise(&err, name_of(self)) : pygo_server_credentials_wrap(credentials);
}

/* ---- The other side's end ---- */

/* What is called then: the broker's, and that of each callback on its way. */
typedef struct watcher {
    atomic_int refs;
    PyObject *callable; /* owned */
} watcher;

typedef struct gone_callback {
    pygo_callback base;
    watcher *told; /* shared: ref */
} gone_callback;

static void
watcher_unref(void *ctx)
{
    watcher *it = ctx;

    if (atomic_fetch_sub(&it->refs, 1) == 1) {
        pygo_gil_release(it->callable);
        PyMem_RawFree(it);
    }
}

static void
run_gone(pygo_callback *callback)
{
    watcher *told = ((gone_callback *)callback)->told;

    pygo_call_back(told->callable);
    watcher_unref(told);
    PyMem_RawFree(callback);
}

/* On the polling thread, which may not enter Python. On a plugin, hosts may come and go. */
static void
gone(void *ctx)
{
    gone_callback *callback = PyMem_RawMalloc(sizeof(*callback));
    watcher *it = ctx;

    if (callback != NULL) {
        atomic_fetch_add(&it->refs, 1);
        callback->told = it;
        callback->base.run = run_gone;
        pygo_callback_post(&callback->base);
    }
}

static PyObject *
broker_on_gone(BrokerObject *self, PyObject *callable)
{
    watcher *it = PyMem_RawMalloc(sizeof(*it));

    if (it == NULL) {
        return PyErr_NoMemory();
    }
    atomic_init(&it->refs, 1);
    it->callable = Py_NewRef(callable);
    return PyBool_FromLong(gp_broker_on_gone(self->broker, gone, watcher_unref, it));
}

static PyObject *
broker_forget(BrokerObject *self, PyObject *number)
{
    unsigned long id = PyLong_AsUnsignedLong(number);

    if (id == (unsigned long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    gp_broker_forget(self->broker, (uint32_t)id);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
broker_multiplexed(BrokerObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(gp_broker_multiplexed(self->broker));
}

static PyObject *
broker_directory(BrokerObject *self, void *Py_UNUSED(closure))
{
    const char *directory = gp_broker_directory(self->broker);

    if (directory == NULL) {
        Py_RETURN_NONE;
    }
    return PyUnicode_DecodeFSDefault(directory);
}

static PyObject *
broker_close(BrokerObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_ALLOW_THREADS
    gp_broker_close(self->broker);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"next_id", (PyCFunction)broker_next_id, METH_NOARGS,
     "next_id($self)\n--\n\nA number that this side has not given out before."},
    {"announce", (PyCFunction)broker_announce, METH_VARARGS,
     "announce($self, service_id, network, address, /)\n--\n\nTell the other side where id is "
     "accepted."},
    {"dial", (PyCFunction)broker_dial, METH_VARARGS,
     "dial($self, service_id, timeout, /)\n--\n\nA channel to where the other side accepts id, "
     "which it "
     "may take timeout seconds to say."},
    {"server_credentials", (PyCFunction)broker_server_credentials, METH_NOARGS,
     "server_credentials($self)\n--\n\nFor what accepts connections; None without TLS."},
    {"on_gone", (PyCFunction)broker_on_gone, METH_O,
     "on_gone($self, callback, /)\n--\n\nCall it, once set, when the other side goes. Whether it "
     "is there."},
    {"forget", (PyCFunction)broker_forget, METH_O,
     "forget($self, service_id, /)\n--\n\nWhat was announced as that listens no more."},
    {"close", (PyCFunction)broker_close, METH_NOARGS,
     "close($self)\n--\n\nEnd it; who waits for a connection is told so."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getters[] = {
    {"multiplexed", (getter)broker_multiplexed, NULL, "Whether all goes over one connection.",
     NULL},
    {"directory", (getter)broker_directory, NULL, "Where its sockets are to be, then; else None.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, broker_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {Py_tp_doc, "How both sides tell each other about further connections."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.Broker",
    .basicsize = sizeof(BrokerObject),
    .flags = Py_TPFLAGS_DEFAULT | PYGO_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int
pygo_broker_setup(PyObject *module, pygo_state *state)
{
    state->broker_type = pygo_add_type(module, &spec);
    return state->broker_type != NULL ? 0 : -1;
}
