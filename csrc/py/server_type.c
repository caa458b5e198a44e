#include "py/server.h"

#include <string.h>

#include "gp/services.h"
#include "py/async_server.h"
#include "py/call.h"
#include "py/channel.h"
#include "py/credentials.h"
#include "py/errors.h"
#include "py/gil.h"
#include "py/loop.h"
#include "py/message.h"
#include "py/metadata.h"

enum {
    STATUS_OK = 0,
    STATUS_UNKNOWN = 2,
    STATUS_UNIMPLEMENTED = 12,
    STATUS_INTERNAL = 13,
    STATUS_UNAVAILABLE = 14
};

typedef struct ServerObject {
    PyObject_HEAD
    gp_server *server;       /* owned */
    pygo_arrivals *arrivals; /* borrowed: the server's; NULL if no event loop takes its calls */
    PyObject *weakrefs;
    struct ServerObject *next; /* in the list of all servers, under the GIL */
} ServerObject;

static ServerObject *all_servers;

/* What the server's threads need of Python. Lives as long as the C server, not the Python one. */
typedef struct dispatcher {
    PyObject *find;          /* owned: find(details) -> grpc.RpcMethodHandler or None */
    PyObject *registered;    /* owned dict: method -> handler; asked first */
    PyTypeObject *contexts;  /* owned: _server.ServicerContext */
    pygo_arrivals *arrivals; /* owned: where an event loop takes the calls; otherwise NULL */
} dispatcher;

/* The attributes of a grpc.RpcMethodHandler, interned when the module is set up. */
static struct {
    PyObject *request_streaming;
    PyObject *response_streaming;
    PyObject *request_deserializer;
    PyObject *response_serializer;
    PyObject *behavior[4]; /* by pygo_arity */
} names;

static const char unreadable_request[] = "Exception deserializing request!";

/* ---- Failures ---- */

/*
 * The exception under way ends the call. It is logged and described by _server.handler_failed, unless
 * it is that of abort(), which has said everything.
 */
static void
fail(ServerCallObject *context, int code, const char *doing)
{
    PyObject *type;
    PyObject *exception;
    PyObject *traceback;
    PyObject *describe;
    PyObject *text = NULL;
    PyObject *encoded = NULL;
    const char *details = doing;

    if (context->aborted) {
        PyErr_Clear();
        pygo_server_call_end(context, NULL, STATUS_UNKNOWN, "");
        return;
    }
    if (context->unreadable) {
        code = STATUS_INTERNAL;
        doing = details = unreadable_request;
    }
    PyErr_Fetch(&type, &exception, &traceback);
    PyErr_NormalizeException(&type, &exception, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(exception, traceback);
    }
    describe = pygo_late_get(PYGO_HANDLER_FAILED);
    if (describe != NULL) {
        text = PyObject_CallFunction(describe, "OOs", (PyObject *)context, exception, doing);
    }
    if (text != NULL && PyUnicode_Check(text)) {
        encoded = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
    }
    if (encoded != NULL) {
        details = PyBytes_AS_STRING(encoded);
    } else {
        PyErr_WriteUnraisable((PyObject *)context);
    }
    /* What the handler has set counts, as with grpcio; but not OK, which it is not. */
    if (context->code != NULL && pygo_status_number(context->code) == STATUS_OK) {
        Py_CLEAR(context->code);
    }
    pygo_server_call_end(context, NULL, code, details);
    Py_XDECREF(encoded);
    Py_XDECREF(text);
    Py_XDECREF(type);
    Py_XDECREF(exception);
    Py_XDECREF(traceback);
}

/* ---- Answering ---- */

/* The one request of a call; NULL if there is none, or with the call ended. */
static PyObject *
receive_one(ServerCallObject *context, PyObject *deserializer)
{
    gp_message *message;
    PyObject *request;

    Py_BEGIN_ALLOW_THREADS
    gp_server_call_receive(context->call, &message, NULL);
    Py_END_ALLOW_THREADS
    if (message == NULL) {
        pygo_server_call_end(context, NULL, STATUS_UNIMPLEMENTED,
                             "the method requires exactly one request message");
        return NULL;
    }
    request = pygo_deserialize(deserializer, message);
    if (request == NULL) {
        fail(context, STATUS_INTERNAL, unreadable_request);
    }
    return request;
}

