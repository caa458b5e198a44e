#include "gp/call.h"
#include "py/call.h"
#include "py/channel.h"
#include "py/errors.h"
#include "py/loop_future.h"
#include "py/message.h"
#include "py/metadata.h"
#include "py/operation.h"

/* The base of the calls of pygo_plugin.aio. Its methods never wait; they resolve futures later. */
typedef struct AsyncCallObject {
    CallObject base;
    PyObject *serializer; /* owned */
    PyObject *loop;       /* owned */
    PyObject *channel;    /* owned: a Channel */
    PyObject *ended;      /* owned: a LoopFuture */
    PyObject *reply;      /* owned: the one reply, once it has been asked for */
    PyObject *unreadable; /* owned: the exception of the deserializer, instead of |reply| */
    gp_queue *queue;      /* shared: ref */
    pygo_loop_member member;
    gp_link of_channel; /* in the list of its channel */
} AsyncCallObject;

/* The sending side of an AsyncCall. */
typedef struct AsyncSenderObject {
    SenderObject base;
    gp_queue *queue; /* shared: ref */
} AsyncSenderObject;

static void
release_call(void *call)
{
    gp_call_release(call);
}

/* The operation keeps the call's memory, but does not keep the call running. */
static pygo_operation *
operation_new(gp_queue *queue, gp_call *call, PyObject *future,
              void (*finish)(pygo_completion *, bool))
{
    return pygo_operation_new(queue, future, finish, gp_call_hold(call), release_call);
}

/* ---- AsyncCall ---- */

/* Called when the loop is gone: nothing in the program can learn how the call ends. */
static void
cancel_orphaned_call(pygo_loop_member *member)
{
    AsyncCallObject *self = gp_container_of(member, AsyncCallObject, member);

    gp_call_cancel(self->base.call, GP_GRPC_CANCELLED, "The event loop has been closed!");
}

/* Have |ended| resolved once the status is there. With |keep|, the call goes on until then. */
static int
watch_end(AsyncCallObject *self, bool keep)
{
    pygo_operation *op =
        operation_new(self->queue, self->base.call, self->ended, pygo_operation_resolve);

    if (op == NULL) {
        return -1;
    }
    op->keep = keep ? Py_NewRef((PyObject *)self) : NULL;
    Py_BEGIN_ALLOW_THREADS
    gp_call_on_done(self->base.call, pygo_operation_finished, op);
    Py_END_ALLOW_THREADS
    return 0;
}

PyObject *
pygo_async_call_wrap(PyTypeObject *type, gp_call *call, const pygo_async_setting *setting)
{
    gp_queue *queue = pygo_queue_of(setting->loop_queue);
    AsyncCallObject *self = NULL;

    if (queue != NULL &&
        pygo_check_subclass((PyObject *)type, pygo_module_state->async_call_type) == 0) {
        self = (AsyncCallObject *)type->tp_alloc(type, 0);
    }
    if (self == NULL) {
        gp_call_unref(call);
        return NULL;
    }
    self->base.call = call;
    self->base.method = Py_NewRef(setting->method);
    self->base.deserializer = Py_NewRef(setting->deserializer);
    self->serializer = Py_NewRef(setting->serializer);
    self->loop = Py_NewRef(setting->loop);
    self->channel = Py_NewRef(setting->channel);
    self->queue = gp_queue_ref(queue);
    self->member.orphaned = cancel_orphaned_call;
    pygo_loop_add(setting->loop_queue, &self->member);
    pygo_channel_add_call(self->channel, &self->of_channel);
    self->ended = pygo_loop_future_new(self->loop);
    if (self->ended == NULL || watch_end(self, setting->keep) < 0) {
        Py_DECREF(self); /* cancels the call */
        return NULL;
    }
    return (PyObject *)self;
}

