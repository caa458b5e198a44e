#include "py/call.h"

#include "py/gil.h"
#include "py/message.h"

/* ---- SenderBase ---- */

SenderObject *
pygo_sender_new(PyTypeObject *type, gp_call *call, PyObject *serializer)
{
    SenderObject *self = (SenderObject *)type->tp_alloc(type, 0);

    if (self != NULL) {
        self->call = gp_call_hold(call);
        self->serializer = Py_NewRef(serializer);
    }
    return self;
}

void
pygo_sender_dealloc(SenderObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    if (self->call != NULL) {
        gp_call_release(self->call);
    }
    Py_XDECREF(self->serializer);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
sender_fail(SenderObject *self, PyObject *args)
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

static PyMethodDef base_methods[] = {
    {"fail", (PyCFunction)sender_fail, METH_VARARGS,
     "fail($self, code, details, /)\n--\n\nEnd the call with this status."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot base_slots[] = {
    {Py_tp_dealloc, pygo_sender_dealloc},
    {Py_tp_methods, base_methods},
    {Py_tp_doc, "The sending side of a call."},
    {0, NULL},
};

static PyType_Spec base_spec = {
    .name = "pygo_plugin._core.SenderBase",
    .basicsize = sizeof(SenderObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | PYGO_DISALLOW_INSTANTIATION,
    .slots = base_slots,
};

/* ---- Sender ---- */

int
pygo_call_feed(gp_call *call, PyObject *serializer, PyObject *requests)
{
    PyObject *start = pygo_provided(PYGO_START_FEEDING);
    SenderObject *sender =
        start != NULL ? pygo_sender_new(pygo_module_state->sender_type, call, serializer) : NULL;
    PyObject *result;

    if (sender == NULL) {
        return -1;
    }
    result = PyObject_CallFunctionObjArgs(start, (PyObject *)sender, requests, NULL);
    Py_DECREF(sender);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

static PyObject *
sender_send(SenderObject *self, PyObject *message)
{
    PyObject *bytes = pygo_serialize(self->serializer, message);
    const gp_interrupt *interrupt = pygo_call_interrupt();
    int rc;

    if (bytes == NULL) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_call_send(self->call, pygo_bytes_view(bytes), interrupt);
    Py_END_ALLOW_THREADS
    Py_DECREF(bytes);
    if (rc == GP_EUSER) {
        return NULL;
    }
    return PyBool_FromLong(rc == 0);
}

static PyObject *
sender_close(SenderObject *self, PyObject *Py_UNUSED(ignored))
{
    const gp_interrupt *interrupt = pygo_call_interrupt();
    int rc;

    Py_BEGIN_ALLOW_THREADS
    rc = gp_call_send_close(self->call, interrupt);
    Py_END_ALLOW_THREADS
    if (rc == GP_EUSER) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"send", (PyCFunction)sender_send, METH_O,
     "send($self, message, /)\n--\n\nSend one request. Waits for flow control. Returns: False if "
     "the call is over."},
    {"close", (PyCFunction)sender_close, METH_NOARGS, "close($self)\n--\n\nEnd the requests."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_methods, methods},
    {Py_tp_doc, "The sending side of a call with a stream of requests."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.Sender",
    .basicsize = sizeof(SenderObject),
    .flags = Py_TPFLAGS_DEFAULT | PYGO_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int
pygo_sender_setup(PyObject *module, pygo_state *state)
{
    state->sender_base_type = pygo_add_type(module, &base_spec);
    if (state->sender_base_type == NULL) {
        return -1;
    }
    state->sender_type = pygo_add_subtype(module, &spec, state->sender_base_type);
    return state->sender_type != NULL ? 0 : -1;
}
