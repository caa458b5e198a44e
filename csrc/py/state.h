/*
 * Layer: py. The module's state: its types, the classes and names that the C code looks up often.
 *
 * There is one interpreter: module.c refuses others, since threads of gRPC and of the reactor enter
 * Python through one remembered interpreter (gil.h).
 */
#ifndef PYGO_STATE_H
#define PYGO_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "gp/error.h"
#include "py/compat.h"

/* Callables and classes of the package's Python modules, imported when first needed. */
typedef enum pygo_late {
    PYGO_CHANNEL,         /* _grpc.channel.Channel */
    PYGO_CALL,            /* _grpc.calls.Call: a call in flight */
    PYGO_STREAM,          /* _grpc.calls.ResponseStream */
    PYGO_FEED,            /* _grpc.calls.feed(sender, requests): start the thread that sends them */
    PYGO_RPC_ERROR,       /* _grpc.errors.rpc_error(call) -> exception */
    PYGO_HANDLER_FAILED,  /* _grpc.server.handler_failed(context, exception, doing) -> str */
    PYGO_ASK_AUTH_PLUGIN, /* _grpc.credentials.ask(plugin, service_url, method, answer) */
    PYGO_GRPC_LOG,        /* _log.grpc.line(level, text, left_out) */
    PYGO_CLASS_OF,        /* _grpc.abstract.class_of(type) -> type */
    PYGO_REQUESTS_CANCELLED, /* _grpc.server.requests_cancelled() -> exception */
    PYGO_WORKERS_FULL,       /* _grpc.server.workers_full(max_workers) */
    PYGO_THREAD_ENTERS,      /* _base.threads.enter(name) -> thread */
    PYGO_THREAD_LEAVES,      /* _base.threads.leave(thread) */
    PYGO_IS_POOL,            /* _grpc.server.is_pool(object) -> bool */
    PYGO_RUN_IN_POOL,        /* _grpc.server.run_in_pool(pool, context, handler, variables) */
    PYGO_REQUEST_REFUSED,    /* _grpc.errors.request_refused(exception, asyncio) -> exception */
    PYGO_LATE_COUNT,
} pygo_late;

typedef struct pygo_state {
    PyTypeObject *client_type;
    PyTypeObject *channel_type;
    PyTypeObject *multicallable_types[4];
    PyTypeObject *call_base_type;
    PyTypeObject *call_type;
    PyTypeObject *async_call_type;
    PyTypeObject *async_sender_type;
    PyTypeObject *loop_queue_type;
    PyTypeObject *loop_future_type;
    PyTypeObject *sender_base_type;
    PyTypeObject *sender_type;
    PyTypeObject *server_type;
    PyTypeObject *server_call_type;
    PyTypeObject *async_server_call_type;
    PyTypeObject *request_iterator_type;
    PyTypeObject *send_response_type;
    PyTypeObject *stdio_type;
    PyTypeObject *stdio_reader_type;
    PyTypeObject *metadatum_type;
    PyTypeObject *handler_details_type;
    PyTypeObject *channel_credentials_type;
    PyTypeObject *server_credentials_type;
    PyTypeObject *call_credentials_type;
    PyTypeObject *auth_answer_type;
    PyTypeObject *tls_type;
    PyTypeObject *broker_type;
    PyTypeObject *mux_type;
    PyTypeObject *memory_quota_type;
    PyTypeObject *session_cache_type;
    PyObject *errors;                /* the module pygo_plugin.errors */
    PyObject *json_loads;            /* imported with the first structured log field */
    PyObject *late[PYGO_LATE_COUNT]; /* NULL until first needed */
    PyObject *empty_tuple;
} pygo_state;

/* The one module's state. Valid from the module's initialisation on. */
extern pygo_state *pygo_module_state;

/* Borrowed reference, or NULL with an exception. */
PyObject *pygo_late_get(pygo_late what);

/*
 * Make the types of one file and put them into the state (and the public ones into |module|).
 * Each returns 0, or -1 with an exception.
 */
int pygo_client_setup(PyObject *module, pygo_state *state);
int pygo_credentials_setup(PyObject *module, pygo_state *state);
int pygo_auth_plugin_setup(PyObject *module, pygo_state *state);
int pygo_tls_setup(PyObject *module, pygo_state *state);
int pygo_mux_setup(PyObject *module, pygo_state *state);
int pygo_place_setup(PyObject *module, pygo_state *state);
int pygo_broker_setup(PyObject *module, pygo_state *state);
int pygo_arg_object_setup(PyObject *module, pygo_state *state);
int pygo_channel_setup(PyObject *module, pygo_state *state);
int pygo_multicallable_setup(PyObject *module, pygo_state *state);
int pygo_call_setup(PyObject *module, pygo_state *state);
int pygo_sender_setup(PyObject *module, pygo_state *state);
int pygo_async_call_setup(PyObject *module, pygo_state *state);
int pygo_loop_setup(PyObject *module, pygo_state *state);
int pygo_loop_future_setup(PyObject *module, pygo_state *state);
int pygo_dispatcher_setup(PyObject *module, pygo_state *state);
int pygo_server_setup(PyObject *module, pygo_state *state);
int pygo_server_call_setup(PyObject *module, pygo_state *state);
int pygo_send_response_setup(PyObject *module, pygo_state *state);
int pygo_async_server_call_setup(PyObject *module, pygo_state *state);
int pygo_stdio_setup(PyObject *module, pygo_state *state);
int pygo_metadata_setup(PyObject *module, pygo_state *state);

/* Make a type from |spec|; public if |module| is not NULL. A new reference. */
PyTypeObject *pygo_add_type(PyObject *module, PyType_Spec *spec);
PyTypeObject *pygo_add_subtype(PyObject *module, PyType_Spec *spec, PyTypeObject *base);

#endif
