#include <stddef.h>

#include "gp/call.h"
#include "py/call.h"
#include "py/errors.h"
#include "py/loop.h"
#include "py/message.h"
#include "py/metadata.h"

/* The base of the calls of pygo_plugin.aio. Its methods never wait: futures do. */
typedef struct AsyncCallObject {
    CallObject base;
    PyObject *serializer; /* owned */
    gp_queue *queue;      /* shared: ref */
} AsyncCallObject;

/* What sends a call's requests. It does not keep the call going. */
typedef struct AsyncSenderObject {
    PyObject_HEAD
    gp_call *call;        /* owned: a hold */
    PyObject *serializer; /* owned */
    gp_queue *queue;      /* shared: ref */
} AsyncSenderObject;

/* One operation under way. It keeps the call's memory, but not the call going. */
typedef struct operation {
    pygo_completion base;
    PyObject *future;       /* owned */
    gp_call *call;          /* owned: a hold */
    PyObject *keep;         /* owned; kept until the end, may be NULL */
    PyObject *deserializer; /* owned; of a receive */
    gp_message *message;    /* owned; what a receive got */
} operation;

static void
operation_free(operation *self)
{
    if (self->message != NULL) {
        gp_message_free(self->message);
    }
    gp_call_release(self->call);
    Py_XDECREF(self->keep);
    Py_XDECREF(self->deserializer);
    Py_DECREF(self->future);
    pygo_completion_free(&self->base);
}

/* The result of everything but a receive. */
static void
finish_plain(pygo_completion *completion, bool alive)
{
    operation *self = (operation *)completion;

    if (alive) {
        pygo_future_resolve(self->future, Py_NewRef(Py_True));
    }
    operation_free(self);
}

/* |keep| is what the end of the stream is told by. */
static PyObject *
received(PyObject *deserializer, gp_message *message, PyObject *end)
{
    return message != NULL ? pygo_deserialize(deserializer, message) : Py_NewRef(end);
}

static void
finish_receive(pygo_completion *completion, bool alive)
{
    operation *self = (operation *)completion;

    if (alive) {
        gp_message *message = self->message;

        self->message = NULL;
        pygo_future_resolve(self->future, received(self->deserializer, message, self->keep));
    }
    operation_free(self);
}

static operation *
operation_new(gp_queue *queue, gp_call *call, PyObject *future,
              void (*finish)(pygo_completion *, bool))
{
    operation *self = pygo_completion_new(sizeof(*self), queue, finish);

    if (self != NULL) {
        self->future = Py_NewRef(future);
        self->call = gp_call_hold(call);
    }
    return self;
}

/* ---- On the polling thread ---- */

static void
then(void *ctx)
{
    pygo_completion_post(ctx);
}

static void
then_received(void *ctx, gp_message *message)
{
    operation *self = ctx;

    self->message = message;
    pygo_completion_post(&self->base);
}

/* ---- AsyncCall ---- */

PyObject *
pygo_async_call_wrap(PyTypeObject *type, gp_call *call, PyObject *serializer,
                     PyObject *deserializer, PyObject *loop_queue)
{
    gp_queue *queue = pygo_queue_of(loop_queue);
    AsyncCallObject *self = NULL;

    if (queue != NULL && !PyType_IsSubtype(type, pygo_module_state->async_call_type)) {
        PyErr_Format(PyExc_TypeError, "kind must be a subclass of AsyncCall, not %R", type);
    } else if (queue != NULL) {
        self = (AsyncCallObject *)type->tp_alloc(type, 0);
    }
    if (self == NULL) {
        gp_call_unref(call);
        return NULL;
    }
    self->base.call = call;
    self->base.deserializer = Py_NewRef(deserializer);
    self->serializer = Py_NewRef(serializer);
    self->queue = gp_queue_ref(queue);
    return (PyObject *)self;
}

static void
call_dealloc(AsyncCallObject *self)
{
    Py_CLEAR(self->serializer);
    gp_queue_unref(self->queue);
    self->queue = NULL;
    pygo_call_dealloc(&self->base);
}

