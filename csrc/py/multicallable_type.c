#include "py/channel.h"

#include "gp/call.h"
#include "py/call.h"
#include "py/convert.h"
#include "py/credentials.h"
#include "py/errors.h"
#include "py/message.h"
#include "py/metadata.h"

/* One method of one channel, to be called. Shared by four types, one for each arity. */
typedef struct MultiCallableObject {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    bool streams_in;
    bool streams_out;
    PyObject *channel;      /* owned: keeps |connection| alive */
    gp_channel *connection; /* borrowed from |channel| */
    PyObject *method;       /* owned bytes */
    PyObject *serializer;   /* owned */
    PyObject *deserializer; /* owned */
    PyObject *dict;         /* owned; NULL until it is given attributes */
} MultiCallableObject;

/* The arguments of one call. All borrowed. */
typedef struct call_args {
    PyObject *request; /* or the iterable of requests */
    PyObject *timeout;
    PyObject *metadata;
    PyObject *credentials;
    PyObject *wait_for_ready;
    PyObject *compression;
} call_args;

enum { MAX_ARGS = sizeof(call_args) / sizeof(PyObject *) };

static const char *const arg_names[MAX_ARGS] = {
    "request", "timeout", "metadata", "credentials", "wait_for_ready", "compression",
};

/* The place of an argument in call_args; -1: there is none of that name. */
static int
place_of(PyObject *name)
{
    for (int i = 0; i < MAX_ARGS; i++) {
        if (PyUnicode_CompareWithASCIIString(name, arg_names[i]) == 0) {
            return i;
        }
    }
    return PyUnicode_CompareWithASCIIString(name, "request_iterator") == 0 ? 0 : -1;
}

static int
parse_args(call_args *out, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    PyObject *places[MAX_ARGS] = {NULL};
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    Py_ssize_t nkw = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;

    if (nargs > MAX_ARGS) {
        PyErr_Format(PyExc_TypeError, "a call takes at most %d arguments (%zd given)", MAX_ARGS,
                     nargs);
        return -1;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        places[i] = args[i];
    }
    for (Py_ssize_t i = 0; i < nkw; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        int place = place_of(name);

        if (place < 0 || places[place] != NULL) {
            PyErr_Format(PyExc_TypeError,
                         place < 0 ? "a call has no argument %R" : "a call got two values for %R",
                         name);
            return -1;
        }
        places[place] = args[nargs + i];
    }
    if (places[0] == NULL) {
        PyErr_SetString(PyExc_TypeError, "a call needs its request");
        return -1;
    }
    *out = (call_args){places[0], places[1], places[2], places[3], places[4], places[5]};
    return 0;
}

static bool
is_given(PyObject *arg)
{
    return arg != NULL && arg != Py_None;
}

/*
 * Convert all arguments but the request. |out| points into |metadata|, which the caller releases.
 * Returns 0, or -1 with an exception and nothing to release.
 */
static int
make_options(gp_call_options *out, pygo_metadata *metadata, const MultiCallableObject *self,
             const call_args *args)
{
    *metadata = (pygo_metadata)PYGO_METADATA_INIT;
    *out = (gp_call_options){.method = pygo_bytes_view(self->method),
                             .timeout_ns = -1,
                             .compression = GP_COMPRESS_DEFAULT};
    if (pygo_check_forked() < 0 || pygo_timeout_ns(&out->timeout_ns, args->timeout) < 0) {
        return -1;
    }
    if (is_given(args->credentials)) {
        if (!gp_channel_secure(self->connection)) {
            PyErr_SetString(PyExc_ValueError,
                            "call credentials need a connection with TLS, and this channel has "
                            "none: leave credentials out");
            return -1;
        }
        if (pygo_call_credentials(&out->credentials, args->credentials) < 0) {
            return -1;
        }
    }
    if (is_given(args->wait_for_ready)) {
        int truth = PyObject_IsTrue(args->wait_for_ready);

        if (truth < 0) {
            return -1;
        }
        out->flags = truth ? GP_CALL_WAIT_FOR_READY : GP_CALL_NO_WAIT_FOR_READY;
    }
    if (is_given(args->compression) && pygo_compression(&out->compression, args->compression) < 0) {
        return -1;
    }
    if (is_given(args->metadata)) {
        if (pygo_metadata_from_python(metadata, args->metadata) < 0) {
            return -1;
        }
        out->metadata = metadata->view;
    }
    return 0;
}

