#include "py/metadata.h"

#include <stdbool.h>
#include <string.h>

static bool
is_binary(gp_bytes key)
{
    return key.len > 4 && memcmp((const char *)key.data + key.len - 4, "-bin", 4) == 0;
}

/* The bytes of a str (as UTF-8) or bytes object. Returns 0, or -1 with TypeError. */
static int
view_text(gp_bytes *out, PyObject *object, const char *what)
{
    Py_ssize_t len;

    if (PyUnicode_Check(object)) {
        out->data = PyUnicode_AsUTF8AndSize(object, &len);
        if (out->data == NULL) {
            return -1;
        }
    } else if (PyBytes_Check(object)) {
        out->data = PyBytes_AS_STRING(object);
        len = PyBytes_GET_SIZE(object);
    } else {
        PyErr_Format(PyExc_TypeError, "metadata %s must be str or bytes, not %.100s: %R", what,
                     Py_TYPE(object)->tp_name, object);
        return -1;
    }
    out->len = (size_t)len;
    return 0;
}

static int
view_pair(gp_metadatum *out, PyObject *key, PyObject *value)
{
    if (view_text(&out->key, key, "keys") < 0 || view_text(&out->value, value, "values") < 0) {
        return -1;
    }
    if (!gp_metadata_key_valid(out->key)) {
        PyErr_Format(
            PyExc_ValueError,
            "metadata was invalid: the key %R is not one or more of the characters a-z, 0-9, '_', "
            "'-' and '.'",
            key);
        return -1;
    }
    if (!is_binary(out->key) && !gp_metadata_value_valid(out->value)) {
        PyErr_Format(
            PyExc_ValueError,
            "metadata was invalid: the value of %R is not printable ASCII; a key that ends in "
            "'-bin' may carry any bytes",
            key);
        return -1;
    }
    return 0;
}

int
pygo_metadata_from_python(pygo_metadata *out, PyObject *pairs)
{
    PyObject *sequence;
    Py_ssize_t count;

    *out = (pygo_metadata)PYGO_METADATA_INIT;
    if (pairs == NULL || pairs == Py_None) {
        return 0;
    }
    sequence = PySequence_Fast(pairs, "metadata must be an iterable of (key, value) pairs");
    if (sequence != NULL &&
        PyList_Check(sequence)) { /* a list may change while its pairs are converted */
        Py_SETREF(sequence, PyList_AsTuple(sequence));
    }
    if (sequence == NULL) {
        return -1;
    }
    count = PySequence_Fast_GET_SIZE(sequence);
    out->items = PyMem_Calloc((size_t)count + 1, sizeof(*out->items));
    out->owners = PyMem_Calloc(2 * (size_t)count + 1, sizeof(*out->owners));
    if (out->items == NULL || out->owners == NULL) {
        PyErr_NoMemory();
        goto fail;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *pair = PySequence_Fast(PySequence_Fast_GET_ITEM(sequence, i),
                                         "metadata must be an iterable of (key, value) pairs");

        if (pair == NULL) {
            goto fail;
        }
        if (PySequence_Fast_GET_SIZE(pair) != 2) {
            PyErr_Format(PyExc_ValueError, "metadata must be (key, value) pairs, not %R", pair);
            Py_DECREF(pair);
            goto fail;
        }
        out->owners[2 * i] = Py_NewRef(PySequence_Fast_GET_ITEM(pair, 0));
        out->owners[2 * i + 1] = Py_NewRef(PySequence_Fast_GET_ITEM(pair, 1));
        Py_DECREF(pair);
        out->view.count++;
        if (view_pair(&out->items[i], out->owners[2 * i], out->owners[2 * i + 1]) < 0) {
            goto fail;
        }
    }
    Py_DECREF(sequence);
    out->view.items = out->items;
    return 0;

fail:
    Py_DECREF(sequence);
    pygo_metadata_release(out);
    return -1;
}

void
pygo_metadata_release(pygo_metadata *metadata)
{
    for (size_t i = 0; metadata->owners != NULL && i < 2 * metadata->view.count; i++) {
        Py_XDECREF(metadata->owners[i]);
    }
    PyMem_Free(metadata->owners);
    PyMem_Free(metadata->items);
    *metadata = (pygo_metadata)PYGO_METADATA_INIT;
}

static PyObject *
value_to_python(const gp_metadatum *item)
{
    const char *data = item->value.data;
    Py_ssize_t len = (Py_ssize_t)item->value.len;
    PyObject *text;

    if (is_binary(item->key)) {
        return PyBytes_FromStringAndSize(data, len);
    }
    text = PyUnicode_DecodeUTF8(data, len, NULL);
    if (text == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyErr_Clear();
        text = PyUnicode_DecodeLatin1(data, len, NULL);
    }
    return text;
}

PyObject *
pygo_metadata_to_python(gp_metadata metadata)
{
    PyObject *all = PyTuple_New((Py_ssize_t)metadata.count);

    for (size_t i = 0; all != NULL && i < metadata.count; i++) {
        const gp_metadatum *item = &metadata.items[i];
        PyObject *pair = PyStructSequence_New(pygo_module_state->metadatum_type);

        if (pair == NULL) {
            Py_CLEAR(all);
            break;
        }
        PyTuple_SET_ITEM(all, (Py_ssize_t)i, pair);
        PyStructSequence_SetItem(
            pair, 0, PyUnicode_DecodeLatin1(item->key.data, (Py_ssize_t)item->key.len, NULL));
        PyStructSequence_SetItem(pair, 1, value_to_python(item));
        if (PyErr_Occurred()) {
            Py_CLEAR(all);
        }
    }
    return all;
}

int
pygo_metadata_setup(PyObject *module, pygo_state *state)
{
    static PyStructSequence_Field fields[] = {
        {"key", "lower-case name; one that ends in '-bin' has a bytes value"},
        {"value", "str, or bytes"},
        {NULL, NULL},
    };
    static PyStructSequence_Desc description = {"pygo_plugin._core.Metadatum",
                                                "One metadata key and its value.", fields, 2};

    state->metadatum_type = pygo_add_struct(module, &description);
    return state->metadatum_type != NULL ? 0 : -1;
}
