#include "py/log_sink.h"

#include "py/gil.h"

/* A str, or None. */
static PyObject *
text_or_none(const char *bytes, size_t len)
{
    if (bytes == NULL) {
        return Py_NewRef(Py_None);
    }
    return PyUnicode_DecodeUTF8(bytes, (Py_ssize_t)len, "replace");
}

/* A JSON value: plain strings without escapes need no parser. */
static PyObject *
json_value(const gp_log_field *field)
{
    pygo_state *state = pygo_module_state;
    PyObject *source;
    PyObject *value;

    if (field->json_len >= 2 && field->json[0] == '"' &&
        memchr(field->json, '\\', field->json_len) == NULL) {
        return text_or_none(field->json + 1, field->json_len - 2);
    }
    if (state->json_loads == NULL) {
        PyObject *json = PyImport_ImportModule("json");

        state->json_loads = json != NULL ? PyObject_GetAttrString(json, "loads") : NULL;
        Py_XDECREF(json);
    }
    source = state->json_loads != NULL ? text_or_none(field->json, field->json_len) : NULL;
    value = source != NULL ? PyObject_CallOneArg(state->json_loads, source) : NULL;
    if (value == NULL && source != NULL &&
        (PyErr_ExceptionMatches(PyExc_ValueError) ||
         PyErr_ExceptionMatches(PyExc_RecursionError))) {
        /* The value stays a string if Python's parser refuses it (a million digits or levels). */
        PyErr_Clear();
        return source;
    }
    Py_XDECREF(source);
    return value;
}

static PyObject *
fields_dict(const gp_log_record *record)
{
    PyObject *fields;

    if (record->fields_count == 0) {
        return Py_NewRef(Py_None);
    }
    fields = PyDict_New();
    for (size_t i = 0; fields != NULL && i < record->fields_count; i++) {
        PyObject *key = text_or_none(record->fields[i].key, record->fields[i].key_len);
        PyObject *value = key != NULL ? json_value(&record->fields[i]) : NULL;

        if (value == NULL || PyDict_SetItem(fields, key, value) < 0) {
            Py_CLEAR(fields);
        }
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return fields;
}

static PyObject *
record_tuple(const gp_log_record *record)
{
    return Py_BuildValue("iNNdN", record->level, text_or_none(record->message, record->message_len),
                         text_or_none(record->module, record->module_len), record->created,
                         fields_dict(record));
}

static PyObject *
call_with_batch(PyObject *callback, const gp_log_batch *batch)
{
    PyObject *raw = batch->raw != NULL
                        ? PyBytes_FromStringAndSize(batch->raw, (Py_ssize_t)batch->raw_len)
                        : Py_NewRef(Py_None);
    PyObject *records = PyList_New((Py_ssize_t)batch->records_count);
    PyObject *result = NULL;

    for (size_t i = 0; records != NULL && i < batch->records_count; i++) {
        PyObject *record = record_tuple(&batch->records[i]);

        if (record == NULL) {
            Py_CLEAR(records);
        } else {
            PyList_SET_ITEM(records, (Py_ssize_t)i, record);
        }
    }
    if (raw != NULL && records != NULL) {
        result = pygo_gil_call_user(callback, (PyObject *[]){raw, records}, 2);
    }
    Py_XDECREF(raw);
    Py_XDECREF(records);
    return result;
}

/* For gp_log_sink.deliver. Returns the lowest level that is wanted from now on. */
static int
deliver_batch(void *ctx, const gp_log_batch *batch)
{
    PyObject *callback = ctx;
    PyObject *result;
    long level = GP_TRACE;

    if (!pygo_gil_enter("pygo-logs")) {
        return GP_ERROR + 1;
    }
    result = call_with_batch(callback, batch);
    if (result != NULL) {
        level = PyLong_AsLong(result);
        Py_DECREF(result);
    }
    if (PyErr_Occurred()) {
        /* The batch is lost, but later ones are delivered. */
        PyErr_WriteUnraisable(callback);
        level = GP_TRACE;
    }
    pygo_gil_leave();
    return (int)level;
}

gp_log_sink
pygo_log_sink(PyObject *callback, int level, bool want_raw)
{
    if (callback == NULL || callback == Py_None) {
        return (gp_log_sink){.level = GP_ERROR + 1};
    }
    return (gp_log_sink){.deliver = deliver_batch,
                         .release = pygo_gil_release,
                         .ctx = Py_NewRef(callback),
                         .want_raw = want_raw,
                         .level = level};
}
