#include "py/netrpc.h"

#include <stdatomic.h>

#include "gp/lock.h"
#include "py/callbacks.h"
#include "py/convert.h"
#include "py/errors.h"
#include "py/gil.h"
#include "py/loop.h"

/*
 * What the end of a call of a thread sets off: a callback, if one has been added by then. Shared by
 * the core, which reports the end, and by the NetRpcCall.
 */
typedef struct call_end {
    atomic_int refs;
    _Atomic(pygo_callback *) callback; /* owned; NULL: none; |over|: the end has been reported */
} call_end;

/* What the end of a call of asyncio sets off. */
typedef struct call_completion {
    pygo_completion base;
    struct NetRpcCallObject *call; /* owned */
    PyObject *future;              /* owned: to be resolved */
} call_completion;

typedef struct NetRpcCallObject {
    PyObject_HEAD
    gp_netrpc_pending *pending;  /* shared: ref; NULL: it has not been started */
    NetRpcClientObject *client;  /* owned */
    PyObject *method;            /* owned: "Service.Method"; NULL: it has not been started */
    pygo_netrpc_reply_type type; /* of the reply */
    PyObject *value;             /* owned: the reply, once it was asked for */
    PyObject *error;             /* owned: the exception instead of that */
    call_end *end;               /* shared: ref; NULL: of asyncio */
    call_completion *completion; /* borrowed; NULL: it has finished, or the call is a thread's */
    PyObject *weakrefs;
} NetRpcCallObject;

static pygo_callback over; /* only its address is used */

/* ---- The end of a call of a thread ---- */

static void
unref_end(call_end *end)
{
    if (end != NULL && atomic_fetch_sub(&end->refs, 1) == 1) {
        PyMem_RawFree(end);
    }
}

/* For gp_netrpc_start(). */
static void
report_end(void *ctx)
{
    call_end *end = ctx;
    pygo_callback *callback = atomic_exchange(&end->callback, &over);

    if (callback != NULL) {
        pygo_callback_post(callback);
    }
    unref_end(end);
}

/* The call has been cancelled, so report_end() will not be called. */
static void
end_cancelled(call_end *end)
{
    report_end(end);
}

/* ---- The end of a call of asyncio ---- */

static PyObject *call_result(NetRpcCallObject *self, PyObject *ignored);

static void
free_completion(call_completion *self)
{
    self->call->completion = NULL;
    Py_DECREF((PyObject *)self->call);
    Py_DECREF(self->future);
    pygo_completion_free(&self->base);
}

/* For pygo_completion.finish: on the loop's thread. */
static void
finish_completion(pygo_completion *completion, bool alive)
{
    call_completion *self = (call_completion *)completion;

    if (alive) {
        pygo_future_resolve(self->future, call_result(self->call, NULL));
    }
    free_completion(self);
}

/* For gp_netrpc_start(). */
static void
post_completion(void *ctx)
{
    pygo_completion_post(&((call_completion *)ctx)->base);
}

/* ---- Starting ---- */

static NetRpcCallObject *
new_call(PyTypeObject *type, NetRpcClientObject *client, const pygo_netrpc_args *args)
{
    NetRpcCallObject *self = (NetRpcCallObject *)type->tp_alloc(type, 0);

    if (self != NULL) {
        self->client = (NetRpcClientObject *)Py_NewRef((PyObject *)client);
        if (pygo_netrpc_reply_type_of(&self->type, args->reply, args->method) < 0) {
            Py_CLEAR(self);
        }
    }
    return self;
}

/* Encode the argument and start the call. 0, or -1 with an exception; then |done| is not called. */
static int
start(NetRpcCallObject *self, const pygo_netrpc_args *args, gp_then *done, void *ctx)
{
    gp_error err = GP_ERROR_INIT;
    gp_gob_output *output;
    gp_bytes method;
    int rc;

    if (pygo_netrpc_method_name(&method, args->method) < 0) {
        return -1;
    }
    self->method = Py_NewRef(args->method);
    if (gp_gob_output_new(&output, &err) < 0) {
        pygo_raise(&err, NULL);
        return -1;
    }
    if (pygo_netrpc_encode(output, args->value, args->type) < 0) {
        pygo_netrpc_name_method(args->method);
        gp_gob_output_free(output);
        return -1;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_netrpc_start(&self->pending, self->client->client, method, output, done, ctx, &err);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        self->pending = NULL;
        pygo_netrpc_raise(self->client, &err);
    }
    return rc;
}

