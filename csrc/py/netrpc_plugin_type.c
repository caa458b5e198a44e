#include "gp/netrpc_plugin.h"

#include "py/convert.h"
#include "py/errors.h"
#include "py/gil.h"
#include "py/mux_broker.h"
#include "py/operation.h"
#include "py/stdio_type.h"
#include "py/tls.h"

typedef struct NetRpcPluginObject {
    PyObject_HEAD
    gp_netrpc_plugin *plugin; /* owned */
} NetRpcPluginObject;

typedef struct DispenseObject {
    PyObject_HEAD
    gp_dispense *dispense; /* owned until it is answered; then NULL */
} DispenseObject;

static const char shutting_down[] = "the plugin is shutting down";

/* ---- Dispense ---- */

static void
refuse_dispense(gp_dispense *dispense, const char *text, size_t len)
{
    gp_dispense_fail(dispense, (gp_bytes){text, len});
}

/* An object around |dispense|, which is taken over, also on failure. */
static PyObject *
wrap_dispense(gp_dispense *dispense)
{
    PyTypeObject *type = pygo_module_state->dispense_type;
    DispenseObject *self = (DispenseObject *)type->tp_alloc(type, 0);

    if (self == NULL) {
        refuse_dispense(dispense, "out of memory", 13);
        return NULL;
    }
    self->dispense = dispense;
    return (PyObject *)self;
}

static void
dispense_dealloc(DispenseObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    if (self->dispense != NULL) { /* for instance because its event loop has been closed */
        Py_BEGIN_ALLOW_THREADS
        refuse_dispense(self->dispense, shutting_down, sizeof(shutting_down) - 1);
        Py_END_ALLOW_THREADS
    }
    type->tp_free(self);
    Py_DECREF(type);
}

/* Take the request out. NULL with an exception if it has been answered. */
static gp_dispense *
take_dispense(DispenseObject *self)
{
    gp_dispense *dispense = self->dispense;

    self->dispense = NULL;
    if (dispense == NULL) {
        PyErr_SetString(PyExc_ValueError, "the request has been answered");
    }
    return dispense;
}

