#include <string.h>

#include "gp/lock.h"
#include "py/async_server.h"
#include "py/errors.h"
#include "py/message.h"
#include "py/metadata.h"
#include "py/operation.h"
#include "py/server.h"

/* How many methods are remembered to take one request. */
enum { MAX_UNARY = 256 };

/*
 * If a method is known to take one request, its calls are announced to the loop together with it,
 * which saves the loop a second wake-up. Other calls are announced at once, since their handlers may
 * send the first message.
 *
 * Invariant: |unary| and |unary_count| change with both |lock| and the GIL held, so that either is
 * enough to read them.
 */
struct pygo_arrivals {
    gp_mutex lock;
    PyObject *unary[MAX_UNARY] GP_GUARDED_BY(&lock); /* owned bytes: the paths of those methods */
    int unary_count GP_GUARDED_BY(&lock);
    gp_queue *queue;      /* shared: ref; NULL until the start */
    PyObject *loop_queue; /* borrowed: the LoopQueue of |queue|; valid while it drains */
    pygo_loop_member member;
    PyObject *arrived;      /* owned; NULL once the loop or the server is gone */
    PyTypeObject *contexts; /* owned: a subclass of AsyncServerCall */
    PyObject *registered;   /* owned dict: method -> handler */
};

/* A call on its way to the loop. */
typedef struct arrival {
    pygo_completion base;
    gp_server_call *call;    /* owned: the application's reference */
    gp_message *message;     /* owned: the first one; NULL if none has come */
    bool with_message;       /* |message| has been received, or there are no messages */
    pygo_arrivals *arrivals; /* borrowed: lives as long as the server, which the call keeps */
} arrival;