PyObject *
pygo_async_call_of_channel(gp_link *link)
{
    PyObject *self = (PyObject *)gp_container_of(link, AsyncCallObject, of_channel);

    return Py_REFCNT(self) > 0 ? Py_NewRef(self) : NULL;
}

static int
call_traverse(AsyncCallObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->base.deserializer);
    Py_VISIT(self->serializer);
    Py_VISIT(self->loop);
    Py_VISIT(self->channel);
    Py_VISIT(self->ended);
    Py_VISIT(self->reply);
    Py_VISIT(self->unreadable);
    return 0;
}

/* The other members stay until the end, since methods rely on them. */
static int
call_clear(AsyncCallObject *self)
{
    Py_CLEAR(self->reply);
    Py_CLEAR(self->unreadable);
    return 0;
}

static void
call_dealloc(AsyncCallObject *self)
{
    PyObject_GC_UnTrack(self);
    gp_link_remove(&self->member.link);
    gp_link_remove(&self->of_channel);
    call_clear(self);
    Py_CLEAR(self->ended);
    Py_CLEAR(self->channel);
    Py_CLEAR(self->loop);
    Py_CLEAR(self->serializer);
    gp_queue_unref(self->queue);
    self->queue = NULL;
    pygo_call_dealloc(&self->base);
}

static PyObject *
call_reply(AsyncCallObject *self, PyObject *Py_UNUSED(ignored))
{
    if (self->reply == NULL && self->unreadable == NULL) {
        gp_message *message = gp_call_take_reply(self->base.call);

        self->reply = message != NULL ? pygo_deserialize(self->base.deserializer, message)
                                      : Py_NewRef(Py_None);
        if (self->reply == NULL) { /* kept for tasks that await the call later */
            self->unreadable = pygo_take_exception();
        }
    }
    return self->reply != NULL ? Py_NewRef(self->reply)
                               : pygo_raise_object(Py_NewRef(self->unreadable));
}

static PyObject *
call_receive(AsyncCallObject *self, PyObject *args)
{
    gp_message *message;
    PyObject *future;
    PyObject *end;
    pygo_operation *op;
    int there;

    if (!PyArg_ParseTuple(args, "OO:_receive", &future, &end) || pygo_check_forked() < 0) {
        return NULL;
    }
    op = operation_new(self->queue, self->base.call, future, pygo_operation_receive);
    if (op == NULL) {
        return NULL;
    }
    op->keep = Py_NewRef(end);
    op->deserializer = Py_NewRef(self->base.deserializer);
    Py_BEGIN_ALLOW_THREADS
    there = gp_call_receive_then(self->base.call, &message, pygo_operation_received, op);
    Py_END_ALLOW_THREADS
    return pygo_operation_receiving(op, there, message);
}