static void
send_one(ServerCallObject *context, PyObject *serializer, PyObject *response)
{
    PyObject *bytes = pygo_serialize(serializer, response);

    if (bytes == NULL) {
        fail(context, STATUS_INTERNAL, "Failed to serialize response!");
        return;
    }
    pygo_server_call_end(context, bytes, STATUS_OK, "");
    Py_DECREF(bytes);
}

/* Send all that |responses| yields, until the end, an exception, or the loss of the client. */
static void
send_all(ServerCallObject *context, PyObject *serializer, PyObject *responses)
{
    PyObject *iterator = PyObject_GetIter(responses);
    PyObject *response;
    int rc = 0;

    while (iterator != NULL && rc == 0 && (response = PyIter_Next(iterator)) != NULL) {
        PyObject *bytes = pygo_serialize(serializer, response);

        Py_DECREF(response);
        if (bytes == NULL) {
            fail(context, STATUS_INTERNAL, "Failed to serialize response!");
            Py_DECREF(iterator);
            return;
        }
        Py_BEGIN_ALLOW_THREADS
        rc = gp_server_call_send(context->call, pygo_bytes_view(bytes), NULL);
        Py_END_ALLOW_THREADS
        Py_DECREF(bytes);
    }
    if (PyErr_Occurred()) {
        fail(context, STATUS_UNKNOWN, "Exception iterating responses");
    } else if (rc == 0) {
        pygo_server_call_end(context, NULL, STATUS_OK, "");
    }
    Py_XDECREF(iterator);
}

static bool
is_true(PyObject *handler, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(handler, name);
    int truth = value != NULL ? PyObject_IsTrue(value) : 0;

    Py_XDECREF(value);
    return truth > 0;
}

/* Run one handler for one call, whatever its arity. */
static void
serve(ServerCallObject *context, PyObject *handler)
{
    bool streams_in = is_true(handler, names.request_streaming);
    bool streams_out = is_true(handler, names.response_streaming);
    PyObject *behavior = PyObject_GetAttr(handler, names.behavior[2 * streams_in + streams_out]);
    PyObject *deserializer = PyObject_GetAttr(handler, names.request_deserializer);
    PyObject *serializer = PyObject_GetAttr(handler, names.response_serializer);
    PyObject *argument = NULL;
    PyObject *result = NULL;

    if (behavior == NULL || deserializer == NULL || serializer == NULL || PyErr_Occurred()) {
        fail(context, STATUS_UNKNOWN, "The method's handler is unusable");
    } else {
        argument = streams_in ? pygo_request_iterator_new(context, deserializer)
                              : receive_one(context, deserializer);
    }
    if (argument != NULL) {
        PyObject *args[] = {argument, (PyObject *)context};

        result = PyObject_Vectorcall(behavior, args, 2, NULL);
        if (result == NULL) {
            fail(context, STATUS_UNKNOWN, "Exception calling application");
        } else if (streams_out) {
            send_all(context, serializer, result);
        } else {
            send_one(context, serializer, result);
        }
    }
    PyErr_Clear();
    Py_XDECREF(result);
    Py_XDECREF(argument);
    Py_XDECREF(serializer);
    Py_XDECREF(deserializer);
    Py_XDECREF(behavior);
}

/* ---- gp_server_handler ---- */

PyObject *
pygo_handler_details_new(gp_server_call *call)
{
    gp_bytes path = gp_server_call_method(call);
    PyObject *details = PyStructSequence_New(pygo_module_state->handler_details_type);

    if (details != NULL) {
        PyStructSequence_SetItem(details, 0,
                                 PyUnicode_DecodeUTF8(path.data, (Py_ssize_t)path.len, "replace"));
        PyStructSequence_SetItem(details, 1,
                                 pygo_metadata_to_python(gp_server_call_metadata(call)));
        if (PyErr_Occurred()) {
            Py_CLEAR(details);
        }
    }
    return details;
}

