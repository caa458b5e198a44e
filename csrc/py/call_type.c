#include "py/call.h"

#include "py/callbacks.h"
#include "py/convert.h"
#include "py/errors.h"
#include "py/gil.h"
#include "py/message.h"
#include "py/metadata.h"

int
pygo_call_wait(gp_call *call, int64_t timeout_ns)
{
    const gp_interrupt *interrupt = pygo_call_interrupt();
    int rc;

    Py_BEGIN_ALLOW_THREADS
    rc = gp_call_wait(call, timeout_ns, interrupt);
    if (rc == GP_EUSER) {
        gp_call_cancel(call, GP_GRPC_CANCELLED, "interrupted");
    }
    Py_END_ALLOW_THREADS
    return rc;
}

PyObject *
pygo_call_wrap(pygo_name kind, gp_call *call, PyObject *method, PyObject *deserializer)
{
    PyTypeObject *type = (PyTypeObject *)pygo_provided(kind);
    CallObject *self = type != NULL ? (CallObject *)type->tp_alloc(type, 0) : NULL;

    if (self == NULL) {
        gp_call_unref(call);
        return NULL;
    }
    self->call = call;
    self->method = Py_NewRef(method);
    self->deserializer = Py_NewRef(deserializer);
    return (PyObject *)self;
}

PyObject *
pygo_call_raise(gp_call *call, PyObject *method, PyObject *deserializer)
{
    PyObject *wrapped = pygo_call_wrap(PYGO_CALL, call, method, deserializer);
    PyObject *make = wrapped != NULL ? pygo_provided(PYGO_RPC_ERROR) : NULL;
    PyObject *exception = make != NULL ? PyObject_CallOneArg(make, wrapped) : NULL;

    Py_XDECREF(wrapped);
    return pygo_raise_object(exception);
}

/* ---- Call ---- */

