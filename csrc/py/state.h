/*
 * Layer: py. The module's state: its types, and what the package provides. The leaf of the glue.
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

/* The classes and functions that the package provides: see pygo_provided(). */
typedef enum pygo_name {
    PYGO_CHANNEL,            /* Channel: the class of the package's channels */
    PYGO_CALL,               /* Call: the class of calls in flight */
    PYGO_STREAM,             /* ResponseStream: those with a stream of replies */
    PYGO_START_FEEDING,      /* start_feeding(sender, requests): on a thread of its own */
    PYGO_RPC_ERROR,          /* rpc_error(call) -> exception */
    PYGO_REQUEST_REFUSED,    /* request_refused(exception, method, asynchronous) -> exception */
    PYGO_HANDLER_FAILED,     /* handler_failed(context, exception, doing) -> str */
    PYGO_REQUESTS_CANCELLED, /* requests_cancelled() -> exception */
    PYGO_WORKERS_FULL,       /* workers_full(max_workers) */
    PYGO_IS_POOL,            /* is_pool(object) -> bool */
    PYGO_RUN_IN_POOL,        /* run_in_pool(pool, context, handler, variables) */
    PYGO_ASK_PLUGIN,         /* ask_plugin(plugin, service_url, method, answer) */
    PYGO_LOG_LINE,           /* log_line(level, text, left_out) */
    PYGO_CLASS_OF,           /* class_of(type) -> type */
    PYGO_SIGNATURE_OF,       /* signature_of(multicallable) -> inspect.Signature */
    PYGO_REGISTER_THREAD,    /* register_thread(name) -> thread */
    PYGO_UNREGISTER_THREAD,  /* unregister_thread(thread) */
    PYGO_GOB_TYPE_OF,        /* type_of(annotation) -> GobType */
    PYGO_INFER_TYPE,         /* infer_type(value) -> (GobType, value) */
    PYGO_METHOD_FAILED,      /* method_failed(name, exception, decoding) -> str */
    PYGO_INTERFACE_TYPE,     /* interface_type(value) -> (name, GobType, value), or why not: str */
    PYGO_REGISTERED_TYPE,    /* registered_type(name) -> GobType, or None */
    PYGO_STRUCT,       /* Struct(type, values), and so on: classes of untyped objects of gob */
    PYGO_STRUCT_TYPE,  /* StructType(name, names, kinds) */
    PYGO_OPAQUE,       /* Opaque(name, flavour, data) */
    PYGO_TIME,         /* Time: a datetime with nanoseconds */
    PYGO_PLUGIN_ERROR, /* PluginError, and so on: classes of exceptions */
    PYGO_CONFIG_ERROR,
    PYGO_CONFIG_TYPE_ERROR,
    PYGO_START_ERROR,
    PYGO_EXITED_EARLY_ERROR,
    PYGO_START_TIMEOUT_ERROR,
    PYGO_HANDSHAKE_ERROR,
    PYGO_VERSION_ERROR,
    PYGO_CHECKSUM_ERROR,
    PYGO_TLS_ERROR,
    PYGO_REATTACH_ERROR,
    PYGO_BROKER_ERROR,
    PYGO_CLOSED_ERROR,
    PYGO_SYSTEM_CALL_ERROR,
    PYGO_FORKED_ERROR,
    PYGO_GOB_ERROR,
    PYGO_LIBRARY_ERROR,
    PYGO_SERVER_ERROR,
    PYGO_CALL_TIMEOUT_ERROR,
    PYGO_NAME_COUNT,
} pygo_name;

