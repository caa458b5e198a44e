#include "py/functions.h"

#include "gp/handshake.h"
#include "gp/listen.h"
#include "gp/log.h"
#include "gp/services.h"
#include "py/errors.h"
#include "py/message.h"

static PyObject *
handshake_line(PyObject *Py_UNUSED(module), PyObject *args)
{
    gp_handshake_fields fields = {.multiplex = -1};
    gp_error err = GP_ERROR_INIT;
    char line[GP_HANDSHAKE_LINE];
    ptrdiff_t len;

    if (!PyArg_ParseTuple(args, "isss:handshake_line", &fields.version, &fields.network,
                          &fields.address, &fields.protocol)) {
        return NULL;
    }
    len = gp_handshake_format(line, sizeof(line), &fields, &err);
    return len < 0 ? pygo_raise(&err, NULL) : PyBytes_FromStringAndSize(line, len);
}

/* Collects gp_version_choose's notes in a list; an exception stops the collecting. */
static void
take_note(void *ctx, const char *text)
{
    PyObject *note = PyErr_Occurred() ? NULL : PyUnicode_FromString(text);

    if (note != NULL) {
        PyList_Append(ctx, note);
        Py_DECREF(note);
    }
}

static PyObject *
negotiate(PyObject *Py_UNUSED(module), PyObject *args)
{
    gp_error err = GP_ERROR_INIT;
    const char *offered;
    PyObject *own;
    PyObject *notes;
    int versions[256];
    Py_ssize_t count;
    int chosen = 0;

    if (!PyArg_ParseTuple(args, "Oz:negotiate", &own, &offered)) {
        return NULL;
    }
    own = PySequence_Tuple(own);
    if (own == NULL) {
        return NULL;
    }
    count = PyTuple_GET_SIZE(own);
    if (count > (Py_ssize_t)(sizeof(versions) / sizeof(versions[0]))) {
        Py_DECREF(own);
        PyErr_Format(PyExc_ValueError, "a plugin can serve at most 256 versions, not %zd", count);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        versions[i] = (int)PyLong_AsLong(PyTuple_GET_ITEM(own, i));
    }
    Py_DECREF(own);
    notes = PyErr_Occurred() ? NULL : PyList_New(0);
    if (notes == NULL) {
        return NULL;
    }
    if (gp_version_choose(&chosen, versions, (size_t)count, offered, take_note, notes, &err) < 0) {
        pygo_raise(&err, NULL);
    }
    if (PyErr_Occurred()) {
        Py_DECREF(notes);
        return NULL;
    }
    return Py_BuildValue("iN", chosen, notes);
}

static PyObject *
listen_path(PyObject *Py_UNUSED(module), PyObject *directory)
{
    gp_error err = GP_ERROR_INIT;
    char path[GP_LISTEN_PATH];
    PyObject *bytes = NULL;
    int rc;

    if (directory != Py_None && !PyUnicode_FSConverter(directory, &bytes)) {
        return NULL;
    }
    rc = gp_listen_path(path, bytes != NULL ? PyBytes_AS_STRING(bytes) : NULL, &err);
    Py_XDECREF(bytes);
    return rc < 0 ? pygo_raise(&err, NULL) : PyUnicode_DecodeFSDefault(path);
}

static PyObject *
listen_port(PyObject *Py_UNUSED(module), PyObject *args)
{
    gp_error err = GP_ERROR_INIT;
    int min_port;
    int max_port;
    int port;

    if (!PyArg_ParseTuple(args, "ii:listen_port", &min_port, &max_port)) {
        return NULL;
    }
    port = gp_listen_port(min_port, max_port, &err);
    return port < 0 ? pygo_raise(&err, NULL) : PyLong_FromLong(port);
}

/* ---- hclog_line ---- */

/* The fields' keys and JSON values, borrowed from |owner|, a list of alternating bytes objects. */
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
            /* What JSON cannot hold (a cycle, odd keys) is shown as Python shows it. */
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
    /* Lone surrogates, as os.listdir() yields them, must not cost the line. */
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

/* ---- reflection_reply ---- */

/* What a lookup of _reflection.py found, as the C library wants it, borrowed from |found|. */
static int
fill_answer(gp_reflection_answer *answer, gp_bytes *items, int32_t *numbers, PyObject *found)
{
    for (size_t i = 0; i < answer->count; i++) {
        PyObject *item = PySequence_Fast_GET_ITEM(found, (Py_ssize_t)i);
        Py_ssize_t len;

        if (PyLong_Check(item)) {
            numbers[i] = (int32_t)PyLong_AsLong(item);
        } else if (PyBytes_Check(item)) {
            items[i] = pygo_bytes_view(item);
        } else {
            items[i].data = PyUnicode_AsUTF8AndSize(item, &len);
            items[i].len = (size_t)len;
        }
        if (PyErr_Occurred()) {
            return -1;
        }
    }
    answer->items = items;
    answer->numbers = numbers;
    return 0;
}

