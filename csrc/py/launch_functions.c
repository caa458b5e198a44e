#include "py/functions.h"

#include "gp/handshake.h"
#include "gp/listen.h"
#include "py/errors.h"

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

PyMethodDef pygo_launch_functions[] = {
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
    {NULL, NULL, 0, NULL},
};
