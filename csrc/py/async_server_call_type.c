#include "py/async_server.h"

#include "py/errors.h"
#include "py/message.h"
#include "py/metadata.h"
#include "py/operation.h"
#include "py/server.h"

/* The base of the contexts of pygo_plugin.aio. Its methods never wait but resolve futures later. */
typedef struct AsyncServerCallObject {
    ServerCallObject base;
    gp_queue *queue; /* shared: ref */
    pygo_loop_member member;
    pygo_arrivals *arrivals; /* borrowed: lives as long as the server, which the call keeps */
    /* Owned until the core has posted it: calls the callback of _on_cancel(). NULL: none is set. */
    pygo_operation *cancellation;
    gp_message *first; /* owned: the first message, unless it has been taken */
    bool with_first;   /* |first| is to be taken before others, or there are no messages */
    bool ours;         /* the call has not been handed back to the core */
} AsyncServerCallObject;

static void
unref_call(void *call)
{
    gp_server_call_unref(call);
}

static pygo_operation *
operation_new(AsyncServerCallObject *call, PyObject *target,
              void (*finish)(pygo_completion *, bool))
{
    return pygo_operation_new(call->queue, target, finish, gp_server_call_ref(call->base.call),
                              unref_call);
}

/* ---- The end of a call ---- */

/* Drop the callback of _on_cancel(), if there is one. */
static void
drop_cancellation(AsyncServerCallObject *self)
{
    pygo_operation *cancellation = self->cancellation;

    self->cancellation = NULL;
    if (cancellation != NULL && gp_server_call_on_cancel(self->base.call, NULL, NULL) == 0) {
        pygo_operation_free(cancellation);
    }
}

/* Give the call back to the core. Nothing here touches it any more. */
static void
hand_call_back(AsyncServerCallObject *self)
{
    if (!self->ours) {
        return;
    }
    self->ours = false;
    drop_cancellation(self);
    Py_BEGIN_ALLOW_THREADS
    gp_server_call_hand_back(self->base.call);
    Py_END_ALLOW_THREADS
}

static void
cancel_and_hand_back(AsyncServerCallObject *self, int code, const char *details)
{
    if (self->ours) {
        Py_BEGIN_ALLOW_THREADS
        gp_server_call_cancel(self->base.call, code, details);
        Py_END_ALLOW_THREADS
        hand_call_back(self);
    }
}

/*
 * Called when the loop is gone: the task of the method will never run again. The callable of
 * _on_cancel() keeps the task, which keeps this object. Dropping the callable frees all of them.
 */
static void
end_orphaned_call(pygo_loop_member *member)
{
    AsyncServerCallObject *self = gp_container_of(member, AsyncServerCallObject, member);

    Py_INCREF(self);
    cancel_and_hand_back(self, GP_GRPC_UNAVAILABLE, "the server's event loop is closed");
    Py_DECREF(self);
}

/* ---- AsyncServerCall ---- */

PyObject *
pygo_async_server_call_new(PyTypeObject *type, gp_server_call *call, pygo_arrivals *arrivals,
                           PyObject *loop_queue)
{
    AsyncServerCallObject *self = (AsyncServerCallObject *)pygo_server_call_new(type, call);

    if (self != NULL) {
        self->queue = gp_queue_ref(pygo_queue_of(loop_queue));
        self->member.orphaned = end_orphaned_call;
        pygo_loop_add(loop_queue, &self->member);
        self->arrivals = arrivals;
        self->ours = true;
    }
    return (PyObject *)self;
}

void
pygo_async_server_call_put_first(PyObject *call, gp_message *message)
{
    AsyncServerCallObject *self = (AsyncServerCallObject *)call;

    self->first = message;
    self->with_first = true;
}

static void
call_dealloc(AsyncServerCallObject *self)
{
    gp_link_remove(&self->member.link);
    if (!gp_runtime_forked()) {
        cancel_and_hand_back(self, GP_GRPC_UNAVAILABLE, "the call was given up");
    }
    if (self->first != NULL) {
        gp_message_free(self->first);
    }
    gp_queue_unref(self->queue);
    self->queue = NULL;
    pygo_server_call_dealloc(&self->base);
}

