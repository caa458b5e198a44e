/*
 * Objects of Python -> gob. User code may run in most functions (properties, __index__, codecs), so
 * whatever the encoder holds has a reference: sequences are turned into tuples.
 */
#include "py/gob.h"

#include <float.h>
#include <math.h>

#include "py/errors.h"
#include "py/gob_type.h"

/* Refuse |value|, which is not |expected|. */
static int
refuse_type(GobContext *context, PyObject *value, const char *expected)
{
    return pygo_gob_refuse(context, "expected %.100s, found %.100s", expected,
                           value == Py_None ? "None" : Py_TYPE(value)->tp_name);
}

/* Whether the exception that is set is about the value, not about memory and the like. */
static bool
is_about_value(void)
{
    return PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_ValueError) ||
           PyErr_ExceptionMatches(PyExc_OverflowError);
}

/* ---- Numbers ---- */

static int
get_bool(void *ctx, const gp_gob_type *Py_UNUSED(type), void *value, bool *out)
{
    if (!PyBool_Check((PyObject *)value)) {
        return refuse_type(ctx, value, "a bool");
    }
    *out = value == Py_True;
    return 0;
}

/* |value| as an int: a new reference, or NULL after a refusal. */
static PyObject *
to_int(GobContext *context, PyObject *value)
{
    PyObject *number;

    if (PyLong_Check(value)) {
        return Py_NewRef(value);
    }
    if (!PyIndex_Check(value)) {
        refuse_type(context, value, "an int");
        return NULL;
    }
    number = PyNumber_Index(value); /* what it raises is the user's */
    return number;
}

/* What the range of a number's type is called, for messages. */
static int
refuse_range(GobContext *context, const gp_gob_type *type, PyObject *value)
{
    char spelled[GP_GOB_SPELLED];

    return pygo_gob_refuse(context, "%.100R does not fit into %s", value,
                           gp_gob_type_spell(type, spelled));
}

static int
get_int(void *ctx, const gp_gob_type *type, void *value, int64_t *out)
{
    PyObject *number = to_int(ctx, value);
    int overflow;
    int64_t most;
    long long result;

    if (number == NULL) {
        return GP_EUSER;
    }
    result = PyLong_AsLongLongAndOverflow(number, &overflow);
    most = INT64_MAX >> (64 - gp_gob_type_bits(type));
    if (overflow != 0 || result > most || result < -most - 1) {
        refuse_range(ctx, type, number);
        Py_DECREF(number);
        return GP_EUSER;
    }
    Py_DECREF(number);
    *out = result;
    return 0;
}

static int
get_uint(void *ctx, const gp_gob_type *type, void *value, uint64_t *out)
{
    PyObject *number = to_int(ctx, value);
    unsigned long long result;

    if (number == NULL) {
        return GP_EUSER;
    }
    result = PyLong_AsUnsignedLongLong(number); /* OverflowError for negative numbers, too */
    if ((result == (unsigned long long)-1 && PyErr_Occurred()) ||
        result > UINT64_MAX >> (64 - gp_gob_type_bits(type))) {
        refuse_range(ctx, type, number);
        Py_DECREF(number);
        return GP_EUSER;
    }
    Py_DECREF(number);
    *out = result;
    return 0;
}

/* Whether a float fits into |type|. */
static bool
fits(const gp_gob_type *type, double value)
{
    return gp_gob_type_bits(type) != 32 || fabs(value) <= FLT_MAX || !isfinite(value);
}

static int
get_float(void *ctx, const gp_gob_type *type, void *value, double *out)
{
    PyObject *object = value;

    if (PyFloat_CheckExact(object)) {
        *out = PyFloat_AS_DOUBLE(object);
    } else if (PyUnicode_Check(object)) {
        return refuse_type(ctx, object, "a float");
    } else {
        *out = PyFloat_AsDouble(object);
        if (*out == -1.0 && PyErr_Occurred()) {
            return PyErr_ExceptionMatches(PyExc_OverflowError) ? refuse_range(ctx, type, object)
                   : is_about_value()                          ? refuse_type(ctx, object, "a float")
                                                               : GP_EUSER;
        }
    }
    return fits(type, *out) ? 0 : refuse_range(ctx, type, object);
}

