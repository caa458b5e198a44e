#include "py/gob.h"
#include "py/netrpc.h"

static PyObject *
gob_type_attribute(void)
{
    static PyObject *name;

    if (name == NULL) {
        name = PyUnicode_InternFromString("__gob_type__");
    }
    return name;
}

/* The GobType that a class keeps for itself: borrowed; NULL, perhaps with an exception. */
static PyObject *
type_of_class(PyObject *annotation)
{
    PyObject *name = gob_type_attribute();

    if (name == NULL || !PyType_Check(annotation) ||
        ((PyTypeObject *)annotation)->tp_dict == NULL) {
        return NULL;
    }
    return PyDict_GetItemWithError(((PyTypeObject *)annotation)->tp_dict, name);
}

/* The GobType of an annotation: a new reference, or NULL with an exception. */
static PyObject *
find_type(PyObject *annotation)
{
    PyObject *found;
    PyObject *type_of;

    if (Py_TYPE(annotation) == pygo_module_state->gob_type_type) {
        return Py_NewRef(annotation);
    }
    found = type_of_class(annotation);
    if (found != NULL || PyErr_Occurred()) {
        return Py_XNewRef(found);
    }
    type_of = pygo_provided(PYGO_GOB_TYPE_OF);
    return type_of != NULL ? PyObject_CallOneArg(type_of, annotation) : NULL;
}

/* ---- Replies ---- */

int
pygo_netrpc_reply_type_of(pygo_netrpc_reply_type *out, PyObject *annotation)
{
    *out = (pygo_netrpc_reply_type){.wanted = annotation != Py_None};
    if (!out->wanted) {
        return 0;
    }
    out->gob_type = annotation != NULL ? find_type(annotation) : Py_NewRef(Py_None);
    return out->gob_type != NULL ? 0 : -1;
}

PyObject *
pygo_netrpc_decode_reply(gp_gob_decoder *decoder, const gp_gob_message *message,
                         const pygo_netrpc_reply_type *type)
{
    return type->wanted ? pygo_gob_decode(decoder, message, type->gob_type) : Py_NewRef(Py_None);
}

/* ---- Arguments ---- */

int
pygo_netrpc_encode(gp_gob_output *out, PyObject *value, PyObject *annotation)
{
    PyObject *typed = NULL; /* (GobType, value) */
    PyObject *type;
    PyObject *infer;
    int rc = -1;

    if (value == NULL) {
        value = Py_None;
    }
    type = annotation != NULL ? find_type(annotation) : type_of_class((PyObject *)Py_TYPE(value));
    if (type != NULL) {
        rc = pygo_gob_encode(type, value, out);
        if (annotation != NULL) {
            Py_DECREF(type);
        }
        return rc;
    }
    if (PyErr_Occurred()) {
        return -1;
    }
    infer = pygo_provided(PYGO_INFER_TYPE);
    typed = infer != NULL ? PyObject_CallOneArg(infer, value) : NULL;
    if (typed != NULL && PyTuple_Check(typed) && PyTuple_GET_SIZE(typed) == 2) {
        rc = pygo_gob_encode(PyTuple_GET_ITEM(typed, 0), PyTuple_GET_ITEM(typed, 1), out);
    }
    Py_XDECREF(typed);
    return rc;
}
