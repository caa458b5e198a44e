#include "py/arg_object.h"

#include "py/errors.h"

typedef struct ArgObject {
    PyObject_HEAD
    gp_arg_object *object; /* shared: ref */
    size_t size;           /* as given, for repr() */
} ArgObject;

gp_arg_object *
pygo_arg_object(PyObject *object)
{
    return Py_TYPE(object) == pygo_module_state->memory_quota_type ||
                   Py_TYPE(object) == pygo_module_state->session_cache_type
               ? ((ArgObject *)object)->object
               : NULL;
}

static PyObject *
new_arg_object(PyTypeObject *type, int (*make)(gp_arg_object **out, size_t size, gp_error *err),
               size_t size)
{
    gp_error err = GP_ERROR_INIT;
    ArgObject *self = (ArgObject *)type->tp_alloc(type, 0);
    int rc;

    if (self == NULL) {
        return NULL;
    }
    self->size = size;
    Py_BEGIN_ALLOW_THREADS
    rc = make(&self->object, size, &err);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        self->object = NULL;
        Py_DECREF(self);
        return pygo_raise(&err, NULL);
    }
    return (PyObject *)self;
}

/* Parse the one argument, a number greater than 0. Returns 0, or -1 with an exception. */
static int
parse_size(Py_ssize_t *out, PyObject *args, PyObject *kwargs, const char *format, char **names)
{
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, out) || pygo_check_forked() < 0) {
        return -1;
    }
    if (*out <= 0) {
        PyErr_Format(PyExc_ValueError, "%s must be greater than 0, but is %zd", names[0], *out);
        return -1;
    }
    return 0;
}

static PyObject *
quota_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"size", NULL};
    Py_ssize_t size;

    return parse_size(&size, args, kwargs, "n:MemoryQuota", names) < 0
               ? NULL
               : new_arg_object(type, gp_memory_quota_new, (size_t)size);
}

static PyObject *
cache_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"capacity", NULL};
    Py_ssize_t capacity;

    return parse_size(&capacity, args, kwargs, "n:SSLSessionCacheLRU", names) < 0
               ? NULL
               : new_arg_object(type, gp_session_cache_new, (size_t)capacity);
}

static void
arg_object_dealloc(ArgObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_BEGIN_ALLOW_THREADS
    gp_arg_object_unref(self->object);
    Py_END_ALLOW_THREADS
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
arg_object_repr(ArgObject *self)
{
    return PyUnicode_FromFormat("%s(%zu)", pygo_short_name(Py_TYPE(self)), self->size);
}

/*
 * Unlike grpcio's objects, these have no __int__ that gives their address: grpcio would use it,
 * though the object belongs to another gRPC core.
 */
static PyType_Slot quota_slots[] = {
    {Py_tp_new, quota_new},
    {Py_tp_repr, arg_object_repr},
    {Py_tp_dealloc, arg_object_dealloc},
    {Py_tp_doc, "MemoryQuota(size)\n--\n\nFor the option grpc.resource_quota: how many bytes the "
                "channels and servers that have it may take together for what they receive."},
    {0, NULL},
};

static PyType_Spec quota_spec = {
    .name = "pygo_plugin._core.MemoryQuota",
    .basicsize = sizeof(ArgObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = quota_slots,
};

static PyType_Slot cache_slots[] = {
    {Py_tp_new, cache_new},
    {Py_tp_repr, arg_object_repr},
    {Py_tp_dealloc, arg_object_dealloc},
    {Py_tp_doc, "SSLSessionCacheLRU(capacity)\n--\n\nFor the option grpc.ssl_session_cache: TLS "
                "sessions to be resumed, those of the servers that were connected to last."},
    {0, NULL},
};

static PyType_Spec cache_spec = {
    .name = "pygo_plugin._core.SSLSessionCacheLRU",
    .basicsize = sizeof(ArgObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = cache_slots,
};

int
pygo_arg_object_setup(PyObject *module, pygo_state *state)
{
    state->memory_quota_type = pygo_add_type(module, &quota_spec);
    state->session_cache_type = pygo_add_type(module, &cache_spec);
    return state->memory_quota_type != NULL && state->session_cache_type != NULL ? 0 : -1;
}
