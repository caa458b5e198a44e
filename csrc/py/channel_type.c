#include "py/channel.h"

#include <string.h>

#include "py/arg_object.h"
#include "py/call.h"
#include "py/convert.h"
#include "py/credentials.h"
#include "py/errors.h"
#include "py/gil.h"
#include "py/operation.h"

/* The base of the package's Channel, which adds the methods that need no speed. */
typedef struct ChannelObject {
    PyObject_HEAD
    gp_channel *channel; /* owned */
    PyObject *weakrefs;
    PyObject *options; /* owned: what gRPC may have pointers to; NULL: nothing */
    gp_list calls;     /* of asyncio programs, newest first: see pygo_async_call_of_channel() */
} ChannelObject;

static ChannelObject *
new_channel(PyTypeObject *type)
{
    ChannelObject *self = (ChannelObject *)type->tp_alloc(type, 0);

    if (self != NULL) {
        gp_list_init(&self->calls);
    }
    return self;
}

void
pygo_channel_add_call(PyObject *channel, gp_link *link)
{
    gp_list_prepend(&((ChannelObject *)channel)->calls, link);
}

static PyObject *
channel_async_calls(ChannelObject *self, PyObject *Py_UNUSED(ignored))
{
    gp_link *link = gp_list_first(&self->calls);
    PyObject *all = PyList_New(0);

    while (all != NULL && link != NULL) {
        PyObject *call = pygo_async_call_of_channel(link);

        link = gp_list_next(&self->calls, link);
        if (call != NULL && PyList_Append(all, call) < 0) {
            Py_CLEAR(all);
        }
        Py_XDECREF(call); /* not the last reference, which would change the list */
    }
    return all;
}

/* The text of a str (as UTF-8) or bytes, borrowed; NULL without an exception if it is neither. */
static const char *
text_of(PyObject *object)
{
    if (PyBytes_Check(object)) {
        return PyBytes_AS_STRING(object);
    }
    return PyUnicode_Check(object) ? PyUnicode_AsUTF8(object) : NULL;
}

/* Whether gRPC takes the option for a pointer and would follow it. */
static bool
is_followed(const char *key)
{
    static const char *const keys[] = {
        "grpc.resource_quota",
        "grpc.ssl_session_cache",
        "grpc.socket_mutator",
        "grpc.socket_factory",
        "grpc.authorization_policy_provider",
    };

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (strcmp(keys[i], key) == 0) {
            return true;
        }
    }
    return false;
}

/* As with grpcio, __int__ of an object of another type gives the address of a gRPC object. */
static int
convert_address(gp_channel_arg *out, PyObject *value)
{
    bool foreign = strncmp(Py_TYPE(value)->tp_name, "grpc.", 5) == 0;
    PyObject *number;

    if (foreign || (PyFloat_Check(value) && is_followed(out->key))) {
        PyErr_Format(PyExc_TypeError,
                     "the channel option %s cannot be %R%s: make it with "
                     "pygo_plugin.rpc.MemoryQuota or pygo_plugin.rpc.SSLSessionCacheLRU",
                     out->key, value,
                     foreign ? ", which belongs to the gRPC core inside grpcio" : "");
        return -1;
    }
    if (Py_TYPE(value)->tp_as_number == NULL || Py_TYPE(value)->tp_as_number->nb_int == NULL) {
        PyErr_Format(PyExc_TypeError,
                     "the channel option %s must be str, bytes, int, or an object whose __int__ "
                     "gives the address of a gRPC object, not %.100s",
                     out->key, Py_TYPE(value)->tp_name);
        return -1;
    }
    number = PyNumber_Long(value);
    out->address = number != NULL ? PyLong_AsVoidPtr(number) : NULL;
    out->is_address = true;
    Py_XDECREF(number);
    return PyErr_Occurred() ? -1 : 0;
}