/*
 * Start a call and send its request, but none of a stream of requests. NULL with an exception.
 */
static gp_call *
start_call(const MultiCallableObject *self, const call_args *args, unsigned flags,
           bool asynchronous)
{
    bool stream = self->streams_in || self->streams_out;
    gp_error err = GP_ERROR_INIT;
    gp_call_options options;
    pygo_metadata metadata;
    PyObject *request = NULL;
    gp_call *call = NULL;
    gp_bytes bytes;
    int rc;

    if (make_options(&options, &metadata, self, args) < 0) {
        return NULL;
    }
    options.flags |= flags | (self->streams_in && !self->streams_out ? GP_CALL_ONE_REPLY : 0);
    if (!self->streams_in) {
        request =
            pygo_serialize_request(self->serializer, args->request, options.method, asynchronous);
        if (request == NULL) {
            pygo_metadata_release(&metadata);
            return NULL;
        }
        bytes = pygo_bytes_view(request);
    }
    Py_BEGIN_ALLOW_THREADS
    rc = stream ? gp_call_start_stream(&call, self->connection, &options,
                                       request != NULL ? &bytes : NULL, &err)
                : gp_call_start_unary(&call, self->connection, &options, bytes, &err);
    Py_END_ALLOW_THREADS
    Py_XDECREF(request);
    pygo_metadata_release(&metadata);
    if (rc < 0) {
        pygo_raise(&err, NULL);
        return NULL;
    }
    return call;
}

/*
 * Start a call with the arguments of a blocking one. A stream of requests is sent by a thread of
 * its own, which takes them from an iterator. NULL with an exception.
 */
static gp_call *
start_blocking(const MultiCallableObject *self, PyObject *const *args, size_t nargsf,
               PyObject *kwnames, unsigned flags)
{
    PyObject *requests;
    call_args parsed;
    gp_call *call;

    if (parse_args(&parsed, args, nargsf, kwnames) < 0) {
        return NULL;
    }
    if (!self->streams_in) {
        return start_call(self, &parsed, flags, false);
    }
    requests = PyObject_GetIter(parsed.request);
    call = requests != NULL ? start_call(self, &parsed, flags, false) : NULL;
    if (call != NULL && pygo_call_feed(call, self->serializer, requests) < 0) {
        gp_call_unref(call);
        call = NULL;
    }
    Py_XDECREF(requests);
    return call;
}

/*
 * Wait for the one reply of a call. If the call has ended with OK and without a reply, that is
 * None, as for futures and with asyncio. |call|'s reference is taken over; on success |*kept| gets
 * it, if |kept| is not NULL.
 */
static PyObject *
wait_for_reply(MultiCallableObject *self, gp_call *call, gp_call **kept)
{
    gp_message *message = NULL;
    PyObject *reply;

    if (pygo_call_wait(call, -1) < 0) {
        gp_call_unref(call);
        return NULL;
    }
    if (gp_call_get_status(call)->code != 0) {
        return pygo_call_raise(call, self->method, self->deserializer);
    }
    message = gp_call_take_reply(call);
    reply = message != NULL ? pygo_deserialize(self->deserializer, message) : Py_NewRef(Py_None);
    if (kept != NULL && reply != NULL) {
        *kept = call;
    } else {
        gp_call_unref(call);
    }
    return reply;
}

/* ---- The ways to call ---- */

static PyObject *
call_one_reply(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    MultiCallableObject *self = (MultiCallableObject *)callable;
    gp_call *call = start_blocking(self, args, nargsf, kwnames, 0);

    return call != NULL ? wait_for_reply(self, call, NULL) : NULL;
}

static PyObject *
call_replies(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    MultiCallableObject *self = (MultiCallableObject *)callable;
    gp_call *call = start_blocking(self, args, nargsf, kwnames, 0);

    return call != NULL ? pygo_call_wrap(PYGO_STREAM, call, self->method, self->deserializer)
                        : NULL;
}

static PyObject *
with_call(MultiCallableObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    gp_call *call = start_blocking(self, args, (size_t)nargs, kwnames, 0);
    gp_call *kept = NULL;
    PyObject *reply = call != NULL ? wait_for_reply(self, call, &kept) : NULL;
    PyObject *wrapped;

    if (reply == NULL) {
        return NULL;
    }
    wrapped = pygo_call_wrap(PYGO_CALL, kept, self->method, self->deserializer);
    /* The reply has been taken out of the core, but the call's result() has to return it, too. */
    if (wrapped != NULL && PyObject_SetAttrString(wrapped, "_reply", reply) < 0) {
        Py_CLEAR(wrapped);
    }
    if (wrapped == NULL) {
        Py_DECREF(reply);
        return NULL;
    }
    return Py_BuildValue("NN", reply, wrapped);
}

