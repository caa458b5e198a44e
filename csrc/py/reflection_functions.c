#include "py/functions.h"

#include "gp/services.h"
#include "py/message.h"

/* Convert |found|, the list that a lookup returned, from which |answer| borrows. */
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
make_reply(const gp_reflection_query *query, PyObject *found)
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
        reply = make_reply(&query, found);
        Py_DECREF(found);
    }
    gp_reflection_release(&query);
    return reply;
}

PyMethodDef pygo_reflection_functions[] = {
    {"reflection_reply", reflection_reply, METH_VARARGS,
     "reflection_reply($module, request, lookup, /)\n--\n\n"
     "The serialized answer to a serialized reflection request. lookup(kind, name, number) returns "
     "a list of bytes, str or int, or a str that says what was not found."},
    {NULL, NULL, 0, NULL},
};