static PyObject *
find_handler(dispatcher *self, gp_server_call *call)
{
    gp_bytes path = gp_server_call_method(call);
    PyObject *method = PyUnicode_DecodeUTF8(path.data, (Py_ssize_t)path.len, "replace");
    PyObject *handler;
    PyObject *details;

    if (method == NULL) {
        return NULL;
    }
    handler = PyDict_GetItemWithError(self->registered, method);
    if (handler != NULL || PyErr_Occurred()) {
        Py_DECREF(method);
        return Py_XNewRef(handler);
    }
    Py_DECREF(method);
    details = pygo_handler_details_new(call);
    handler = details != NULL ? PyObject_CallOneArg(self->find, details) : NULL;
    Py_XDECREF(details);
    return handler;
}

static void
end_with(gp_server_call *call, int code, const char *details)
{
    gp_server_call_finish(call, code, (gp_bytes){details, strlen(details)}, (gp_metadata){NULL, 0});
}

static int
begin(void *ctx, gp_server_call *call, void **data)
{
    PyObject *handler;
    int wants_message = -1;

    if (!pygo_gil_enter()) {
        end_with(call, STATUS_UNAVAILABLE, "the server is shutting down");
        return -1;
    }
    handler = find_handler(ctx, call);
    if (handler == NULL) {
        PyErr_WriteUnraisable(((dispatcher *)ctx)->find);
        end_with(call, STATUS_UNKNOWN, "Exception in service handler!");
    } else if (handler == Py_None) {
        Py_DECREF(handler);
    } else {
        *data = handler;
        wants_message = !is_true(handler, names.request_streaming);
        PyErr_Clear();
    }
    pygo_gil_leave();
    return wants_message;
}

static void
run(void *ctx, gp_server_call *call, void *data)
{
    ServerCallObject *context;

    if (!pygo_gil_enter()) {
        end_with(call, STATUS_UNAVAILABLE, "the server is shutting down");
        return;
    }
    context = pygo_server_call_new(((dispatcher *)ctx)->contexts, call);
    if (context == NULL) {
        PyErr_WriteUnraisable(NULL);
        end_with(call, STATUS_UNKNOWN, "out of memory");
    } else {
        serve(context, data);
        Py_DECREF(context);
    }
    Py_DECREF((PyObject *)data);
    pygo_gil_leave();
}

static void
take(void *ctx, gp_server_call *call)
{
    pygo_arrivals_take(((dispatcher *)ctx)->arrivals, call);
}

static void
thread_exit(void *ctx)
{
    (void)ctx;
    pygo_gil_thread_exit();
}

/* The last reference to the server may go on any thread, with or without the GIL. */
static void
release(void *ctx)
{
    dispatcher *self = ctx;

    if (pygo_gil_is_open()) {
        PyGILState_STATE gil = PyGILState_Ensure();

        Py_DECREF(self->find);
        Py_DECREF(self->registered);
        Py_DECREF(self->contexts);
        pygo_arrivals_free(self->arrivals);
        PyGILState_Release(gil);
    }
    PyMem_RawFree(self);
}

/* ---- The type ---- */