static PyObject *
call_on_metadata(AsyncCallObject *self, PyObject *future)
{
    pygo_operation *op;
    int there;

    if (pygo_check_forked() < 0) {
        return NULL;
    }
    op = operation_new(self->queue, self->base.call, future, pygo_operation_resolve);
    if (op == NULL) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    there = gp_call_initial_metadata_then(self->base.call, pygo_operation_finished, op);
    Py_END_ALLOW_THREADS
    if (there) {
        pygo_operation_resolve(&op->base, true);
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
call_code(AsyncCallObject *self, PyObject *Py_UNUSED(ignored))
{
    const gp_call_status *status = gp_call_get_status(self->base.call);

    return PyLong_FromLong(status != NULL ? status->code : -1);
}

static PyObject *
call_sender(AsyncCallObject *self, PyObject *Py_UNUSED(ignored))
{
    AsyncSenderObject *sender = (AsyncSenderObject *)pygo_sender_new(
        pygo_module_state->async_sender_type, self->base.call, self->serializer);

    if (sender != NULL) {
        sender->queue = gp_queue_ref(self->queue);
    }
    return (PyObject *)sender;
}

static PyMethodDef call_methods[] = {
    {"_the_reply", (PyCFunction)call_reply, METH_NOARGS,
     "_the_reply($self)\n--\n\nThe one reply of a call that has ended with OK."},
    {"_receive", (PyCFunction)call_receive, METH_VARARGS,
     "_receive($self, future, end, /)\n--\n\nResolve the future with the next reply, or with end "
     "if there is none. One at a time."},
    {"_on_metadata", (PyCFunction)call_on_metadata, METH_O,
     "_on_metadata($self, future, /)\n--\n\nResolve the future when initial metadata has come. "
     "One at a time."},
    {"_metadata", (PyCFunction)call_metadata, METH_NOARGS,
     "_metadata($self)\n--\n\nThe initial metadata, once _on_metadata() has resolved."},
    {"_code", (PyCFunction)call_code, METH_NOARGS,
     "_code($self)\n--\n\nThe number of the status, -1 while there is none."},
    {"_sender", (PyCFunction)call_sender, METH_NOARGS,
     "_sender($self)\n--\n\nThe sending side of this call."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef call_members[] = {
    {"_loop", T_OBJECT_EX, offsetof(AsyncCallObject, loop), READONLY, "the event loop"},
    {"_channel", T_OBJECT_EX, offsetof(AsyncCallObject, channel), READONLY, "the Channel"},
    {"_ended", T_OBJECT_EX, offsetof(AsyncCallObject, ended), READONLY,
     "resolved when the status is there; cancelled with the task that awaits it"},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot call_slots[] = {
    {Py_tp_dealloc, call_dealloc},
    {Py_tp_traverse, call_traverse},
    {Py_tp_clear, call_clear},
    {Py_tp_members, call_members},
    {Py_tp_methods, call_methods},
    {Py_tp_doc, "One RPC of pygo_plugin.aio. Made by calling a stub, never directly."},
    {0, NULL},
};

static PyType_Spec call_spec = {
    .name = "pygo_plugin._core.AsyncCall",
    .basicsize = sizeof(AsyncCallObject),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | PYGO_DISALLOW_INSTANTIATION,
    .slots = call_slots,
};

/* ---- AsyncSender ---- */

static void
sender_dealloc(AsyncSenderObject *self)
{
    gp_queue_unref(self->queue);
    self->queue = NULL;
    pygo_sender_dealloc(&self->base);
}

/* Send |message|, or the end if it is NULL, and resolve |future| when the next may be sent. */
static PyObject *
sender_post(AsyncSenderObject *self, const gp_bytes *message, PyObject *future)
{
    pygo_operation *op =
        operation_new(self->queue, self->base.call, future, pygo_operation_resolve);
    int rc;

    if (op == NULL) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_call_post(self->base.call, message, pygo_operation_sent, op);
    Py_END_ALLOW_THREADS
    return pygo_operation_posted(op, rc);
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
    bytes = pygo_serialize(self->base.serializer, message);
    if (bytes == NULL) {
        return NULL;
    }
    view = pygo_bytes_view(bytes);
    result = sender_post(self, &view, future);
    Py_DECREF(bytes);
    return result;
}

static PyObject *
sender_close(AsyncSenderObject *self, PyObject *future)
{
    return pygo_check_forked() < 0 ? NULL : sender_post(self, NULL, future);
}

static PyMethodDef sender_methods[] = {
    {"send", (PyCFunction)sender_send, METH_VARARGS,
     "send($self, message, future, /)\n--\n\nSend one request, and resolve the future when the "
     "next may be sent. False: the call is over, and the future is not resolved."},
    {"close", (PyCFunction)sender_close, METH_O,
     "close($self, future, /)\n--\n\nEnd the requests. Resolves the future and returns as send()."},
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
    state->async_sender_type = pygo_add_subtype(module, &sender_spec, state->sender_base_type);
    return state->async_call_type != NULL && state->async_sender_type != NULL ? 0 : -1;
}
