#include "py/errors.h"

#include "py/gil.h"

#include "gp/runtime.h"

/* The class of the exception for |code|, borrowed; NULL with an exception. */
static PyObject *
class_for(int code)
{
    switch (code) {
    case GP_ENOMEM:
        return PyExc_MemoryError;
    case GP_ETIMEOUT:
        return PyExc_TimeoutError;
    case GP_EINVAL:
        return pygo_provided(PYGO_CONFIG_ERROR);
    case GP_ESTART:
        return pygo_provided(PYGO_START_ERROR);
    case GP_EEXITED:
        return pygo_provided(PYGO_EXITED_EARLY_ERROR);
    case GP_ESTARTTIMEOUT:
        return pygo_provided(PYGO_START_TIMEOUT_ERROR);
    case GP_EHANDSHAKE:
        return pygo_provided(PYGO_HANDSHAKE_ERROR);
    case GP_EVERSION:
        return pygo_provided(PYGO_VERSION_ERROR);
    case GP_EREATTACH:
        return pygo_provided(PYGO_REATTACH_ERROR);
    case GP_ETLS:
        return pygo_provided(PYGO_TLS_ERROR);
    case GP_EBROKER:
        return pygo_provided(PYGO_BROKER_ERROR);
    case GP_ECHECKSUM:
        return pygo_provided(PYGO_CHECKSUM_ERROR);
    case GP_ECLOSED:
        return pygo_provided(PYGO_CLOSED_ERROR);
    case GP_EFORKED:
        return pygo_provided(PYGO_FORKED_ERROR);
    case GP_ELIBRARY:
        return pygo_provided(PYGO_LIBRARY_ERROR);
    case GP_ESERVER:
        return pygo_provided(PYGO_SERVER_ERROR);
    case GP_EOS:
        return pygo_provided(PYGO_SYSTEM_CALL_ERROR);
    case GP_EGOB:
        return pygo_provided(PYGO_GOB_ERROR);
    default:
        return pygo_provided(PYGO_PLUGIN_ERROR);
    }
}

/* Steals |value|. */
static int
set_attribute(PyObject *exception, const char *name, PyObject *value)
{
    /* Interned: the interpreter's cache of attributes would keep a fresh str for each exception. */
    PyObject *key = PyUnicode_InternFromString(name);
    int rc = key != NULL && value != NULL ? PyObject_SetAttr(exception, key, value) : -1;

    Py_XDECREF(key);
    Py_XDECREF(value);
    return rc;
}

/* "HASH EXPECTED FOUND" */
static int
attach_checksums(PyObject *exception, const char *detail)
{
    size_t hash = strcspn(detail, " ");
    const char *expected = detail + hash + (detail[hash] != '\0');
    size_t len = strcspn(expected, " ");
    const char *found = expected + len + (expected[len] != '\0');

    if (set_attribute(exception, "hash",
                      PyUnicode_DecodeUTF8(detail, (Py_ssize_t)hash, "replace")) < 0 ||
        set_attribute(exception, "expected",
                      PyUnicode_DecodeUTF8(expected, (Py_ssize_t)len, "replace")) < 0) {
        return -1;
    }
    return set_attribute(exception, "found", PyUnicode_FromString(found));
}

/* Set the attributes that pygo_plugin.errors documents for the class. */
static int
attach_evidence(PyObject *exception, const gp_error *err)
{
    const char *detail = err->detail != NULL ? err->detail : "";
    Py_ssize_t len = (Py_ssize_t)err->detail_len;

    switch (err->code) {
    case GP_EEXITED:
        if (set_attribute(exception, "exit_status", PyLong_FromLong(err->number)) < 0) {
            return -1;
        }
        return set_attribute(exception, "stderr", PyUnicode_DecodeUTF8(detail, len, "replace"));
    case GP_ESTARTTIMEOUT:
        return set_attribute(exception, "stderr", PyUnicode_DecodeUTF8(detail, len, "replace"));
    case GP_EHANDSHAKE:
        return set_attribute(exception, "line", PyBytes_FromStringAndSize(detail, len));
    case GP_ETLS:
        return set_attribute(exception, "reason", PyUnicode_DecodeUTF8(detail, len, "replace"));
    case GP_ECHECKSUM:
        return attach_checksums(exception, detail);
    case GP_EGOB:
        return set_attribute(exception, "path", PyUnicode_DecodeUTF8(detail, len, "replace"));
    case GP_EVERSION:
        return set_attribute(exception, "plugin_version", PyLong_FromLong(err->number));
    case GP_EOS:
    case GP_ESTART:
        return err->number == 0 ? 0
                                : set_attribute(exception, "errno", PyLong_FromLong(err->number));
    default:
        return 0;
    }
}

PyObject *
pygo_raise(gp_error *err, const char *name)
{
    const char *text = gp_error_message(err);
    PyObject *message;
    PyObject *type;
    PyObject *exception = NULL;

    if (err->code == GP_EUSER && PyErr_Occurred()) {
        gp_error_release(err);
        return NULL;
    }
    message = err->code == GP_ESERVER && err->detail != NULL
                  ? PyUnicode_DecodeUTF8(err->detail, (Py_ssize_t)err->detail_len, "replace")
                  : PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
    if (message != NULL && name != NULL && name[0] != '\0') {
        PyObject *whole = PyUnicode_FromFormat("%s: %U", name, message);

        Py_DECREF(message);
        message = whole;
    }
    type = class_for(err->code);
    if (message != NULL && type != NULL) {
        exception = PyObject_CallFunctionObjArgs(type, message, NULL);
    }
    if (exception != NULL && attach_evidence(exception, err) < 0) {
        Py_CLEAR(exception);
    }
    Py_XDECREF(message);
    gp_error_release(err);
    return pygo_raise_object(exception);
}

PyObject *
pygo_raise_object(PyObject *exception)
{
    if (exception != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
    }
    return NULL;
}

PyObject *
pygo_take_exception(void)
{
    PyObject *type;
    PyObject *exception;
    PyObject *traceback;

    PyErr_Fetch(&type, &exception, &traceback);
    PyErr_NormalizeException(&type, &exception, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(exception, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return exception;
}

void
pygo_call_back(PyObject *callable)
{
    PyObject *result = pygo_gil_call_user(callable, NULL, 0);

    if (result == NULL) {
        PyErr_WriteUnraisable(callable);
    }
    Py_XDECREF(result);
}

int
pygo_check_forked(void)
{
    gp_error err = GP_ERROR_INIT;

    if (!gp_runtime_forked()) {
        return 0;
    }
    gp_runtime_refuse_fork(&err);
    pygo_raise(&err, NULL);
    return -1;
}
