#include "py/client_options.h"

#include <limits.h>
#include <stddef.h>
#include <string.h>

#include "py/callbacks.h"
#include "py/channel.h"
#include "py/gil.h"
#include "py/log_sink.h"
#include "py/output_sink.h"
#include "py/runner.h"
#include "py/template.h"
#include "py/tls.h"

/* ---- Kinds of arguments ----
 *
 * Each function converts |value|, which is not None, and stores the result in |field|, a member of
 * |options|. It returns 0, or -1 with an exception.
 */

/*
 * Keep |object|, a new reference or NULL, as long as the options. Returns it borrowed, or NULL with
 * an exception.
 */
static PyObject *
keep(pygo_client_options *options, PyObject *object)
{
    int rc = object != NULL ? PyList_Append(options->memory, object) : -1;

    Py_XDECREF(object);
    return rc == 0 ? object : NULL;
}

/* Memory of zeros that lives as long as the options. NULL: an exception. */
static void *
allocate(pygo_client_options *options, size_t count, size_t size)
{
    PyObject *buffer = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(count * size));

    if (keep(options, buffer) == NULL) {
        return NULL;
    }
    return memset(PyByteArray_AS_STRING(buffer), 0, count * size);
}

static int
take_flag(pygo_client_options *Py_UNUSED(options), void *field, PyObject *value)
{
    int truth = PyObject_IsTrue(value);

    *(bool *)field = truth > 0;
    return truth < 0 ? -1 : 0;
}

static int
take_int(pygo_client_options *Py_UNUSED(options), void *field, PyObject *value)
{
    long number = PyLong_AsLong(value);

    if (number == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (number < INT_MIN || number > INT_MAX) {
        PyErr_Format(PyExc_OverflowError, "%ld is out of range", number);
        return -1;
    }
    *(int *)field = (int)number;
    return 0;
}

static int
take_size(pygo_client_options *Py_UNUSED(options), void *field, PyObject *value)
{
    size_t size = PyLong_AsSize_t(value);

    *(size_t *)field = size;
    return size == (size_t)-1 && PyErr_Occurred() ? -1 : 0;
}

/* Seconds, which become milliseconds. */
static int
take_seconds(pygo_client_options *Py_UNUSED(options), void *field, PyObject *value)
{
    double seconds = PyFloat_AsDouble(value);

    *(int64_t *)field = (int64_t)(seconds * 1000 + 0.5);
    return seconds == -1.0 && PyErr_Occurred() ? -1 : 0;
}

static int
take_string(pygo_client_options *Py_UNUSED(options), void *field, PyObject *value)
{
    Py_ssize_t len;
    const char *string = PyUnicode_AsUTF8AndSize(value, &len);

    if (string == NULL) {
        return -1;
    }
    if (strlen(string) != (size_t)len) {
        PyErr_SetString(PyExc_ValueError, "embedded null character");
        return -1;
    }
    *(const char **)field = string;
    return 0;
}

/* As os.fsencode: environments and paths are bytes to the kernel. */
static int
take_path(pygo_client_options *options, void *field, PyObject *value)
{
    PyObject *bytes = NULL;

    if (!PyUnicode_FSConverter(value, &bytes) || keep(options, bytes) == NULL) {
        return -1;
    }
    *(const char **)field = PyBytes_AS_STRING(bytes);
    return 0;
}

/* A NULL-terminated array of what take_path() makes of the items. */
static int
take_paths(pygo_client_options *options, void *field, PyObject *value)
{
    PyObject *items = keep(options, PySequence_Tuple(value));
    const char **array;

    if (items == NULL) {
        return -1;
    }
    array = allocate(options, (size_t)PyTuple_GET_SIZE(items) + 1, sizeof(*array));
    if (array == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items); i++) {
        if (take_path(options, &array[i], PyTuple_GET_ITEM(items, i)) < 0) {
            return -1;
        }
    }
    *(const char *const **)field = array;
    return 0;
}

static int
take_object(pygo_client_options *Py_UNUSED(options), void *field, PyObject *value)
{
    *(PyObject **)field = value;
    return 0;
}

static int
take_name(pygo_client_options *options, void *field, PyObject *value)
{
    if (!PyUnicode_Check(value)) {
        PyErr_Format(PyExc_TypeError, "name must be str, not %s", Py_TYPE(value)->tp_name);
        return -1;
    }
    if (take_string(options, &options->core.name, value) < 0) {
        return -1;
    }
    Py_SETREF(*(PyObject **)field, Py_NewRef(value));
    return 0;
}

