#include "py/output_sink.h"

#include "py/gil.h"

/* For gp_output_sink.deliver. */
static void
deliver_output(void *ctx, int channel, const char *bytes, size_t len)
{
    PyObject *callback = ctx;
    PyObject *args[2];
    PyObject *result = NULL;

    if (!pygo_gil_enter("pygo-logs")) {
        return;
    }
    args[0] = PyLong_FromLong(channel);
    args[1] = PyBytes_FromStringAndSize(bytes, (Py_ssize_t)len);
    if (args[0] != NULL && args[1] != NULL) {
        result = pygo_gil_call_user(callback, args, 2);
    }
    if (result == NULL) {
        PyErr_WriteUnraisable(callback);
    }
    Py_XDECREF(result);
    Py_XDECREF(args[0]);
    Py_XDECREF(args[1]);
    pygo_gil_leave();
}

gp_output_sink
pygo_output_sink(PyObject *callback)
{
    if (callback == NULL || callback == Py_None) {
        return (gp_output_sink){.deliver = NULL};
    }
    return (gp_output_sink){
        .deliver = deliver_output, .release = pygo_gil_release, .ctx = Py_NewRef(callback)};
}
