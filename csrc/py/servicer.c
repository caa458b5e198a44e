#include "py/server.h"

#include "py/channel.h"
#include "py/errors.h"
#include "py/message.h"

/* The attributes of a grpc.RpcMethodHandler, interned when the module is set up. */
static struct {
    PyObject *request_streaming;
    PyObject *response_streaming;
    PyObject *request_deserializer;
    PyObject *response_serializer;
    PyObject *behavior[4]; /* by pygo_arity */
    /* Attributes of the functions in |behavior|, which grpcio documents. */
    PyObject *experimental_non_blocking;
    PyObject *experimental_thread_pool;
} names;

static const char unreadable_request[] = "Exception deserializing request!";

/* ---- Failures ---- */

/*
 * End the call with the exception that is set. handler_failed() logs and describes it, unless
 * abort() has raised it: then code and details are in the context.
 */
static void
fail_call(ServerCallObject *context, int code, const char *doing)
{
    PyObject *exception;
    PyObject *describe;
    PyObject *text = NULL;
    PyObject *encoded = NULL;
    const char *details = doing;

    if (context->aborted) {
        PyErr_Clear();
        pygo_server_call_end(context, NULL, GP_GRPC_UNKNOWN, "");
        return;
    }
    if (context->unreadable) {
        code = GP_GRPC_INTERNAL;
        doing = details = unreadable_request;
    }
    exception = pygo_take_exception();
    describe = pygo_provided(PYGO_HANDLER_FAILED);
    if (describe != NULL) {
        text = PyObject_CallFunction(describe, "OOs", (PyObject *)context, exception, doing);
    }
    if (text != NULL && PyUnicode_Check(text)) {
        encoded = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
    }
    if (encoded != NULL) {
        details = PyBytes_AS_STRING(encoded);
    } else {
        PyErr_WriteUnraisable((PyObject *)context);
    }
    /* As with grpcio, the code that the handler has set is sent, unless it is OK. */
    if (context->code != NULL && pygo_status_number(context->code) == GP_GRPC_OK) {
        Py_CLEAR(context->code);
    }
    pygo_server_call_end(context, NULL, code, details);
    Py_XDECREF(encoded);
    Py_XDECREF(text);
    Py_XDECREF(exception);
}

/* ---- Answering ---- */

/* The one request of a call. NULL: the call has been ended. */
static PyObject *
receive_one(ServerCallObject *context, PyObject *deserializer)
{
    gp_message *message;
    PyObject *request;

    /* The usual case, in which the GIL is not given to another thread just before it is needed. */
    if (!gp_server_call_take_arrived(context->call, &message)) {
        Py_BEGIN_ALLOW_THREADS
        gp_server_call_receive(context->call, &message, NULL);
        Py_END_ALLOW_THREADS
    }
    if (message == NULL) {
        pygo_server_call_end(context, NULL, GP_GRPC_UNIMPLEMENTED,
                             "the method requires exactly one request message");
        return NULL;
    }
    request = pygo_deserialize(deserializer, message);
    if (request == NULL) {
        fail_call(context, GP_GRPC_INTERNAL, unreadable_request);
    }
    return request;
}

void
pygo_servicer_fail_to_serialize(ServerCallObject *context)
{
    fail_call(context, GP_GRPC_INTERNAL, "Failed to serialize response!");
}

static void
send_one(ServerCallObject *context, PyObject *serializer, PyObject *response)
{
    PyObject *bytes = pygo_serialize(serializer, response);

    if (bytes == NULL) {
        pygo_servicer_fail_to_serialize(context);
        return;
    }
    pygo_server_call_end(context, bytes, GP_GRPC_OK, "");
    Py_DECREF(bytes);
}

/* Send what |responses| yields, until its end, an exception, or the end of the call. */
static void
send_all(ServerCallObject *context, PyObject *serializer, PyObject *responses)
{
    PyObject *iterator = PyObject_GetIter(responses);
    PyObject *response;
    int rc = 0;

    while (iterator != NULL && rc == 0 && (response = PyIter_Next(iterator)) != NULL) {
        PyObject *bytes = pygo_serialize(serializer, response);

        Py_DECREF(response);
        if (bytes == NULL) {
            pygo_servicer_fail_to_serialize(context);
            Py_DECREF(iterator);
            return;
        }
        Py_BEGIN_ALLOW_THREADS
        rc = gp_server_call_send(context->call, pygo_bytes_view(bytes), NULL);
        Py_END_ALLOW_THREADS
        Py_DECREF(bytes);
    }
    if (PyErr_Occurred()) {
        fail_call(context, GP_GRPC_UNKNOWN, "Exception iterating responses");
    } else if (rc == 0) {
        pygo_server_call_end(context, NULL, GP_GRPC_OK, "");
    }
    Py_XDECREF(iterator);
}

static bool
is_true(PyObject *handler, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(handler, name);
    int truth = value != NULL ? PyObject_IsTrue(value) : 0;

    Py_XDECREF(value);
    return truth > 0;
}

bool
pygo_servicer_streams_in(PyObject *handler)
{
    bool truth = is_true(handler, names.request_streaming);

    PyErr_Clear();
    return truth;
}

/* ---- Attributes of the method's function, as grpcio has them ---- */

