#include "py/server.h"

#include "gp/list.h"
#include "gp/services.h"
#include "py/async_server.h"
#include "py/broker.h"
#include "py/channel.h"
#include "py/convert.h"
#include "py/credentials.h"
#include "py/dispatcher.h"
#include "py/errors.h"
#include "py/gil.h"
#include "py/mux.h"
#include "py/operation.h"
#include "py/stdio_type.h"
#include "py/tls.h"

typedef struct ServerObject {
    PyObject_HEAD
    gp_server *server;       /* owned */
    void *dispatcher;        /* borrowed: the server's */
    pygo_arrivals *arrivals; /* borrowed: the server's; NULL if no event loop takes its calls */
    PyObject *weakrefs;
    PyObject *options; /* owned: what gRPC may have pointers to; NULL: nothing */
    gp_link link;      /* in |servers| */
} ServerObject;

/* All servers of this process, newest first. Guarded by the GIL. */
static gp_list servers = GP_LIST_INIT(servers);

/* ---- The type ---- */

static PyObject *
server_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *argument_names[] = {"find",           "registered",   "contexts", "max_workers",
                                     "max_concurrent", "options",      "general",  "arrived",
                                     "async_contexts", "reports_full", NULL};
    gp_server_options options = {0};
    gp_error err = GP_ERROR_INIT;
    pygo_options converted;
    PyObject *find;
    PyObject *registered;
    PyObject *contexts;
    PyObject *given = NULL;
    PyObject *arrived = Py_None;
    PyObject *async_contexts = Py_None;
    pygo_arrivals *arrivals = NULL;
    ServerObject *self;
    int general = 0;
    int reports_full = 0;
    int rc;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!O|$iiOpOOp:Server", argument_names, &find,
                                     &PyDict_Type, &registered, &contexts, &options.max_workers,
                                     &options.max_concurrent, &given, &general, &arrived,
                                     &async_contexts, &reports_full) ||
        pygo_check_forked() < 0 || pygo_options_from_python(&converted, given) < 0) {
        return NULL;
    }
    options.args = converted.args;
    options.args_count = converted.count;
    options.general = general != 0;
    if (arrived != Py_None) {
        arrivals = pygo_arrivals_new(arrived, async_contexts, registered);
        if (arrivals == NULL) {
            goto fail_handler;
        }
    }
    options.handler_ctx = pygo_dispatcher_new(&options.handler, find, registered, contexts,
                                              arrivals, reports_full != 0);
    if (options.handler_ctx == NULL) {
        goto fail_handler;
    }
    self = (ServerObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        goto fail_object;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_server_new(&self->server, &options, &err);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        pygo_raise(&err, NULL);
        goto fail_server;
    }
    self->dispatcher = options.handler_ctx;
    self->arrivals = arrivals;
    self->options = Py_XNewRef(converted.owner);
    gp_list_prepend(&servers, &self->link);
    pygo_options_release(&converted);
    return (PyObject *)self;

fail_server:
    self->server = NULL;
    Py_DECREF(self);
fail_object:
    options.handler.release(options.handler_ctx);
fail_handler:
    pygo_options_release(&converted);
    return NULL;
}

/*
 * Whether the dispatcher is used by this object alone: the server runs no thread, and only code
 * that has a reference to the object can start it.
 */
static bool
is_idle(ServerObject *self)
{
    return self->dispatcher != NULL && !gp_runtime_forked() &&
           gp_server_join(self->server, 0, NULL) == 0;
}

/* Servicers may have references to their server. */
static int
server_traverse(ServerObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return is_idle(self) ? pygo_dispatcher_traverse(self->dispatcher, visit, arg) : 0;
}

static int
server_clear(ServerObject *self)
{
    if (is_idle(self)) {
        pygo_dispatcher_clear(self->dispatcher);
    }
    return 0;
}