static int
get_complex(void *ctx, const gp_gob_type *type, void *value, double out[2])
{
    Py_complex result = PyComplex_AsCComplex(value);

    if (result.real == -1.0 && PyErr_Occurred()) {
        return is_about_value() ? refuse_type(ctx, value, "a complex number") : GP_EUSER;
    }
    if (!fits(type, result.real) || !fits(type, result.imag)) {
        return refuse_range(ctx, type, value);
    }
    out[0] = result.real;
    out[1] = result.imag;
    return 0;
}

/* ---- Bytes ---- */

/* Hand out the contents of |bytes|, whose reference is taken over. */
static int
lend(GobContext *context, PyObject *bytes, const void **out, size_t *len)
{
    Py_XSETREF(context->temporary, bytes);
    *out = PyBytes_AS_STRING(bytes);
    *len = (size_t)PyBytes_GET_SIZE(bytes);
    return 0;
}

/*
 * The bytes of a str. Those that are no UTF-8 were decoded to lone surrogates, which become what
 * they were.
 */
static int
get_text(GobContext *context, PyObject *value, const void **out, size_t *len)
{
    Py_ssize_t size;
    const char *text;
    PyObject *bytes;

    if (!PyUnicode_Check(value)) {
        return refuse_type(context, value, "a str");
    }
    text = PyUnicode_AsUTF8AndSize(value, &size);
    if (text != NULL) {
        *out = text;
        *len = (size_t)size;
        return 0;
    }
    if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        return GP_EUSER;
    }
    PyErr_Clear();
    bytes = PyUnicode_AsEncodedString(value, "utf-8", "surrogateescape");
    if (bytes == NULL) {
        return is_about_value() ? pygo_gob_refuse(context, "the str has a lone surrogate")
                                : GP_EUSER;
    }
    return lend(context, bytes, out, len);
}

static int
get_bytes(void *ctx, const gp_gob_type *type, void *value, const void **bytes, size_t *len)
{
    PyObject *object = value;
    PyObject *copy;

    if (gp_gob_type_kind(type) == GP_GOB_STRING) {
        return get_text(ctx, object, bytes, len);
    }
    if (PyBytes_Check(object)) {
        *bytes = PyBytes_AS_STRING(object);
        *len = (size_t)PyBytes_GET_SIZE(object);
        return 0;
    }
    /* Sequences of small ints are for []uint8 that is annotated as a list or a tuple. */
    if (!PyObject_CheckBuffer(object) && !PyList_Check(object) && !PyTuple_Check(object)) {
        return refuse_type(ctx, object, "bytes");
    }
    copy = PyBytes_FromObject(object);
    if (copy == NULL) {
        return is_about_value() ? pygo_gob_refuse(ctx, "these are no bytes") : GP_EUSER;
    }
    return lend(ctx, copy, bytes, len);
}

/* Have the user's function encode a value. */
static int
get_coded(GobContext *context, GobTypeObject *tag, PyObject *value, const void **bytes, size_t *len)
{
    PyObject *made;

    if (tag->cls != NULL && PyType_Check(tag->cls) &&
        !PyObject_TypeCheck(value, (PyTypeObject *)tag->cls)) {
        return refuse_type(context, value, ((PyTypeObject *)tag->cls)->tp_name);
    }
    made = PyObject_CallFunctionObjArgs(tag->encode, value, NULL);
    if (made == NULL) {
        return pygo_gob_user_error(context);
    }
    if (PyUnicode_Check(made) && gp_gob_type_flavour(tag->type) == GP_GOB_TEXT) {
        Py_SETREF(made, PyUnicode_AsEncodedString(made, "utf-8", "surrogateescape"));
    } else if (PyObject_CheckBuffer(made)) {
        Py_SETREF(made, PyBytes_FromObject(made));
    } else {
        pygo_gob_refuse(context, "the function that encodes it must return bytes, not %.100s",
                        Py_TYPE(made)->tp_name);
        Py_CLEAR(made);
    }
    return made != NULL ? lend(context, made, bytes, len) : GP_EUSER;
}

