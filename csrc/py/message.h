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
 * The same for the one request of a call. What its serializer raises is the cause of an RpcError,
 * as with grpcio; of asyncio's kind if |asynchronous|.
 */
PyObject *pygo_serialize_request(PyObject *serializer, PyObject *request, bool asynchronous);

/* Borrowed bytes of a bytes object. */
static inline gp_bytes
pygo_bytes_view(PyObject *bytes)
{
    return (gp_bytes){PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)};
}

/*
 * Before a thread waits for a stream's next message, which one at a time may do; it clears
 * |*receiving| afterwards. With the GIL. Returns 0, or -1 with ValueError.
 */
int pygo_receive_begin(bool *receiving);

/* |deserializer|(the message's bytes), or the bytes if it is None. Frees |message| either way. */
PyObject *pygo_deserialize(PyObject *deserializer, gp_message *message);

#endif