static PyObject *
as_future(MultiCallableObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    unsigned flags = self->streams_in ? 0 : GP_CALL_EARLY_METADATA;
    gp_call *call = start_blocking(self, args, (size_t)nargs, kwnames, flags);

    if (call == NULL) {
        return NULL;
    }
    gp_call_attend(call);
    return pygo_call_wrap(PYGO_CALL, call, self->method, self->deserializer);
}

/* Start a call of pygo_plugin.aio, of any arity, without waiting for it. */
static PyObject *
begin_async(MultiCallableObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    pygo_async_setting setting;
    call_args parsed;
    gp_call *call;

    if (nargs != 4 + MAX_ARGS || !PyType_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "_begin() takes a type, a LoopQueue, its loop, whether to "
                                         "keep the call, and the arguments of a call");
        return NULL;
    }
    parsed = (call_args){args[4], args[5], args[6], args[7], args[8], args[9]};
    call = start_call(self, &parsed, 0, true);
    if (call == NULL) {
        return NULL;
    }
    setting = (pygo_async_setting){.serializer = self->serializer,
                                   .deserializer = self->deserializer,
                                   .method = self->method,
                                   .channel = self->channel,
                                   .loop = args[2],
                                   .loop_queue = args[1],
                                   .keep = args[3] == Py_True};
    return pygo_async_call_wrap((PyTypeObject *)args[0], call, &setting);
}

/* ---- The types ---- */

PyObject *
pygo_multicallable_new(pygo_arity arity, PyObject *channel, gp_channel *connection,
                       PyObject *method, PyObject *serializer, PyObject *deserializer)
{
    PyTypeObject *type = pygo_module_state->multicallable_types[arity];
    PyObject *bytes = PyUnicode_Check(method) ? PyUnicode_AsUTF8String(method) : Py_NewRef(method);
    MultiCallableObject *self;

    if (bytes == NULL || !PyBytes_Check(bytes)) {
        if (bytes != NULL) {
            PyErr_Format(PyExc_TypeError,
                         "the method must be a str like '/package.Service/Method', not %.100s",
                         Py_TYPE(method)->tp_name);
        }
        Py_XDECREF(bytes);
        return NULL;
    }
    self = (MultiCallableObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        Py_DECREF(bytes);
        return NULL;
    }
    self->streams_in = arity == PYGO_STREAM_UNARY || arity == PYGO_STREAM_STREAM;
    self->streams_out = arity == PYGO_UNARY_STREAM || arity == PYGO_STREAM_STREAM;
    self->vectorcall = self->streams_out ? call_replies : call_one_reply;
    self->channel = Py_NewRef(channel);
    self->connection = connection;
    self->method = bytes;
    self->serializer = Py_NewRef(serializer);
    self->deserializer = Py_NewRef(deserializer);
    return (PyObject *)self;
}

static int
multicallable_traverse(MultiCallableObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->channel);
    Py_VISIT(self->serializer);
    Py_VISIT(self->deserializer);
    Py_VISIT(self->dict);
    return 0;
}

static int
multicallable_clear(MultiCallableObject *self)
{
    /* The channel stays until the end: |connection| lives in it. */
    Py_CLEAR(self->serializer);
    Py_CLEAR(self->deserializer);
    Py_CLEAR(self->dict);
    return 0;
}

static void
multicallable_dealloc(MultiCallableObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    multicallable_clear(self);
    Py_CLEAR(self->channel);
    Py_CLEAR(self->method);
    type->tp_free(self);
    Py_DECREF(type);
}

#define CALL_DOC                                                                            \
    "($self, request, timeout=None, metadata=None, credentials=None, wait_for_ready=None, " \
    "compression=None)\n--\n\n"

#define FAST(function) (PyCFunction)(void (*)(void)) function, METH_FASTCALL | METH_KEYWORDS

#define BEGIN                                                                             \
    {"_begin", (PyCFunction)(void (*)(void))begin_async, METH_FASTCALL,                   \
     "_begin($self, kind, queue, loop, keep, request, timeout, metadata, credentials, "   \
     "wait_for_ready, compression, /)\n--\n\nStart a call of pygo_plugin.aio. kind is a " \
     "subclass of AsyncCall."}

