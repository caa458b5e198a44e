/*
 * Layer: py. One call as a Python servicer sees it: what the files of the server share.
 */
#ifndef PYGO_SERVER_H
#define PYGO_SERVER_H

#include <stdbool.h>

#include "gp/grpc_status.h"
#include "gp/server.h"
#include "py/state.h"

/* The base of the package's ServicerContext. Python sets code, details and trailing metadata. */
typedef struct ServerCallObject {
    PyObject_HEAD
    gp_server_call *call; /* owned */
    PyObject *code;       /* grpc.StatusCode, int or None */
    PyObject *details;    /* str, bytes or None */
    PyObject *trailing;   /* pairs or None */
    char aborted;         /* abort() has raised the exception that is being handled */
    bool unreadable;      /* a request that could not be deserialized has raised it */
    PyObject *weakrefs;
} ServerCallObject;

/* A context of |type|, a subclass of ServerCall, for |call|, of which it takes a new reference. */
ServerCallObject *pygo_server_call_new(PyTypeObject *type, gp_server_call *call);

/* For subclasses of ServerCall in C, whose dealloc ends with pygo_server_call_dealloc(). */
int pygo_server_call_traverse(ServerCallObject *self, visitproc visit, void *arg);
int pygo_server_call_clear(ServerCallObject *self);
void pygo_server_call_dealloc(ServerCallObject *self);

/* The path of the method, a str. NULL with an exception. */
PyObject *pygo_server_call_method(gp_server_call *call);

/* End |call| with this status and no message. No GIL needed. */
void pygo_server_call_refuse(gp_server_call *call, int code, const char *details);

/* A HandlerCallDetails for |call|. */
PyObject *pygo_handler_details_new(gp_server_call *call);

/* The number of a grpc.StatusCode, whose value is (number, text), or of an int. -1 if neither. */
int pygo_status_number(PyObject *code);

/* The iterator over a call's requests. */
PyObject *pygo_request_iterator_new(ServerCallObject *context, PyObject *deserializer);

/*
 * End the call with the code and details of the context; |code| and |details| stand for those that
 * are not set. |message| (bytes, may be NULL) is sent first. If the context has values that cannot
 * be sent, the code is UNKNOWN.
 */
void pygo_server_call_end(ServerCallObject *context, PyObject *message, int code,
                          const char *details);

/* ---- servicer.c ---- */

/*
 * Answer a call with |handler|, a grpc.RpcMethodHandler of any arity. Leaves no exception.
 *
 * Returns: NULL; or, if |movable|, a new reference to the thread pool that has to answer it
 * instead.
 */
PyObject *pygo_servicer_run(ServerCallObject *context, PyObject *handler, bool movable);

/* End the call with the exception that is set, of its thread pool or of its serializer. */
void pygo_servicer_refuse(ServerCallObject *context);
void pygo_servicer_fail_to_serialize(ServerCallObject *context);

/* Whether the handler takes a stream of requests. */
bool pygo_servicer_streams_in(PyObject *handler);

/* Once, when the module is set up. 0, or -1 with an exception. */
int pygo_servicer_setup(void);

/* ---- send_response_type.c ---- */

/*
 * A callable of one argument, a reply or None, for methods that do not return an iterator over
 * their replies.
 */
PyObject *pygo_send_response_new(ServerCallObject *context, PyObject *serializer);

/* Have it ignore later replies: the call is about to be ended in another way. */
void pygo_send_response_stop(PyObject *self);

/*
 * Stop all servers and wait up to half a second for their handlers to return. For interpreter exit;
 * with the GIL.
 *
 * Returns: how long the rest of the exit may wait, in milliseconds; 0 if a handler has not
 * returned.
 */
int64_t pygo_servers_shutdown(void);

#endif
