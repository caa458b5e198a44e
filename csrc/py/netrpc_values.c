#include "py/errors.h"
#include "py/gob.h"
#include "py/netrpc.h"

/*
 * The GobType of classes that are written in C, such as str, which cannot keep it themselves. They
 * live as long as the process.
 */
static struct {
    PyObject *by_annotation; /* owned dict */
    PyObject *by_class;      /* owned dict: what a value of the class is sent as */
    PyObject *attribute;     /* owned: "__gob_type__", where other classes keep it */
} known;

static bool
is_written_in_c(PyObject *annotation)
{
    return PyType_Check(annotation) &&
           !PyType_HasFeature((PyTypeObject *)annotation, Py_TPFLAGS_HEAPTYPE);
}

/* The GobType that a class keeps for itself: borrowed; NULL, perhaps with an exception. */
static PyObject *
type_of_class(PyObject *annotation)
{
    if (!PyType_Check(annotation) || ((PyTypeObject *)annotation)->tp_dict == NULL) {
        return NULL;
    }
    return PyDict_GetItemWithError(((PyTypeObject *)annotation)->tp_dict, known.attribute);
}

/* The GobType of an annotation: a new reference, or NULL with an exception. */
static PyObject *
find_type(PyObject *annotation)
{
    bool in_c = is_written_in_c(annotation);
    PyObject *found;
    PyObject *type_of;

    if (Py_TYPE(annotation) == pygo_module_state->gob_type_type) {
        return Py_NewRef(annotation);
    }
    found =
        in_c ? PyDict_GetItemWithError(known.by_annotation, annotation) : type_of_class(annotation);
    if (found != NULL || PyErr_Occurred()) {
        return Py_XNewRef(found);
    }
    type_of = pygo_provided(PYGO_GOB_TYPE_OF);
    found = type_of != NULL ? PyObject_CallOneArg(type_of, annotation) : NULL;
    if (found != NULL && in_c && PyDict_SetItem(known.by_annotation, annotation, found) < 0) {
        Py_CLEAR(found);
    }
    return found;
}

/* ---- Replies ---- */

int
pygo_netrpc_reply_type_of(pygo_netrpc_reply_type *out, PyObject *annotation, PyObject *method)
{
    *out = (pygo_netrpc_reply_type){.wanted = annotation != Py_None};
    if (!out->wanted) {
        return 0;
    }
    out->gob_type = annotation != NULL ? find_type(annotation) : Py_NewRef(Py_None);
    if (out->gob_type == NULL) {
        return -1;
    }
    out->method = Py_NewRef(method);
    return 0;
}

void
pygo_netrpc_reply_type_release(pygo_netrpc_reply_type *type)
{
    Py_CLEAR(type->gob_type);
    Py_CLEAR(type->method);
}

void
pygo_netrpc_name_method(PyObject *method)
{
    PyObject *exception = pygo_take_exception();
    PyObject *gob_error = pygo_provided(PYGO_GOB_ERROR);
    PyObject *args = NULL;

    if (gob_error != NULL && PyObject_IsInstance(exception, gob_error) == 1) {
        args = Py_BuildValue("(N)", PyUnicode_FromFormat("%U: %S", method, exception));
        if (args != NULL) {
            PyObject_SetAttrString(exception, "args", args);
        }
    }
    Py_XDECREF(args);
    PyErr_Clear(); /* what is missing then is the name */
    pygo_raise_object(exception);
}

/* Whether it is a struct without fields, decoded by the definitions of its stream. */
static bool
is_nothing(PyObject *value)
{
    PyObject *untyped = pygo_provided(PYGO_STRUCT);

    return untyped != NULL && (PyObject *)Py_TYPE(value) == untyped && PyObject_Size(value) == 0;
}

PyObject *
pygo_netrpc_decode_reply(gp_gob_decoder *decoder, const gp_gob_message *message,
                         const pygo_netrpc_reply_type *type)
{
    PyObject *value;

    if (!type->wanted) {
        Py_RETURN_NONE;
    }
    value = pygo_gob_decode(decoder, message, type->gob_type);
    if (value == NULL) {
        pygo_netrpc_name_method(type->method);
    } else if (type->gob_type == Py_None && is_nothing(value)) {
        Py_SETREF(value, Py_NewRef(Py_None));
    }
    return value;
}

/* ---- Arguments ---- */

/* Encode a value of a class whose type is not known yet. 0, or -1 with an exception. */
static int
infer_and_encode(gp_gob_output *out, PyObject *value)
{
    PyObject *class = (PyObject *)Py_TYPE(value);
    PyObject *infer = pygo_provided(PYGO_INFER_TYPE);
    PyObject *typed = infer != NULL ? PyObject_CallOneArg(infer, value) : NULL;
    int rc = -1;

    if (typed != NULL && PyTuple_Check(typed) && PyTuple_GET_SIZE(typed) == 2) {
        PyObject *type = PyTuple_GET_ITEM(typed, 0);

        if (!is_written_in_c(class) || PyDict_SetItem(known.by_class, class, type) == 0) {
            rc = pygo_gob_encode(type, PyTuple_GET_ITEM(typed, 1), out);
        }
    }
    Py_XDECREF(typed);
    return rc;
}

int
pygo_netrpc_encode(gp_gob_output *out, PyObject *value, PyObject *annotation)
{
    PyObject *class;
    PyObject *type;
    int rc;

    value = value != NULL ? value : Py_None;
    if (annotation != NULL) {
        type = find_type(annotation);
        rc = type != NULL ? pygo_gob_encode(type, value, out) : -1;
        Py_XDECREF(type);
        return rc;
    }
    class = (PyObject *)Py_TYPE(value);
    type = is_written_in_c(class) ? PyDict_GetItemWithError(known.by_class, class)
                                  : type_of_class(class);
    if (type == NULL && PyErr_Occurred()) {
        return -1;
    }
    return type != NULL ? pygo_gob_encode(type, value, out) : infer_and_encode(out, value);
}

int
pygo_netrpc_values_setup(PyObject *Py_UNUSED(module), pygo_state *Py_UNUSED(state))
{
    known.by_annotation = PyDict_New();
    known.by_class = PyDict_New();
    known.attribute = PyUnicode_InternFromString("__gob_type__");
    return known.by_annotation != NULL && known.by_class != NULL && known.attribute != NULL ? 0
                                                                                            : -1;
}
