#include "gp/client.h"

#include <limits.h>
#include <string.h>

#include "py/broker.h"
#include "py/call.h"
#include "py/callbacks.h"
#include "py/channel.h"
#include "py/errors.h"
#include "py/gil.h"
#include "py/log_sink.h"
#include "py/output_sink.h"
#include "py/runner.h"
#include "py/tls.h"

typedef struct ClientObject {
    PyObject_HEAD
    gp_client *client;  /* owned */
    PyObject *name;     /* owned str: begins every message */
    PyObject *versions; /* owned tuple: what a VersionError reports as the host's */
    PyObject *options;  /* owned: what gRPC may have pointers to; NULL: nothing */
} ClientObject;

static const char *
name_of(ClientObject *self)
{
    return self->name != NULL ? PyUnicode_AsUTF8(self->name) : NULL;
}

/* ---- Options ---- */

/* A NULL-terminated array that borrows from |sequence|'s strings, which |*owner| keeps. */
static int
strings_from(const char ***out, PyObject **owner, PyObject *sequence)
{
    Py_ssize_t count;

    *owner = PySequence_Tuple(sequence);
    if (*owner == NULL) {
        return -1;
    }
    count = PyTuple_GET_SIZE(*owner);
    *out = PyMem_Calloc((size_t)count + 1, sizeof(**out));
    if (*out == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *bytes = NULL;
        PyObject *item = PyTuple_GET_ITEM(*owner, i);

        /* As os.fsencode: environments and paths are bytes to the kernel. */
        if (!PyUnicode_FSConverter(item, &bytes)) {
            return -1;
        }
        PyTuple_SetItem(*owner, i, bytes);
        (*out)[i] = PyBytes_AS_STRING(bytes);
    }
    return 0;
}

static int
versions_from(int **out, size_t *count, PyObject *versions)
{
    *count = (size_t)PyTuple_GET_SIZE(versions);
    *out = PyMem_Calloc(*count + 1, sizeof(**out));
    if (*out == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < *count; i++) {
        long version = PyLong_AsLong(PyTuple_GET_ITEM(versions, (Py_ssize_t)i));

        if (version == -1 && PyErr_Occurred()) {
            return -1;
        }
        if (version < INT_MIN || version > INT_MAX) {
            PyErr_Format(PyExc_OverflowError, "the version %ld is out of range", version);
            return -1;
        }
        (*out)[i] = (int)version;
    }
    return 0;
}