static int
take_versions(pygo_client_options *options, void *field, PyObject *value)
{
    PyObject *tuple = PySequence_Tuple(value);
    size_t count;
    int *versions;

    if (tuple == NULL) {
        return -1;
    }
    Py_SETREF(options->versions, tuple);
    count = (size_t)PyTuple_GET_SIZE(tuple);
    versions = allocate(options, count, sizeof(*versions));
    if (versions == NULL) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        if (take_int(options, &versions[i], PyTuple_GET_ITEM(tuple, (Py_ssize_t)i)) < 0) {
            return -1;
        }
    }
    *(const int **)field = versions;
    options->core.versions_count = count;
    return 0;
}

static int
take_protocols(pygo_client_options *options, void *field, PyObject *value)
{
    PyObject *items = keep(options, PySequence_Tuple(value));
    unsigned bits = 0;

    if (items == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items); i++) {
        PyObject *item = PyTuple_GET_ITEM(items, i);

        if (PyUnicode_Check(item) && PyUnicode_CompareWithASCIIString(item, "grpc") == 0) {
            bits |= GP_PROTOCOL_GRPC;
        } else if (PyUnicode_Check(item) && PyUnicode_CompareWithASCIIString(item, "netrpc") == 0) {
            bits |= GP_PROTOCOL_NETRPC;
        } else {
            PyErr_Format(PyExc_ValueError, "unknown protocol %R: expected 'grpc' or 'netrpc'",
                         item);
            return -1;
        }
    }
    *(unsigned *)field = bits;
    return 0;
}

static int
take_tls(pygo_client_options *Py_UNUSED(options), void *field, PyObject *value)
{
    return pygo_tls(field, value);
}

static int
take_template(pygo_client_options *Py_UNUSED(options), void *field, PyObject *value)
{
    return pygo_template(field, value);
}

static int
take_channel_options(pygo_client_options *options, void *field, PyObject *value)
{
    return pygo_options_copy(field, &options->grpc_pointers, value);
}

static int
take_reattach(pygo_client_options *options, void *field, PyObject *value)
{
    gp_client_options *core = field;
    PyObject *address;
    int test;

    if (!PyArg_ParseTuple(value,
                          "sOsiipK;reattach must be (network, address, protocol, version, pid, "
                          "test, start time)",
                          &core->reattach_network, &address, &core->reattach_protocol,
                          &core->reattach_version, &core->reattach_pid, &test,
                          &core->reattach_start_time)) {
        return -1;
    }
    core->reattach_test = test != 0;
    return take_path(options, &core->reattach_address, address);
}

static int
take_secure(pygo_client_options *Py_UNUSED(options), void *field, PyObject *value)
{
    gp_client_options *core = field;
    unsigned long long max_size;
    const char *checksum;
    Py_ssize_t len;

    if (!PyArg_ParseTuple(value, "sy#K;secure must be (hash, checksum, most bytes)",
                          &core->checksum_hash, &checksum, &len, &max_size)) {
        return -1;
    }
    core->checksum = (const unsigned char *)checksum;
    core->checksum_len = (size_t)len;
    core->checksum_max_size = max_size;
    return 0;
}

/* ---- The table ---- */

typedef struct argument {
    const char *name;
    int (*take)(pygo_client_options *options, void *field, PyObject *value);
    size_t offset; /* of the field in pygo_client_options */
} argument;

#define ARGUMENT(name, kind, field) {name, take_##kind, offsetof(pygo_client_options, field)}

static const argument table[] = {
    ARGUMENT("name", name, name),
    ARGUMENT("argv", paths, core.argv),
    ARGUMENT("env", paths, core.env),
    ARGUMENT("directory", path, core.directory),
    ARGUMENT("cookie_key", string, core.cookie_key),
    ARGUMENT("cookie_value", string, core.cookie_value),
    ARGUMENT("versions", versions, core.versions),
    ARGUMENT("protocols", protocols, core.protocols),
    ARGUMENT("min_port", int, core.min_port),
    ARGUMENT("max_port", int, core.max_port),
    ARGUMENT("start_timeout", seconds, core.start_timeout_ms),
    ARGUMENT("kill_timeout", seconds, core.kill_timeout_ms),
    ARGUMENT("reattach", reattach, core),
    ARGUMENT("log", object, log),
    ARGUMENT("log_level", int, log_level),
    ARGUMENT("log_buffer_size", size, core.log_buffer_size),
    ARGUMENT("want_raw", flag, want_raw),
    ARGUMENT("output", object, output),
    ARGUMENT("managed", flag, core.managed),
    ARGUMENT("auto_mtls", flag, core.auto_mtls),
    ARGUMENT("tls", tls, core.tls),
    ARGUMENT("detach", flag, core.detach),
    ARGUMENT("template", template, core.tmpl),
    ARGUMENT("on_exit", object, on_exit),
    ARGUMENT("runner", object, runner),
    ARGUMENT("secure", secure, core),
    ARGUMENT("unix_socket_dir", path, core.unix_socket_dir),
    ARGUMENT("unix_socket_group", string, core.unix_socket_group),
    ARGUMENT("multiplex", flag, core.multiplex),
    ARGUMENT("kill_group", string, core.kill_group),
    ARGUMENT("channel_options", channel_options, core.channel_args),
    ARGUMENT("skip_output", size, core.skip_output),
};

