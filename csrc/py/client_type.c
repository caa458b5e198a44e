#include "gp/client.h"
#include "gp/lock.h"

#include <string.h>

#include "py/broker.h"
#include "py/channel.h"
#include "py/client_options.h"
#include "py/convert.h"
#include "py/errors.h"
#include "py/gil.h"
#include "py/mux_broker.h"
#include "py/netrpc.h"

typedef struct ClientObject {
    PyObject_HEAD
    gp_client *client;       /* owned */
    PyObject *name;          /* owned str: begins every message */
    PyObject *versions;      /* owned tuple: what a VersionError reports as the host's */
    PyObject *grpc_pointers; /* owned: what gRPC may have pointers to; NULL: nothing */
} ClientObject;

static const char *
name_of(ClientObject *self)
{
    return PyUnicode_AsUTF8(self->name);
}

static PyObject *
client_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    pygo_client_options options;
    gp_error err = GP_ERROR_INIT;
    ClientObject *self;

    if (pygo_check_forked() < 0) {
        return NULL;
    }
    self = (ClientObject *)type->tp_alloc(type, 0);
    if (self == NULL || pygo_client_options_init(&options, args, kwargs) < 0) {
        Py_XDECREF(self);
        return NULL;
    }
    self->name = Py_NewRef(options.name);
    self->versions = Py_NewRef(options.versions);
    self->grpc_pointers = Py_XNewRef(options.grpc_pointers);
    if (gp_client_new(&self->client, &options.core, &err) < 0) {
        pygo_raise(&err, name_of(self));
        Py_CLEAR(self);
    }
    pygo_client_options_release(&options);
    return (PyObject *)self;
}

