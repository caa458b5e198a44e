#include "py/broker.h"

#include <stdatomic.h>

#include "gp/credentials.h"
#include "py/callbacks.h"
#include "py/channel.h"
#include "py/convert.h"
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
    int64_t timeout_ms;
    PyObject *timeout;
    unsigned int id;
    int rc;

    if (!PyArg_ParseTuple(args, "IO:dial", &id, &timeout) ||
        pygo_timeout_ms(&timeout_ms, timeout) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_broker_dial(self->broker, id, timeout_ms, interrupt, &channel, &err);
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

/* ---- The end of the other side ---- */

/* The callback of on_gone(). The broker holds a reference, and so does each queued call of it. */
typedef struct watcher {
    atomic_int refs;
    PyObject *callable; /* owned */
} watcher;

typedef struct gone_callback {
    pygo_callback base;
    watcher *watcher; /* shared: ref */
} gone_callback;

static void
watcher_unref(void *ctx)
{
    watcher *self = ctx;

    if (atomic_fetch_sub(&self->refs, 1) == 1) {
        pygo_gil_release(self->callable);
        PyMem_RawFree(self);
    }
}

static void
run_gone(pygo_callback *callback)
{
    watcher *self = ((gone_callback *)callback)->watcher;

    pygo_call_back(self->callable);
    watcher_unref(self);
    PyMem_RawFree(callback);
}

/*
 * Called on the polling thread, which may not enter Python. In a plugin it may be called several
 * times, once for each host that has gone.
 */
static void
post_gone(void *ctx)
{
    gone_callback *callback = PyMem_RawMalloc(sizeof(*callback));
    watcher *self = ctx;

    if (callback != NULL) {
        atomic_fetch_add(&self->refs, 1);
        callback->watcher = self;
        callback->base.run = run_gone;
        pygo_callback_post(&callback->base);
    }
}

static PyObject *
broker_on_gone(BrokerObject *self, PyObject *callable)
{
    watcher *made = PyMem_RawMalloc(sizeof(*made));

    if (made == NULL) {
        return PyErr_NoMemory();
    }
    atomic_init(&made->refs, 1);
    made->callable = Py_NewRef(callable);
    return PyBool_FromLong(gp_broker_on_gone(self->broker, post_gone, watcher_unref, made));
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
     "next_id($self)\n--\n\nAn id that this side has not used before."},
    {"announce", (PyCFunction)broker_announce, METH_VARARGS,
     "announce($self, service_id, network, address, /)\n--\n\nSend the other side the address at "
     "which the id is accepted."},
    {"dial", (PyCFunction)broker_dial, METH_VARARGS,
     "dial($self, service_id, timeout, /)\n--\n\nA channel to where the other side accepts the id. "
     "Waits up to timeout seconds for the address."},
    {"server_credentials", (PyCFunction)broker_server_credentials, METH_NOARGS,
     "server_credentials($self)\n--\n\nFor servers that accept its connections; None without TLS."},
    {"on_gone", (PyCFunction)broker_on_gone, METH_O,
     "on_gone($self, callback, /)\n--\n\nHave callback() called whenever the other side goes. "
     "Returns: whether the other side is there now."},
    {"forget", (PyCFunction)broker_forget, METH_O,
     "forget($self, service_id, /)\n--\n\nDrop an id that was announced, and is not accepted any "
     "more."},
    {"close", (PyCFunction)broker_close, METH_NOARGS,
     "close($self)\n--\n\nEnd the broker. Waits in dial() fail."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getters[] = {
    {"multiplexed", (getter)broker_multiplexed, NULL,
     "Whether its connections are streams of the main one.", NULL},
    {"directory", (getter)broker_directory, NULL,
     "If multiplexed, the directory for its sockets; otherwise None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, broker_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {Py_tp_doc, "How a host and a plugin agree on further connections."},
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