/* |out| borrows from |pair|, a tuple. Returns 0, or -1 with an exception. */
static int
convert_option(gp_channel_arg *out, PyObject *pair)
{
    PyObject *value;

    out->key = PyTuple_GET_SIZE(pair) == 2 ? text_of(PyTuple_GET_ITEM(pair, 0)) : NULL;
    if (out->key == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_TypeError, "channel options must be (name, value) pairs, not %R",
                         pair);
        }
        return -1;
    }
    value = PyTuple_GET_ITEM(pair, 1);
    if (PyUnicode_Check(value) || PyBytes_Check(value)) {
        out->string = text_of(value);
        return out->string != NULL ? 0 : -1;
    }
    if (PyLong_Check(value)) {
        int overflow;
        long number = PyLong_AsLongAndOverflow(value, &overflow);

        if (overflow != 0 || number < INT_MIN || number > INT_MAX) {
            PyErr_Format(PyExc_ValueError, "the channel option %s must fit into 32 bits, not %R",
                         out->key, value);
            return -1;
        }
        out->integer = (int)number;
        return 0;
    }
    out->object = pygo_arg_object(value);
    return out->object != NULL ? 0 : convert_address(out, value);
}

/* The options as a new tuple of tuples, which cannot change. NULL with an exception. */
static PyObject *
tuple_of_pairs(PyObject *options)
{
    PyObject *list = PySequence_List(options);
    PyObject *pairs;

    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list); i++) {
        PyObject *item = PyList_GET_ITEM(list, i);
        PyObject *pair = PyUnicode_Check(item) ? NULL : PySequence_Tuple(item);

        if (pair == NULL) {
            PyErr_Format(PyExc_TypeError, "channel options must be (name, value) pairs, not %R",
                         item);
            Py_CLEAR(list);
        } else {
            PyList_SetItem(list, i, pair);
        }
    }
    pairs = list != NULL ? PyList_AsTuple(list) : NULL;
    Py_XDECREF(list);
    return pairs;
}

int
pygo_options_from_python(pygo_options *out, PyObject *options)
{
    *out = (pygo_options){NULL, 0, NULL};
    if (options == NULL || options == Py_None) {
        return 0;
    }
    out->owner = tuple_of_pairs(options);
    if (out->owner == NULL) {
        return -1;
    }
    out->count = (size_t)PyTuple_GET_SIZE(out->owner);
    out->args = PyMem_Calloc(out->count + 1, sizeof(*out->args));
    if (out->args == NULL) {
        PyErr_NoMemory();
        pygo_options_release(out);
        return -1;
    }
    for (size_t i = 0; i < out->count; i++) {
        if (convert_option(&out->args[i], PyTuple_GET_ITEM(out->owner, (Py_ssize_t)i)) < 0) {
            pygo_options_release(out);
            return -1;
        }
    }
    return 0;
}

int
pygo_options_copy(gp_channel_args **out, PyObject **keep, PyObject *options)
{
    gp_error err = GP_ERROR_INIT;
    pygo_options converted;
    int rc;

    *out = NULL;
    *keep = NULL;
    if (pygo_options_from_python(&converted, options) < 0) {
        return -1;
    }
    if (converted.count == 0) {
        pygo_options_release(&converted);
        return 0;
    }
    rc = gp_channel_args_new(out, converted.args, converted.count, &err);
    if (rc < 0) {
        pygo_raise(&err, NULL);
    } else {
        *keep = Py_NewRef(converted.owner);
    }
    pygo_options_release(&converted);
    return rc < 0 ? -1 : 0;
}

void
pygo_options_release(pygo_options *options)
{
    PyMem_Free(options->args);
    Py_CLEAR(options->owner);
    options->args = NULL;
    options->count = 0;
}

PyObject *
pygo_channel_wrap(gp_channel *channel)
{
    PyTypeObject *type = (PyTypeObject *)pygo_provided(PYGO_CHANNEL);
    ChannelObject *self = type != NULL ? new_channel(type) : NULL;

    if (self == NULL) {
        gp_channel_unref(channel);
        return NULL;
    }
    self->channel = channel;
    return (PyObject *)self;
}