static dispatcher *
dispatcher_new(PyObject *find, PyObject *registered, PyObject *contexts)
{
    dispatcher *self;

    if (!PyType_Check(contexts) ||
        !PyType_IsSubtype((PyTypeObject *)contexts, pygo_module_state->server_call_type)) {
        PyErr_Format(PyExc_TypeError, "contexts must be a subclass of ServerCall, not %R",
                     contexts);
        return NULL;
    }
    self = PyMem_RawMalloc(sizeof(*self));
    if (self == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    self->find = Py_NewRef(find);
    self->registered = Py_NewRef(registered);
    self->contexts = (PyTypeObject *)Py_NewRef(contexts);
    self->arrivals = NULL;
    return self;
}

static PyObject *
server_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *argument_names[] = {"find",           "registered", "contexts", "max_workers",
                                     "max_concurrent", "options",    "general",  "arrived",
                                     "async_contexts", NULL};
    gp_error err = GP_ERROR_INIT;
    gp_server_options options = {
        .handler = {.begin = begin, .run = run, .thread_exit = thread_exit, .release = release},
    };
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
    int rc;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!O|$iiOpOO:Server", argument_names, &find,
                                     &PyDict_Type, &registered, &contexts, &options.max_workers,
                                     &options.max_concurrent, &given, &general, &arrived,
                                     &async_contexts) ||
        pygo_check_forked() < 0) {
        return NULL;
    }
    if (arrived != Py_None) {
        arrivals = pygo_arrivals_new(arrived, async_contexts);
        if (arrivals == NULL) {
            return NULL;
        }
        options.handler.take = take;
    }
    if (pygo_options_from_python(&converted, given) < 0) {
        pygo_arrivals_free(arrivals);
        return NULL;
    }
    options.args = converted.args;
    options.args_count = converted.count;
    options.general = general != 0;
    options.handler_ctx = dispatcher_new(find, registered, contexts);
    if (options.handler_ctx != NULL) {
        ((dispatcher *)options.handler_ctx)->arrivals = arrivals;
    } else {
        pygo_arrivals_free(arrivals);
    }
    self = options.handler_ctx != NULL ? (ServerObject *)type->tp_alloc(type, 0) : NULL;
    if (self != NULL) {
        Py_BEGIN_ALLOW_THREADS
        rc = gp_server_new(&self->server, &options, &err);
        Py_END_ALLOW_THREADS
        if (rc < 0) {
            self->server = NULL;
            Py_CLEAR(self);
            pygo_raise(&err, NULL);
        } else {
            self->arrivals = arrivals;
            self->next = all_servers;
            all_servers = self;
        }
    }
    if (self == NULL && options.handler_ctx != NULL) {
        release(options.handler_ctx);
    }
    pygo_options_release(&converted);
    return (PyObject *)self;
}

