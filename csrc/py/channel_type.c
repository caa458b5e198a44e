#include "py/channel.h"

#include "py/call.h"
#include "py/credentials.h"
#include "py/errors.h"
#include "py/gil.h"
#include "py/operation.h"

/* The base of _channel.Channel, which adds what costs nothing to have in Python. */
typedef struct ChannelObject {
    PyObject_HEAD
    gp_channel *channel; /* owned */
    PyObject *weakrefs;
    pygo_loop_member calls; /* head of the ring of asyncio's calls; zero until the first */
} ChannelObject;

void
pygo_channel_enter(PyObject *channel, pygo_loop_member *member)
{
    pygo_loop_member *head = &((ChannelObject *)channel)->calls;

    if (head->next == NULL) {
        head->next = head->prev = head;
    }
    pygo_ring_join(head, member);
}

static PyObject *
channel_async_calls(ChannelObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *all = PyList_New(0);
    pygo_loop_member *member = self->calls.next;

    while (all != NULL && member != NULL && member != &self->calls) {
        PyObject *call = pygo_async_call_of_channel(member);

        member = member->next;
        if (call != NULL && PyList_Append(all, call) < 0) {
            Py_CLEAR(all);
        }
        Py_XDECREF(call); /* not the last reference, which would change the ring */
    }
    return all;
}

static int
convert_option(gp_channel_arg *out, PyObject *pair)
{
    PyObject *value;

    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2 ||
        !PyUnicode_Check(PyTuple_GET_ITEM(pair, 0))) {
        PyErr_Format(PyExc_TypeError, "channel options must be (name, value) tuples, not %R", pair);
        return -1;
    }
    out->key = PyUnicode_AsUTF8(PyTuple_GET_ITEM(pair, 0));
    if (out->key == NULL) {
        return -1;
    }
    value = PyTuple_GET_ITEM(pair, 1);
    if (PyUnicode_Check(value)) {
        out->string = PyUnicode_AsUTF8(value);
        return out->string != NULL ? 0 : -1;
    }
    if (PyBytes_Check(value)) {
        out->string = PyBytes_AS_STRING(value);
        return 0;
    }
    if (PyLong_Check(value)) {
        long number = PyLong_AsLong(value);

        if ((number == -1 && PyErr_Occurred()) || number < INT_MIN || number > INT_MAX) {
            PyErr_Format(PyExc_ValueError, "the channel option %s must fit into 32 bits, not %R",
                         out->key, value);
            return -1;
        }
        out->integer = (int)number;
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "the channel option %s must be str or int, not %.100s", out->key,
                 Py_TYPE(value)->tp_name);
    return -1;
}

int
pygo_options_from_python(pygo_options *out, PyObject *options)
{
    *out = (pygo_options){NULL, 0, NULL};
    if (options == NULL || options == Py_None) {
        return 0;
    }
    out->owner = PySequence_Tuple(options);
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
    PyTypeObject *type = (PyTypeObject *)pygo_late_get(PYGO_CHANNEL);
    ChannelObject *self = type != NULL ? (ChannelObject *)type->tp_alloc(type, 0) : NULL;

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
    static char *names[] = {"target", "options", "credentials", "general", NULL};
    const gp_channel_credentials *secure;
    gp_error err = GP_ERROR_INIT;
    const char *target;
    PyObject *given = NULL;
    PyObject *credentials = Py_None;
    int general = 0;
    pygo_options options;
    ChannelObject *self;
    int rc;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|OO$p:Channel", names, &target, &given,
                                     &credentials, &general) ||
        pygo_check_forked() < 0 || pygo_channel_credentials(&secure, credentials) < 0 ||
        pygo_options_from_python(&options, given) < 0) {
        return NULL;
    }
    self = (ChannelObject *)type->tp_alloc(type, 0);
    if (self != NULL) {
        gp_channel_options wanted = {options.args, options.count, secure, general != 0};

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
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
make_multicallable(ChannelObject *self, pygo_arity arity, PyObject *args, PyObject *kwargs)
{
    /* Newer generated code says that it registers its methods. That gains nothing here. */
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
    const gp_interrupt *interrupt = pygo_interrupt();
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
    pygo_operation *told;
    int last;
    int rc;

    if (!PyArg_ParseTuple(args, "iOO:_watch_state", &last, &loop_queue, &future) ||
        pygo_check_forked() < 0 || (queue = pygo_queue_of(loop_queue)) == NULL) {
        return NULL;
    }
    told = pygo_operation_new(queue, future, pygo_operation_resolve, NULL, NULL);
    if (told == NULL) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_channel_watch_state(self->channel, last, -1, pygo_operation_then, told);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        pygo_operation_free(told);
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
     "state($self, connect=False)\n--\n\nThe connectivity state as a number (0 idle, 1 connecting, "
     "2 "
     "ready, "
     "3 transient failure, 4 shut down); connect leaves idle."},
    {"wait_state", (PyCFunction)(void (*)(void))channel_wait_state, METH_VARARGS | METH_KEYWORDS,
     "wait_state($self, last, timeout=None)\n--\n\nWait for another state than last, or timeout "
     "seconds: "
     "the state."},
    {"_async_calls", (PyCFunction)channel_async_calls, METH_NOARGS,
     "_async_calls($self)\n--\n\nThe calls of asyncio programs that somebody still holds."},
    {"_watch_state", (PyCFunction)channel_watch_state, METH_VARARGS,
     "_watch_state($self, last, queue, future, /)\n--\n\nResolve the future when the state is "
     "another "
     "than last."},
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
     "Channel(target, options=(), credentials=None, *, general=False)\n--\n\nA connection "
     "to one gRPC server; general: with gRPC's own defaults, not a plugin's."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.Channel",
    .basicsize = sizeof(ChannelObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = slots,
};

int
pygo_channel_setup(PyObject *module, pygo_state *state)
{
    state->channel_type = pygo_add_type(module, &spec);
    return state->channel_type != NULL ? 0 : -1;
}
