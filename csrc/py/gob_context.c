#include "py/errors.h"
#include "py/gob_type.h"

void
pygo_gob_context_release(GobContext *context)
{
    Py_CLEAR(context->reason);
    Py_CLEAR(context->cause);
    Py_CLEAR(context->tail);
    Py_CLEAR(context->temporary);
}

int
pygo_gob_refuse(GobContext *context, const char *format, ...)
{
    va_list args;

    Py_XSETREF(context->cause, PyErr_Occurred() ? pygo_take_exception() : NULL);
    va_start(args, format);
    Py_XSETREF(context->reason, PyUnicode_FromFormatV(format, args));
    va_end(args);
    return GP_EUSER; /* without a reason: with what formatting has raised */
}

int
pygo_gob_user_error(GobContext *context)
{
    PyObject *cls;
    PyObject *error;

    cls = PyErr_ExceptionMatches(PyExc_ValueError) ? pygo_provided(PYGO_GOB_ERROR) : NULL;
    if (cls != NULL && PyErr_ExceptionMatches(cls)) {
        error = pygo_take_exception();
        pygo_gob_refuse(context, "%S", error);
        Py_DECREF(error);
    }
    return GP_EUSER;
}

void
pygo_gob_add_field(GobContext *context, const char *field)
{
    if (context->reason != NULL) {
        Py_XSETREF(context->tail, context->tail != NULL
                                      ? PyUnicode_FromFormat(".%s%U", field, context->tail)
                                      : PyUnicode_FromFormat(".%s", field));
    }
}

/* Tell the exception of the user's code which value it is about, where CPython can (3.11). */
static void
add_note(const char *path)
{
    PyObject *exception;
    PyObject *note;
    PyObject *result = NULL;

    if (!PyErr_ExceptionMatches(PyExc_Exception)) { /* KeyboardInterrupt, for instance */
        return;
    }
    exception = pygo_take_exception();
    note = PyUnicode_FromFormat("gob: at %s", path);
    if (note != NULL && PyObject_HasAttr(exception, pygo_gob_names.add_note)) {
        result = PyObject_CallMethodObjArgs(exception, pygo_gob_names.add_note, note, NULL);
    }
    if (result == NULL) {
        PyErr_Clear();
    }
    Py_XDECREF(note);
    Py_XDECREF(result);
    pygo_raise_object(exception);
}

PyObject *
pygo_gob_raise(GobContext *context, gp_error *err)
{
    PyObject *cls;
    PyObject *path;
    PyObject *message;
    PyObject *error = NULL;

    if (context->reason == NULL || err->code != GP_EUSER) {
        if (err->code == GP_EUSER) {
            add_note(gp_error_message(err)); /* which is the path */
        }
        pygo_raise(err, NULL);
        pygo_gob_context_release(context);
        return NULL;
    }
    cls = pygo_provided(PYGO_GOB_ERROR);
    path = PyUnicode_DecodeUTF8(gp_error_message(err), (Py_ssize_t)strlen(gp_error_message(err)),
                                "replace");
    if (path != NULL && context->tail != NULL) {
        Py_SETREF(path, PyUnicode_Concat(path, context->tail));
    }
    message = path != NULL ? PyUnicode_FromFormat("%U: %U", path, context->reason) : NULL;
    if (cls != NULL && message != NULL) {
        error = PyObject_CallFunctionObjArgs(cls, message, NULL);
    }
    if (error != NULL && PyObject_SetAttr(error, pygo_gob_names.path, path) < 0) {
        Py_CLEAR(error);
    }
    if (error != NULL && context->cause != NULL) {
        PyException_SetCause(error, Py_NewRef(context->cause));
    }
    Py_XDECREF(path);
    Py_XDECREF(message);
    gp_error_release(err);
    pygo_gob_context_release(context);
    return pygo_raise_object(error);
}