static PyObject *
call_receive(AsyncServerCallObject *self, PyObject *args)
{
    gp_message *message;
    PyObject *deserializer;
    PyObject *future;
    PyObject *end;
    pygo_operation *op;
    int there;

    if (!PyArg_ParseTuple(args, "OOO:_receive", &deserializer, &future, &end)) {
        return NULL;
    }
    op = operation_new(self, future, pygo_operation_receive);
    if (op == NULL) {
        return NULL;
    }
    op->deserializer = Py_NewRef(deserializer);
    op->keep = Py_NewRef(end);
    if (self->with_first) {
        message = self->first;
        self->first = NULL;
        self->with_first = false;
        return pygo_operation_receiving(op, true, message);
    }
    Py_BEGIN_ALLOW_THREADS
    there = gp_server_call_receive_then(self->base.call, &message, pygo_operation_received, op);
    Py_END_ALLOW_THREADS
    return pygo_operation_receiving(op, there, message);
}

static PyObject *
call_send(AsyncServerCallObject *self, PyObject *args)
{
    PyObject *message;
    PyObject *future;
    pygo_operation *op;
    gp_bytes view;
    int rc;

    if (!PyArg_ParseTuple(args, "SO:_send", &message, &future)) {
        return NULL;
    }
    op = operation_new(self, future, pygo_operation_resolve);
    if (op == NULL) {
        return NULL;
    }
    view = pygo_bytes_view(message);
    Py_BEGIN_ALLOW_THREADS
    rc = gp_server_call_post(self->base.call, view, pygo_operation_sent, op);
    Py_END_ALLOW_THREADS
    return pygo_operation_posted(op, rc);
}

static PyObject *
call_flush(AsyncServerCallObject *self, PyObject *future)
{
    pygo_operation *op = operation_new(self, future, pygo_operation_resolve);

    if (op == NULL) {
        return NULL;
    }
    if (gp_server_call_flush_then(self->base.call, pygo_operation_sent, op)) {
        pygo_operation_free(op);
        Py_RETURN_FALSE;
    }
    Py_RETURN_TRUE;
}

static PyObject *
call_send_metadata(AsyncServerCallObject *self, PyObject *args)
{
    pygo_metadata metadata;
    PyObject *pairs;
    PyObject *future;
    pygo_operation *op;
    int rc;

    if (!PyArg_ParseTuple(args, "OO:_send_metadata", &pairs, &future) ||
        pygo_metadata_from_python(&metadata, pairs) < 0) {
        return NULL;
    }
    op = operation_new(self, future, pygo_operation_resolve);
    if (op == NULL) {
        pygo_metadata_release(&metadata);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_server_call_send_initial_metadata_then(self->base.call, metadata.view,
                                                   pygo_operation_sent, op);
    Py_END_ALLOW_THREADS
    pygo_metadata_release(&metadata);
    return pygo_operation_started(op, rc);
}

static PyObject *
call_on_cancel(AsyncServerCallObject *self, PyObject *callable)
{
    pygo_operation *op;
    int rc;

    if (self->cancellation != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the call has a callback already");
        return NULL;
    }
    op = operation_new(self, callable, pygo_operation_call);
    if (op == NULL) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_server_call_on_cancel(self->base.call, pygo_operation_finished, op);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        pygo_operation_free(op);
        Py_RETURN_FALSE;
    }
    self->cancellation = op;
    Py_RETURN_TRUE;
}

static PyObject *
call_finish(AsyncServerCallObject *self, PyObject *args)
{
    PyObject *message;
    const char *details;
    int code;

    if (!PyArg_ParseTuple(args, "Ois:_finish", &message, &code, &details)) {
        return NULL;
    }
    if (message != Py_None && !PyBytes_Check(message)) {
        PyErr_Format(PyExc_TypeError, "a message must be bytes, not %.100s",
                     Py_TYPE(message)->tp_name);
        return NULL;
    }
    if (self->ours) {
        pygo_server_call_end(&self->base, message != Py_None ? message : NULL, code, details);
        hand_call_back(self);
    }
    Py_RETURN_NONE;
}

static PyObject *
call_give_up(AsyncServerCallObject *self, PyObject *args)
{
    const char *details;
    int code;

    if (!PyArg_ParseTuple(args, "is:_give_up", &code, &details)) {
        return NULL;
    }
    cancel_and_hand_back(self, code, details);
    Py_RETURN_NONE;
}