enum { ARGUMENTS = sizeof(table) / sizeof(table[0]) };

static const argument *
find_argument(PyObject *name)
{
    for (size_t i = 0; i < ARGUMENTS; i++) {
        if (PyUnicode_CompareWithASCIIString(name, table[i].name) == 0) {
            return &table[i];
        }
    }
    PyErr_Format(PyExc_TypeError, "'%U' is an invalid keyword argument for Client()", name);
    return NULL;
}

static int
take_arguments(pygo_client_options *options, PyObject *kwargs)
{
    Py_ssize_t at = 0;
    PyObject *name;
    PyObject *value;

    while (kwargs != NULL && PyDict_Next(kwargs, &at, &name, &value)) {
        const argument *found = find_argument(name);

        if (found == NULL || (value != Py_None &&
                              found->take(options, (char *)options + found->offset, value) < 0)) {
            return -1;
        }
    }
    return 0;
}

/* ---- The sink for the plugin's end ---- */

/* One call of on_exit, to be made on the thread for callbacks. */
typedef struct exit_callback {
    pygo_callback base;
    PyObject *callable; /* owned */
    int status;
} exit_callback;

/* With the GIL. */
static void
run_exit(pygo_callback *base)
{
    exit_callback *self = (exit_callback *)base;
    PyObject *status =
        self->status == GP_STATUS_UNKNOWN ? Py_NewRef(Py_None) : PyLong_FromLong(self->status);
    PyObject *result = status != NULL ? pygo_gil_call_user(self->callable, &status, 1) : NULL;

    if (result == NULL) {
        PyErr_WriteUnraisable(self->callable);
    }
    Py_XDECREF(result);
    Py_XDECREF(status);
    Py_DECREF(self->callable);
    PyMem_RawFree(self);
}

static void
post_exit(void *ctx, int status)
{
    exit_callback *self = ctx;

    self->status = status;
    pygo_callback_post(&self->base);
}

static void
release_exit(void *ctx)
{
    exit_callback *self = ctx;

    pygo_gil_release(self->callable);
    PyMem_RawFree(self);
}

static int
make_exit_sink(gp_exit_sink *out, PyObject *callable)
{
    exit_callback *self;

    if (callable == NULL) {
        return 0;
    }
    self = PyMem_RawCalloc(1, sizeof(*self));
    if (self == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->base.run = run_exit;
    self->callable = Py_NewRef(callable);
    *out = (gp_exit_sink){.exited = post_exit, .release = release_exit, .ctx = self};
    return 0;
}

/* ---- The arguments ---- */

int
pygo_client_options_init(pygo_client_options *options, PyObject *args, PyObject *kwargs)
{
    *options = (pygo_client_options){
        .core = {.cookie_key = "",
                 .cookie_value = "",
                 .min_port = 10000,
                 .max_port = 25000,
                 .protocols = GP_PROTOCOL_GRPC,
                 .start_timeout_ms = 60000,
                 .kill_timeout_ms = 2000,
                 .reattach_pid = -1},
        .log_level = GP_TRACE,
    };
    if (PyTuple_GET_SIZE(args) > 0) {
        PyErr_SetString(PyExc_TypeError, "Client() takes no positional arguments");
        return -1;
    }
    options->name = PyUnicode_FromString("");
    options->versions = PyTuple_New(0);
    options->memory = PyList_New(0);
    if (options->name == NULL || options->versions == NULL || options->memory == NULL ||
        take_arguments(options, kwargs) < 0 ||
        make_exit_sink(&options->core.exit, options->on_exit) < 0) {
        pygo_client_options_release(options);
        return -1;
    }
    options->core.runner = pygo_runner(options->runner);
    options->core.log = pygo_log_sink(options->log, options->log_level, options->want_raw);
    options->core.output = pygo_output_sink(options->output);
    return 0;
}

void
pygo_client_options_release(pygo_client_options *options)
{
    Py_CLEAR(options->name);
    Py_CLEAR(options->versions);
    Py_CLEAR(options->grpc_pointers);
    Py_CLEAR(options->memory);
    gp_channel_args_unref(options->core.channel_args);
    options->core.channel_args = NULL;
}