static void
server_dealloc(ServerObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    gp_link_remove(&self->link);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    if (self->server != NULL) {
        Py_BEGIN_ALLOW_THREADS
        gp_server_release(self->server);
        Py_END_ALLOW_THREADS
    }
    Py_XDECREF(self->options);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
server_listen(ServerObject *self, PyObject *args)
{
    const gp_server_credentials *credentials;
    gp_error err = GP_ERROR_INIT;
    PyObject *given = Py_None;
    const char *text;
    int port = 0;
    int rc;

    if (!PyArg_ParseTuple(args, "s|O:listen", &text, &given) || pygo_check_forked() < 0 ||
        pygo_server_credentials(&credentials, given) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_server_listen_secure(self->server, text, credentials, &port, &err);
    Py_END_ALLOW_THREADS
    return rc < 0 ? pygo_raise(&err, NULL) : PyLong_FromLong(port);
}

static PyObject *
server_add_stdio(ServerObject *self, PyObject *object)
{
    gp_stdio *stdio = pygo_stdio_of(object);
    gp_error err = GP_ERROR_INIT;

    if (stdio == NULL) {
        return NULL;
    }
    if (gp_server_add_stdio(self->server, stdio, &err) < 0) {
        return pygo_raise(&err, NULL);
    }
    Py_RETURN_NONE;
}

static PyObject *
server_add_plugin_services(ServerObject *self, PyObject *args)
{
    gp_error err = GP_ERROR_INIT;
    const char *service;
    double grace;

    if (!PyArg_ParseTuple(args, "sd:add_plugin_services", &service, &grace)) {
        return NULL;
    }
    if (gp_server_add_health(self->server, service, &err) < 0 ||
        gp_server_add_controller(self->server, (int64_t)(grace * 1000), &err) < 0) {
        return pygo_raise(&err, NULL);
    }
    Py_RETURN_NONE;
}

static PyObject *
server_add_broker(ServerObject *self, PyObject *args)
{
    PyObject *tls;
    PyObject *multiplexer;
    PyObject *options = Py_None;
    gp_grpc_mux *mux;
    gp_error err = GP_ERROR_INIT;
    PyObject *name;
    PyObject *wrapped = NULL;
    PyObject *kept;
    gp_channel_args *channel_args;
    gp_broker *broker;
    gp_tls *shared;

    if (!PyArg_ParseTuple(args, "OO|O:add_broker", &tls, &multiplexer, &options) ||
        pygo_tls(&shared, tls) < 0 || pygo_mux(&mux, multiplexer) < 0 ||
        pygo_options_copy(&channel_args, &kept, options) < 0) {
        return NULL;
    }
    name = PyUnicode_FromString("");
    if (name == NULL) {
        goto done;
    }
    if (gp_server_add_broker(self->server, shared, mux, &broker, &err) < 0) {
        pygo_raise(&err, NULL);
        goto done;
    }
    gp_broker_use_args(broker, channel_args);
    wrapped = pygo_broker_wrap(broker, name, kept);

done:
    gp_channel_args_unref(channel_args);
    Py_XDECREF(name);
    Py_XDECREF(kept);
    return wrapped;
}

static PyObject *
server_on_stopped(ServerObject *self, PyObject *args)
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
    gp_server_on_stopped(self->server, pygo_operation_finished, op);
    Py_RETURN_NONE;
}

static PyObject *
server_start(ServerObject *self, PyObject *args)
{
    gp_error err = GP_ERROR_INIT;
    PyObject *loop_queue = Py_None;
    int rc;

    if (!PyArg_ParseTuple(args, "|O:start", &loop_queue) || pygo_check_forked() < 0) {
        return NULL;
    }
    if (self->arrivals != NULL && pygo_arrivals_set_queue(self->arrivals, loop_queue) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_server_start(self->server, &err);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        return pygo_raise(&err, NULL);
    }
    Py_RETURN_NONE;
}

static PyObject *
server_stop(ServerObject *self, PyObject *grace)
{
    int64_t grace_ms = 0;

    /* As with grpcio, None means now. */
    if (grace != Py_None && pygo_timeout_ms(&grace_ms, grace) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    gp_server_stop(self->server, grace_ms);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

typedef int wait_function(gp_server *, int64_t, const gp_interrupt *);

static PyObject *
server_wait_for(ServerObject *self, PyObject *timeout, wait_function *wait)
{
    const gp_interrupt *interrupt = pygo_interrupt();
    int64_t timeout_ms;
    int rc;

    if (pygo_check_forked() < 0 || pygo_timeout_ms(&timeout_ms, timeout) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = wait(self->server, timeout_ms, interrupt);
    Py_END_ALLOW_THREADS
    return rc == GP_EUSER ? NULL : PyBool_FromLong(rc == 0);
}

static PyObject *
server_wait(ServerObject *self, PyObject *timeout)
{
    return server_wait_for(self, timeout, gp_server_wait);
}

static PyObject *
server_join(ServerObject *self, PyObject *timeout)
{
    return server_wait_for(self, timeout, gp_server_join);
}

static PyObject *
server_stopping(ServerObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(gp_server_stopping(self->server));
}

int64_t
pygo_servers_shutdown(void)
{
    PyObject *kept = PyList_New(0);
    int64_t patience_ms = 500;
    ServerObject *server = gp_list_first_entry(&servers, ServerObject, link);
    Py_ssize_t count;

    for (; kept != NULL && server != NULL;
         server = gp_list_next_entry(&servers, server, ServerObject, link)) {
        PyList_Append(kept, (PyObject *)server);
    }
    PyErr_Clear();
    count = kept != NULL ? PyList_GET_SIZE(kept) : 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        server = (ServerObject *)PyList_GET_ITEM(kept, i);
        Py_BEGIN_ALLOW_THREADS
        gp_server_stop(server->server, 0);
        Py_END_ALLOW_THREADS
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        int rc;

        /*
         * A handler that does not return must not keep the process from ending, and is left behind.
         * The handlers of the other servers have had the same time, so they are not waited for.
         */
        server = (ServerObject *)PyList_GET_ITEM(kept, i);
        Py_BEGIN_ALLOW_THREADS
        rc = gp_server_join(server->server, patience_ms, NULL);
        Py_END_ALLOW_THREADS
        patience_ms = rc < 0 ? 0 : patience_ms;
    }
    Py_XDECREF(kept);
    return patience_ms;
}

static PyMethodDef methods[] = {
    {"listen", (PyCFunction)server_listen, METH_VARARGS,
     "listen($self, address, credentials=None, /)\n--\n\nListen on unix:/path or host:port. "
     "Returns: the port. Raises: OSError."},
    {"add_plugin_services", (PyCFunction)server_add_plugin_services, METH_VARARGS,
     "add_plugin_services($self, name, grace, /)\n--\n\nAdd health for name, and the controller, "
     "whose Shutdown gives running calls grace seconds."},
    {"add_stdio", (PyCFunction)server_add_stdio, METH_O,
     "add_stdio($self, stdio, /)\n--\n\nAdd the stream of the process's output. It ends once the "
     "server is stopping and no handler runs."},
    {"add_broker", (PyCFunction)server_add_broker, METH_VARARGS,
     "add_broker($self, tls, mux, options=(), /)\n--\n\nAdd the broker service, before the start. "
     "Returns: its Broker, whose channels have these options."},
    {"on_stopped", (PyCFunction)server_on_stopped, METH_VARARGS,
     "on_stopped($self, queue, future, /)\n--\n\nResolve the future when the server has stopped. "
     "May be used once, before the start."},
    {"start", (PyCFunction)server_start, METH_VARARGS,
     "start($self, queue=None, /)\n--\n\nServe. A server with arrived needs the loop's queue. "
     "Never blocks."},
    {"stop", (PyCFunction)server_stop, METH_O,
     "stop($self, grace, /)\n--\n\nStop, and cancel the calls that still run after grace seconds. "
     "None: now. Never blocks."},
    {"wait", (PyCFunction)server_wait, METH_O,
     "wait($self, timeout, /)\n--\n\nWait until the server has stopped. Returns: False after "
     "timeout seconds. None: no limit."},
    {"join", (PyCFunction)server_join, METH_O,
     "join($self, timeout, /)\n--\n\nWait until its threads have ended. Otherwise as wait()."},
    {"stopping", (PyCFunction)server_stopping, METH_NOARGS,
     "stopping($self)\n--\n\nWhether stop() was called, here or by the host's Shutdown."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(ServerObject, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, server_new},
    {Py_tp_dealloc, server_dealloc},
    {Py_tp_traverse, server_traverse},
    {Py_tp_clear, server_clear},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_doc, "Server(find, registered, contexts, *, max_workers=1, max_concurrent=0, "
                "options=(), general=False, arrived=None, async_contexts=None, "
                "reports_full=False)\n--\n\nA gRPC server."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.Server",
    .basicsize = sizeof(ServerObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

int
pygo_server_setup(PyObject *module, pygo_state *Py_UNUSED(state))
{
    return pygo_export_type(module, &spec);
}
