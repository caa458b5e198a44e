#include "gp/lock.h"
#include "py/convert.h"
#include "py/errors.h"
#include "py/gil.h"
#include "py/gob.h"
#include "py/netrpc.h"
#include "py/tls.h"

/* ---- Arguments of calls ---- */

static const char *const names[PYGO_NETRPC_ARGS] = {"method", "args", "reply", "timeout",
                                                    "args_type"};

/* The place of an argument in pygo_netrpc_args; -1: there is none of that name. */
static int
place_of(PyObject *name)
{
    for (int i = 0; i < PYGO_NETRPC_ARGS; i++) {
        if (PyUnicode_CompareWithASCIIString(name, names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

/* `...` stands for an argument that is not given. */
static PyObject *
given_or_null(PyObject *arg)
{
    return arg != Py_Ellipsis ? arg : NULL;
}

int
pygo_netrpc_parse(pygo_netrpc_args *out, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *places[PYGO_NETRPC_ARGS] = {NULL};
    Py_ssize_t nkw = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;

    if (nargs > PYGO_NETRPC_ARGS) {
        PyErr_Format(PyExc_TypeError, "a call takes at most %d arguments (%zd given)",
                     PYGO_NETRPC_ARGS, nargs);
        return -1;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        places[i] = given_or_null(args[i]);
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
        places[place] = given_or_null(args[nargs + i]);
    }
    if (places[0] == NULL) {
        PyErr_SetString(PyExc_TypeError, "a call needs the name of its method");
        return -1;
    }
    *out = (pygo_netrpc_args){places[0], places[1], places[2], places[3], places[4]};
    return 0;
}

int
pygo_netrpc_method_name(gp_bytes *out, PyObject *method)
{
    Py_ssize_t len;

    if (!PyUnicode_Check(method)) {
        PyErr_Format(PyExc_TypeError, "the method must be a str like 'Service.Method', not %.100s",
                     Py_TYPE(method)->tp_name);
        return -1;
    }
    out->data = PyUnicode_AsUTF8AndSize(method, &len);
    out->len = (size_t)len;
    return out->data != NULL ? 0 : -1;
}

int
pygo_netrpc_limits(gp_gob_limits *out, PyObject *given)
{
    unsigned long long values[7] = {0};

    if (given != Py_None && !PyArg_ParseTuple(given, "KKKKKKK", &values[0], &values[1], &values[2],
                                              &values[3], &values[4], &values[5], &values[6])) {
        return -1;
    }
    *out = (gp_gob_limits){.message = (size_t)values[0],
                           .depth = (size_t)values[1],
                           .types = (size_t)values[2],
                           .definitions = (size_t)values[3],
                           .fields = (size_t)values[4],
                           .name = (size_t)values[5],
                           .slots = (size_t)values[6]};
    return 0;
}

/* ---- Outputs ---- */

gp_gob_output *
pygo_netrpc_take_output(NetRpcClientObject *self)
{
    gp_gob_output *output = self->spare;

    self->spare = NULL;
    if (output == NULL && gp_gob_output_new(&output, NULL) < 0) {
        PyErr_NoMemory();
        return NULL;
    }
    return output;
}

void
pygo_netrpc_give_output(NetRpcClientObject *self, gp_gob_output *output)
{
    if (self->spare == NULL) {
        self->spare = output;
    } else {
        gp_gob_output_free(output);
    }
}

/* ---- Errors ---- */

/* Raise what |self->explain| makes of the message of a lost connection. */
static PyObject *
raise_explained(NetRpcClientObject *self, gp_error *err)
{
    const char *text = gp_error_message(err);
    PyObject *message = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
    PyObject *exception = message != NULL ? PyObject_CallOneArg(self->explain, message) : NULL;

    Py_XDECREF(message);
    gp_error_release(err);
    if (exception != NULL && !PyExceptionInstance_Check(exception)) {
        PyErr_Format(PyExc_TypeError, "an exception is needed, not %R", exception);
        Py_CLEAR(exception);
    }
    return pygo_raise_object(exception);
}

PyObject *
pygo_netrpc_raise(NetRpcClientObject *self, gp_error *err)
{
    PyObject *type;

    if (err->code == GP_ECLOSED && self->explain != NULL) {
        return raise_explained(self, err);
    }
    if (err->code == GP_ETIMEOUT) {
        type = pygo_provided(PYGO_CALL_TIMEOUT_ERROR);
        if (type != NULL) {
            PyErr_SetString(type, gp_error_message(err));
        }
        gp_error_release(err);
        return NULL;
    }
    return pygo_raise(err, NULL);
}

/* ---- The type ---- */

PyObject *
pygo_netrpc_client_wrap(PyTypeObject *type, gp_netrpc_client *client, PyObject *explain)
{
    NetRpcClientObject *self = NULL;

    if (pygo_check_subclass((PyObject *)type, pygo_module_state->netrpc_client_type) == 0) {
        self = (NetRpcClientObject *)type->tp_alloc(type, 0);
    }
    if (self == NULL) {
        gp_netrpc_client_unref(client);
        return NULL;
    }
    self->client = client;
    self->explain = Py_XNewRef(explain);
    return (PyObject *)self;
}

static int
client_traverse(NetRpcClientObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->explain);
    return 0;
}

static int
client_clear(NetRpcClientObject *self)
{
    Py_CLEAR(self->explain);
    return 0;
}

static void
client_dealloc(NetRpcClientObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    client_clear(self);
    gp_gob_output_free(self->spare);
    if (self->client != NULL) {
        Py_BEGIN_ALLOW_THREADS
        gp_netrpc_client_unref(self->client);
        Py_END_ALLOW_THREADS
    }
    type->tp_free(self);
    Py_DECREF(type);
}

/* Connect, for netrpc.connect(). */
static PyObject *
client_connect(PyTypeObject *type, PyObject *args)
{
    const gp_interrupt *interrupt = pygo_interrupt();
    gp_error err = GP_ERROR_INIT;
    gp_netrpc_client *client;
    PyObject *tls;
    PyObject *timeout;
    PyObject *given;
    gp_gob_limits limits;
    const char *network;
    const char *address;
    int64_t timeout_ms;
    gp_tls *shared;
    int rc;

    if (!PyArg_ParseTuple(args, "ssOOO:connect", &network, &address, &tls, &given, &timeout) ||
        pygo_check_forked() < 0 || pygo_tls(&shared, tls) < 0 ||
        pygo_netrpc_limits(&limits, given) < 0 || pygo_timeout_ms(&timeout_ms, timeout) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_netrpc_connect(&client, network, address, shared, &limits, gp_deadline_in(timeout_ms),
                           interrupt, &err);
    Py_END_ALLOW_THREADS
    if (rc == GP_ETIMEOUT) {
        PyErr_SetString(PyExc_TimeoutError, gp_error_message(&err));
        gp_error_release(&err);
        return NULL;
    }
    return rc < 0 ? pygo_raise(&err, NULL) : pygo_netrpc_client_wrap(type, client, NULL);
}

/* When to stop waiting. 0, or -1 with an exception. */
static int
deadline_of(int64_t *out, PyObject *timeout)
{
    int64_t timeout_ns;

    if (pygo_timeout_ns(&timeout_ns, timeout) < 0) {
        return -1;
    }
    /* Rounded up, since no time at all is less than what any call takes. */
    *out = gp_deadline_in(timeout_ns < 0 ? -1 : (timeout_ns + 999999) / 1000000);
    return 0;
}

/* The call, once its argument is encoded. |type| is released. */
static PyObject *
call_and_wait(NetRpcClientObject *self, gp_bytes method, gp_gob_output *output, int64_t deadline,
              pygo_netrpc_reply_type *type)
{
    const gp_interrupt *interrupt = pygo_call_interrupt();
    gp_gob_message message = GP_GOB_MESSAGE_INIT;
    gp_error err = GP_ERROR_INIT;
    PyObject *reply;
    int rc;

    Py_BEGIN_ALLOW_THREADS
    rc = gp_netrpc_call(self->client, method, output, deadline, interrupt, &message, &err);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        reply = pygo_netrpc_raise(self, &err);
    } else {
        reply = pygo_netrpc_decode_reply(gp_netrpc_client_decoder(self->client), &message, type);
        gp_gob_message_release(&message);
    }
    pygo_netrpc_reply_type_release(type);
    return reply;
}

static PyObject *
client_call(NetRpcClientObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    pygo_netrpc_reply_type type;
    pygo_netrpc_args parsed;
    gp_gob_output *output;
    PyObject *reply = NULL;
    gp_bytes method;
    int64_t deadline;

    if (pygo_netrpc_parse(&parsed, args, nargs, kwnames) < 0 || pygo_check_forked() < 0 ||
        pygo_netrpc_method_name(&method, parsed.method) < 0 ||
        pygo_netrpc_reply_type_of(&type, parsed.reply, parsed.method) < 0) {
        return NULL;
    }
    output = pygo_netrpc_take_output(self);
    if (output == NULL) {
        pygo_netrpc_reply_type_release(&type);
        return NULL;
    }
    if (deadline_of(&deadline, parsed.timeout) < 0) {
        pygo_netrpc_reply_type_release(&type);
    } else if (pygo_netrpc_encode(output, parsed.value, parsed.type) < 0) {
        pygo_netrpc_name_method(parsed.method);
        pygo_netrpc_reply_type_release(&type);
    } else {
        reply = call_and_wait(self, method, output, deadline, &type);
    }
    pygo_netrpc_give_output(self, output);
    return reply;
}

static PyObject *
client_start(NetRpcClientObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    pygo_netrpc_args parsed;

    if (nargs < 1 || !PyType_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "_start() takes a type and the arguments of a call");
        return NULL;
    }
    if (pygo_netrpc_parse(&parsed, args + 1, nargs - 1, kwnames) < 0 || pygo_check_forked() < 0) {
        return NULL;
    }
    return pygo_netrpc_call_start(self, (PyTypeObject *)args[0], &parsed);
}

static PyObject *
client_begin(NetRpcClientObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    pygo_netrpc_args parsed;

    if (nargs < 2) {
        PyErr_SetString(PyExc_TypeError,
                        "_begin() takes a LoopQueue, a future, and the arguments of a call");
        return NULL;
    }
    if (pygo_netrpc_parse(&parsed, args + 2, nargs - 2, kwnames) < 0 || pygo_check_forked() < 0) {
        return NULL;
    }
    return pygo_netrpc_call_begin(self, args[0], args[1], &parsed);
}

static PyObject *
client_close(NetRpcClientObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_ALLOW_THREADS
    gp_netrpc_client_close(self->client);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
client_closed(NetRpcClientObject *self, void *Py_UNUSED(closure))
{
    bool closed;

    Py_BEGIN_ALLOW_THREADS
    closed = gp_netrpc_client_closed(self->client);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(closed);
}

#define FAST(function) (PyCFunction)(void (*)(void)) function, METH_FASTCALL | METH_KEYWORDS

static PyMethodDef methods[] = {
    {"call", FAST(client_call),
     "call($self, method, args=None, reply=..., timeout=None, args_type=...)\n--\n\n"
     "Call \"Service.Method\" and wait for the reply.\n\n"
     "reply is the type to make of it, such as a class or list[int]. Without it the reply is made "
     "by the\ndefinitions that the server sends, and None if it is a struct without fields; None "
     "drops it. args is encoded as its class says, "
     "or as\nargs_type; None is Go's nil interface value. timeout is in seconds.\n\n"
     "Raises: ServerError with the server's text; CallTimeoutError; ClosedError once the "
     "connection has\nended; GobError if args cannot be encoded, or the reply does not fit."},
    {"_connect", (PyCFunction)client_connect, METH_VARARGS | METH_CLASS,
     "_connect($type, network, address, tls, limits, timeout, /)\n--\n\nConnect to a server."},
    {"_start", FAST(client_start),
     "_start($self, kind, /, method, args=None, reply=..., timeout=..., args_type=...)\n--\n\n"
     "Call without waiting. kind is a subclass of NetRpcCall."},
    {"_begin", FAST(client_begin),
     "_begin($self, queue, future, /, method, args=None, reply=..., timeout=..., "
     "args_type=...)\n--\n\nCall without waiting, and resolve the future on its loop."},
    {"close", (PyCFunction)client_close, METH_NOARGS,
     "close($self)\n--\n\nEnd the connection. Calls that are in flight raise ClosedError. "
     "Idempotent."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(NetRpcClientObject, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"closed", (getter)client_closed, NULL, "Whether the connection has ended.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, client_dealloc},
    {Py_tp_traverse, client_traverse},
    {Py_tp_clear, client_clear},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_getset, getset},
    {Py_tp_doc, "The calling side of a net/rpc connection."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.NetRpcClient",
    .basicsize = sizeof(NetRpcClientObject),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | PYGO_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int
pygo_netrpc_client_setup(PyObject *module, pygo_state *state)
{
    state->netrpc_client_type = pygo_add_type(module, &spec);
    return state->netrpc_client_type != NULL ? 0 : -1;
}
