/*
 * Layer: py. One call as a Python servicer sees it: what the files of the server share.
 */
#ifndef PYGO_SERVER_H
#define PYGO_SERVER_H

#include <stdbool.h>

#include "gp/server.h"
#include "py/state.h"

/* The base of _grpc.server.ServicerContext. Python sets code, details and trailing metadata. */
typedef struct ServerCallObject {
    PyObject_HEAD
    gp_server_call *call; /* owned */
    PyObject *code;       /* grpc.StatusCode, int or None */
    PyObject *details;    /* str, bytes or None */
    PyObject *trailing;   /* pairs or None */
    char aborted;         /* the exception under way is abort()'s */
    bool unreadable;      /* ... or comes from a request that could not be deserialized */
    PyObject *weakrefs;
} ServerCallObject;

/* A context of |type| (_grpc.server.ServicerContext) for |call|, of which it takes a reference. */
ServerCallObject *pygo_server_call_new(PyTypeObject *type, gp_server_call *call);

/* For subclasses of ServerCall in C. The dealloc is the last thing that theirs does. */
int pygo_server_call_traverse(ServerCallObject *self, visitproc visit, void *arg);
int pygo_server_call_clear(ServerCallObject *self);
void pygo_server_call_dealloc(ServerCallObject *self);

/* A HandlerCallDetails for |call|. */
PyObject *pygo_handler_details_new(gp_server_call *call);

/* The number of a grpc.StatusCode, whose value is (number, text), or of an int. -1 if neither. */
int pygo_status_number(PyObject *code);

/* The iterator over a call's requests. */
PyObject *pygo_request_iterator_new(ServerCallObject *context, PyObject *deserializer);

/*
 * End the call with what the context says, or |code| and |details| where it says nothing; with
 * |message| (bytes) before it if not NULL. An unusable context ends it with UNKNOWN.
 */
void pygo_server_call_end(ServerCallObject *context, PyObject *message, int code,
                          const char *details);

/* ---- servicer.c ---- */

/*
 * Answer a call with |handler|, a grpc.RpcMethodHandler of any arity. Leaves no exception.
 *
 * Returns: NULL; or, if |movable|, the thread pool (new) that is to do it instead.
 */
PyObject *pygo_servicer_run(ServerCallObject *context, PyObject *handler, bool movable);

/* The exception under way ends the call: of a thread pool, or of the serializer of its replies. */
void pygo_servicer_refuse(ServerCallObject *context);
void pygo_servicer_fail_to_serialize(ServerCallObject *context);

/* Whether its requests are a stream. */
bool pygo_servicer_streams_in(PyObject *handler);

/* When the module is set up. 0, or -1 with an exception. */
int pygo_servicer_setup(void);

/* ---- send_response_type.c ---- */

/*
 * What methods send their replies by that do not wait for the next one: a callable of one argument.
 */
PyObject *pygo_send_response_new(ServerCallObject *context, PyObject *serializer);

/* Nothing more is sent: the call is about to be ended in another way. */
void pygo_send_response_stop(PyObject *self);

/*
 * Stop all servers and give their handlers a moment to return. For interpreter exit; with the GIL.
 *
 * Returns: what is left of that moment, in milliseconds, 0 if a handler has not returned.
 */
int64_t pygo_servers_shutdown(void);

#endif