static int
get_opaque(void *ctx, const gp_gob_type *type, void *value, const void **bytes, size_t *len)
{
    GobContext *context = ctx;
    GobTypeObject *tag = gob_tag(type);
    bool zero;
    int rc;

    if (tag->role == GOB_CODEC) {
        return get_coded(context, tag, value, bytes, len);
    }
    rc = pygo_gob_time_encode(context, value, context->time, &zero);
    if (rc < 0) {
        return rc;
    }
    *bytes = context->time;
    *len = (size_t)rc;
    return zero;
}

/* ---- Sequences and maps ---- */

/* The keys and values of a mapping in turn: a new tuple, or NULL with an exception. */
static PyObject *
flatten(PyObject *mapping)
{
    PyObject *dict = PyDict_Check(mapping) ? Py_NewRef(mapping) : PyDict_New();
    PyObject *flat = NULL;
    PyObject *key;
    PyObject *value;
    Py_ssize_t position = 0;
    Py_ssize_t i = 0;

    if (dict != NULL && (dict == mapping || PyDict_Update(dict, mapping) == 0)) {
        flat = PyTuple_New(2 * PyDict_GET_SIZE(dict));
    }
    /* No user code runs meanwhile, so the dict does not change. */
    while (flat != NULL && PyDict_Next(dict, &position, &key, &value)) {
        PyTuple_SET_ITEM(flat, i, Py_NewRef(key));
        PyTuple_SET_ITEM(flat, i + 1, Py_NewRef(value));
        i += 2;
    }
    Py_XDECREF(dict);
    return flat;
}

static int
open_items(void *ctx, const gp_gob_type *type, void *value, gp_gob_items *out)
{
    PyObject *object = value;
    bool map = gp_gob_type_kind(type) == GP_GOB_MAP;
    PyObject *items;

    if (map) {
        if (!PyDict_Check(object) && !PyObject_HasAttr(object, pygo_gob_names.keys)) {
            return refuse_type(ctx, object, "a dict");
        }
        items = flatten(object);
    } else if (PyTuple_CheckExact(object)) {
        items = Py_NewRef(object);
    } else if (PyList_CheckExact(object)) {
        items = PyList_AsTuple(object);
    } else if (object == Py_None || PyUnicode_Check(object) || PyDict_Check(object) ||
               (Py_TYPE(object)->tp_iter == NULL && !PySequence_Check(object))) {
        return refuse_type(ctx, object, "a list");
    } else {
        items = PySequence_Tuple(object);
    }
    if (items == NULL) {
        return GP_EUSER;
    }
    out->items = (void *const *)((PyTupleObject *)items)->ob_item;
    out->count = (size_t)PyTuple_GET_SIZE(items) / (map ? 2 : 1);
    out->holder = items;
    return 0;
}

static void
close_items(void *Py_UNUSED(ctx), const gp_gob_type *Py_UNUSED(type), gp_gob_items *items)
{
    Py_DECREF((PyObject *)items->holder);
}

/* ---- Structs ---- */

static void
close_struct(void *Py_UNUSED(ctx), const gp_gob_type *type, void **fields)
{
    Py_ssize_t count = gob_tag(type)->field_count;
    Py_ssize_t i;

    for (i = 0; i < count; i++) {
        Py_XDECREF((PyObject *)fields[i]);
    }
}