static PyObject *
channel_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"target", "options", "credentials", "general", "agent", NULL};
    const gp_channel_credentials *secure;
    gp_error err = GP_ERROR_INIT;
    const char *target;
    PyObject *given = NULL;
    PyObject *credentials = Py_None;
    const char *agent = NULL;
    int general = 0;
    pygo_options options;
    ChannelObject *self;
    int rc;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|OO$pz:Channel", names, &target, &given,
                                     &credentials, &general, &agent) ||
        pygo_check_forked() < 0 || pygo_channel_credentials(&secure, credentials) < 0 ||
        pygo_options_from_python(&options, given) < 0) {
        return NULL;
    }
    self = new_channel(type);
    if (self != NULL) {
        gp_channel_options wanted = {options.args, options.count, agent, secure, general != 0};

        self->options = Py_XNewRef(options.owner);
        Py_BEGIN_ALLOW_THREADS
        rc = gp_channel_open(&self->channel, target, &wanted, &err);
        Py_END_ALLOW_THREADS
        if (rc < 0) {
            self->channel = NULL;
            Py_CLEAR(self);
            pygo_raise(&err, NULL);
        }
    }
    pygo_options_release(&options);
    return (PyObject *)self;
}

static void
channel_dealloc(ChannelObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    if (self->channel != NULL) {
        Py_BEGIN_ALLOW_THREADS
        gp_channel_unref(self->channel);
        Py_END_ALLOW_THREADS
    }
    Py_XDECREF(self->options);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
make_multicallable(ChannelObject *self, pygo_arity arity, PyObject *args, PyObject *kwargs)
{
    /* Newer generated code passes _registered_method, which makes no difference here. */
    static char *names[] = {"method", "request_serializer", "response_deserializer",
                            "_registered_method", NULL};
    PyObject *method;
    PyObject *serializer = Py_None;
    PyObject *deserializer = Py_None;
    PyObject *registered = Py_False;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOO", names, &method, &serializer,
                                     &deserializer, &registered)) {
        return NULL;
    }
    return pygo_multicallable_new(arity, (PyObject *)self, self->channel, method, serializer,
                                  deserializer);
}

static PyObject *
channel_unary_unary(ChannelObject *self, PyObject *args, PyObject *kwargs)
{
    return make_multicallable(self, PYGO_UNARY_UNARY, args, kwargs);
}

static PyObject *
channel_unary_stream(ChannelObject *self, PyObject *args, PyObject *kwargs)
{
    return make_multicallable(self, PYGO_UNARY_STREAM, args, kwargs);
}

static PyObject *
channel_stream_unary(ChannelObject *self, PyObject *args, PyObject *kwargs)
{
    return make_multicallable(self, PYGO_STREAM_UNARY, args, kwargs);
}

static PyObject *
channel_stream_stream(ChannelObject *self, PyObject *args, PyObject *kwargs)
{
    return make_multicallable(self, PYGO_STREAM_STREAM, args, kwargs);
}

static PyObject *
channel_close(ChannelObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_ALLOW_THREADS
    gp_channel_close(self->channel);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
channel_disconnect(ChannelObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_ALLOW_THREADS
    gp_channel_disconnect(self->channel);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
channel_state(ChannelObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"connect", NULL};
    int connect = 0;
    int state;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|p:state", names, &connect)) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    state = gp_channel_state(self->channel, connect != 0);
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(state);
}

static PyObject *
channel_wait_state(ChannelObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"last", "timeout", NULL};
    const gp_interrupt *interrupt = pygo_call_interrupt();
    PyObject *timeout = NULL;
    int64_t timeout_ns;
    int last;
    int state;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|O:wait_state", names, &last, &timeout) ||
        pygo_check_forked() < 0 || pygo_timeout_ns(&timeout_ns, timeout) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    state = gp_channel_wait_state(self->channel, last,
                                  timeout_ns < 0 ? -1 : (timeout_ns + 999999) / 1000000, interrupt);
    Py_END_ALLOW_THREADS
    if (state == GP_EUSER) {
        return NULL;
    }
    if (state == GP_ENOMEM) {
        return PyErr_NoMemory();
    }
    return PyLong_FromLong(state == GP_ETIMEOUT ? last : state);
}

