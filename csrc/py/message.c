#include "py/message.h"

PyObject *
pygo_serialize(PyObject *serializer, PyObject *message)
{
    PyObject *bytes;

    if (serializer == Py_None) {
        bytes = Py_NewRef(message);
    } else {
        bytes = PyObject_CallOneArg(serializer, message);
    }
    if (bytes != NULL && !PyBytes_Check(bytes)) {
        PyErr_Format(PyExc_TypeError, "%s, not %.100s",
                     serializer == Py_None ? "without a serializer, messages must be bytes"
                                           : "the serializer must return bytes",
                     Py_TYPE(bytes)->tp_name);
        Py_CLEAR(bytes);
    }
    return bytes;
}

int
pygo_receive_begin(bool *receiving)
{
    if (*receiving) {
        /* As a generator says it, and as grpcio's streams do in other words. */
        PyErr_SetString(PyExc_ValueError,
                        "another thread is waiting for the next message of this stream: let one "
                        "thread iterate, or hold a lock around next()");
        return -1;
    }
    *receiving = true;
    return 0;
}

PyObject *
pygo_deserialize(PyObject *deserializer, gp_message *message)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)gp_message_size(message));
    PyObject *object;

    if (bytes != NULL) {
        gp_message_copy(message, PyBytes_AS_STRING(bytes));
    }
    gp_message_free(message);
    if (bytes == NULL || deserializer == Py_None) {
        return bytes;
    }
    object = PyObject_CallOneArg(deserializer, bytes);
    Py_DECREF(bytes);
    return object;
}
