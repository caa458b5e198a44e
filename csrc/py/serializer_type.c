#include "py/state.h"

/* A serializer of messages of one class. */
typedef struct SerializerObject {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *type;      /* owned: the class */
    PyObject *serialize; /* owned: serialize(message) -> bytes */
    PyObject *otherwise; /* owned: otherwise(object) -> bytes, for objects of other classes */
} SerializerObject;

static PyObject *
serialize(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    SerializerObject *self = (SerializerObject *)callable;

    if (PyVectorcall_NARGS(nargsf) != 1 || kwnames != NULL) {
        PyErr_SetString(PyExc_TypeError, "a serializer takes one argument, the message");
        return NULL;
    }
    return PyObject_CallOneArg(
        (PyObject *)Py_TYPE(args[0]) == self->type ? self->serialize : self->otherwise, args[0]);
}

static PyObject *
serializer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    SerializerObject *self;
    PyObject *message_type;
    PyObject *function;
    PyObject *otherwise;

    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Serializer() takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O!OO:Serializer", &PyType_Type, &message_type, &function,
                          &otherwise)) {
        return NULL;
    }
    self = (SerializerObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->vectorcall = serialize;
    self->type = Py_NewRef(message_type);
    self->serialize = Py_NewRef(function);
    self->otherwise = Py_NewRef(otherwise);
    return (PyObject *)self;
}

static int
serializer_traverse(SerializerObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->type);
    Py_VISIT(self->serialize);
    Py_VISIT(self->otherwise);
    return 0;
}

static int
serializer_clear(SerializerObject *self)
{
    Py_CLEAR(self->type);
    Py_CLEAR(self->serialize);
    Py_CLEAR(self->otherwise);
    return 0;
}

static void
serializer_dealloc(SerializerObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    serializer_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(SerializerObject, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, serializer_new},
    {Py_tp_dealloc, serializer_dealloc},
    {Py_tp_traverse, serializer_traverse},
    {Py_tp_clear, serializer_clear},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_members, members},
    {Py_tp_doc, "Serializer(message_type, serialize, otherwise, /)\n--\n\n"
                "Makes bytes of a message: serialize(message) if its class is message_type, else "
                "otherwise(message)."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.Serializer",
    .basicsize = sizeof(SerializerObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = slots,
};

int
pygo_serializer_setup(PyObject *module, pygo_state *state)
{
    (void)state;
    return pygo_add_type(module, &spec) != NULL ? 0 : -1;
}
