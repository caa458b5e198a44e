#include "py/state.h"

#include <string.h>

static pygo_state the_state;
pygo_state *pygo_module_state = &the_state;

/* ---- What the package provides ---- */

static const char *const names[PYGO_NAME_COUNT] = {
    [PYGO_CHANNEL] = "Channel",
    [PYGO_CALL] = "Call",
    [PYGO_STREAM] = "ResponseStream",
    [PYGO_START_FEEDING] = "start_feeding",
    [PYGO_RPC_ERROR] = "rpc_error",
    [PYGO_REQUEST_REFUSED] = "request_refused",
    [PYGO_HANDLER_FAILED] = "handler_failed",
    [PYGO_REQUESTS_CANCELLED] = "requests_cancelled",
    [PYGO_WORKERS_FULL] = "workers_full",
    [PYGO_IS_POOL] = "is_pool",
    [PYGO_RUN_IN_POOL] = "run_in_pool",
    [PYGO_ASK_PLUGIN] = "ask_plugin",
    [PYGO_LOG_LINE] = "log_line",
    [PYGO_CLASS_OF] = "class_of",
    [PYGO_SIGNATURE_OF] = "signature_of",
    [PYGO_REGISTER_THREAD] = "register_thread",
    [PYGO_UNREGISTER_THREAD] = "unregister_thread",
    [PYGO_GOB_TYPE_OF] = "type_of",
    [PYGO_INFER_TYPE] = "infer_type",
    [PYGO_METHOD_FAILED] = "method_failed",
    [PYGO_INTERFACE_TYPE] = "interface_type",
    [PYGO_REGISTERED_TYPE] = "registered_type",
    [PYGO_STRUCT] = "Struct",
    [PYGO_STRUCT_TYPE] = "StructType",
    [PYGO_OPAQUE] = "Opaque",
    [PYGO_TIME] = "Time",
    [PYGO_PLUGIN_ERROR] = "PluginError",
    [PYGO_CONFIG_ERROR] = "ConfigError",
    [PYGO_CONFIG_TYPE_ERROR] = "ConfigTypeError",
    [PYGO_START_ERROR] = "StartError",
    [PYGO_EXITED_EARLY_ERROR] = "ExitedEarlyError",
    [PYGO_START_TIMEOUT_ERROR] = "StartTimeoutError",
    [PYGO_HANDSHAKE_ERROR] = "HandshakeError",
    [PYGO_VERSION_ERROR] = "VersionError",
    [PYGO_CHECKSUM_ERROR] = "ChecksumError",
    [PYGO_TLS_ERROR] = "TLSError",
    [PYGO_REATTACH_ERROR] = "ReattachError",
    [PYGO_BROKER_ERROR] = "BrokerError",
    [PYGO_CLOSED_ERROR] = "ClosedError",
    [PYGO_SYSTEM_CALL_ERROR] = "SystemCallError",
    [PYGO_FORKED_ERROR] = "ForkedError",
    [PYGO_GOB_ERROR] = "GobError",
    [PYGO_LIBRARY_ERROR] = "LibraryError",
    [PYGO_SERVER_ERROR] = "ServerError",
    [PYGO_CALL_TIMEOUT_ERROR] = "CallTimeoutError",
};

static PyObject *provider;                  /* owned; NULL until the package has handed it over */
static PyObject *provided[PYGO_NAME_COUNT]; /* owned; NULL until first needed */

void
pygo_set_provider(PyObject *provide)
{
    Py_XSETREF(provider, Py_NewRef(provide));
}

PyObject *
pygo_provided(pygo_name name)
{
    PyObject *found;

    if (provided[name] != NULL) {
        return provided[name];
    }
    if (provider == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the core is used without the package that it belongs to");
        return NULL;
    }
    found = PyObject_CallFunction(provider, "s", names[name]);
    /* Another thread may have got it during the import. */
    if (provided[name] == NULL) {
        provided[name] = found;
    } else {
        Py_XDECREF(found);
    }
    return provided[name];
}

/* ---- Types ---- */

int
pygo_export_type(PyObject *module, PyType_Spec *spec)
{
    PyTypeObject *type = pygo_add_type(module, spec);

    Py_XDECREF(type); /* the module keeps it */
    return type != NULL ? 0 : -1;
}

PyTypeObject *
pygo_add_type(PyObject *module, PyType_Spec *spec)
{
    return pygo_add_subtype(module, spec, &PyBaseObject_Type);
}

PyTypeObject *
pygo_add_subtype(PyObject *module, PyType_Spec *spec, PyTypeObject *base)
{
    PyObject *bases = PyTuple_Pack(1, base);
    PyTypeObject *type =
        bases != NULL ? (PyTypeObject *)PyType_FromSpecWithBases(spec, bases) : NULL;

    Py_XDECREF(bases);
    if (type != NULL && PyModule_AddType(module, type) < 0) {
        Py_CLEAR(type);
    }
    return type;
}

PyTypeObject *
pygo_add_struct(PyObject *module, PyStructSequence_Desc *description)
{
    PyTypeObject *type = PyStructSequence_NewType(description);

    if (type != NULL && PyModule_AddType(module, type) < 0) {
        Py_CLEAR(type);
    }
    return type;
}

const char *
pygo_short_name(const PyTypeObject *type)
{
    const char *dot = strrchr(type->tp_name, '.');

    return dot != NULL ? dot + 1 : type->tp_name;
}

int
pygo_check_type(PyObject *object, PyTypeObject *type)
{
    if (PyObject_TypeCheck(object, type)) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "a %s is needed, not %.100s", type->tp_name,
                 Py_TYPE(object)->tp_name);
    return -1;
}

int
pygo_check_subclass(PyObject *type, PyTypeObject *base)
{
    if (PyType_Check(type) && PyType_IsSubtype((PyTypeObject *)type, base)) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "a subclass of %s is needed, not %R", base->tp_name, type);
    return -1;
}
