/*
 * Layer: py. net/rpc: what its files share.
 *
 * netrpc_client_type.c    NetRpcClient: calls that are waited for
 * netrpc_call_type.c      NetRpcCall: a call that is not waited for, for threads and for asyncio
 * netrpc_values.c         which type of gob an argument or a reply has
 * netrpc_services_type.c  NetRpcServices: methods of Python, run on workers
 * netrpc_task.c           ... and those that are coroutines, run on an event loop
 * netrpc_listener_type.c  NetRpcListener
 */
#ifndef PYGO_NETRPC_H
#define PYGO_NETRPC_H

#include "py/state.h" /* Python.h comes before the system's headers */

#include <stdatomic.h>
#include <stdbool.h>

#include "gp/netrpc.h"
#include "py/loop.h"

/* ---- Clients ---- */

typedef struct NetRpcClientObject {
    PyObject_HEAD
    gp_netrpc_client *client; /* shared: ref */
    gp_gob_output *spare;     /* owned: for the next argument; NULL: in use, or none yet */
    PyObject *explain;        /* owned: explain(text) -> exception for a lost connection; or NULL */
    PyObject *weakrefs;
} NetRpcClientObject;

/*
 * An object around |client|, whose reference is taken over, also on failure. |type| is a subclass
 * of NetRpcClient. |explain| (may be NULL) makes the exception for calls over a lost connection of
 * its text.
 */
PyObject *pygo_netrpc_client_wrap(PyTypeObject *type, gp_netrpc_client *client, PyObject *explain);

/* An encoded argument with its owner, to be given back. */
gp_gob_output *pygo_netrpc_take_output(NetRpcClientObject *self);
void pygo_netrpc_give_output(NetRpcClientObject *self, gp_gob_output *output);

/* Raise |err| of a call of |method|, and release it. Returns NULL. */
PyObject *pygo_netrpc_raise(NetRpcClientObject *self, gp_error *err);

/* The arguments of a call. All borrowed. */
typedef struct pygo_netrpc_args {
    PyObject *method;
    PyObject *value;   /* NULL: not given */
    PyObject *reply;   /* NULL: not given */
    PyObject *timeout; /* NULL: not given */
    PyObject *type;    /* of the value; NULL: not given */
} pygo_netrpc_args;

enum { PYGO_NETRPC_ARGS = sizeof(pygo_netrpc_args) / sizeof(PyObject *) };

/* Parse the arguments of call() and the like. 0, or -1 with TypeError. */
int pygo_netrpc_parse(pygo_netrpc_args *out, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames);

/* The name of the method, borrowed from it. 0, or -1 with TypeError. */
int pygo_netrpc_method_name(gp_bytes *out, PyObject *method);

/* What gob.Limits say, as a tuple in the order of gp_gob_limits; None: defaults. 0, or -1. */
int pygo_netrpc_limits(gp_gob_limits *out, PyObject *given);

/* ---- Calls ---- */

/* Start a call as NetRpcClient._start() does. |type| is a subclass of NetRpcCall. */
PyObject *pygo_netrpc_call_start(NetRpcClientObject *client, PyTypeObject *type,
                                 const pygo_netrpc_args *args);

/* Start a call as NetRpcClient._begin() does. */
PyObject *pygo_netrpc_call_begin(NetRpcClientObject *client, PyObject *loop_queue, PyObject *future,
                                 const pygo_netrpc_args *args);

/* ---- Values ---- */

/* How a reply is to be decoded. */
typedef struct pygo_netrpc_reply_type {
    bool wanted;        /* otherwise it is dropped, and the result is None */
    PyObject *gob_type; /* owned: a GobType, or None for an untyped reply. NULL: not wanted */
    PyObject *method;   /* owned: the name of the method, for messages. NULL: not wanted */
} pygo_netrpc_reply_type;

/*
 * The type of the reply of |method|: |annotation| (NULL: none was given) -> |out|, to be released
 * after success. 0, or -1 with an exception.
 */
int pygo_netrpc_reply_type_of(pygo_netrpc_reply_type *out, PyObject *annotation, PyObject *method);
void pygo_netrpc_reply_type_release(pygo_netrpc_reply_type *type);

