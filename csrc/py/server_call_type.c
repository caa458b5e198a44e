#include "py/server.h"

#include <string.h>

#include "py/convert.h"
#include "py/credentials.h"
#include "py/errors.h"
#include "py/gil.h"
#include "py/message.h"
#include "py/metadata.h"

typedef struct RequestIteratorObject {
    PyObject_HEAD
    PyObject *context;      /* owned: a ServerCallObject */
    PyObject *deserializer; /* owned */
    bool receiving;         /* a thread waits in next() */
} RequestIteratorObject;

ServerCallObject *
pygo_server_call_new(PyTypeObject *type, gp_server_call *call)
{
    ServerCallObject *self = (ServerCallObject *)type->tp_alloc(type, 0);

    if (self != NULL) {
        self->call = gp_server_call_ref(call);
    }
    return self;
}

PyObject *
pygo_server_call_method(gp_server_call *call)
{
    gp_bytes path = gp_server_call_method(call);

    return PyUnicode_DecodeUTF8(path.data, (Py_ssize_t)path.len, "replace");
}

/* ---- The end of a call ---- */

void
pygo_server_call_refuse(gp_server_call *call, int code, const char *details)
{
    gp_server_call_finish(call, code, (gp_bytes){details, strlen(details)}, (gp_metadata){NULL, 0});
}

int
pygo_status_number(PyObject *code)
{
    PyObject *value;
    long number = -1;

    if (PyLong_Check(code)) {
        number = PyLong_AsLong(code);
    } else if ((value = PyObject_GetAttrString(code, "value")) != NULL) {
        if (PyTuple_Check(value) && PyTuple_GET_SIZE(value) > 0) {
            number = PyLong_AsLong(PyTuple_GET_ITEM(value, 0));
        } else if (PyLong_Check(value)) {
            number = PyLong_AsLong(value);
        }
        Py_DECREF(value);
    }
    PyErr_Clear();
    return number >= 0 && number <= 16 ? (int)number : -1;
}

/* A new reference to the details as bytes. NULL without an exception if there are none. */
static PyObject *
details_bytes(PyObject *details)
{
    PyObject *bytes = NULL;

    if (details != NULL && PyUnicode_Check(details)) {
        bytes = PyUnicode_AsEncodedString(details, "utf-8", "replace");
    } else if (details != NULL && PyBytes_Check(details)) {
        bytes = Py_NewRef(details);
    }
    PyErr_Clear();
    return bytes;
}

void
pygo_server_call_end(ServerCallObject *context, PyObject *message, int code, const char *details)
{
    PyObject *own_details = details_bytes(context->details);
    gp_bytes text = {details, strlen(details)};
    pygo_metadata trailing;

    if (context->code != NULL && context->code != Py_None) {
        int own_code = pygo_status_number(context->code);

        code = own_code >= 0 ? own_code : GP_GRPC_UNKNOWN;
    }
    if (own_details != NULL) {
        text = pygo_bytes_view(own_details);
    }
    if (pygo_metadata_from_python(&trailing, context->trailing) < 0) {
        static const char invalid[] = "the servicer set trailing metadata that cannot be sent";

        PyErr_WriteUnraisable((PyObject *)context);
        code = GP_GRPC_UNKNOWN;
        text = (gp_bytes){invalid, sizeof(invalid) - 1};
    }
    Py_BEGIN_ALLOW_THREADS
    if (message != NULL) {
        gp_server_call_reply(context->call, pygo_bytes_view(message), code, text, trailing.view);
    } else {
        gp_server_call_finish(context->call, code, text, trailing.view);
    }
    Py_END_ALLOW_THREADS
    pygo_metadata_release(&trailing);
    Py_XDECREF(own_details);
}

/* ---- ServerCall ---- */

int
pygo_server_call_traverse(ServerCallObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->code);
    Py_VISIT(self->details);
    Py_VISIT(self->trailing);
    return 0;
}

int
pygo_server_call_clear(ServerCallObject *self)
{
    Py_CLEAR(self->code);
    Py_CLEAR(self->details);
    Py_CLEAR(self->trailing);
    return 0;
}