/* The base of the contexts of pygo_plugin.aio. Its methods never wait; they resolve futures later. */
typedef struct AsyncServerCallObject {
    ServerCallObject base;
    gp_queue *queue; /* shared: ref */
    pygo_loop_member member;
    pygo_arrivals *arrivals; /* borrowed: lives as long as the server, which the call keeps */
    /* Owned until the core has posted it: calls the callback of _on_cancel(). NULL: there is none. */
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

static void
refuse_call(gp_server_call *call, int code, const char *details)
{
    pygo_server_call_refuse(call, code, details);
    gp_server_call_hand_back(call);
}

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
 * The loop is gone: the task of the method will never run again. The callable of _on_cancel() keeps
 * the task, which keeps this object. Dropping the callable frees all of them.
 */
static void
end_orphaned_call(pygo_loop_member *member)
{
    AsyncServerCallObject *self = gp_container_of(member, AsyncServerCallObject, member);

    Py_INCREF(self);
    cancel_and_hand_back(self, GP_GRPC_UNAVAILABLE, "the server's event loop is closed");
    Py_DECREF(self);
}

/* ---- Arrivals ---- */

/* Make the call's context and have the server's |arrived| take it. On the loop's thread. */
static void
announce_call(arrival *self)
{
    PyTypeObject *type = self->arrivals->contexts;
    AsyncServerCallObject *context =
        (AsyncServerCallObject *)pygo_server_call_new(type, self->call);
    PyObject *method = pygo_server_call_method(self->call);
    PyObject *handler =
        method != NULL ? PyDict_GetItemWithError(self->arrivals->registered, method) : NULL;
    PyObject *result;

    if (context == NULL || (handler == NULL && PyErr_Occurred())) {
        PyErr_WriteUnraisable(self->arrivals->arrived);
        refuse_call(self->call, GP_GRPC_UNKNOWN, "out of memory");
        Py_XDECREF(context);
        Py_XDECREF(method);
        return;
    }
    context->queue = gp_queue_ref(self->base.queue);
    context->member.orphaned = end_orphaned_call;
    pygo_loop_add(self->arrivals->loop_queue, &context->member);
    context->arrivals = self->arrivals;
    context->first = self->message;
    context->with_first = self->with_message;
    self->message = NULL;
    context->ours = true;
    handler = Py_NewRef(handler != NULL ? handler : Py_None);
    result = PyObject_CallFunctionObjArgs(self->arrivals->arrived, context, handler, NULL);
    Py_DECREF(handler);
    Py_DECREF(method);
    if (result == NULL) {
        PyErr_WriteUnraisable(self->arrivals->arrived);
    }
    Py_XDECREF(result);
    Py_DECREF(context); /* the last reference ends the call */
}

static void
finish_arrival(pygo_completion *completion, bool alive)
{
    arrival *self = (arrival *)completion;

    if (alive && self->arrivals->arrived != NULL) {
        announce_call(self);
    } else {
        refuse_call(self->call, GP_GRPC_UNAVAILABLE, "the server's event loop is closed");
    }
    if (self->message != NULL) {
        gp_message_free(self->message);
    }
    pygo_completion_free(completion);
}

pygo_arrivals *
pygo_arrivals_new(PyObject *arrived, PyObject *contexts, PyObject *registered)
{
    pygo_arrivals *self;

    if (pygo_check_subclass(contexts, pygo_module_state->async_server_call_type) < 0) {
        return NULL;
    }
    self = PyMem_RawCalloc(1, sizeof(*self));
    if (self == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    gp_mutex_init(&self->lock);
    self->arrived = Py_NewRef(arrived);
    self->contexts = (PyTypeObject *)Py_NewRef(contexts);
    self->registered = Py_NewRef(registered);
    return self;
}

/*
 * The loop is gone: nothing will arrive any more. |arrived| keeps the tasks of this server's calls,
 * which keep the calls, which keep the server. Dropping it breaks that cycle.
 */
static void
drop_orphaned_arrivals(pygo_loop_member *member)
{
    pygo_arrivals *self = gp_container_of(member, pygo_arrivals, member);

    Py_CLEAR(self->arrived);
}

int
pygo_arrivals_set_queue(pygo_arrivals *arrivals, PyObject *loop_queue)
{
    gp_queue *queue = pygo_queue_of(loop_queue);

    if (queue == NULL) {
        return -1;
    }
    gp_queue_unref(arrivals->queue);
    arrivals->queue = gp_queue_ref(queue);
    arrivals->loop_queue = loop_queue;
    arrivals->member.orphaned = drop_orphaned_arrivals;
    gp_link_remove(&arrivals->member.link);
    pygo_loop_add(loop_queue, &arrivals->member);
    return 0;
}

int
pygo_arrivals_traverse(pygo_arrivals *arrivals, visitproc visit, void *arg)
{
    Py_VISIT(arrivals->arrived);
    Py_VISIT(arrivals->contexts);
    Py_VISIT(arrivals->registered);
    return 0;
}

void
pygo_arrivals_clear(pygo_arrivals *arrivals)
{
    Py_CLEAR(arrivals->arrived); /* from now on calls are refused */
    Py_CLEAR(arrivals->registered);
}

/* Not analysed, since no other thread uses |arrivals| any more. */
GP_NO_THREAD_SAFETY_ANALYSIS void
pygo_arrivals_free(pygo_arrivals *arrivals)
{
    if (arrivals != NULL) {
        gp_link_remove(&arrivals->member.link);
        Py_XDECREF(arrivals->arrived);
        Py_DECREF(arrivals->contexts);
        Py_XDECREF(arrivals->registered);
        gp_queue_unref(arrivals->queue);
        for (int i = 0; i < arrivals->unary_count; i++) {
            Py_DECREF(arrivals->unary[i]);
        }
        gp_mutex_release(&arrivals->lock);
        PyMem_RawFree(arrivals);
    }
}

/* Call with the lock or the GIL held. The analysis knows only the lock. */
GP_NO_THREAD_SAFETY_ANALYSIS static bool
takes_one_request(const pygo_arrivals *arrivals, gp_bytes path)
{
    for (int i = 0; i < arrivals->unary_count; i++) {
        gp_bytes known = pygo_bytes_view(arrivals->unary[i]);

        if (known.len == path.len && memcmp(known.data, path.data, path.len) == 0) {
            return true;
        }
    }
    return false;
}

/* If that fails, or there is no room, calls of the method are announced at once. With the GIL. */
static void
remember_one_request(pygo_arrivals *arrivals, gp_bytes path)
{
    PyObject *bytes;

    if (takes_one_request(arrivals, path)) {
        return;
    }
    bytes = PyBytes_FromStringAndSize(path.data, (Py_ssize_t)path.len);
    if (bytes == NULL) {
        PyErr_Clear();
        return;
    }
    gp_mutex_lock(&arrivals->lock);
    if (arrivals->unary_count < MAX_UNARY) {
        arrivals->unary[arrivals->unary_count++] = bytes;
        bytes = NULL;
    }
    gp_mutex_unlock(&arrivals->lock);
    Py_XDECREF(bytes);
}

static void
post_arrival(arrival *self)
{
    if (!pygo_completion_try_post(&self->base)) {
        refuse_call(self->call, GP_GRPC_UNAVAILABLE, "the server's event loop is closed");
        if (self->message != NULL) {
            gp_message_free(self->message);
        }
        pygo_completion_free(&self->base);
    }
}

static void
receive_first(void *ctx, gp_message *message)
{
    arrival *self = ctx;

    self->message = message;
    self->with_message = true;
    post_arrival(self);
}

void
pygo_arrivals_take(pygo_arrivals *arrivals, gp_server_call *call)
{
    gp_message *message;
    bool wait;
    arrival *self = pygo_completion_new_raw(sizeof(*self), arrivals->queue, finish_arrival);

    if (self == NULL) {
        refuse_call(call, GP_GRPC_UNAVAILABLE, "out of memory");
        return;
    }
    self->call = call;
    self->arrivals = arrivals;
    gp_mutex_lock(&arrivals->lock);
    wait = takes_one_request(arrivals, gp_server_call_method(call));
    gp_mutex_unlock(&arrivals->lock);
    if (!wait) {
        post_arrival(self);
    } else if (gp_server_call_receive_then(call, &message, receive_first, self)) {
        receive_first(self, message);
    }
}

/* ---- AsyncServerCall ---- */

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
    rc = gp_server_call_on_cancel(self->base.call, pygo_operation_then, op);
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
        remember_one_request(self->arrivals, gp_server_call_method(self->base.call));
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
     "_send_metadata($self, metadata, future, /)\n--\n\nSend initial metadata, as _send(); also "
     "False if they have been sent before."},
    {"_on_cancel", (PyCFunction)call_on_cancel, METH_O,
     "_on_cancel($self, callback, /)\n--\n\nHave callback() called on the loop if the call ends "
     "before it is answered. May be used once. False: the call has ended already."},
    {"_finish", (PyCFunction)call_finish, METH_VARARGS,
     "_finish($self, message, code, details, /)\n--\n\nEnd the call, with a last message unless "
     "that is None, and hand it back. No send may be under way."},
    {"_give_up", (PyCFunction)call_give_up, METH_VARARGS,
     "_give_up($self, code, details, /)\n--\n\nCancel the call unless it is over, and hand it "
     "back, whatever is under way."},
    {"_delegate", (PyCFunction)call_delegate, METH_VARARGS,
     "_delegate($self, handler, wants_message, /)\n--\n\nHave a worker answer the call."},
    {"_handler_details", (PyCFunction)call_details, METH_NOARGS,
     "_handler_details($self)\n--\n\nThe method and the metadata of the call."},
    {"_take_first", (PyCFunction)call_take_first, METH_VARARGS,
     "_take_first($self, deserializer, otherwise, /)\n--\n\nThe request that the call was "
     "announced with; without one, otherwise."},
    {"_expect_one", (PyCFunction)call_expect_one, METH_NOARGS,
     "_expect_one($self)\n--\n\nRemember that the method takes one request, with which its next "
     "calls are announced."},
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