static void
server_dealloc(ServerObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    ServerObject **link;

    for (link = &all_servers; *link != NULL && *link != self; link = &(*link)->next) {
    }
    if (*link == self) {
        *link = self->next;
    }

    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    if (self->server != NULL) {
        Py_BEGIN_ALLOW_THREADS
        gp_server_release(self->server);
        Py_END_ALLOW_THREADS
    }
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

    if (!PyArg_ParseTuple(args, "s|O:listen", &text, &given) ||
        pygo_server_credentials(&credentials, given) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_server_listen_secure(self->server, text, credentials, &port, &err);
    Py_END_ALLOW_THREADS
    return rc < 0 ? pygo_raise(&err, NULL) : PyLong_FromLong(port);
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
server_on_stopped(ServerObject *self, PyObject *args)
{
    PyObject *loop_queue;
    PyObject *future;
    gp_queue *queue;
    void *promise;

    if (!PyArg_ParseTuple(args, "OO:on_stopped", &loop_queue, &future)) {
        return NULL;
    }
    queue = pygo_queue_of(loop_queue);
    promise = queue != NULL ? pygo_promise_new(queue, future) : NULL;
    if (promise == NULL) {
        return NULL;
    }
    gp_server_on_stopped(self->server, pygo_promise_post, promise);
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
    int64_t grace_ns;

    if (pygo_timeout_ns(&grace_ns, grace) < 0) {
        return NULL;
    }
    /* In grpcio's words None means at once. */
    Py_BEGIN_ALLOW_THREADS
    gp_server_stop(self->server, grace == Py_None ? 0 : grace_ns < 0 ? -1 : grace_ns / 1000000);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

typedef int wait_function(gp_server *, int64_t, const gp_interrupt *);

static PyObject *
server_wait_for(ServerObject *self, PyObject *timeout, wait_function *wait)
{
    const gp_interrupt *interrupt = pygo_interrupt();
    int64_t timeout_ns;
    int rc;

    if (pygo_check_forked() < 0 || pygo_timeout_ns(&timeout_ns, timeout) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = wait(self->server, timeout_ns < 0 ? -1 : timeout_ns / 1000000, interrupt);
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

void
pygo_servers_shutdown(void)
{
    enum { PATIENCE_MS = 1000 };
    PyObject *servers = PyList_New(0);

    for (ServerObject *server = all_servers; servers != NULL && server != NULL;
         server = server->next) {
        PyList_Append(servers, (PyObject *)server);
    }
    PyErr_Clear();
    for (Py_ssize_t i = 0; servers != NULL && i < PyList_GET_SIZE(servers); i++) {
        gp_server *server = ((ServerObject *)PyList_GET_ITEM(servers, i))->server;

        /* A handler that does not come back is left behind: it must not keep the process. */
        Py_BEGIN_ALLOW_THREADS
        gp_server_stop(server, 0);
        gp_server_join(server, PATIENCE_MS, NULL);
        Py_END_ALLOW_THREADS
    }
    Py_XDECREF(servers);
}

static PyMethodDef methods[] = {
    {"listen", (PyCFunction)server_listen, METH_VARARGS,
     "listen($self, address, credentials=None, /)\n--\n\nListen on unix:/path or host:port: the "
     "port. Raises OSError."},
    {"add_plugin_services", (PyCFunction)server_add_plugin_services, METH_VARARGS,
     "add_plugin_services($self, name, grace, /)\n--\n\n"
     "Health for name, and the controller; its Shutdown gives running calls grace seconds."},
    {"on_stopped", (PyCFunction)server_on_stopped, METH_VARARGS,
     "on_stopped($self, queue, future, /)\n--\n\nResolve the future when the server has stopped. "
     "Before the start, once."},
    {"start", (PyCFunction)server_start, METH_VARARGS,
     "start($self, queue=None, /)\n--\n\nServe; a server with arrived takes the loop's queue. "
     "Never "
     "blocks."},
    {"stop", (PyCFunction)server_stop, METH_O,
     "stop($self, grace, /)\n--\n\nStop; cancel what runs after grace seconds, None: now. Never "
     "blocks."},
    {"wait", (PyCFunction)server_wait, METH_O,
     "wait($self, timeout, /)\n--\n\nWhether it has stopped within timeout seconds. None: no "
     "limit."},
    {"join", (PyCFunction)server_join, METH_O,
     "join($self, timeout, /)\n--\n\nWhether its threads have ended within timeout seconds."},
    {"stopping", (PyCFunction)server_stopping, METH_NOARGS,
     "stopping($self)\n--\n\nWhether stop() has been called, by us or by the host's Shutdown."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(ServerObject, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, server_new},
    {Py_tp_dealloc, server_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_doc, "Server(find, registered, contexts, *, max_workers=1, max_concurrent=0, "
                "options=(), general=False, arrived=None, async_contexts=None)\n--\n\nA gRPC "
                "server. See _server.Server."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.Server",
    .basicsize = sizeof(ServerObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

static int
intern_names(void)
{
    names.request_streaming = PyUnicode_InternFromString("request_streaming");
    names.response_streaming = PyUnicode_InternFromString("response_streaming");
    names.request_deserializer = PyUnicode_InternFromString("request_deserializer");
    names.response_serializer = PyUnicode_InternFromString("response_serializer");
    names.behavior[PYGO_UNARY_UNARY] = PyUnicode_InternFromString("unary_unary");
    names.behavior[PYGO_UNARY_STREAM] = PyUnicode_InternFromString("unary_stream");
    names.behavior[PYGO_STREAM_UNARY] = PyUnicode_InternFromString("stream_unary");
    names.behavior[PYGO_STREAM_STREAM] = PyUnicode_InternFromString("stream_stream");
    return PyErr_Occurred() ? -1 : 0;
}

int
pygo_server_setup(PyObject *module, pygo_state *state)
{
    static PyStructSequence_Field fields[] = {
        {"method", "'/package.Service/Method'"},
        {"invocation_metadata", "the client's metadata"},
        {NULL, NULL},
    };
    static PyStructSequence_Desc description = {"pygo_plugin._core.HandlerCallDetails",
                                                "What a call asks for.", fields, 2};

    state->handler_details_type = PyStructSequence_NewType(&description);
    state->server_type = pygo_add_type(module, &spec);
    if (state->handler_details_type == NULL || state->server_type == NULL) {
        return -1;
    }
    Py_INCREF(state->handler_details_type);
    if (PyModule_AddObject(module, "HandlerCallDetails", (PyObject *)state->handler_details_type) <
        0) {
        return -1;
    }
    return intern_names();
}