static int
open_struct(void *ctx, const gp_gob_type *type, void *value, void **fields)
{
    GobTypeObject *tag = gob_tag(type);
    PyObject *object = value;
    Py_ssize_t i;

    if (tag->role == GOB_NONE) {
        return object == Py_None ? 0 : refuse_type(ctx, object, "None");
    }
    if (!PyObject_TypeCheck(object, (PyTypeObject *)tag->cls)) {
        return refuse_type(ctx, object, ((PyTypeObject *)tag->cls)->tp_name);
    }
    for (i = 0; i < tag->field_count; i++) {
        const GobField *field = &tag->fields[i];
        PyObject *found = PyObject_GetAttr(object, field->attribute);

        if (found == NULL) {
            while (i-- > 0) {
                Py_XDECREF((PyObject *)fields[i]);
            }
            return GP_EUSER;
        }
        /* An empty dict stands for a nil map, which a new struct of Go has, too. */
        if (field->optional ? found == Py_None
                            : field->type->kind == GP_GOB_MAP && PyDict_CheckExact(found) &&
                                  PyDict_GET_SIZE(found) == 0) {
            Py_CLEAR(found);
        }
        fields[i] = found;
    }
    return 0;
}

/* ---- Interfaces ---- */

static int
open_interface(void *ctx, const gp_gob_type *Py_UNUSED(type), void *value, gp_gob_dynamic *out)
{
    PyObject *object = value;
    PyObject *function;
    PyObject *found;
    PyObject *holder; /* (name, type, value); a str: why there is none */
    const char *name;
    Py_ssize_t len;

    if (object == Py_None) {
        out->name = NULL;
        out->holder = NULL;
        return 0;
    }
    found = PyDict_GetItemWithError(pygo_gob_by_class(), (PyObject *)Py_TYPE(object));
    if (found != NULL) {
        holder = PyTuple_Pack(3, PyTuple_GET_ITEM(found, 0), PyTuple_GET_ITEM(found, 1), object);
    } else {
        function = PyErr_Occurred() ? NULL : pygo_provided(PYGO_INTERFACE_TYPE);
        holder = function != NULL ? PyObject_CallFunctionObjArgs(function, object, NULL) : NULL;
    }
    if (holder == NULL) {
        return GP_EUSER;
    }
    if (PyUnicode_Check(holder)) {
        pygo_gob_refuse(ctx, "%U", holder);
        Py_DECREF(holder);
        return GP_EUSER;
    }
    name = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(holder, 0), &len);
    if (name == NULL) {
        Py_DECREF(holder);
        return GP_EUSER;
    }
    out->name = name;
    out->len = (size_t)len;
    out->type = ((GobTypeObject *)PyTuple_GET_ITEM(holder, 1))->type;
    out->value = PyTuple_GET_ITEM(holder, 2);
    out->holder = holder;
    return 0;
}

static void
close_interface(void *Py_UNUSED(ctx), const gp_gob_type *Py_UNUSED(type), gp_gob_dynamic *dynamic)
{
    Py_XDECREF((PyObject *)dynamic->holder);
}

static const gp_gob_source source = {
    .get_bool = get_bool,
    .get_int = get_int,
    .get_uint = get_uint,
    .get_float = get_float,
    .get_complex = get_complex,
    .get_bytes = get_bytes,
    .get_opaque = get_opaque,
    .open_items = open_items,
    .close_items = close_items,
    .open_struct = open_struct,
    .close_struct = close_struct,
    .open_interface = open_interface,
    .close_interface = close_interface,
};

int
pygo_gob_encode(PyObject *gob_type, PyObject *value, gp_gob_output *out)
{
    GobTypeObject *type = pygo_gob_type(gob_type);
    gp_error err = GP_ERROR_INIT;
    GobContext context = GOB_CONTEXT_INIT;

    if (type == NULL) {
        return -1;
    }
    Py_INCREF(value);
    if (gp_gob_encode(out, type->type, &source, &context, value, &err) < 0) {
        Py_DECREF(value);
        pygo_gob_raise(&context, &err);
        return -1;
    }
    Py_DECREF(value);
    pygo_gob_context_release(&context);
    return 0;
}