static PyObject *
channel_watch_state(ChannelObject *self, PyObject *args)
{
    PyObject *loop_queue;
    PyObject *future;
    gp_queue *queue;
    pygo_operation *op;
    int last;
    int rc;

    if (!PyArg_ParseTuple(args, "iOO:_watch_state", &last, &loop_queue, &future) ||
        pygo_check_forked() < 0 || (queue = pygo_queue_of(loop_queue)) == NULL) {
        return NULL;
    }
    op = pygo_operation_new(queue, future, pygo_operation_resolve, NULL, NULL);
    if (op == NULL) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_channel_watch_state(self->channel, last, -1, pygo_operation_finished, op);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        pygo_operation_free(op);
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

#define MAKER_DOC                                                           \
    "($self, method, request_serializer=None, response_deserializer=None, " \
    "_registered_method=False)\n"                                           \
    "--\n\n"

static PyMethodDef methods[] = {
    {"unary_unary", (PyCFunction)(void (*)(void))channel_unary_unary, METH_VARARGS | METH_KEYWORDS,
     "unary_unary" MAKER_DOC "A callable: one request, one reply."},
    {"unary_stream", (PyCFunction)(void (*)(void))channel_unary_stream,
     METH_VARARGS | METH_KEYWORDS,
     "unary_stream" MAKER_DOC "A callable: one request, a stream of replies."},
    {"stream_unary", (PyCFunction)(void (*)(void))channel_stream_unary,
     METH_VARARGS | METH_KEYWORDS,
     "stream_unary" MAKER_DOC "A callable: a stream of requests, one reply."},
    {"stream_stream", (PyCFunction)(void (*)(void))channel_stream_stream,
     METH_VARARGS | METH_KEYWORDS, "stream_stream" MAKER_DOC "A callable: streams both ways."},
    {"close", (PyCFunction)channel_close, METH_NOARGS,
     "close($self)\n--\n\nCancel this channel's calls and refuse new ones. Idempotent."},
    {"state", (PyCFunction)(void (*)(void))channel_state, METH_VARARGS | METH_KEYWORDS,
     "state($self, connect=False)\n--\n\nThe connectivity state as a number: 0 idle, 1 connecting, "
     "2 ready, 3 transient failure, 4 shut down. With connect, an idle channel connects."},
    {"wait_state", (PyCFunction)(void (*)(void))channel_wait_state, METH_VARARGS | METH_KEYWORDS,
     "wait_state($self, last, timeout=None)\n--\n\nWait up to timeout seconds for another state "
     "than last. Returns: the state."},
    {"_disconnect", (PyCFunction)channel_disconnect, METH_NOARGS,
     "_disconnect($self)\n--\n\nEnd this channel's calls, and later ones, as if the peer had ended "
     "the connection. Idempotent."},
    {"_async_calls", (PyCFunction)channel_async_calls, METH_NOARGS,
     "_async_calls($self)\n--\n\nA list of the calls of asyncio programs that are still "
     "referenced."},
    {"_watch_state", (PyCFunction)channel_watch_state, METH_VARARGS,
     "_watch_state($self, last, queue, future, /)\n--\n\nResolve the future when the state is "
     "another than last."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(ChannelObject, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, channel_new},
    {Py_tp_dealloc, channel_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_doc,
     "Channel(target, options=(), credentials=None, *, general=False, agent=None)\n--\n\nA "
     "connection to one gRPC server. With general it has gRPC's own defaults, not those for "
     "plugins. Its user agent begins with agent; None: grpc-python."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.Channel",
    .basicsize = sizeof(ChannelObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = slots,
};

int
pygo_channel_setup(PyObject *module, pygo_state *Py_UNUSED(state))
{
    return pygo_export_type(module, &spec);
}