static PyMethodDef one_reply_methods[] = {
    BEGIN,
    {"with_call", FAST(with_call),
     "with_call" CALL_DOC "Call and wait. Returns: (reply, call). timeout is in seconds."},
    {"future", FAST(as_future),
     "future" CALL_DOC "Call without waiting. Returns: the call, which is also a grpc.Future."},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef replies_methods[] = {BEGIN, {NULL, NULL, 0, NULL}};

static PyMemberDef members[] = {
    {"_method", T_OBJECT_EX, offsetof(MultiCallableObject, method), READONLY,
     "The method, as bytes."},
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(MultiCallableObject, vectorcall), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(MultiCallableObject, dict), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

/* Read by isinstance() with grpcio's abstract classes: see class_of() of the package. */
static PyObject *
multicallable_class(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *class_of = pygo_provided(PYGO_CLASS_OF);

    return class_of != NULL ? PyObject_CallOneArg(class_of, (PyObject *)Py_TYPE(self)) : NULL;
}

/* Read by inspect.signature(), and so by help() and editors. */
static PyObject *
multicallable_signature(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *signature_of = pygo_provided(PYGO_SIGNATURE_OF);

    return signature_of != NULL ? PyObject_CallOneArg(signature_of, self) : NULL;
}

static PyObject *
multicallable_repr(MultiCallableObject *self)
{
    PyObject *method = PyUnicode_DecodeUTF8(PyBytes_AS_STRING(self->method),
                                            PyBytes_GET_SIZE(self->method), "replace");
    PyObject *text = NULL;

    if (method != NULL) {
        text = PyUnicode_FromFormat("<%s of %U, %R>", pygo_short_name(Py_TYPE(self)), method,
                                    self->channel);
        Py_DECREF(method);
    }
    return text;
}

/* __dict__ as with grpcio: google.api_core, for example, gives multicallables a __name__. */
static PyGetSetDef getset[] = {
    {"__class__", multicallable_class, NULL, NULL, NULL},
    {"__signature__", multicallable_signature, NULL, NULL, NULL},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static int
add_type(PyObject *module, pygo_state *state, pygo_arity arity, const char *name, const char *doc,
         PyMethodDef *methods)
{
    PyType_Slot slots[] = {
        {Py_tp_dealloc, multicallable_dealloc},
        {Py_tp_traverse, multicallable_traverse},
        {Py_tp_clear, multicallable_clear},
        {Py_tp_call, PyVectorcall_Call},
        {Py_tp_repr, multicallable_repr},
        {Py_tp_methods, methods},
        {Py_tp_members, members},
        {Py_tp_getset, getset},
        {Py_tp_doc, (void *)doc},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = name,
        .basicsize = sizeof(MultiCallableObject),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
                 PYGO_DISALLOW_INSTANTIATION,
        .slots = slots,
    };

    state->multicallable_types[arity] = pygo_add_type(module, &spec);
    return state->multicallable_types[arity] != NULL ? 0 : -1;
}

#define ARGUMENTS                                                                              \
    "\n\ntimeout is in seconds; metadata are pairs of key and value. Raises: RpcError if the " \
    "call "                                                                                    \
    "fails. Made by a channel, never directly."

int
pygo_multicallable_setup(PyObject *module, pygo_state *state)
{
    if (add_type(module, state, PYGO_UNARY_UNARY, "pygo_plugin._core.UnaryUnaryMultiCallable",
                 "Calls a method with one request, and returns its reply." ARGUMENTS,
                 one_reply_methods) < 0 ||
        add_type(
            module, state, PYGO_UNARY_STREAM, "pygo_plugin._core.UnaryStreamMultiCallable",
            "Calls a method with one request, and returns an iterator of its replies, which is "
            "also the call." ARGUMENTS,
            replies_methods) < 0 ||
        add_type(module, state, PYGO_STREAM_UNARY, "pygo_plugin._core.StreamUnaryMultiCallable",
                 "Calls a method with an iterable of requests, and returns its reply." ARGUMENTS,
                 one_reply_methods) < 0 ||
        add_type(module, state, PYGO_STREAM_STREAM, "pygo_plugin._core.StreamStreamMultiCallable",
                 "Calls a method with an iterable of requests, and returns an iterator of its "
                 "replies, which is also the call." ARGUMENTS,
                 replies_methods) < 0) {
        return -1;
    }
    return 0;
}