static void
client_dealloc(ClientObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    if (self->client != NULL) {
        Py_BEGIN_ALLOW_THREADS
        gp_client_free(self->client);
        Py_END_ALLOW_THREADS
    }
    Py_XDECREF(self->name);
    Py_XDECREF(self->versions);
    Py_XDECREF(self->grpc_pointers);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- Life ---- */

/* Raise |err|; a VersionError also carries the host's versions. */
static PyObject *
raise_start_error(ClientObject *self, gp_error *err)
{
    bool version = err->code == GP_EVERSION;
    PyObject *type;
    PyObject *exception;
    PyObject *traceback;

    pygo_raise(err, NULL); /* the message begins with the plugin's name */
    if (version) {
        PyErr_Fetch(&type, &exception, &traceback);
        PyErr_NormalizeException(&type, &exception, &traceback);
        if (exception != NULL &&
            PyObject_SetAttrString(exception, "host_versions", self->versions) < 0) {
            PyErr_Clear();
        }
        PyErr_Restore(type, exception, traceback);
    }
    return NULL;
}

static PyObject *
client_start(ClientObject *self, PyObject *Py_UNUSED(ignored))
{
    const gp_interrupt *interrupt = pygo_interrupt();
    gp_error err = GP_ERROR_INIT;
    const gp_endpoint *where;
    int rc;

    if (pygo_check_forked() < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_client_start(self->client, interrupt, &err);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        return raise_start_error(self, &err);
    }
    where = gp_client_endpoint(self->client);
    return Py_BuildValue("sNssi", where->network, PyUnicode_DecodeFSDefault(where->address),
                         where->target, where->protocol, where->version);
}

static PyObject *
client_channel(ClientObject *self, PyObject *Py_UNUSED(ignored))
{
    gp_error err = GP_ERROR_INIT;
    gp_channel *shared;
    gp_channel *view;

    if (pygo_check_forked() < 0) {
        return NULL;
    }
    shared = gp_client_channel(self->client);
    if (shared == NULL) {
        gp_error_set(&err, GP_ECLOSED,
                     "there is no connection: the plugin has not been started, or "
                     "has been killed");
        return pygo_raise(&err, name_of(self));
    }
    if (gp_channel_view(&view, shared, &err) < 0) {
        return pygo_raise(&err, name_of(self));
    }
    return pygo_channel_wrap(view);
}

static PyObject *
client_broker(ClientObject *self, PyObject *Py_UNUSED(ignored))
{
    gp_error err = GP_ERROR_INIT;
    gp_broker *broker;

    if (pygo_check_forked() < 0) {
        return NULL;
    }
    broker = gp_client_broker(self->client);
    if (broker == NULL) {
        gp_error_set(&err, GP_ECLOSED,
                     "there is no broker: the plugin has not been started, or has been killed");
        return pygo_raise(&err, name_of(self));
    }
    return pygo_broker_wrap(gp_broker_ref(broker), self->name, self->grpc_pointers);
}

static PyObject *
client_mux_broker(ClientObject *self, PyObject *Py_UNUSED(ignored))
{
    gp_error err = GP_ERROR_INIT;
    gp_mux_broker *broker;

    if (pygo_check_forked() < 0) {
        return NULL;
    }
    broker = gp_client_mux_broker(self->client);
    if (broker == NULL) {
        gp_error_set(&err, GP_ECLOSED,
                     "there is no broker: the plugin has not been started, or has been killed");
        return pygo_raise(&err, name_of(self));
    }
    return pygo_mux_broker_wrap(gp_mux_broker_ref(broker), self->name);
}

static PyObject *
client_dispense(ClientObject *self, PyObject *args)
{
    const gp_interrupt *interrupt = pygo_call_interrupt();
    gp_error err = GP_ERROR_INIT;
    gp_netrpc_client *client;
    PyTypeObject *type;
    PyObject *explain;
    PyObject *given;
    PyObject *timeout;
    gp_gob_limits limits;
    const char *name;
    int64_t timeout_ms;
    int rc;

    if (!PyArg_ParseTuple(args, "O!sOOO:dispense", &PyType_Type, &type, &name, &timeout, &given,
                          &explain) ||
        pygo_check_forked() < 0 || pygo_timeout_ms(&timeout_ms, timeout) < 0 ||
        pygo_netrpc_limits(&limits, given) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_client_dispense(self->client, name, &limits, gp_deadline_in(timeout_ms), interrupt,
                            &client, &err);
    Py_END_ALLOW_THREADS
    return rc < 0 ? pygo_raise(&err, name_of(self))
                  : pygo_netrpc_client_wrap(type, client, explain != Py_None ? explain : NULL);
}

static PyObject *
client_ping(ClientObject *self, PyObject *timeout)
{
    const gp_interrupt *interrupt = pygo_interrupt();
    gp_error err = GP_ERROR_INIT;
    int64_t timeout_ms;
    int rc;

    if (pygo_check_forked() < 0 || pygo_timeout_ms(&timeout_ms, timeout) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_client_ping(self->client, timeout_ms, interrupt, &err);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        return pygo_raise(&err, NULL);
    }
    Py_RETURN_NONE;
}

static PyObject *
client_kill(ClientObject *self, PyObject *Py_UNUSED(ignored))
{
    const gp_interrupt *interrupt = pygo_interrupt();
    int rc;

    Py_BEGIN_ALLOW_THREADS
    rc = gp_client_kill(self->client, interrupt);
    Py_END_ALLOW_THREADS
    if (rc < 0 &&
        rc != GP_EFORKED) { /* in a forked child, where the parent's plugin is not ours to kill */
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
client_exited(ClientObject *self, PyObject *Py_UNUSED(ignored))
{
    bool exited;

    Py_BEGIN_ALLOW_THREADS
    exited = gp_client_exited(self->client);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(exited);
}

static PyObject *
client_exit_status(ClientObject *self, void *Py_UNUSED(closure))
{
    int status;

    if (!gp_client_exited(self->client)) {
        Py_RETURN_NONE;
    }
    status = gp_client_exit_status(self->client);
    if (status == GP_STATUS_UNKNOWN) {
        Py_RETURN_NONE;
    }
    return PyLong_FromLong(status);
}

static PyObject *
client_await_exit(ClientObject *self, PyObject *Py_UNUSED(ignored))
{
    const gp_interrupt *interrupt = pygo_interrupt();
    bool exited;

    if (pygo_check_forked() < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    exited = gp_client_await_exit(self->client, interrupt);
    Py_END_ALLOW_THREADS
    return PyErr_Occurred() ? NULL : PyBool_FromLong(exited);
}

static PyObject *
client_stderr(ClientObject *self, void *Py_UNUSED(closure))
{
    char text[GP_CLIENT_STDERR];

    gp_client_stderr(self->client, text);
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

static PyObject *
client_exit_text(ClientObject *self, void *Py_UNUSED(closure))
{
    char text[GP_EXIT_TEXT];

    gp_client_describe_exit(self->client, text);
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

static PyObject *
client_pid(ClientObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(gp_client_pid(self->client));
}

static PyObject *
client_start_time(ClientObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(gp_client_start_time(self->client));
}

static PyMethodDef methods[] = {
    {"start", (PyCFunction)client_start, METH_NOARGS,
     "start($self)\n--\n\nLaunch and shake hands, once. Returns: (network, address, target, "
     "protocol, version)."},
    {"channel", (PyCFunction)client_channel, METH_NOARGS,
     "channel($self)\n--\n\nA new channel on the client's one connection."},
    {"broker", (PyCFunction)client_broker, METH_NOARGS,
     "broker($self)\n--\n\nThe one broker between this host and the plugin."},
    {"mux_broker", (PyCFunction)client_mux_broker, METH_NOARGS,
     "mux_broker($self)\n--\n\nThe MuxBroker between this host and a plugin that speaks net/rpc."},
    {"dispense", (PyCFunction)client_dispense, METH_VARARGS,
     "dispense($self, kind, name, timeout, limits, explain, /)\n--\n\nHave a plugin that speaks "
     "net/rpc make an implementation. Returns: a client of it, of this subclass of NetRpcClient."},
    {"ping", (PyCFunction)client_ping, METH_O,
     "ping($self, timeout, /)\n--\n\nHealth check, within timeout seconds; raises when unhealthy."},
    {"kill", (PyCFunction)client_kill, METH_NOARGS,
     "kill($self)\n--\n\nShut down, then kill. Idempotent."},
    {"exited", (PyCFunction)client_exited, METH_NOARGS,
     "exited($self)\n--\n\nWhether the plugin was started and has ended, or was killed here."},
    {"await_exit", (PyCFunction)client_await_exit, METH_NOARGS,
     "await_exit($self)\n--\n\nAs exited(), after the connection has been lost: waits a moment for "
     "a "
     "plugin that is about to exit."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getters[] = {
    {"exit_status", (getter)client_exit_status, NULL,
     "Exit status, -N for signal N; None while it runs or if it is unknown.", NULL},
    {"exit_text", (getter)client_exit_text, NULL,
     "How an exited plugin has ended, such as \"exited with status 7\".", NULL},
    {"stderr", (getter)client_stderr, NULL,
     "The last of what the plugin has written to stderr, at most 4 KiB.", NULL},
    {"pid", (getter)client_pid, NULL, "Process id; -1 before the start.", NULL},
    {"start_time", (getter)client_start_time, NULL,
     "When the process started, in ticks since boot; 0 if unknown.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, client_new},
    {Py_tp_dealloc, client_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {Py_tp_doc, "One plugin process as its host sees it."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.Client",
    .basicsize = sizeof(ClientObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

int
pygo_client_setup(PyObject *module, pygo_state *Py_UNUSED(state))
{
    return pygo_export_type(module, &spec);
}
