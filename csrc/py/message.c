#include "py/message.h"

#include "py/errors.h"

static PyObject *
call_serializer(PyObject *serializer, PyObject *message)
{
    return serializer == Py_None ? Py_NewRef(message) : PyObject_CallOneArg(serializer, message);
}

/* Return |bytes|; if it is not a bytes object, drop it and return NULL with TypeError. */
static PyObject *
check_bytes(PyObject *serializer, PyObject *bytes)
{
    if (bytes != NULL && !PyBytes_Check(bytes)) {
        PyErr_Format(PyExc_TypeError, "%s, not %.100s",
                     serializer == Py_None ? "without a serializer, messages must be bytes"
                                           : "the serializer must return bytes",
                     Py_TYPE(bytes)->tp_name);
        Py_CLEAR(bytes);
    }
    return bytes;
}

PyObject *
pygo_serialize(PyObject *serializer, PyObject *message)
{
    return check_bytes(serializer, call_serializer(serializer, message));
}

/* Replace the exception of the serializer, which is set, by an RpcError. */
static void
refuse_request(gp_bytes method, bool asynchronous)
{
    PyObject *exception = pygo_take_exception();
    PyObject *make = pygo_provided(PYGO_REQUEST_REFUSED);

    pygo_raise_object(make != NULL ? PyObject_CallFunction(make, "Os#O", exception, method.data,
                                                           (Py_ssize_t)method.len,
                                                           asynchronous ? Py_True : Py_False)
                                   : NULL);
    Py_DECREF(exception);
}

PyObject *
pygo_serialize_request(PyObject *serializer, PyObject *request, gp_bytes method, bool asynchronous)
{
    PyObject *bytes = call_serializer(serializer, request);

    if (bytes == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
        refuse_request(method, asynchronous);
    }
    return check_bytes(serializer, bytes);
}

int
pygo_receive_begin(bool *receiving)
{
    if (*receiving) {
        /* Generators, and grpcio's streams, also raise ValueError in this case. */
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