static PyObject *
call_on_done(AsyncCallObject *self, PyObject *args)
{
    PyObject *future;
    int keep;
    operation *op;

    if (!PyArg_ParseTuple(args, "Op:_on_done", &future, &keep)) {
        return NULL;
    }
    op = operation_new(self->queue, self->base.call, future, finish_plain);
    if (op == NULL) {
        return NULL;
    }
    op->keep = keep ? Py_NewRef((PyObject *)self) : NULL;
    Py_BEGIN_ALLOW_THREADS
    gp_call_on_done(self->base.call, then, op);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
call_receive(AsyncCallObject *self, PyObject *args)
{
    gp_message *message = NULL;
    PyObject *future;
    PyObject *end;
    operation *op;
    int there;

    if (!PyArg_ParseTuple(args, "OO:_receive", &future, &end) || pygo_check_forked() < 0) {
        return NULL;
    }
    op = operation_new(self->queue, self->base.call, future, finish_receive);
    if (op == NULL) {
        return NULL;
    }
    op->keep = Py_NewRef(end);
    op->deserializer = Py_NewRef(self->base.deserializer);
    Py_BEGIN_ALLOW_THREADS
    there = gp_call_receive_then(self->base.call, &message, then_received, op);
    Py_END_ALLOW_THREADS
    if (there) {
        op->message = message;
        finish_receive(&op->base, true);
    }
    Py_RETURN_NONE;
}

static PyObject *
call_on_metadata(AsyncCallObject *self, PyObject *future)
{
    operation *op;
    int there;

    if (pygo_check_forked() < 0) {
        return NULL;
    }
    op = operation_new(self->queue, self->base.call, future, finish_plain);
    if (op == NULL) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    there = gp_call_initial_metadata_then(self->base.call, then, op);
    Py_END_ALLOW_THREADS
    if (there) {
        finish_plain(&op->base, true);
    }
    Py_RETURN_NONE;
}

static PyObject *
call_metadata(AsyncCallObject *self, PyObject *Py_UNUSED(ignored))
{
    gp_metadata metadata;

    if (pygo_check_forked() < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    gp_call_initial_metadata(self->base.call, &metadata, NULL);
    Py_END_ALLOW_THREADS
    return pygo_metadata_to_python(metadata);
}

static PyObject *
call_sender(AsyncCallObject *self, PyObject *Py_UNUSED(ignored))
{
    PyTypeObject *type = pygo_module_state->async_sender_type;
    AsyncSenderObject *sender = (AsyncSenderObject *)type->tp_alloc(type, 0);

    if (sender != NULL) {
        sender->call = gp_call_hold(self->base.call);
        sender->serializer = Py_NewRef(self->serializer);
        sender->queue = gp_queue_ref(self->queue);
    }
    return (PyObject *)sender;
}

static PyMethodDef call_methods[] = {
    {"_on_done", (PyCFunction)call_on_done, METH_VARARGS,
     "_on_done($self, future, keep, /)\n--\n\nResolve the future when the status is there; keep "
     "the "
     "call going until then. Only once."},
    {"_receive", (PyCFunction)call_receive, METH_VARARGS,
     "_receive($self, future, end, /)\n--\n\nResolve the future with the next reply, or with end. "
     "One "
     "at a time."},
    {"_on_metadata", (PyCFunction)call_on_metadata, METH_O,
     "_on_metadata($self, future, /)\n--\n\nResolve the future when initial metadata are there. "
     "One "
     "at a time."},
    {"_metadata", (PyCFunction)call_metadata, METH_NOARGS,
     "_metadata($self)\n--\n\nThe initial metadata, which are there."},
    {"_sender", (PyCFunction)call_sender, METH_NOARGS,
     "_sender($self)\n--\n\nWhat sends this call's requests."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot call_slots[] = {
    {Py_tp_dealloc, call_dealloc},
    {Py_tp_methods, call_methods},
    {Py_tp_doc, "One RPC of pygo_plugin.aio. Made by calling a stub, never directly."},
    {0, NULL},
};

static PyType_Spec call_spec = {
    .name = "pygo_plugin._core.AsyncCall",
    .basicsize = sizeof(AsyncCallObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | PYGO_DISALLOW_INSTANTIATION,
    .slots = call_slots,
};

/* ---- AsyncSender ---- */

static void
sender_dealloc(AsyncSenderObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    if (self->call != NULL) {
        gp_call_release(self->call);
    }
    gp_queue_unref(self->queue);
    Py_XDECREF(self->serializer);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Send |message|, or the end if it is NULL, and resolve |future| when that is through. */
static PyObject *
sender_start(AsyncSenderObject *self, const gp_bytes *message, PyObject *future)
{
    operation *op = operation_new(self->queue, self->call, future, finish_plain);
    int rc;

    if (op == NULL) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_call_send_then(self->call, message, then, op);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        operation_free(op);
    }
    if (rc == GP_EINVAL) {
        PyErr_SetString(PyExc_RuntimeError, "another message is being sent");
        return NULL;
    }
    return PyBool_FromLong(rc == 0);
}

static PyObject *
sender_send(AsyncSenderObject *self, PyObject *args)
{
    PyObject *message;
    PyObject *future;
    PyObject *bytes;
    PyObject *result;
    gp_bytes view;

    if (!PyArg_ParseTuple(args, "OO:send", &message, &future) || pygo_check_forked() < 0) {
        return NULL;
    }
    bytes = pygo_serialize(self->serializer, message);
    if (bytes == NULL) {
        return NULL;
    }
    view = pygo_bytes_view(bytes);
    result = sender_start(self, &view, future);
    Py_DECREF(bytes);
    return result;
}

static PyObject *
sender_close(AsyncSenderObject *self, PyObject *future)
{
    return pygo_check_forked() < 0 ? NULL : sender_start(self, NULL, future);
}

static PyObject *
sender_fail(AsyncSenderObject *self, PyObject *args)
{
    int code;
    const char *details;

    if (!PyArg_ParseTuple(args, "is:fail", &code, &details)) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    gp_call_cancel(self->call, code, details);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyMethodDef sender_methods[] = {
    {"send", (PyCFunction)sender_send, METH_VARARGS,
     "send($self, message, future, /)\n--\n\nSend one request, and resolve the future when the "
     "next "
     "may be sent. False: the call is over, and the future is left alone."},
    {"close", (PyCFunction)sender_close, METH_O,
     "close($self, future, /)\n--\n\nSay that no more requests follow. As send."},
    {"fail", (PyCFunction)sender_fail, METH_VARARGS,
     "fail($self, code, details, /)\n--\n\nEnd the call with this status."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot sender_slots[] = {
    {Py_tp_dealloc, sender_dealloc},
    {Py_tp_methods, sender_methods},
    {Py_tp_doc, "The sending side of an AsyncCall."},
    {0, NULL},
};

static PyType_Spec sender_spec = {
    .name = "pygo_plugin._core.AsyncSender",
    .basicsize = sizeof(AsyncSenderObject),
    .flags = Py_TPFLAGS_DEFAULT | PYGO_DISALLOW_INSTANTIATION,
    .slots = sender_slots,
};

int
pygo_async_call_setup(PyObject *module, pygo_state *state)
{
    state->async_call_type = pygo_add_subtype(module, &call_spec, state->call_base_type);
    state->async_sender_type = pygo_add_type(module, &sender_spec);
    return state->async_call_type != NULL && state->async_sender_type != NULL ? 0 : -1;
}