/* A new reference to an attribute of |behavior|. NULL without an exception if it has none. */
static PyObject *
attribute_of(PyObject *behavior, PyObject *name)
{
    PyObject *function = PyMethod_Check(behavior) ? PyMethod_GET_FUNCTION(behavior) : behavior;
    PyObject *found;

    if (PyFunction_Check(function)) { /* the usual case, nearly always without attributes */
        PyObject *attributes = ((PyFunctionObject *)function)->func_dict;

        found = attributes != NULL ? Py_XNewRef(PyDict_GetItemWithError(attributes, name)) : NULL;
    } else {
        found = PyObject_GetAttr(behavior, name);
    }
    if (found == NULL) {
        PyErr_Clear();
    }
    return found;
}

/* A new reference to the thread pool that the method has to run in. NULL: in none. */
static PyObject *
pool_of(PyObject *behavior)
{
    PyObject *pool = attribute_of(behavior, names.experimental_thread_pool);
    PyObject *is_pool;
    PyObject *answer;

    if (pool == NULL || pool == Py_None) {
        Py_XDECREF(pool);
        return NULL;
    }
    is_pool = pygo_provided(PYGO_IS_POOL);
    answer = is_pool != NULL ? PyObject_CallOneArg(is_pool, pool) : NULL;
    if (answer != Py_True) {
        Py_CLEAR(pool);
    }
    if (answer == NULL) {
        PyErr_WriteUnraisable(is_pool);
    }
    Py_XDECREF(answer);
    return pool;
}

/* Whether the method sends by a callback instead of returning an iterator over its replies. */
static bool
is_non_blocking(PyObject *behavior)
{
    PyObject *value = attribute_of(behavior, names.experimental_non_blocking);
    int truth = value != NULL ? PyObject_IsTrue(value) : 0;

    Py_XDECREF(value);
    if (truth < 0) {
        PyErr_Clear();
    }
    return truth > 0;
}

/* The call goes on after the method has returned, until the callback ends it. */
static void
run_non_blocking(ServerCallObject *context, PyObject *behavior, PyObject *argument,
                 PyObject *serializer)
{
    PyObject *send = pygo_send_response_new(context, serializer);
    PyObject *args[] = {argument, (PyObject *)context, send};
    PyObject *result = send != NULL ? PyObject_Vectorcall(behavior, args, 3, NULL) : NULL;

    if (result == NULL) {
        if (send != NULL) {
            pygo_send_response_stop(send);
        }
        fail_call(context, GP_GRPC_UNKNOWN, "Exception calling application");
    }
    Py_XDECREF(result);
    Py_XDECREF(send);
}

void
pygo_servicer_refuse(ServerCallObject *context)
{
    fail_call(context, GP_GRPC_UNAVAILABLE, "The method's thread pool takes no more calls");
}

static void
run_blocking(ServerCallObject *context, PyObject *behavior, PyObject *argument,
             PyObject *serializer, bool streams_out)
{
    PyObject *args[] = {argument, (PyObject *)context};
    PyObject *result = PyObject_Vectorcall(behavior, args, 2, NULL);

    if (result == NULL) {
        fail_call(context, GP_GRPC_UNKNOWN, "Exception calling application");
    } else if (streams_out) {
        send_all(context, serializer, result);
    } else {
        send_one(context, serializer, result);
    }
    Py_XDECREF(result);
}

PyObject *
pygo_servicer_run(ServerCallObject *context, PyObject *handler, bool movable)
{
    bool streams_in = is_true(handler, names.request_streaming);
    bool streams_out = is_true(handler, names.response_streaming);
    PyObject *behavior = PyObject_GetAttr(handler, names.behavior[2 * streams_in + streams_out]);
    PyObject *deserializer = PyObject_GetAttr(handler, names.request_deserializer);
    PyObject *serializer = PyObject_GetAttr(handler, names.response_serializer);
    PyObject *argument = NULL;
    PyObject *pool = NULL;

    if (behavior == NULL || deserializer == NULL || serializer == NULL || PyErr_Occurred()) {
        fail_call(context, GP_GRPC_UNKNOWN, "The method's handler is unusable");
    } else if (!movable || (pool = pool_of(behavior)) == NULL) {
        argument = streams_in ? pygo_request_iterator_new(context, deserializer)
                              : receive_one(context, deserializer);
    }
    if (argument != NULL && streams_out && is_non_blocking(behavior)) {
        run_non_blocking(context, behavior, argument, serializer);
    } else if (argument != NULL) {
        run_blocking(context, behavior, argument, serializer, streams_out);
    }
    PyErr_Clear();
    Py_XDECREF(argument);
    Py_XDECREF(serializer);
    Py_XDECREF(deserializer);
    Py_XDECREF(behavior);
    return pool;
}

int
pygo_servicer_setup(void)
{
    names.request_streaming = PyUnicode_InternFromString("request_streaming");
    names.response_streaming = PyUnicode_InternFromString("response_streaming");
    names.request_deserializer = PyUnicode_InternFromString("request_deserializer");
    names.response_serializer = PyUnicode_InternFromString("response_serializer");
    names.behavior[PYGO_UNARY_UNARY] = PyUnicode_InternFromString("unary_unary");
    names.behavior[PYGO_UNARY_STREAM] = PyUnicode_InternFromString("unary_stream");
    names.behavior[PYGO_STREAM_UNARY] = PyUnicode_InternFromString("stream_unary");
    names.behavior[PYGO_STREAM_STREAM] = PyUnicode_InternFromString("stream_stream");
    names.experimental_non_blocking = PyUnicode_InternFromString("experimental_non_blocking");
    names.experimental_thread_pool = PyUnicode_InternFromString("experimental_thread_pool");
    return PyErr_Occurred() ? -1 : 0;
}