static int
protocols_from(unsigned *out, PyObject *protocols)
{
    PyObject *iterator = PyObject_GetIter(protocols);
    PyObject *item;

    *out = 0;
    if (iterator == NULL) {
        return -1;
    }
    while ((item = PyIter_Next(iterator)) != NULL) {
        if (PyUnicode_Check(item) && PyUnicode_CompareWithASCIIString(item, "grpc") == 0) {
            *out |= GP_PROTOCOL_GRPC;
        } else if (PyUnicode_Check(item) && PyUnicode_CompareWithASCIIString(item, "netrpc") == 0) {
            *out |= GP_PROTOCOL_NETRPC;
        } else {
            PyErr_Format(PyExc_ValueError, "unknown protocol %R: expected 'grpc' or 'netrpc'",
                         item);
        }
        Py_DECREF(item);
        if (PyErr_Occurred()) {
            break;
        }
    }
    Py_DECREF(iterator);
    return PyErr_Occurred() ? -1 : 0;
}

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
tell_exit(void *ctx, int status)
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
exit_sink(gp_exit_sink *out, PyObject *callable)
{
    exit_callback *self;

    *out = (gp_exit_sink){.exited = NULL};
    if (callable == Py_None) {
        return 0;
    }
    self = PyMem_RawCalloc(1, sizeof(*self));
    if (self == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->base.run = run_exit;
    self->callable = Py_NewRef(callable);
    *out = (gp_exit_sink){.exited = tell_exit, .release = release_exit, .ctx = self};
    return 0;
}

/* What the options point into while they are being used. */
typedef struct borrowed {
    const char **argv;
    PyObject *argv_owner;
    const char **env;
    PyObject *env_owner;
    PyObject *directory;        /* bytes */
    PyObject *socket_dir;       /* bytes */
    PyObject *reattach_address; /* likewise */
    int *versions;
    gp_channel_args *channel_args; /* shared: ref */
    Py_buffer checksum;
} borrowed;

static void
borrowed_release(borrowed *kept)
{
    PyMem_Free((void *)kept->argv);
    PyMem_Free((void *)kept->env);
    PyMem_Free(kept->versions);
    Py_XDECREF(kept->argv_owner);
    Py_XDECREF(kept->env_owner);
    Py_XDECREF(kept->directory);
    Py_XDECREF(kept->socket_dir);
    Py_XDECREF(kept->reattach_address);
    gp_channel_args_unref(kept->channel_args);
    PyBuffer_Release(&kept->checksum);
}

static int
parse_options(ClientObject *self, gp_client_options *options, borrowed *kept, PyObject *args,
              PyObject *kwargs)
{
    static char *names[] = {"name",
                            "argv",
                            "env",
                            "directory",
                            "cookie_key",
                            "cookie_value",
                            "versions",
                            "protocols",
                            "min_port",
                            "max_port",
                            "start_timeout",
                            "reattach",
                            "log",
                            "log_level",
                            "log_buffer_size",
                            "want_raw",
                            "output",
                            "managed",
                            "auto_mtls",
                            "tls",
                            "detach",
                            "on_exit",
                            "runner",
                            "secure",
                            "unix_socket_dir",
                            "unix_socket_group",
                            "multiplex",
                            "kill_group",
                            "channel_options",
                            "skip_output",
                            "kill_timeout",
                            NULL};
    PyObject *name = NULL;
    PyObject *argv = Py_None;
    PyObject *env = NULL;
    PyObject *directory = Py_None;
    PyObject *versions = NULL;
    PyObject *protocols = NULL;
    PyObject *reattach = Py_None;
    PyObject *log = Py_None;
    PyObject *output = Py_None;
    PyObject *tls = Py_None;
    PyObject *on_exit = Py_None;
    PyObject *runner = Py_None;
    PyObject *secure = Py_None;
    PyObject *socket_dir = Py_None;
    PyObject *channel_options = Py_None;
    double start_timeout = 60.0;
    double kill_timeout = 2.0;
    Py_ssize_t log_buffer_size = 0;
    Py_ssize_t skip_output = 0;
    int log_level = GP_TRACE;
    int want_raw = 0;
    int managed = 0;
    int auto_mtls = 0;
    int detach = 0;
    int multiplex = 0;
    int test = 0;
    unsigned long long max_size = 0;

    *options = (gp_client_options){.cookie_key = "",
                                   .cookie_value = "",
                                   .min_port = 10000,
                                   .max_port = 25000,
                                   .protocols = GP_PROTOCOL_GRPC,
                                   .reattach_pid = -1};
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "|$UOOOssOOiidOOinpOppOpOOOOzpzOnd:Client", names, &name, &argv, &env,
            &directory, &options->cookie_key, &options->cookie_value, &versions, &protocols,
            &options->min_port, &options->max_port, &start_timeout, &reattach, &log, &log_level,
            &log_buffer_size, &want_raw, &output, &managed, &auto_mtls, &tls, &detach, &on_exit,
            &runner, &secure, &socket_dir, &options->unix_socket_group, &multiplex,
            &options->kill_group, &channel_options, &skip_output, &kill_timeout)) {
        return -1;
    }
    self->name = name != NULL ? Py_NewRef(name) : PyUnicode_FromString("");
    self->versions = versions != NULL ? PySequence_Tuple(versions) : PyTuple_New(0);
    if (self->name == NULL || self->versions == NULL ||
        versions_from(&kept->versions, &options->versions_count, self->versions) < 0 ||
        (protocols != NULL && protocols_from(&options->protocols, protocols) < 0) ||
        (argv != Py_None && strings_from(&kept->argv, &kept->argv_owner, argv) < 0) ||
        (env != NULL && strings_from(&kept->env, &kept->env_owner, env) < 0) ||
        (directory != Py_None && !PyUnicode_FSConverter(directory, &kept->directory)) ||
        (socket_dir != Py_None && !PyUnicode_FSConverter(socket_dir, &kept->socket_dir)) ||
        pygo_tls(&options->tls, tls) < 0 ||
        pygo_options_copy(&kept->channel_args, &self->options, channel_options) < 0) {
        return -1;
    }
    if (reattach != Py_None &&
        !PyArg_ParseTuple(reattach,
                          "sO&siipK;reattach must be (network, address, protocol, "
                          "version, pid, test, start time)",
                          &options->reattach_network, PyUnicode_FSConverter,
                          &kept->reattach_address, &options->reattach_protocol,
                          &options->reattach_version, &options->reattach_pid, &test,
                          &options->reattach_start_time)) {
        return -1;
    }
    if (secure != Py_None &&
        !PyArg_ParseTuple(secure, "sy*K;secure must be (hash, checksum, most bytes)",
                          &options->checksum_hash, &kept->checksum, &max_size)) {
        return -1;
    }
    options->checksum_max_size = max_size;
    options->checksum = kept->checksum.buf;
    options->checksum_len = (size_t)kept->checksum.len;
    options->reattach_test = test != 0;
    options->argv = kept->argv;
    options->env = kept->env;
    options->directory = kept->directory != NULL ? PyBytes_AS_STRING(kept->directory) : NULL;
    options->reattach_address =
        kept->reattach_address != NULL ? PyBytes_AS_STRING(kept->reattach_address) : NULL;
    options->unix_socket_dir =
        kept->socket_dir != NULL ? PyBytes_AS_STRING(kept->socket_dir) : NULL;
    options->versions = kept->versions;
    options->channel_args = kept->channel_args;
    options->start_timeout_ms = (int64_t)(start_timeout * 1000);
    options->kill_timeout_ms = (int64_t)(kill_timeout * 1000);
    options->log_buffer_size = (size_t)log_buffer_size;
    options->skip_output = (size_t)skip_output;
    options->managed = managed != 0;
    options->auto_mtls = auto_mtls != 0;
    options->detach = detach != 0;
    options->multiplex = multiplex != 0;
    if (exit_sink(&options->exit, on_exit) < 0) {
        return -1;
    }
    options->runner = pygo_runner(runner);
    options->log = pygo_log_sink(log, log_level, want_raw != 0);
    options->output = pygo_output_sink(output);
    return 0;
}