static PyObject *
dispense_reply(DispenseObject *self, PyObject *number)
{
    unsigned long id = PyLong_AsUnsignedLong(number);
    gp_dispense *dispense;

    if ((id == (unsigned long)-1 && PyErr_Occurred()) || (dispense = take_dispense(self)) == NULL) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    gp_dispense_reply(dispense, (uint32_t)id);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
dispense_fail(DispenseObject *self, PyObject *text)
{
    PyObject *bytes;
    gp_dispense *dispense;

    if (!PyUnicode_Check(text)) {
        PyErr_SetString(PyExc_TypeError, "fail() takes a str");
        return NULL;
    }
    bytes = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
    dispense = bytes != NULL ? take_dispense(self) : NULL;
    if (dispense != NULL) {
        Py_BEGIN_ALLOW_THREADS
        refuse_dispense(dispense, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
        Py_END_ALLOW_THREADS
    }
    Py_XDECREF(bytes);
    return dispense != NULL ? Py_NewRef(Py_None) : NULL;
}

static PyObject *
dispense_name(DispenseObject *self, void *Py_UNUSED(closure))
{
    gp_bytes name = {"", 0};

    if (self->dispense != NULL) {
        name = gp_dispense_name(self->dispense);
    }
    return PyUnicode_DecodeUTF8(name.len > 0 ? name.data : "", (Py_ssize_t)name.len,
                                "surrogateescape");
}

static PyObject *
dispense_broker(DispenseObject *self, void *Py_UNUSED(closure))
{
    PyObject *name;
    PyObject *broker;

    if (self->dispense == NULL) {
        Py_RETURN_NONE;
    }
    name = PyUnicode_FromString("");
    broker = name != NULL
                 ? pygo_mux_broker_wrap(gp_mux_broker_ref(gp_dispense_broker(self->dispense)), name)
                 : NULL;
    Py_XDECREF(name);
    return broker;
}

static PyMethodDef dispense_methods[] = {
    {"reply", (PyCFunction)dispense_reply, METH_O,
     "reply($self, service_id, /)\n--\n\nAnswer with the id to dial."},
    {"fail", (PyCFunction)dispense_fail, METH_O,
     "fail($self, text, /)\n--\n\nAnswer with an error."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef dispense_getters[] = {
    {"name", (getter)dispense_name, NULL, "What the host calls the plugin.", NULL},
    {"broker", (getter)dispense_broker, NULL, "The MuxBroker of the connection.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot dispense_slots[] = {
    {Py_tp_dealloc, dispense_dealloc},
    {Py_tp_methods, dispense_methods},
    {Py_tp_getset, dispense_getters},
    {Py_tp_doc, "A host's request for an implementation, to be answered once."},
    {0, NULL},
};

static PyType_Spec dispense_spec = {
    .name = "pygo_plugin._core.Dispense",
    .basicsize = sizeof(DispenseObject),
    .flags = Py_TPFLAGS_DEFAULT | PYGO_DISALLOW_INSTANTIATION,
    .slots = dispense_slots,
};

/* ---- NetRpcPlugin ---- */

/* For gp_netrpc_plugin_options: on a worker. |ctx| is the callable. */
static void
call_dispense(void *ctx, gp_dispense *dispense)
{
    PyObject *object;
    PyObject *result;

    if (!pygo_gil_enter("pygo-worker")) {
        refuse_dispense(dispense, shutting_down, sizeof(shutting_down) - 1);
        return;
    }
    object = wrap_dispense(dispense);
    result = object != NULL ? PyObject_CallOneArg(ctx, object) : NULL;
    if (result == NULL) {
        PyErr_WriteUnraisable(ctx);
    }
    Py_XDECREF(result);
    Py_XDECREF(object);
    pygo_gil_leave();
}

static PyObject *
plugin_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"dispense", "stdio", "tls", "grace", "max_workers", NULL};
    gp_netrpc_plugin_options options = {.dispense = call_dispense, .release = pygo_gil_release};
    gp_error err = GP_ERROR_INIT;
    NetRpcPluginObject *self;
    PyObject *callable;
    PyObject *stdio;
    PyObject *tls;
    double grace;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOdi:NetRpcPlugin", names, &callable, &stdio,
                                     &tls, &grace, &options.max_workers) ||
        pygo_check_forked() < 0 || (options.stdio = pygo_stdio_of(stdio)) == NULL ||
        pygo_tls(&options.tls, tls) < 0) {
        return NULL;
    }
    self = (NetRpcPluginObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    options.quit_grace_ms = (int64_t)(grace * 1000);
    options.ctx = Py_NewRef(callable);
    if (gp_netrpc_plugin_new(&self->plugin, &options, &err) < 0) {
        Py_DECREF(callable);
        Py_DECREF(self);
        return pygo_raise(&err, NULL);
    }
    return (PyObject *)self;
}

static void
plugin_dealloc(NetRpcPluginObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_BEGIN_ALLOW_THREADS
    gp_netrpc_plugin_release(self->plugin);
    Py_END_ALLOW_THREADS
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
plugin_listen(NetRpcPluginObject *self, PyObject *args)
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
    rc = gp_netrpc_plugin_listen(self->plugin, network, PyBytes_AS_STRING(address), &port, &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(address);
    return rc < 0 ? pygo_raise(&err, NULL) : PyLong_FromLong(port);
}

static PyObject *
plugin_start(NetRpcPluginObject *self, PyObject *Py_UNUSED(ignored))
{
    gp_error err = GP_ERROR_INIT;
    int rc;

    if (pygo_check_forked() < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_netrpc_plugin_start(self->plugin, &err);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        return pygo_raise(&err, NULL);
    }
    Py_RETURN_NONE;
}

static PyObject *
plugin_stop(NetRpcPluginObject *self, PyObject *grace)
{
    int64_t grace_ms = 0;

    /* As with gRPC's servers, None means now. */
    if (grace != Py_None && pygo_timeout_ms(&grace_ms, grace) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    gp_netrpc_plugin_stop(self->plugin, grace_ms);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
plugin_wait(NetRpcPluginObject *self, PyObject *timeout)
{
    const gp_interrupt *interrupt = pygo_interrupt();
    int64_t timeout_ms;
    int rc;

    if (pygo_check_forked() < 0 || pygo_timeout_ms(&timeout_ms, timeout) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_netrpc_plugin_wait(self->plugin, timeout_ms, interrupt);
    Py_END_ALLOW_THREADS
    return rc == GP_EUSER ? NULL : PyBool_FromLong(rc == 0);
}

static PyObject *
plugin_on_stopped(NetRpcPluginObject *self, PyObject *args)
{
    PyObject *loop_queue;
    PyObject *future;
    gp_queue *queue;
    pygo_operation *op;

    if (!PyArg_ParseTuple(args, "OO:on_stopped", &loop_queue, &future)) {
        return NULL;
    }
    queue = pygo_queue_of(loop_queue);
    op = queue != NULL ? pygo_operation_new(queue, future, pygo_operation_resolve, NULL, NULL)
                       : NULL;
    if (op == NULL) {
        return NULL;
    }
    gp_netrpc_plugin_on_stopped(self->plugin, pygo_operation_finished, op);
    Py_RETURN_NONE;
}

static PyObject *
plugin_stopping(NetRpcPluginObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(gp_netrpc_plugin_stopping(self->plugin));
}

static PyObject *
plugin_close(NetRpcPluginObject *self, PyObject *linger)
{
    int64_t linger_ms;

    if (pygo_timeout_ms(&linger_ms, linger) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    gp_netrpc_plugin_close(self->plugin, linger_ms);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
plugin_drain(NetRpcPluginObject *self, PyObject *timeout)
{
    int64_t timeout_ms;

    if (pygo_timeout_ms(&timeout_ms, timeout) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    gp_netrpc_plugin_drain(self->plugin, timeout_ms);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyMethodDef plugin_methods[] = {
    {"listen", (PyCFunction)plugin_listen, METH_VARARGS,
     "listen($self, network, address, /)\n--\n\nListen, once. Returns: the port of TCP. Raises: "
     "OSError."},
    {"start", (PyCFunction)plugin_start, METH_NOARGS, "start($self)\n--\n\nServe. Never blocks."},
    {"stop", (PyCFunction)plugin_stop, METH_O,
     "stop($self, grace, /)\n--\n\nStop once no handler runs, after grace seconds at the latest. "
     "None: now. Never blocks."},
    {"wait", (PyCFunction)plugin_wait, METH_O,
     "wait($self, timeout, /)\n--\n\nWait until it has stopped. Returns: False after timeout "
     "seconds. None: no limit."},
    {"on_stopped", (PyCFunction)plugin_on_stopped, METH_VARARGS,
     "on_stopped($self, queue, future, /)\n--\n\nResolve the future when it has stopped. May be "
     "used once, before the start."},
    {"stopping", (PyCFunction)plugin_stopping, METH_NOARGS,
     "stopping($self)\n--\n\nWhether stop() was called, here or by a host's Quit."},
    {"drain", (PyCFunction)plugin_drain, METH_O,
     "drain($self, timeout, /)\n--\n\nWait until everything is sent, at most timeout seconds."},
    {"close", (PyCFunction)plugin_close, METH_O,
     "close($self, linger, /)\n--\n\nStop at once, and end all connections when everything is "
     "sent, after linger seconds at the latest."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot plugin_slots[] = {
    {Py_tp_new, plugin_new},
    {Py_tp_dealloc, plugin_dealloc},
    {Py_tp_methods, plugin_methods},
    {Py_tp_doc, "NetRpcPlugin(dispense, stdio, tls, grace, max_workers)\n--\n\nWhat a plugin that "
                "speaks net/rpc serves to hosts. dispense(request) answers a Dispense."},
    {0, NULL},
};

static PyType_Spec plugin_spec = {
    .name = "pygo_plugin._core.NetRpcPlugin",
    .basicsize = sizeof(NetRpcPluginObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = plugin_slots,
};

int
pygo_netrpc_plugin_setup(PyObject *module, pygo_state *state)
{
    state->dispense_type = pygo_add_type(module, &dispense_spec);
    return state->dispense_type != NULL ? pygo_export_type(module, &plugin_spec) : -1;
}
