#include "py/convert.h"

#include <math.h>

#include "gp/message.h"

/* Raise ConfigTypeError, unless what raised the present exception is the value's own code. */
static void
refuse_timeout(PyObject *seconds)
{
    PyObject *type;

    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_TypeError) &&
        !PyErr_ExceptionMatches(PyExc_OverflowError)) {
        return;
    }
    PyErr_Clear();
    type = pygo_provided(PYGO_CONFIG_TYPE_ERROR);
    if (type != NULL) {
        PyErr_Format(type, "a timeout must be a number of seconds or None, not %.100s: %.200R",
                     Py_TYPE(seconds)->tp_name, seconds);
    }
}

int
pygo_timeout_ns(int64_t *out, PyObject *seconds)
{
    double value;

    if (seconds == NULL || seconds == Py_None) {
        *out = -1;
        return 0;
    }
    value = PyFloat_AsDouble(seconds);
    if ((value == -1.0 && PyErr_Occurred()) || isnan(value)) {
        refuse_timeout(seconds);
        return -1;
    }
    *out = !(value < 4e9) ? -1 : value > 0 ? (int64_t)(value * 1e9) : 0;
    return 0;
}

int
pygo_timeout_ms(int64_t *out, PyObject *seconds)
{
    if (pygo_timeout_ns(out, seconds) < 0) {
        return -1;
    }
    *out = *out < 0 ? -1 : *out / 1000000;
    return 0;
}

PyObject *
pygo_time_remaining(double seconds)
{
    if (seconds < 0) {
        Py_RETURN_NONE;
    }
    return PyFloat_FromDouble(seconds);
}

int
pygo_compression(int *out, PyObject *compression)
{
    long algorithm = PyLong_AsLong(compression);

    if (algorithm == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (algorithm < GP_COMPRESS_NONE || algorithm > GP_COMPRESS_GZIP) {
        PyErr_Format(PyExc_ValueError, "compression must be one of grpc.Compression, not %ld",
                     algorithm);
        return -1;
    }
    *out = (int)algorithm;
    return 0;
}