static PyObject *
respond(const gp_reflection_query *query, PyObject *found)
{
    gp_reflection_answer answer = {0};
    gp_bytes *items = NULL;
    int32_t *numbers = NULL;
    unsigned char *bytes = NULL;
    PyObject *reply = NULL;
    PyObject *sequence = NULL;
    size_t len;

    if (PyUnicode_Check(found)) {
        answer.error = PyUnicode_AsUTF8(found);
    } else if ((sequence = PySequence_Fast(found, "a reflection lookup must give a list")) !=
               NULL) {
        answer.count = (size_t)PySequence_Fast_GET_SIZE(sequence);
        items = PyMem_Calloc(answer.count + 1, sizeof(*items));
        numbers = PyMem_Calloc(answer.count + 1, sizeof(*numbers));
        if (items == NULL || numbers == NULL) {
            PyErr_NoMemory();
        } else {
            fill_answer(&answer, items, numbers, sequence);
        }
    }
    if (!PyErr_Occurred()) {
        if (gp_reflection_respond(&bytes, &len, query, &answer) < 0) {
            PyErr_NoMemory();
        } else {
            reply = PyBytes_FromStringAndSize((char *)bytes, (Py_ssize_t)len);
            gp_reflection_free(bytes);
        }
    }
    PyMem_Free(items);
    PyMem_Free(numbers);
    Py_XDECREF(sequence);
    return reply;
}

static PyObject *
reflection_reply(PyObject *Py_UNUSED(module), PyObject *args)
{
    static const char *const kinds[] = {
        [GP_REFLECT_FILE] = "file",           [GP_REFLECT_SYMBOL] = "symbol",
        [GP_REFLECT_EXTENSION] = "extension", [GP_REFLECT_EXTENSIONS] = "extensions",
        [GP_REFLECT_SERVICES] = "services",   [GP_REFLECT_UNKNOWN] = "unknown",
    };
    gp_reflection_query query;
    PyObject *request;
    PyObject *lookup;
    PyObject *found;
    PyObject *reply = NULL;

    if (!PyArg_ParseTuple(args, "SO:reflection_reply", &request, &lookup)) {
        return NULL;
    }
    if (gp_reflection_parse(&query, pygo_bytes_view(request)) < 0) {
        PyErr_SetString(PyExc_ValueError, "not a server reflection request");
        return NULL;
    }
    found = PyObject_CallFunction(lookup, "ssi", kinds[query.kind], query.name, query.number);
    if (found != NULL) {
        reply = respond(&query, found);
        Py_DECREF(found);
    }
    gp_reflection_release(&query);
    return reply;
}

/* An exception that has nobody to go to. */
static PyObject *
unraisable(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *error;
    PyObject *where;

    if (!PyArg_ParseTuple(args, "OO:unraisable", &error, &where)) {
        return NULL;
    }
    if (!PyExceptionInstance_Check(error)) {
        PyErr_Format(PyExc_TypeError, "error must be an exception, not %R", error);
        return NULL;
    }
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(error)), Py_NewRef(error),
                  PyException_GetTraceback(error));
    PyErr_WriteUnraisable(where);
    Py_RETURN_NONE;
}

PyMethodDef pygo_functions[] = {
    {"unraisable", unraisable, METH_VARARGS,
     "unraisable($module, error, where, /)\n--\n\nHand an exception to sys.unraisablehook."},
    {"handshake_line", handshake_line, METH_VARARGS,
     "handshake_line($module, version, network, address, protocol, /)\n--\n\n"
     "The line that a plugin prints for its host, with the newline."},
    {"negotiate", negotiate, METH_VARARGS,
     "negotiate($module, own, offered, /)\n--\n\n"
     "The version that a plugin serves, and notes about entries that were left out."},
    {"listen_path", listen_path, METH_O,
     "listen_path($module, directory, /)\n--\n\nA fresh unix socket path."},
    {"listen_port", listen_port, METH_VARARGS,
     "listen_port($module, min_port, max_port, /)\n--\n\nA TCP port on 127.0.0.1 that is free "
     "now."},
    {"hclog_line", hclog_line, METH_VARARGS,
     "hclog_line($module, level, message, module, created, fields, /)\n--\n\n"
     "One hclog JSON line, with the newline."},
    {"reflection_reply", reflection_reply, METH_VARARGS,
     "reflection_reply($module, request, lookup, /)\n--\n\n"
     "The serialized answer to a serialized reflection request. lookup(kind, name, number) returns "
     "a "
     "list of bytes, str or int, or a str that says what was not found."},
    {NULL, NULL, 0, NULL},
};
