#include "py/functions.h"

#include "gp/log.h"

/* |value| as JSON: a new str. NULL with an exception. */
static PyObject *
to_json(PyObject *dumps, PyObject *options, PyObject *value)
{
    PyObject *args = PyTuple_Pack(1, value);
    PyObject *text = args != NULL ? PyObject_Call(dumps, args, options) : NULL;
    PyObject *shown;

    Py_XDECREF(args);
    if (text != NULL || !PyErr_ExceptionMatches(PyExc_Exception)) {
        return text;
    }
    /* A value that JSON cannot represent (a cycle, odd keys) is replaced by its repr(). */
    PyErr_Clear();
    shown = PyObject_Repr(value);
    text = shown != NULL ? PyObject_CallOneArg(dumps, shown) : NULL;
    Py_XDECREF(shown);
    return text;
}

/* Fill |field| from two str, which |owner|, a list, will keep. 0, or -1 with an exception. */
static int
fill_field(gp_log_field *field, PyObject *owner, PyObject *key, PyObject *json)
{
    Py_ssize_t len;

    if (PyList_Append(owner, key) < 0 || PyList_Append(owner, json) < 0 ||
        (field->key = PyUnicode_AsUTF8AndSize(key, &len)) == NULL) {
        return -1;
    }
    field->key_len = (size_t)len;
    field->json = PyUnicode_AsUTF8AndSize(json, &len);
    field->json_len = (size_t)len;
    return field->json != NULL ? 0 : -1;
}

/*
 * The keys of |fields|, a dict, and their values as JSON. They borrow from strings that |owner|, a
 * list, will keep. NULL with an exception.
 */
static gp_log_field *
make_fields(PyObject *fields, PyObject *owner, size_t *count)
{
    PyObject *json = PyImport_ImportModule("json");
    PyObject *dumps = json != NULL ? PyObject_GetAttrString(json, "dumps") : NULL;
    PyObject *options = Py_BuildValue("{sO}", "default", (PyObject *)&PyUnicode_Type);
    gp_log_field *made = PyMem_Calloc((size_t)PyDict_GET_SIZE(fields) + 1, sizeof(*made));
    Py_ssize_t position = 0;
    PyObject *key;
    PyObject *value;
    int rc = dumps != NULL && options != NULL && made != NULL ? 0 : -1;

    *count = 0;
    while (rc == 0 && PyDict_Next(fields, &position, &key, &value)) {
        PyObject *name = PyObject_Str(key);
        PyObject *text = name != NULL ? to_json(dumps, options, value) : NULL;

        rc = text != NULL ? fill_field(&made[*count], owner, name, text) : -1;
        (*count)++;
        Py_XDECREF(text);
        Py_XDECREF(name);
    }
    if (made == NULL && !PyErr_Occurred()) {
        PyErr_NoMemory();
    }
    if (rc < 0) {
        PyMem_Free(made);
        made = NULL;
    }
    Py_XDECREF(options);
    Py_XDECREF(dumps);
    Py_XDECREF(json);
    return made;
}

static PyObject *
format_entry(const gp_hclog_entry *entry)
{
    size_t len = gp_hclog_format(NULL, 0, entry);
    PyObject *line = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)len);

    if (line != NULL) {
        gp_hclog_format(PyBytes_AS_STRING(line), len, entry);
    }
    return line;
}

static PyObject *
hclog_line(PyObject *Py_UNUSED(module), PyObject *args)
{
    gp_hclog_entry entry = {0};
    gp_log_field *fields = NULL;
    PyObject *message;
    PyObject *message_bytes;
    PyObject *extra;
    PyObject *owner;
    PyObject *line = NULL;
    Py_ssize_t module_len = 0;
    double created;

    if (!PyArg_ParseTuple(args, "iUz#dO:hclog_line", &entry.level, &message, &entry.module,
                          &module_len, &created, &extra)) {
        return NULL;
    }
    if (extra != Py_None && !PyDict_Check(extra)) {
        PyErr_Format(PyExc_TypeError, "fields must be a dict or None, not %.100s",
                     Py_TYPE(extra)->tp_name);
        return NULL;
    }
    /* Lone surrogates, which os.listdir() may return, must not lose the line. */
    message_bytes = PyUnicode_AsEncodedString(message, "utf-8", "surrogateescape");
    if (message_bytes == NULL) {
        PyErr_Clear();
        message_bytes = PyUnicode_AsEncodedString(message, "utf-8", "replace");
    }
    owner = PyList_New(0);
    if (message_bytes != NULL && owner != NULL) {
        entry.message = PyBytes_AS_STRING(message_bytes);
        entry.message_len = (size_t)PyBytes_GET_SIZE(message_bytes);
        entry.module_len = (size_t)module_len;
        entry.timestamp_us = (int64_t)(created * 1e6);
        if (extra != Py_None && PyDict_GET_SIZE(extra) > 0) {
            fields = make_fields(extra, owner, &entry.fields_count);
            entry.fields = fields;
        }
        if (!PyErr_Occurred()) {
            line = format_entry(&entry);
        }
    }
    PyMem_Free(fields);
    Py_XDECREF(owner);
    Py_XDECREF(message_bytes);
    return line;
}

PyMethodDef pygo_hclog_functions[] = {
    {"hclog_line", hclog_line, METH_VARARGS,
     "hclog_line($module, level, message, module, created, fields, /)\n--\n\n"
     "One hclog JSON line, with the newline."},
    {NULL, NULL, 0, NULL},
};