static PyObject *
client_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    ClientObject *self = (ClientObject *)type->tp_alloc(type, 0);
    gp_error err = GP_ERROR_INIT;
    gp_client_options options;
    borrowed kept = {0};
    int rc;

    if (self == NULL || pygo_check_forked() < 0 ||
        parse_options(self, &options, &kept, args, kwargs) < 0) {
        borrowed_release(&kept);
        Py_XDECREF(self);
        return NULL;
    }
    rc = gp_client_new(&self->client, &options, &err);
    borrowed_release(&kept);
    if (rc < 0) {
        pygo_raise(&err, name_of(self));
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void
client_dealloc(ClientObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    if (self->client != NULL) {
        Py_BEGIN_ALLOW_THREADS
        gp_client_free(self->client);
        Py_END_ALLOW_THREADS
    }
    Py_XDECREF(self->name);
    Py_XDECREF(self->versions);
    Py_XDECREF(self->options);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- Life ---- */

/* Raise |err|; a VersionError also carries the host's side. */
static PyObject *
raise_start_error(ClientObject *self, gp_error *err)
{
    bool version = err->code == GP_EVERSION;
    PyObject *type;
    PyObject *exception;
    PyObject *traceback;

    pygo_raise(err, NULL); /* the message begins with the plugin's name */
    if (version) {
        PyErr_Fetch(&type, &exception, &traceback);
        PyErr_NormalizeException(&type, &exception, &traceback);
        if (exception != NULL &&
            PyObject_SetAttrString(exception, "host_versions", self->versions) < 0) {
            PyErr_Clear();
        }
        PyErr_Restore(type, exception, traceback);
    }
    return NULL;
}

static PyObject *
client_start(ClientObject *self, PyObject *Py_UNUSED(ignored))
{
    const gp_interrupt *interrupt = pygo_interrupt();
    gp_error err = GP_ERROR_INIT;
    const gp_endpoint *where;
    int rc;

    if (pygo_check_forked() < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_client_start(self->client, interrupt, &err);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        return raise_start_error(self, &err);
    }
    where = gp_client_endpoint(self->client);
    return Py_BuildValue("sNssi", where->network, PyUnicode_DecodeFSDefault(where->address),
                         where->target, where->protocol, where->version);
}

static PyObject *
client_channel(ClientObject *self, PyObject *Py_UNUSED(ignored))
{
    gp_error err = GP_ERROR_INIT;
    gp_channel *shared;
    gp_channel *view;

    if (pygo_check_forked() < 0) {
        return NULL;
    }
    shared = gp_client_channel(self->client);
    if (shared == NULL) {
        gp_error_set(&err, GP_ECLOSED,
                     "there is no connection: the plugin has not been started, or "
                     "has been killed");
        return pygo_raise(&err, name_of(self));
    }
    if (gp_channel_view(&view, shared, &err) < 0) {
        return pygo_raise(&err, name_of(self));
    }
    return pygo_channel_wrap(view);
}

static PyObject *
client_broker(ClientObject *self, PyObject *Py_UNUSED(ignored))
{
    gp_error err = GP_ERROR_INIT;
    gp_broker *broker;

    if (pygo_check_forked() < 0) {
        return NULL;
    }
    broker = gp_client_broker(self->client);
    if (broker == NULL) {
        gp_error_set(&err, GP_ECLOSED,
                     "there is no broker: the plugin has not been started, or has been killed");
        return pygo_raise(&err, name_of(self));
    }
    return pygo_broker_wrap(gp_broker_ref(broker), self->name, self->options);
}

static PyObject *
client_ping(ClientObject *self, PyObject *timeout)
{
    const gp_interrupt *interrupt = pygo_interrupt();
    gp_error err = GP_ERROR_INIT;
    int64_t timeout_ns;
    int rc;

    if (pygo_check_forked() < 0 || pygo_timeout_ns(&timeout_ns, timeout) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_client_ping(self->client, timeout_ns < 0 ? -1 : timeout_ns / 1000000, interrupt, &err);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        return pygo_raise(&err, NULL);
    }
    Py_RETURN_NONE;
}

static PyObject *
client_kill(ClientObject *self, PyObject *Py_UNUSED(ignored))
{
    const gp_interrupt *interrupt = pygo_interrupt();
    int rc;

    Py_BEGIN_ALLOW_THREADS
    rc = gp_client_kill(self->client, interrupt);
    Py_END_ALLOW_THREADS
    if (rc < 0 &&
        rc != GP_EFORKED) { /* in a forked child, where the parent's plugin is not ours to kill */
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
client_exited(ClientObject *self, PyObject *Py_UNUSED(ignored))
{
    bool exited;

    Py_BEGIN_ALLOW_THREADS
    exited = gp_client_exited(self->client);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(exited);
}

static PyObject *
client_exit_status(ClientObject *self, void *Py_UNUSED(closure))
{
    int status;

    if (!gp_client_exited(self->client)) {
        Py_RETURN_NONE;
    }
    status = gp_client_exit_status(self->client);
    if (status == GP_STATUS_UNKNOWN) {
        Py_RETURN_NONE;
    }
    return PyLong_FromLong(status);
}

static PyObject *
client_pid(ClientObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(gp_client_pid(self->client));
}

static PyObject *
client_start_time(ClientObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(gp_client_start_time(self->client));
}

static PyMethodDef methods[] = {
    {"start", (PyCFunction)client_start, METH_NOARGS,
     "start($self)\n--\n\nLaunch and shake hands, once: (network, address, target, protocol, "
     "version)."},
    {"channel", (PyCFunction)client_channel, METH_NOARGS,
     "channel($self)\n--\n\nA new view of the one connection."},
    {"broker", (PyCFunction)client_broker, METH_NOARGS,
     "broker($self)\n--\n\nThe one broker between this host and the plugin."},
    {"ping", (PyCFunction)client_ping, METH_O,
     "ping($self, timeout, /)\n--\n\nHealth check, within timeout seconds; raises when unhealthy."},
    {"kill", (PyCFunction)client_kill, METH_NOARGS,
     "kill($self)\n--\n\nShut down, then kill. Idempotent."},
    {"exited", (PyCFunction)client_exited, METH_NOARGS,
     "exited($self)\n--\n\nWhether the process was started and is gone."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getters[] = {
    {"exit_status", (getter)client_exit_status, NULL,
     "Exit status, -N for signal N; None while it runs or if nobody can tell.", NULL},
    {"pid", (getter)client_pid, NULL, "Process id; -1 before the start.", NULL},
    {"start_time", (getter)client_start_time, NULL,
     "When the process started, in ticks since boot; 0 if unknown.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, client_new},
    {Py_tp_dealloc, client_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {Py_tp_doc, "One plugin process as its host sees it."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.Client",
    .basicsize = sizeof(ClientObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

int
pygo_client_setup(PyObject *module, pygo_state *state)
{
    state->client_type = pygo_add_type(module, &spec);
    return state->client_type != NULL ? 0 : -1;
}
