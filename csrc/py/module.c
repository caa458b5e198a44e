#include "gp/client.h"
#include "gp/grpc.h"
#include "gp/log.h"
#include "gp/runtime.h"
#include "py/callbacks.h"
#include "py/convert.h"
#include "py/errors.h"
#include "py/functions.h"
#include "py/gil.h"
#include "py/grpc_log.h"
#include "py/netrpc.h"
#include "py/runner.h"
#include "py/server.h"
#include "py/state.h"

static PyObject *
forked(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(gp_runtime_forked());
}

static PyObject *
kill_all(PyObject *Py_UNUSED(module), PyObject *managed_only)
{
    int managed = PyObject_IsTrue(managed_only);
    /* All plugins are killed at exit, which signals do not interrupt. */
    const gp_interrupt *interrupt = managed > 0 ? pygo_interrupt() : NULL;
    int rc = 0;

    if (managed < 0) {
        return NULL;
    }
    if (!gp_runtime_forked()) {
        Py_BEGIN_ALLOW_THREADS
        rc = gp_client_kill_all(managed > 0, interrupt);
        Py_END_ALLOW_THREADS
    }
    if (rc == GP_EUSER) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
shutdown_core(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    int64_t patience_ms;

    if (!gp_runtime_forked()) {
        patience_ms = pygo_servers_shutdown();
        pygo_netrpc_listeners_shutdown();
        Py_BEGIN_ALLOW_THREADS
        if (gp_netrpc_shutdown(patience_ms) < 0) {
            patience_ms = 0; /* a handler has not returned: others have had the same time */
        }
        gp_log_shutdown();
        gp_grpc_shutdown(patience_ms);
        gp_grpc_set_log(NULL);
        pygo_callbacks_shutdown();
        Py_END_ALLOW_THREADS
        pygo_gil_close();
    }
    Py_RETURN_NONE;
}

static PyObject *
refuse_forked(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    if (pygo_check_forked() < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
before_fork(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_ALLOW_THREADS
    gp_grpc_suspend();
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* Have os.fork() call before_fork() first. Returns 0, or -1 with an exception. */
static int
register_before_fork(PyObject *module)
{
    PyObject *function = PyObject_GetAttrString(module, "before_fork");
    PyObject *posix = PyImport_ImportModule("posix");
    PyObject *at_fork = posix != NULL ? PyObject_GetAttrString(posix, "register_at_fork") : NULL;
    PyObject *named = Py_BuildValue("(s)", "before");
    PyObject *result = function != NULL && at_fork != NULL && named != NULL
                           ? PyObject_Vectorcall(at_fork, &function, 0, named)
                           : NULL;

    Py_XDECREF(function);
    Py_XDECREF(posix);
    Py_XDECREF(at_fork);
    Py_XDECREF(named);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

static PyObject *
unraisable(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *error;
    PyObject *where;

    if (!PyArg_ParseTuple(args, "OO:unraisable", &error, &where)) {
        return NULL;
    }
    if (!PyExceptionInstance_Check(error)) {
        PyErr_Format(PyExc_TypeError, "error must be an exception, not %R", error);
        return NULL;
    }
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(error)), Py_NewRef(error),
                  PyException_GetTraceback(error));
    PyErr_WriteUnraisable(where);
    Py_RETURN_NONE;
}

static PyObject *
share_threads(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *get_hub;
    PyObject *get_current;
    PyObject *wait;
    PyObject *call_on_thread;
    PyObject *call_in_greenlet;

    if (!PyArg_ParseTuple(args, "OOOOO:share_threads", &get_hub, &get_current, &wait,
                          &call_on_thread, &call_in_greenlet)) {
        return NULL;
    }
    pygo_gil_share(get_hub, get_current, wait, call_on_thread, call_in_greenlet);
    Py_RETURN_NONE;
}

static PyObject *
set_provider(PyObject *Py_UNUSED(module), PyObject *provide)
{
    pygo_set_provider(provide);
    Py_RETURN_NONE;
}

static PyObject *
call_blocking(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count < 1) {
        PyErr_SetString(PyExc_TypeError, "call_blocking() needs a function");
        return NULL;
    }
    return pygo_gil_call_blocking(args, count);
}

static PyObject *
check_timeout(PyObject *Py_UNUSED(module), PyObject *timeout)
{
    int64_t checked;

    if (pygo_timeout_ns(&checked, timeout) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef own_functions[] = {
    {"set_provider", set_provider, METH_O,
     "set_provider($module, provide, /)\n--\n\nprovide(name) returns a class or function of the "
     "package, once for each name."},
    {"call_blocking", (PyCFunction)(void (*)(void))call_blocking, METH_FASTCALL,
     "call_blocking($module, function, /, *args)\n--\n\nReturn function(*args), which may block, "
     "without blocking other green threads."},
    {"share_threads", share_threads, METH_VARARGS,
     "share_threads($module, get_hub, get_current, wait, call_on_thread, call_in_greenlet, "
     "/)\n--\n\nHave waits "
     "for calls let other green threads run. Once per process."},
    {"check_timeout", check_timeout, METH_O,
     "check_timeout($module, timeout, /)\n--\n\nRaise ConfigTypeError unless timeout is a number "
     "of "
     "seconds or None."},
    {"unraisable", unraisable, METH_VARARGS,
     "unraisable($module, error, where, /)\n--\n\nHand an exception to sys.unraisablehook."},
    {"forked", forked, METH_NOARGS,
     "forked($module)\n--\n\nWhether this process was forked while the library was in use."},
    {"refuse_forked", refuse_forked, METH_NOARGS,
     "refuse_forked($module)\n--\n\nRaise ForkedError, with the reason, if forked() is true."},
    {"before_fork", before_fork, METH_NOARGS,
     "before_fork($module)\n--\n\nShut gRPC down if nothing uses it, so that a child can use it."},
    {"kill_all", kill_all, METH_O,
     "kill_all($module, managed_only, /)\n--\n\n"
     "Kill every running plugin of this process, or the managed ones, in parallel."},
    {"shutdown", shutdown_core, METH_NOARGS,
     "shutdown($module)\n--\n\nEnd the core's threads that enter Python. For interpreter exit."},
    {NULL, NULL, 0, NULL},
};

/* Threads of the C library enter the interpreter that has loaded the module first. */
static int
refuse_subinterpreters(void)
{
    static PyInterpreterState *first;
    PyInterpreterState *here = PyInterpreterState_Get();

    if (first == NULL && PyInterpreterState_Main() == here) {
        first = here;
    }
    if (first != here) {
        PyErr_SetString(PyExc_ImportError,
                        "pygo_plugin works in the main interpreter only, not in a subinterpreter: "
                        "import it there and hand what you need across");
        return -1;
    }
    return 0;
}

/* In this order: the type of a subclass is made after that of its base. */
static int (*const setups[])(PyObject *module, pygo_state *state) = {
    pygo_metadata_setup,
    pygo_client_setup,
    pygo_credentials_setup,
    pygo_auth_plugin_setup,
    pygo_tls_setup,
    pygo_broker_setup,
    pygo_mux_setup,
    pygo_place_setup,
    pygo_template_setup,
    pygo_arg_object_setup,
    pygo_channel_setup,
    pygo_multicallable_setup,
    pygo_serializer_setup,
    pygo_call_setup,
    pygo_sender_setup,
    pygo_loop_setup,
    pygo_loop_future_setup,
    pygo_async_call_setup,
    pygo_server_call_setup,
    pygo_send_response_setup,
    pygo_async_server_call_setup,
    pygo_dispatcher_setup,
    pygo_server_setup,
    pygo_stdio_setup,
    pygo_mux_broker_setup,
    pygo_netrpc_file_setup,
    pygo_netrpc_plugin_setup,
    pygo_runner_setup,
    pygo_netrpc_values_setup,
    pygo_netrpc_client_setup,
    pygo_netrpc_call_setup,
    pygo_netrpc_services_setup,
    pygo_netrpc_task_setup,
    pygo_netrpc_listener_setup,
    pygo_gob_type_setup,
    pygo_gob_stream_setup,
};

static int
module_exec(PyObject *module)
{
    if (refuse_subinterpreters() < 0) {
        return -1;
    }
    if (gp_runtime_init() < 0) {
        PyErr_SetString(PyExc_OSError, "pygo_plugin: cannot install the fork guard");
        return -1;
    }
    pygo_callbacks_setup();
    for (size_t i = 0; i < sizeof(setups) / sizeof(setups[0]); i++) {
        if (setups[i](module, pygo_module_state) < 0) {
            return -1;
        }
    }
    if (PyModule_AddFunctions(module, own_functions) < 0 ||
        PyModule_AddFunctions(module, pygo_launch_functions) < 0 ||
        PyModule_AddFunctions(module, pygo_template_functions) < 0 ||
        PyModule_AddFunctions(module, pygo_hclog_functions) < 0 ||
        PyModule_AddFunctions(module, pygo_reflection_functions) < 0 ||
        PyModule_AddStringConstant(module, "__version__", PYGO_VERSION) < 0) {
        return -1;
    }
    gp_grpc_set_log(pygo_grpc_log);
    return register_before_fork(module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pygo_plugin._core",
    .m_doc = "The C core of pygo_plugin. Private: use the package's own names.",
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