static PyObject *
call_delegate(AsyncServerCallObject *self, PyObject *args)
{
    PyObject *handler;
    int wants_message;

    if (!PyArg_ParseTuple(args, "Op:_delegate", &handler, &wants_message)) {
        return NULL;
    }
    if (self->ours) {
        self->ours = false;
        drop_cancellation(self);
        if (self->with_first) {
            gp_server_call_put_back(self->base.call, self->first);
            self->first = NULL;
            self->with_first = false;
        }
        Py_INCREF(handler); /* the worker owns it */
        Py_BEGIN_ALLOW_THREADS
        gp_server_call_delegate(self->base.call, handler, wants_message != 0);
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_NONE;
}

static PyObject *
call_take_first(AsyncServerCallObject *self, PyObject *args)
{
    PyObject *deserializer;
    PyObject *otherwise;
    gp_message *message;

    if (!PyArg_ParseTuple(args, "OO:_take_first", &deserializer, &otherwise)) {
        return NULL;
    }
    if (self->first == NULL) {
        return Py_NewRef(otherwise);
    }
    message = self->first;
    self->first = NULL;
    self->with_first = false;
    return pygo_deserialize(deserializer, message);
}

static PyObject *
call_details(AsyncServerCallObject *self, PyObject *Py_UNUSED(ignored))
{
    return pygo_handler_details_new(self->base.call);
}

static PyObject *
call_expect_one(AsyncServerCallObject *self, PyObject *Py_UNUSED(ignored))
{
    if (self->arrivals != NULL) {
        pygo_arrivals_expect_one(self->arrivals, gp_server_call_method(self->base.call));
    }
    Py_RETURN_NONE;
}

static PyObject *
call_was_cancelled(AsyncServerCallObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(gp_server_call_cancelled(self->base.call));
}

static PyMethodDef methods[] = {
    {"_receive", (PyCFunction)call_receive, METH_VARARGS,
     "_receive($self, deserializer, future, end, /)\n--\n\nResolve the future with the next "
     "request, or with end if there is none. One at a time."},
    {"_send", (PyCFunction)call_send, METH_VARARGS,
     "_send($self, message, future, /)\n--\n\nSend bytes, and resolve the future when the next may "
     "be sent. False: the call is over, and the future is not resolved."},
    {"_flush", (PyCFunction)call_flush, METH_O,
     "_flush($self, future, /)\n--\n\nResolve the future when everything has been sent. False: it "
     "has been sent already, and the future is not resolved."},
    {"_send_metadata", (PyCFunction)call_send_metadata, METH_VARARGS,
     "_send_metadata($self, metadata, future, /)\n--\n\nSend initial metadata. Resolves the future "
     "and returns as _send(); False also if it has been sent before."},
    {"_on_cancel", (PyCFunction)call_on_cancel, METH_O,
     "_on_cancel($self, callback, /)\n--\n\nHave callback() called on the loop if the call ends "
     "before it is answered. May be used once. False: the call has ended already."},
    {"_finish", (PyCFunction)call_finish, METH_VARARGS,
     "_finish($self, message, code, details, /)\n--\n\nEnd the call, with a last message unless "
     "that is None, and hand it back. No send may be under way."},
    {"_give_up", (PyCFunction)call_give_up, METH_VARARGS,
     "_give_up($self, code, details, /)\n--\n\nCancel the call unless it is over, and hand it "
     "back, even while it sends or receives."},
    {"_delegate", (PyCFunction)call_delegate, METH_VARARGS,
     "_delegate($self, handler, wants_message, /)\n--\n\nHave a worker answer the call."},
    {"_handler_details", (PyCFunction)call_details, METH_NOARGS,
     "_handler_details($self)\n--\n\nThe method and the metadata of the call."},
    {"_take_first", (PyCFunction)call_take_first, METH_VARARGS,
     "_take_first($self, deserializer, otherwise, /)\n--\n\nThe request that the call was "
     "announced with; the argument otherwise if there is none."},
    {"_expect_one", (PyCFunction)call_expect_one, METH_NOARGS,
     "_expect_one($self)\n--\n\nHave later calls of the method announced together with their one "
     "request."},
    {"_was_cancelled", (PyCFunction)call_was_cancelled, METH_NOARGS,
     "_was_cancelled($self)\n--\n\nWhether the call ended before it was answered."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, call_dealloc},
    {Py_tp_traverse, pygo_server_call_traverse},
    {Py_tp_clear, pygo_server_call_clear},
    {Py_tp_methods, methods},
    {Py_tp_doc, "One call of pygo_plugin.aio on the server's side. Made by the server."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.AsyncServerCall",
    .basicsize = sizeof(AsyncServerCallObject),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | PYGO_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int
pygo_async_server_call_setup(PyObject *module, pygo_state *state)
{
    state->async_server_call_type = pygo_add_subtype(module, &spec, state->server_call_type);
    return state->async_server_call_type != NULL ? 0 : -1;
}