typedef struct pygo_state {
    PyTypeObject *multicallable_types[4];
    PyTypeObject *call_base_type;
    PyTypeObject *call_type;
    PyTypeObject *async_call_type;
    PyTypeObject *async_sender_type;
    PyTypeObject *loop_queue_type;
    PyTypeObject *loop_future_type;
    PyTypeObject *sender_base_type;
    PyTypeObject *sender_type;
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
    PyTypeObject *template_type;
    PyTypeObject *broker_type;
    PyTypeObject *mux_type;
    PyTypeObject *gob_group_type;
    PyTypeObject *gob_type_type;
    PyTypeObject *gob_output_type;
    PyTypeObject *mux_broker_type;
    PyTypeObject *mux_serving_type;
    PyTypeObject *netrpc_file_type;
    PyTypeObject *dispense_type;
    PyTypeObject *memory_quota_type;
    PyTypeObject *session_cache_type;
    PyTypeObject *netrpc_client_type;
    PyTypeObject *netrpc_call_type;
    PyTypeObject *netrpc_services_type;
    PyTypeObject *netrpc_task_type;
    PyObject *json_loads; /* imported with the first structured log field */
} pygo_state;

/* The one module's state. Valid from the module's initialisation on. */
extern pygo_state *pygo_module_state;

/*
 * The extension imports nothing of the package, which hands over a function here: |provide|(name)
 * returns the class or function of that name. It is called for each name when it is first needed,
 * since some modules take long to import.
 */
void pygo_set_provider(PyObject *provide);

/* The class or function |name|, borrowed; NULL with an exception. With the GIL. */
PyObject *pygo_provided(pygo_name name);

/*
 * Make the types of one file and put them into |module|, and into |state| those that C code refers
 * to. Each returns 0, or -1 with an exception.
 */
int pygo_client_setup(PyObject *module, pygo_state *state);
int pygo_credentials_setup(PyObject *module, pygo_state *state);
int pygo_auth_plugin_setup(PyObject *module, pygo_state *state);
int pygo_tls_setup(PyObject *module, pygo_state *state);
int pygo_mux_setup(PyObject *module, pygo_state *state);
int pygo_place_setup(PyObject *module, pygo_state *state);
int pygo_template_setup(PyObject *module, pygo_state *state);
int pygo_broker_setup(PyObject *module, pygo_state *state);
int pygo_arg_object_setup(PyObject *module, pygo_state *state);
int pygo_channel_setup(PyObject *module, pygo_state *state);
int pygo_multicallable_setup(PyObject *module, pygo_state *state);
int pygo_call_setup(PyObject *module, pygo_state *state);
int pygo_sender_setup(PyObject *module, pygo_state *state);
int pygo_serializer_setup(PyObject *module, pygo_state *state);
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
int pygo_mux_broker_setup(PyObject *module, pygo_state *state);
int pygo_netrpc_file_setup(PyObject *module, pygo_state *state);
int pygo_netrpc_plugin_setup(PyObject *module, pygo_state *state);
int pygo_runner_setup(PyObject *module, pygo_state *state);
int pygo_netrpc_values_setup(PyObject *module, pygo_state *state);
int pygo_netrpc_client_setup(PyObject *module, pygo_state *state);
int pygo_netrpc_call_setup(PyObject *module, pygo_state *state);
int pygo_netrpc_services_setup(PyObject *module, pygo_state *state);
int pygo_netrpc_task_setup(PyObject *module, pygo_state *state);
int pygo_netrpc_listener_setup(PyObject *module, pygo_state *state);
int pygo_gob_type_setup(PyObject *module, pygo_state *state);
int pygo_gob_stream_setup(PyObject *module, pygo_state *state);

/* Make a public type from |spec| that the C code does not refer to. 0, or -1 with an exception. */
int pygo_export_type(PyObject *module, PyType_Spec *spec);

/* Make a type that the C code refers to. A new reference, or NULL with an exception. */
PyTypeObject *pygo_add_type(PyObject *module, PyType_Spec *spec);
PyTypeObject *pygo_add_subtype(PyObject *module, PyType_Spec *spec, PyTypeObject *base);

/* As pygo_add_type(), for a type of named tuples. */
PyTypeObject *pygo_add_struct(PyObject *module, PyStructSequence_Desc *description);

/* The name of a type without its module, for repr(). Borrowed from the type. */
const char *pygo_short_name(const PyTypeObject *type);

/* 0, or -1 with TypeError unless |object| is a |type|, or |type| is |base| or a subclass of it. */
int pygo_check_type(PyObject *object, PyTypeObject *type);
int pygo_check_subclass(PyObject *type, PyTypeObject *base);

#endif