void
pygo_server_call_dealloc(ServerCallObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    pygo_server_call_clear(self);
    if (self->call != NULL) {
        gp_server_call_unref(self->call);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
context_invocation_metadata(ServerCallObject *self, PyObject *Py_UNUSED(ignored))
{
    return pygo_metadata_to_python(gp_server_call_metadata(self->call));
}

static PyObject *
context_peer(ServerCallObject *self, PyObject *Py_UNUSED(ignored))
{
    char *peer = gp_server_call_peer(self->call);
    PyObject *text = PyUnicode_FromString(peer != NULL ? peer : "");

    gp_server_call_free_peer(peer);
    return text;
}

static PyObject *
context_auth_context(ServerCallObject *self, PyObject *Py_UNUSED(ignored))
{
    return pygo_auth_context_to_python(gp_server_call_auth_context(self->call));
}

static PyObject *
context_time_remaining(ServerCallObject *self, PyObject *Py_UNUSED(ignored))
{
    return pygo_time_remaining(gp_server_call_time_remaining(self->call));
}

static PyObject *
context_is_active(ServerCallObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(!gp_server_call_over(self->call));
}

static PyObject *
context_cancel(ServerCallObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_ALLOW_THREADS
    gp_server_call_cancel(self->call, GP_GRPC_CANCELLED, "Cancelled on the server side");
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
context_send_initial_metadata(ServerCallObject *self, PyObject *pairs)
{
    pygo_metadata metadata;
    int rc;

    if (pygo_metadata_from_python(&metadata, pairs) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_server_call_send_initial_metadata(self->call, metadata.view);
    Py_END_ALLOW_THREADS
    pygo_metadata_release(&metadata);
    if (rc == GP_ECLOSED && !gp_server_call_over(self->call)) {
        PyErr_SetString(PyExc_ValueError, "initial metadata has been sent already, by an earlier "
                                          "call or with the first message");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
context_set_compression(ServerCallObject *self, PyObject *compression)
{
    int algorithm;

    if (pygo_compression(&algorithm, compression) < 0) {
        return NULL;
    }
    gp_server_call_set_compression(self->call, algorithm);
    Py_RETURN_NONE;
}

static PyObject *
context_skip_compression(ServerCallObject *self, PyObject *Py_UNUSED(ignored))
{
    gp_server_call_skip_compression(self->call);
    Py_RETURN_NONE;
}

/* Called on a worker. |ctx| is a reference to the callback. */
static void
run_callback(void *ctx)
{
    PyObject *callable = ctx;

    if (!pygo_gil_enter("pygo-worker")) {
        return;
    }
    pygo_call_back(callable);
    Py_DECREF(callable);
    pygo_gil_leave();
}

static PyObject *
context_on_finished(ServerCallObject *self, PyObject *callable)
{
    int rc;

    Py_INCREF(callable);
    Py_BEGIN_ALLOW_THREADS
    rc = gp_server_call_on_finished(self->call, run_callback, callable);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        Py_DECREF(callable);
    }
    return PyBool_FromLong(rc == 0);
}

/* Called on a thread of a pool, to which move_to_pool() in dispatcher.c has moved the call. */
static PyObject *
context_answer(ServerCallObject *self, PyObject *handler)
{
    pygo_servicer_run(self, handler, false);
    Py_BEGIN_ALLOW_THREADS
    gp_server_call_hand_back(self->call);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
context_refuse(ServerCallObject *self, PyObject *Py_UNUSED(ignored))
{
    pygo_server_call_end(self, NULL, GP_GRPC_UNAVAILABLE, "The method's thread pool was shut down");
    Py_BEGIN_ALLOW_THREADS
    gp_server_call_hand_back(self->call);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
context_path(ServerCallObject *self, PyObject *Py_UNUSED(ignored))
{
    return pygo_server_call_method(self->call);
}

static PyMethodDef context_methods[] = {
    {"_path", (PyCFunction)context_path, METH_NOARGS,
     "_path($self)\n--\n\nThe path of the method, \"/package.Service/Method\"."},
    {"_answer", (PyCFunction)context_answer, METH_O,
     "_answer($self, handler, /)\n--\n\nAnswer the call with the handler, on this thread of a "
     "pool."},
    {"_refuse", (PyCFunction)context_refuse, METH_NOARGS,
     "_refuse($self)\n--\n\nEnd the call, which its thread pool will not answer."},
    {"invocation_metadata", (PyCFunction)context_invocation_metadata, METH_NOARGS,
     "invocation_metadata($self)\n--\n\nThe client's metadata: a tuple of (key, value)."},
    {"peer", (PyCFunction)context_peer, METH_NOARGS, "peer($self)\n--\n\nThe client's address."},
    {"_auth_context", (PyCFunction)context_auth_context, METH_NOARGS,
     "_auth_context($self)\n--\n\nThe client's identity: (identity key or None, ((name, bytes), "
     "...))."},
    {"time_remaining", (PyCFunction)context_time_remaining, METH_NOARGS,
     "time_remaining($self)\n--\n\nSeconds until the client's deadline; None if it has set none."},
    {"is_active", (PyCFunction)context_is_active, METH_NOARGS,
     "is_active($self)\n--\n\nWhether the client can still be answered."},
    {"cancel", (PyCFunction)context_cancel, METH_NOARGS,
     "cancel($self)\n--\n\nEnd the call from this side. The client gets the status CANCELLED."},
    {"send_initial_metadata", (PyCFunction)context_send_initial_metadata, METH_O,
     "send_initial_metadata($self, initial_metadata, /)\n--\n\nSend metadata ahead of the first "
     "message."},
    {"set_compression", (PyCFunction)context_set_compression, METH_O,
     "set_compression($self, compression, /)\n--\n\nCompress the replies with this "
     "grpc.Compression. Has no effect after initial metadata or a message."},
    {"disable_next_message_compression", (PyCFunction)context_skip_compression, METH_NOARGS,
     "disable_next_message_compression($self)\n--\n\nSend the next message uncompressed."},
    {"_on_finished", (PyCFunction)context_on_finished, METH_O,
     "_on_finished($self, callback, /)\n--\n\nHave callback() called when the call is over. May be "
     "used once. False: the call is over already."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef context_members[] = {
    {"_code", T_OBJECT, offsetof(ServerCallObject, code), 0, "the status code to end with"},
    {"_details", T_OBJECT, offsetof(ServerCallObject, details), 0, "the text to end with"},
    {"_trailing", T_OBJECT, offsetof(ServerCallObject, trailing), 0, "metadata to end with"},
    {"_aborted", T_BOOL, offsetof(ServerCallObject, aborted), 0, "abort() was called"},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(ServerCallObject, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyObject *
context_method(ServerCallObject *self, void *Py_UNUSED(closure))
{
    return pygo_server_call_method(self->call);
}

static PyGetSetDef context_getset[] = {
    {"_method", (getter)context_method, NULL, "The method: /package.Service/Method.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot context_slots[] = {
    {Py_tp_dealloc, pygo_server_call_dealloc},
    {Py_tp_traverse, pygo_server_call_traverse},
    {Py_tp_clear, pygo_server_call_clear},
    {Py_tp_methods, context_methods},
    {Py_tp_members, context_members},
    {Py_tp_getset, context_getset},
    {Py_tp_doc, "One call on the server's side. Made by the server."},
    {0, NULL},
};

static PyType_Spec context_spec = {
    .name = "pygo_plugin._core.ServerCall",
    .basicsize = sizeof(ServerCallObject),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | PYGO_DISALLOW_INSTANTIATION,
    .slots = context_slots,
};

/* ---- RequestIterator ---- */

PyObject *
pygo_request_iterator_new(ServerCallObject *context, PyObject *deserializer)
{
    PyTypeObject *type = pygo_module_state->request_iterator_type;
    RequestIteratorObject *self = (RequestIteratorObject *)type->tp_alloc(type, 0);

    if (self != NULL) {
        self->context = Py_NewRef((PyObject *)context);
        self->deserializer = Py_NewRef(deserializer);
    }
    return (PyObject *)self;
}

static int
iterator_traverse(RequestIteratorObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->context);
    Py_VISIT(self->deserializer);
    return 0;
}

static int
iterator_clear(RequestIteratorObject *self)
{
    Py_CLEAR(self->context);
    Py_CLEAR(self->deserializer);
    return 0;
}

static void
iterator_dealloc(RequestIteratorObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    iterator_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Raise the exception for a call that ended before the client had ended its requests. */
static void
raise_cancelled(void)
{
    PyObject *make = pygo_provided(PYGO_REQUESTS_CANCELLED);

    pygo_raise_object(make != NULL ? PyObject_CallNoArgs(make) : NULL);
}

static PyObject *
iterator_next(RequestIteratorObject *self)
{
    ServerCallObject *context = (ServerCallObject *)self->context;
    gp_message *message;

    if (context == NULL || pygo_receive_begin(&self->receiving) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    gp_server_call_receive(context->call, &message, NULL);
    Py_END_ALLOW_THREADS
    self->receiving = false;
    if (message != NULL) {
        PyObject *request = pygo_deserialize(self->deserializer, message);

        context->unreadable |= request == NULL;
        return request;
    }
    if (gp_server_call_cancelled(context->call)) {
        raise_cancelled();
    }
    return NULL;
}

static PyObject *
iterator_repr(RequestIteratorObject *self)
{
    ServerCallObject *context = (ServerCallObject *)self->context;
    PyObject *method = context != NULL ? pygo_server_call_method(context->call) : NULL;
    PyObject *text = NULL;

    if (method != NULL) {
        text = PyUnicode_FromFormat("<requests of a call of %U>", method);
        Py_DECREF(method);
    } else if (!PyErr_Occurred()) {
        text = PyUnicode_FromString("<requests of a call>");
    }
    return text;
}

static PyType_Slot iterator_slots[] = {
    {Py_tp_dealloc, iterator_dealloc},
    {Py_tp_traverse, iterator_traverse},
    {Py_tp_clear, iterator_clear},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, iterator_next},
    {Py_tp_repr, iterator_repr},
    {Py_tp_doc, "The requests of one call. Made by the server."},
    {0, NULL},
};

static PyType_Spec iterator_spec = {
    .name = "pygo_plugin._core.RequestIterator",
    .basicsize = sizeof(RequestIteratorObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | PYGO_DISALLOW_INSTANTIATION,
    .slots = iterator_slots,
};

int
pygo_server_call_setup(PyObject *module, pygo_state *state)
{
    state->server_call_type = pygo_add_type(module, &context_spec);
    state->request_iterator_type = pygo_add_type(module, &iterator_spec);
    return state->server_call_type != NULL && state->request_iterator_type != NULL ? 0 : -1;
}
