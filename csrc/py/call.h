/*
 * Layer: py. Python's calls in flight.
 */
#ifndef PYGO_CALL_H
#define PYGO_CALL_H

#include <stdbool.h>

#include "gp/call.h"
#include "gp/grpc_status.h"
#include "py/loop.h"

/*
 * The base of AsyncCall and of Call, to which the package's Call and ResponseStream add grpcio's
 * interfaces.
 */
typedef struct CallObject {
    PyObject_HEAD
    gp_call *call;          /* owned: one user's reference */
    PyObject *deserializer; /* owned */
    PyObject *method;       /* owned bytes: "/package.Service/Method" */
    PyObject *weakrefs;
    bool receiving; /* a thread waits in next() */
} CallObject;

/*
 * The sending side of a call, the base of Sender and AsyncSender. It does not keep the call going.
 */
typedef struct SenderObject {
    PyObject_HEAD
    gp_call *call;        /* owned: a reference of gp_call_hold() */
    PyObject *serializer; /* owned */
} SenderObject;

SenderObject *pygo_sender_new(PyTypeObject *type, gp_call *call, PyObject *serializer);

/* For subclasses of SenderBase in C: the last thing that their dealloc does. */
void pygo_sender_dealloc(SenderObject *self);

/* For subclasses of CallBase in C: the last thing that their dealloc does. */
void pygo_call_dealloc(CallObject *self);

/* What a call of an asyncio program belongs to. All borrowed. */
typedef struct pygo_async_setting {
    PyObject *serializer;
    PyObject *deserializer;
    PyObject *method;
    PyObject *channel;
    PyObject *loop;
    PyObject *loop_queue; /* where its completions go */
    bool keep;            /* the call goes on even if the program drops all references to it */
} pygo_async_setting;

/* Wrap |call| (its reference is taken over, also on failure) in |type|, a subclass of AsyncCall. */
PyObject *pygo_async_call_wrap(PyTypeObject *type, gp_call *call,
                               const pygo_async_setting *setting);

/* A new reference to the AsyncCall of |link|, in its channel's list. NULL: it is being freed. */
PyObject *pygo_async_call_of_channel(gp_link *link);

/* Wrap |call| (its reference is taken over, also on failure) in a PYGO_CALL or PYGO_STREAM. */
PyObject *pygo_call_wrap(pygo_name kind, gp_call *call, PyObject *method, PyObject *deserializer);

/* Raise the RpcError for a failed call. Takes |call|'s reference over. Returns NULL. */
PyObject *pygo_call_raise(gp_call *call, PyObject *method, PyObject *deserializer);

/* Start a thread that sends what |requests| yields. Returns 0, or -1 with an exception. */
int pygo_call_feed(gp_call *call, PyObject *serializer, PyObject *requests);

/*
 * Wait without the GIL until the call is done. Ctrl-C cancels it. Returns 0, GP_ETIMEOUT, or
 * GP_EUSER with an exception.
 */
int pygo_call_wait(gp_call *call, int64_t timeout_ns);

#endif
