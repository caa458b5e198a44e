#include "py/functions.h"

#include "gp/log.h"

/*
 * The keys of |fields| and their values as JSON. They borrow from strings that are appended to
 * |owner|, a list. NULL with an exception.
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

    *count = 0;
    while (dumps != NULL && options != NULL && made != NULL &&
           PyDict_Next(fields, &position, &key, &value)) {
        PyObject *single = PyTuple_Pack(1, value);
        PyObject *text = single != NULL ? PyObject_Call(dumps, single, options) : NULL;
        PyObject *name = PyObject_Str(key);
        gp_log_field *field = &made[*count];
        Py_ssize_t len;

        Py_XDECREF(single);
        if (text == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
            /* A value that JSON cannot represent (a cycle, odd keys) is replaced by its repr(). */
            PyObject *shown;

            PyErr_Clear();
            shown = PyObject_Repr(value);
            text = shown != NULL ? PyObject_CallOneArg(dumps, shown) : NULL;
            Py_XDECREF(shown);
        }
        if (text != NULL && name != NULL && PyList_Append(owner, name) == 0 &&
            PyList_Append(owner, text) == 0) {
            field->key = PyUnicode_AsUTF8AndSize(name, &len);
            field->key_len = (size_t)len;
            if (field->key != NULL) {
                field->json = PyUnicode_AsUTF8AndSize(text, &len);
                field->json_len = (size_t)len;
            }
            (*count)++;
        }
        Py_XDECREF(text);
        Py_XDECREF(name);
        if (PyErr_Occurred()) {
            break;
        }
    }
    Py_XDECREF(options);
    Py_XDECREF(dumps);
    Py_XDECREF(json);
    if (made == NULL && !PyErr_Occurred()) {
        PyErr_NoMemory();
    }
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