/* If the exception that is set is a GobError, put the name of the method before its message. */
void pygo_netrpc_name_method(PyObject *method);

/*
 * The result of a call: a new reference, or NULL with an exception. An untyped struct without
 * fields, which servers send for a method that returns nothing, becomes None.
 */
PyObject *pygo_netrpc_decode_reply(gp_gob_decoder *decoder, const gp_gob_message *message,
                                   const pygo_netrpc_reply_type *type);

/*
 * Encode a value as |annotation| says, a GobType or what gob.type_of() takes, or as its class does
 * if that is NULL. NULL for the value stands for Go's nil. 0, or -1 with an exception.
 */
int pygo_netrpc_encode(gp_gob_output *out, PyObject *value, PyObject *annotation);

/* ---- Services ---- */

/* The services in a NetRpcServices, borrowed from it; NULL with TypeError. */
gp_netrpc_services *pygo_netrpc_services_of(PyObject *object);

/* One method of Python. Lives as long as the services. */
typedef struct pygo_netrpc_method {
    PyObject *name;     /* owned: a str for log records, "Bench.total" */
    PyObject *callable; /* owned: a bound method */
    PyObject *argument; /* owned: a GobType, or None for an untyped argument. NULL: it takes none */
    PyObject *reply;    /* owned: a GobType, or None for that of the result's class */
    PyObject *nothing;  /* owned: a GobType for the result None, if |reply| is None */
    bool is_async;
    _Atomic(gp_gob_output *) spare; /* owned: for the next reply; NULL: in use, or none yet */
} pygo_netrpc_method;

/* What the methods of a NetRpcServices share. */
typedef struct pygo_netrpc_shared {
    gp_queue *queue; /* shared: ref; of the loop that runs coroutines. NULL: none does */
    PyObject *loop;  /* owned; NULL: none, or it is gone */
    gp_list tasks;   /* of NetRpcTask, owned: those that run. Guarded by the GIL */
    pygo_loop_member member;
    Py_ssize_t count;
    pygo_netrpc_method methods[];
} pygo_netrpc_shared;

/* The text of an answer. */
typedef struct pygo_netrpc_text {
    char *data; /* owned: PyMem_RawFree(); NULL: memory is short */
    size_t len;
} pygo_netrpc_text;

/*
 * The text of the answer to a request that has failed with the exception that is set, which is
 * cleared, and logged unless it is the client's fault. |decoding|: it is about the argument.
 */
pygo_netrpc_text pygo_netrpc_describe_failure(const pygo_netrpc_method *method, bool decoding);

/* Call |method| with the argument of |request|: a new reference, or NULL with |*failure| set. */
PyObject *pygo_netrpc_call_method(pygo_netrpc_method *method, const gp_netrpc_request *request,
                                  pygo_netrpc_text *failure);

/*
 * Encode a result, whose reference is taken over; NULL: the exception that is set. Returns what to
 * answer, the caller's; NULL with |*failure| set.
 */
gp_gob_output *pygo_netrpc_encode_result(pygo_netrpc_method *method, PyObject *result,
                                         pygo_netrpc_text *failure);

/*
 * Answer |request| with |output| or, if that is NULL, with |failure|, which is released. No GIL
 * needed.
 */
void pygo_netrpc_answer(gp_netrpc_request *request, gp_gob_output *output,
                        pygo_netrpc_text failure);

/* Answer |request| with an error. No GIL needed. */
void pygo_netrpc_refuse(gp_netrpc_request *request, const char *text);

/* ---- netrpc_task.c ---- */

/* For gp_netrpc_method.handle of coroutines, with a pygo_netrpc_shared and its method. */
void pygo_netrpc_post_request(void *ctx, void *data, gp_netrpc_request *request);

/* For pygo_loop_member.orphaned of a pygo_netrpc_shared. */
void pygo_netrpc_drop_tasks(pygo_loop_member *member);

/* ---- netrpc_listener_type.c ---- */

/* Close all listeners, for interpreter exit. With the GIL. */
void pygo_netrpc_listeners_shutdown(void);

#endif