void
pygo_call_dealloc(CallObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    if (self->call != NULL) {
        Py_BEGIN_ALLOW_THREADS
        gp_call_unref(self->call);
        Py_END_ALLOW_THREADS
    }
    Py_XDECREF(self->method);
    Py_XDECREF(self->deserializer);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
call_wait(CallObject *self, PyObject *timeout)
{
    int64_t timeout_ns;
    int rc;

    if (pygo_check_forked() < 0 || pygo_timeout_ns(&timeout_ns, timeout) < 0) {
        return NULL;
    }
    rc = pygo_call_wait(self->call, timeout_ns);
    return rc == GP_EUSER ? NULL : PyBool_FromLong(rc == 0);
}

static PyObject *
call_cut_off(CallObject *self, PyObject *Py_UNUSED(ignored))
{
    char tail[GP_CALL_STDERR];
    int status;

    if (!gp_call_cut_off(self->call, &status, tail)) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue("NN",
                         status != GP_STATUS_UNKNOWN ? PyLong_FromLong(status) : Py_NewRef(Py_None),
                         PyUnicode_DecodeUTF8(tail, (Py_ssize_t)strlen(tail), "replace"));
}

static PyObject *
call_status(CallObject *self, PyObject *Py_UNUSED(ignored))
{
    const gp_call_status *status = gp_call_get_status(self->call);
    PyObject *trailing;

    if (status == NULL) {
        Py_RETURN_NONE;
    }
    trailing = pygo_metadata_to_python(status->trailing);
    if (trailing == NULL) {
        return NULL;
    }
    return Py_BuildValue(
        "iNNz", status->code,
        PyUnicode_DecodeUTF8(status->details.data, (Py_ssize_t)status->details.len, "replace"),
        trailing, status->debug);
}

static PyObject *
call_take_reply(CallObject *self, PyObject *Py_UNUSED(ignored))
{
    gp_message *reply = gp_call_done(self->call) ? gp_call_take_reply(self->call) : NULL;

    if (reply == NULL) {
        Py_RETURN_NONE;
    }
    return pygo_deserialize(self->deserializer, reply);
}

static PyObject *
call_initial_metadata(CallObject *self, PyObject *Py_UNUSED(ignored))
{
    const gp_interrupt *interrupt = pygo_call_interrupt();
    gp_metadata metadata;
    int rc;

    if (pygo_check_forked() < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_call_initial_metadata(self->call, &metadata, interrupt);
    if (rc == GP_EUSER) {
        gp_call_cancel(self->call, GP_GRPC_CANCELLED, "interrupted");
    }
    Py_END_ALLOW_THREADS
    return rc < 0 ? NULL : pygo_metadata_to_python(metadata);
}

static PyObject *
call_cancel(CallObject *self, PyObject *args)
{
    int code;
    const char *details;

    if (!PyArg_ParseTuple(args, "is:_cancel", &code, &details)) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    gp_call_cancel(self->call, code, details);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
call_done(CallObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(gp_call_done(self->call));
}

static PyObject *
call_time_remaining(CallObject *self, PyObject *Py_UNUSED(ignored))
{
    return pygo_time_remaining(gp_call_time_remaining(self->call));
}

static void
post_callback(void *callback)
{
    pygo_callback_post(callback);
}

static PyObject *
call_on_done(CallObject *self, PyObject *callable)
{
    pygo_callback *callback = pygo_callback_new(callable);

    if (callback == NULL) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    gp_call_on_done(self->call, post_callback, callback);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
call_next(CallObject *self)
{
    const gp_interrupt *interrupt = pygo_call_interrupt();
    gp_message *message;
    int rc;

    if (pygo_check_forked() < 0 || pygo_receive_begin(&self->receiving) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_call_receive(self->call, &message, interrupt);
    if (rc == 0) {
        rc = gp_call_wait(self->call, -1, interrupt);
    }
    if (rc == GP_EUSER) {
        gp_call_cancel(self->call, GP_GRPC_CANCELLED, "interrupted");
    }
    Py_END_ALLOW_THREADS
    self->receiving = false;
    if (message != NULL) {
        PyObject *object = pygo_deserialize(self->deserializer, message);

        if (object == NULL) {
            gp_call_cancel(self->call, GP_GRPC_CANCELLED, "Exception deserializing response!");
        }
        return object;
    }
    /* The end of the stream: NULL without an exception means StopIteration. */
    if (rc == 0 && gp_call_get_status(self->call)->code != 0) {
        pygo_call_raise(gp_call_ref(self->call), self->method, self->deserializer);
    }
    return NULL;
}

static PyMethodDef base_methods[] = {
    {"_cut_off", (PyCFunction)call_cut_off, METH_NOARGS,
     "_cut_off($self)\n--\n\nIf the end of the plugin's process has ended the call: (exit status, "
     "end of stderr).\nThe status is None if it is unknown."},
    {"_status", (PyCFunction)call_status, METH_NOARGS,
     "_status($self)\n--\n\n(code, details, trailing metadata, debug text), or None."},
    {"_take_reply", (PyCFunction)call_take_reply, METH_NOARGS,
     "_take_reply($self)\n--\n\nThe one reply of a finished call, or None. Later calls: None."},
    {"_cancel", (PyCFunction)call_cancel, METH_VARARGS,
     "_cancel($self, code, details, /)\n--\n\nEnd the call with this status unless it has ended."},
    {"time_remaining", (PyCFunction)call_time_remaining, METH_NOARGS,
     "time_remaining($self)\n--\n\nSeconds until the deadline; None if there is none."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef base_members[] = {
    {"_method", T_OBJECT_EX, offsetof(CallObject, method), READONLY, "The method, as bytes."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(CallObject, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot base_slots[] = {
    {Py_tp_dealloc, pygo_call_dealloc},
    {Py_tp_methods, base_methods},
    {Py_tp_members, base_members},
    {Py_tp_doc, "One RPC: the methods that never wait."},
    {0, NULL},
};

static PyType_Spec base_spec = {
    .name = "pygo_plugin._core.CallBase",
    .basicsize = sizeof(CallObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | PYGO_DISALLOW_INSTANTIATION,
    .slots = base_slots,
};

static PyMethodDef call_methods[] = {
    {"_wait", (PyCFunction)call_wait, METH_O,
     "_wait($self, timeout, /)\n--\n\nWait up to timeout seconds for the status. Returns: whether "
     "it is there."},
    {"_done", (PyCFunction)call_done, METH_NOARGS,
     "_done($self)\n--\n\nWhether the status is there."},
    {"_on_done", (PyCFunction)call_on_done, METH_O,
     "_on_done($self, callback, /)\n--\n\nHave callback() called once the status is there. May be "
     "used once."},
    {"initial_metadata", (PyCFunction)call_initial_metadata, METH_NOARGS,
     "initial_metadata($self)\n--\n\nWait for the metadata that is sent ahead of the reply, and "
     "return it."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot call_slots[] = {
    {Py_tp_methods, call_methods},
    {Py_tp_doc, "One RPC. Made by calling a stub, never directly."},
    {0, NULL},
};

static PyType_Spec call_spec = {
    .name = "pygo_plugin._core.Call",
    .basicsize = sizeof(CallObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | PYGO_DISALLOW_INSTANTIATION,
    .slots = call_slots,
};

/* A type of its own, since Call is not an iterator and has no __next__. */
static PyType_Slot stream_slots[] = {
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, call_next},
    {Py_tp_doc, "One RPC with a stream of replies. Made by calling a stub, never directly."},
    {0, NULL},
};

static PyType_Spec stream_spec = {
    .name = "pygo_plugin._core.StreamCall",
    .basicsize = sizeof(CallObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | PYGO_DISALLOW_INSTANTIATION,
    .slots = stream_slots,
};

int
pygo_call_setup(PyObject *module, pygo_state *state)
{
    PyTypeObject *stream;

    state->call_base_type = pygo_add_type(module, &base_spec);
    if (state->call_base_type == NULL) {
        return -1;
    }
    state->call_type = pygo_add_subtype(module, &call_spec, state->call_base_type);
    stream =
        state->call_type != NULL ? pygo_add_subtype(module, &stream_spec, state->call_type) : NULL;
    Py_XDECREF(stream);
    return stream != NULL ? 0 : -1;
}
