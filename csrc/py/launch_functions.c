#include "py/functions.h"

#include "gp/checksum.h"
#include "gp/fatal_report.h"
#include "gp/handshake.h"
#include "gp/host.h"
#include "gp/listen.h"
#include "gp/socket_cleanup.h"
#include "py/callbacks.h"
#include "py/errors.h"

static PyObject *
handshake_line(PyObject *Py_UNUSED(module), PyObject *args)
{
    gp_handshake_fields fields = {0};
    PyObject *multiplex = Py_None;
    gp_error err = GP_ERROR_INIT;
    PyObject *result;
    PyObject *address;
    size_t room;
    char *line;
    ptrdiff_t len;

    if (!PyArg_ParseTuple(args, "isO&s|zO:handshake_line", &fields.version, &fields.network,
                          PyUnicode_FSConverter, &address, &fields.protocol, &fields.cert,
                          &multiplex)) {
        return NULL;
    }
    fields.address = PyBytes_AS_STRING(address);
    fields.multiplex = multiplex == Py_None ? -1 : PyObject_IsTrue(multiplex);
    room = GP_HANDSHAKE_LINE + (fields.cert != NULL ? strlen(fields.cert) : 0);
    line = PyMem_Malloc(room);
    if (line == NULL) {
        Py_DECREF(address);
        return PyErr_NoMemory();
    }
    len = gp_handshake_format(line, room, &fields, &err);
    Py_DECREF(address);
    result = len < 0 ? pygo_raise(&err, NULL) : PyBytes_FromStringAndSize(line, len);
    PyMem_Free(line);
    return result;
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
socket_cleanup_add(PyObject *Py_UNUSED(module), PyObject *args)
{
    gp_error err = GP_ERROR_INIT;
    PyObject *directory = Py_None;
    PyObject *bytes = NULL;
    PyObject *path;
    int place;

    if (!PyArg_ParseTuple(args, "O&O:socket_cleanup_add", PyUnicode_FSConverter, &path,
                          &directory)) {
        return NULL;
    }
    if (directory != Py_None && !PyUnicode_FSConverter(directory, &bytes)) {
        Py_DECREF(path);
        return NULL;
    }
    place = gp_socket_cleanup_add(PyBytes_AS_STRING(path),
                                  bytes != NULL ? PyBytes_AS_STRING(bytes) : NULL, &err);
    Py_XDECREF(bytes);
    Py_DECREF(path);
    return place < 0 ? pygo_raise(&err, NULL) : PyLong_FromLong(place);
}

static PyObject *
socket_cleanup_drop(PyObject *Py_UNUSED(module), PyObject *place)
{
    int number = (int)PyLong_AsLong(place);

    if (PyErr_Occurred()) {
        return NULL;
    }
    gp_socket_cleanup_drop(number);
    Py_RETURN_NONE;
}

static PyObject *
fatal_report_enable(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    gp_fatal_report_enable();
    Py_RETURN_NONE;
}

static PyObject *
socket_directory(PyObject *Py_UNUSED(module), PyObject *args)
{
    gp_error err = GP_ERROR_INIT;
    char path[GP_LISTEN_PATH];
    const char *group;

    if (!PyArg_ParseTuple(args, "z:socket_directory", &group)) {
        return NULL;
    }
    return gp_listen_directory(path, group, &err) < 0 ? pygo_raise(&err, NULL)
                                                      : PyUnicode_DecodeFSDefault(path);
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

/* With the GIL, on the thread for callbacks. */
static void
run_host_gone(pygo_callback *self)
{
    pygo_call_back(self->callable);
}

static void
host_gone(void *ctx)
{
    pygo_callback_post(ctx);
}

static PyObject *
watch_host(PyObject *Py_UNUSED(module), PyObject *args)
{
    static pygo_callback callback = {.run = run_host_gone};
    gp_error err = GP_ERROR_INIT;
    PyObject *callable;
    double patience;
    int rc;

    if (!PyArg_ParseTuple(args, "Od:watch_host", &callable, &patience)) {
        return NULL;
    }
    if (callback.callable != NULL) {
        Py_RETURN_NONE; /* the first server of the process is the plugin */
    }
    callback.callable = Py_NewRef(callable);
    Py_BEGIN_ALLOW_THREADS
    rc = gp_host_watch(host_gone, &callback, (int64_t)(patience * 1000), &err);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        return pygo_raise(&err, NULL);
    }
    Py_RETURN_NONE;
}

static PyObject *
digest_size(PyObject *Py_UNUSED(module), PyObject *name)
{
    gp_error err = GP_ERROR_INIT;
    const char *hash = PyUnicode_AsUTF8(name);
    int size;

    if (hash == NULL) {
        return NULL;
    }
    size = gp_checksum_size(hash, &err);
    return size < 0 ? pygo_raise(&err, NULL) : PyLong_FromLong(size);
}

PyMethodDef pygo_launch_functions[] = {
    {"digest_size", digest_size, METH_O,
     "digest_size($module, hash, /)\n--\n\nHow many bytes a checksum of this OpenSSL digest has."},
    {"handshake_line", handshake_line, METH_VARARGS,
     "handshake_line($module, version, network, address, protocol, cert=None, multiplex=None, "
     "/)\n--\n\n"
     "The line that a plugin prints for its host, with the newline."},
    {"watch_host", watch_host, METH_VARARGS,
     "watch_host($module, gone, patience, /)\n--\n\n"
     "Call gone() when the host has ended; end this process by force patience seconds later."},
    {"negotiate", negotiate, METH_VARARGS,
     "negotiate($module, own, offered, /)\n--\n\n"
     "The version that a plugin serves, and notes about entries that were left out."},
    {"socket_cleanup_add", socket_cleanup_add, METH_VARARGS,
     "socket_cleanup_add($module, path, directory, /)\n--\n\n"
     "Have signals that end the process remove this file first, and then a directory unless it is "
     "None. Returns: a number for socket_cleanup_drop()."},
    {"socket_cleanup_drop", socket_cleanup_drop, METH_O,
     "socket_cleanup_drop($module, number, /)\n--\n\nUndo socket_cleanup_add()."},
    {"fatal_report_enable", fatal_report_enable, METH_NOARGS,
     "fatal_report_enable($module, /)\n--\n\n"
     "Have signals that report a fault write a line \"panic: ...\" to standard error "
     "first."},
    {"socket_directory", socket_directory, METH_VARARGS,
     "socket_directory($module, group, /)\n--\n\n"
     "Make a directory for sockets, for this user alone or for the group as well."},
    {"listen_port", listen_port, METH_VARARGS,
     "listen_port($module, min_port, max_port, /)\n--\n\nA TCP port on 127.0.0.1 that is free "
     "now."},
    {NULL, NULL, 0, NULL},
};
