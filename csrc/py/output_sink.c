#include "py/output_sink.h"

#include "py/gil.h"

static void
deliver(void *ctx, int channel, const char *bytes, size_t len)
{
    PyObject *callback = ctx;
    PyObject *result;

    if (!pygo_gil_enter("pygo-logs")) {
        return;
    }
    result = PyObject_CallFunction(callback, "iy#", channel, bytes, (Py_ssize_t)len);
    if (result == NULL) {
        PyErr_WriteUnraisable(callback);
    }
    Py_XDECREF(result);
    pygo_gil_leave();
}

gp_output_sink
pygo_output_sink(PyObject *callback)
{
    if (callback == NULL || callback == Py_None) {
        return (gp_output_sink){.deliver = NULL};
    }
    return (gp_output_sink){
        .deliver = deliver, .release = pygo_gil_release, .ctx = Py_NewRef(callback)};
}