PyObject *
pygo_netrpc_call_start(NetRpcClientObject *client, PyTypeObject *type, const pygo_netrpc_args *args)
{
    NetRpcCallObject *self;

    if (args->timeout != NULL) {
        PyErr_SetString(PyExc_TypeError, "_start() takes no timeout");
        return NULL;
    }
    if (pygo_check_subclass((PyObject *)type, pygo_module_state->netrpc_call_type) < 0) {
        return NULL;
    }
    self = new_call(type, client, args);
    if (self == NULL) {
        return NULL;
    }
    self->end = PyMem_RawCalloc(1, sizeof(*self->end));
    if (self->end == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    atomic_init(&self->end->refs, 2);
    if (start(self, args, report_end, self->end) < 0) {
        unref_end(self->end); /* the core's reference */
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

PyObject *
pygo_netrpc_call_begin(NetRpcClientObject *client, PyObject *loop_queue, PyObject *future,
                       const pygo_netrpc_args *args)
{
    gp_queue *queue = pygo_queue_of(loop_queue);
    call_completion *completion;
    NetRpcCallObject *self;

    if (args->timeout != NULL) {
        PyErr_SetString(PyExc_TypeError, "_begin() takes no timeout");
        return NULL;
    }
    self = queue != NULL ? new_call(pygo_module_state->netrpc_call_type, client, args) : NULL;
    if (self == NULL) {
        return NULL;
    }
    completion = pygo_completion_new(sizeof(*completion), queue, finish_completion);
    if (completion == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    completion->call = (NetRpcCallObject *)Py_NewRef((PyObject *)self);
    completion->future = Py_NewRef(future);
    self->completion = completion;
    if (start(self, args, post_completion, completion) < 0) {
        free_completion(completion);
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

/* ---- Results ---- */

/* Decode the reply, or make the exception, of a call that is over: into |value| or |error|. */
static void
keep_outcome(NetRpcCallObject *self)
{
    gp_error err = GP_ERROR_INIT;
    const gp_gob_message *message;
    PyObject *value;

    if (gp_netrpc_pending_result(self->pending, &message, &err) < 0) {
        value = pygo_netrpc_raise(self->client, &err);
    } else {
        value = pygo_netrpc_decode_reply(gp_netrpc_client_decoder(self->client->client), message,
                                         &self->type);
    }
    /* Decoding may run code of the user's, and so another thread may have been faster. */
    if (self->value != NULL || self->error != NULL) {
        Py_XDECREF(value);
        PyErr_Clear();
    } else if (value != NULL) {
        self->value = value;
    } else {
        self->error = pygo_take_exception();
    }
}

static PyObject *
call_result(NetRpcCallObject *self, PyObject *Py_UNUSED(ignored))
{
    if (self->value == NULL && self->error == NULL) {
        keep_outcome(self);
    }
    return self->value != NULL ? Py_NewRef(self->value) : pygo_raise_object(Py_NewRef(self->error));
}

static PyObject *
call_error(NetRpcCallObject *self, PyObject *Py_UNUSED(ignored))
{
    if (self->value == NULL && self->error == NULL) {
        keep_outcome(self);
    }
    return Py_NewRef(self->error != NULL ? self->error : Py_None);
}

static PyObject *
call_wait(NetRpcCallObject *self, PyObject *timeout)
{
    const gp_interrupt *interrupt = pygo_call_interrupt();
    int64_t timeout_ms;
    int rc;

    if (pygo_check_forked() < 0 || pygo_timeout_ms(&timeout_ms, timeout) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_netrpc_pending_wait(self->pending, gp_deadline_in(timeout_ms), interrupt);
    Py_END_ALLOW_THREADS
    return rc == GP_EUSER ? NULL : PyBool_FromLong(rc == 0);
}

static PyObject *
call_over(NetRpcCallObject *self, PyObject *Py_UNUSED(ignored))
{
    bool is_over;

    if (pygo_check_forked() < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    is_over = gp_netrpc_pending_over(self->pending);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(is_over);
}

/* Give the call up. Returns false if it is over. */
static bool
cancel(NetRpcCallObject *self)
{
    bool cancelled;

    Py_BEGIN_ALLOW_THREADS
    cancelled = gp_netrpc_pending_cancel(self->pending);
    Py_END_ALLOW_THREADS
    if (cancelled && self->completion != NULL) {
        free_completion(self->completion);
    } else if (cancelled) {
        end_cancelled(self->end);
    }
    return cancelled;
}

static PyObject *
call_cancel(NetRpcCallObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(cancel(self));
}

static PyObject *
call_expire(NetRpcCallObject *self, PyObject *method)
{
    PyObject *future = self->completion != NULL ? Py_NewRef(self->completion->future) : NULL;
    PyObject *type = pygo_provided(PYGO_CALL_TIMEOUT_ERROR);

    if (type == NULL) {
        Py_XDECREF(future);
        return NULL;
    }
    if (future != NULL && cancel(self)) {
        PyErr_Format(type, "%U was not answered in time", method);
        pygo_future_resolve(future, NULL);
    }
    Py_XDECREF(future);
    Py_RETURN_NONE;
}

static PyObject *
call_cancelled(NetRpcCallObject *self, PyObject *Py_UNUSED(ignored))
{
    const gp_gob_message *message;
    bool cancelled;

    if (pygo_check_forked() < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    cancelled = gp_netrpc_pending_over(self->pending) &&
                gp_netrpc_pending_result(self->pending, &message, NULL) == GP_EUSER;
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(cancelled);
}

static PyObject *
call_on_done(NetRpcCallObject *self, PyObject *callable)
{
    pygo_callback *callback;
    pygo_callback *expected = NULL;

    if (self->end == NULL) {
        PyErr_SetString(PyExc_TypeError, "this call is asyncio's");
        return NULL;
    }
    callback = pygo_callback_new(callable);
    if (callback == NULL) {
        return NULL;
    }
    if (!atomic_compare_exchange_strong(&self->end->callback, &expected, callback)) {
        pygo_callback_post(callback); /* the call is over */
    }
    Py_RETURN_NONE;
}

/* ---- The type ---- */

static int
call_traverse(NetRpcCallObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->client);
    Py_VISIT(self->type.gob_type);
    Py_VISIT(self->value);
    Py_VISIT(self->error);
    return 0;
}

/* The other members stay until the end, since methods rely on them. */
static int
call_clear(NetRpcCallObject *self)
{
    Py_CLEAR(self->value);
    Py_CLEAR(self->error);
    return 0;
}

static void
call_dealloc(NetRpcCallObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    call_clear(self);
    Py_BEGIN_ALLOW_THREADS
    gp_netrpc_pending_unref(self->pending);
    Py_END_ALLOW_THREADS
    unref_end(self->end);
    pygo_netrpc_reply_type_release(&self->type);
    Py_XDECREF(self->method);
    Py_XDECREF((PyObject *)self->client);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"_wait", (PyCFunction)call_wait, METH_O,
     "_wait($self, timeout, /)\n--\n\nWait up to timeout seconds for the end. Returns: whether the "
     "call is over."},
    {"_over", (PyCFunction)call_over, METH_NOARGS,
     "_over($self)\n--\n\nWhether the call is over: answered, failed or cancelled."},
    {"_result", (PyCFunction)call_result, METH_NOARGS,
     "_result($self)\n--\n\nThe reply of a call that is over. Raises: as call()."},
    {"_error", (PyCFunction)call_error, METH_NOARGS,
     "_error($self)\n--\n\nThe exception that _result() would raise, or None."},
    {"_cancel", (PyCFunction)call_cancel, METH_NOARGS,
     "_cancel($self)\n--\n\nGive the call up: its answer is dropped. Returns: False if it is "
     "over."},
    {"_expire", (PyCFunction)call_expire, METH_O,
     "_expire($self, method, /)\n--\n\nGive a call of asyncio up, with CallTimeoutError."},
    {"_cancelled", (PyCFunction)call_cancelled, METH_NOARGS,
     "_cancelled($self)\n--\n\nWhether _cancel() has ended the call."},
    {"_on_done", (PyCFunction)call_on_done, METH_O,
     "_on_done($self, callback, /)\n--\n\nHave callback() called once the call is over. May be "
     "used "
     "once."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"_method", T_OBJECT, offsetof(NetRpcCallObject, method), READONLY, "Service.Method."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(NetRpcCallObject, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, call_dealloc},
    {Py_tp_traverse, call_traverse},
    {Py_tp_clear, call_clear},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_doc, "One net/rpc call that was started without waiting for it."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.NetRpcCall",
    .basicsize = sizeof(NetRpcCallObject),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | PYGO_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int
pygo_netrpc_call_setup(PyObject *module, pygo_state *state)
{
    state->netrpc_call_type = pygo_add_type(module, &spec);
    return state->netrpc_call_type != NULL ? 0 : -1;
}
