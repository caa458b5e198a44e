/*
 * Layer: py. Messages between Python objects and bytes, through a stub's serializer functions.
 */
#ifndef PYGO_MESSAGE_H
#define PYGO_MESSAGE_H

#include <stdbool.h>

#include "gp/message.h"
#include "py/state.h"

/*
 * The serialized |message| as a bytes object (a new reference): |serializer|(message), or message
 * itself if |serializer| is None. NULL with an exception.
 */
PyObject *pygo_serialize(PyObject *serializer, PyObject *message);

/*
 * As pygo_serialize(), for the one request of a call of |method|. As with grpcio, an exception of
 * the serializer becomes the cause of an RpcError, which is that of aio if |asynchronous|.
 */
PyObject *pygo_serialize_request(PyObject *serializer, PyObject *request, gp_bytes method,
                                 bool asynchronous);

/* The contents of a bytes object, borrowed. */
static inline gp_bytes
pygo_bytes_view(PyObject *bytes)
{
    return (gp_bytes){PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)};
}

/*
 * Call this before a thread waits for the next message of a stream: |*receiving| becomes true, and
 * the caller clears it afterwards. With the GIL. Returns 0, or -1 with ValueError if another thread
 * waits.
 */
int pygo_receive_begin(bool *receiving);

/* |deserializer|(the message's bytes), or the bytes if it is None. Frees |message| either way. */
PyObject *pygo_deserialize(PyObject *deserializer, gp_message *message);

#endif
