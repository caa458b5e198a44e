#include "py/gil.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

static atomic_bool closed;
static _Thread_local PyThreadState *mine;    /* NULL until this thread has entered Python */
static _Thread_local PyGILState_STATE first; /* for PyGILState_Release(), when the thread ends */
/* Owned: what register_thread() has returned; None: it has failed; NULL: not called yet. */
static _Thread_local PyObject *registered;

/* ---- The C library's threads in the module threading ---- */

/* Call with the GIL. Leaves no exception. */
static void
register_thread(const char *name)
{
    static PyObject *module_name;
    PyObject *make;

    if (module_name == NULL && (module_name = PyUnicode_InternFromString("threading")) == NULL) {
        PyErr_Clear();
        return;
    }
    /* Not imported here, which would slow the start of a plugin that does not use it. */
    if (PyDict_GetItemWithError(PyImport_GetModuleDict(), module_name) == NULL) {
        PyErr_Clear();
        return;
    }
    make = pygo_provided(PYGO_REGISTER_THREAD);
    registered = make != NULL ? PyObject_CallFunction(make, "s", name) : NULL;
    if (registered == NULL) {
        PyErr_WriteUnraisable(make);
        registered = Py_NewRef(Py_None); /* not tried again: it would fail each time */
    }
}

static void
unregister_thread(void)
{
    PyObject *drop = registered != Py_None ? pygo_provided(PYGO_UNREGISTER_THREAD) : NULL;
    PyObject *result = drop != NULL ? PyObject_CallOneArg(drop, registered) : NULL;

    if (result == NULL && registered != Py_None) {
        PyErr_WriteUnraisable(drop);
    }
    Py_XDECREF(result);
    Py_CLEAR(registered);
}

bool
pygo_gil_enter(const char *name)
{
    if (atomic_load(&closed)) {
        return false;
    }
    if (mine == NULL) {
        first = PyGILState_Ensure();
        mine = PyThreadState_Get();
    } else {
        PyEval_RestoreThread(mine);
    }
    if (registered == NULL) {
        register_thread(name);
    }
    return true;
}

void
pygo_gil_leave(void)
{
    PyEval_SaveThread();
}

void
pygo_gil_thread_exit(void)
{
    if (mine != NULL && !atomic_load(&closed)) {
        PyEval_RestoreThread(mine);
        if (registered != NULL) {
            unregister_thread();
        }
        mine = NULL;
        PyGILState_Release(first);
    }
}

void
pygo_gil_release(void *object)
{
    if (!atomic_load(&closed)) {
        PyGILState_STATE gil = PyGILState_Ensure();

        Py_DECREF((PyObject *)object);
        PyGILState_Release(gil);
    }
}

void
pygo_gil_close(void)
{
    atomic_store(&closed, true);
}

bool
pygo_gil_is_open(void)
{
    return !atomic_load(&closed);
}

static int
check_signals(void *ctx)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    int rc = PyErr_CheckSignals();

    (void)ctx;
    PyGILState_Release(gil);
    return rc;
}

/* Whether this is the process's first thread, on which alone Python runs signal handlers. */
static bool
on_main_thread(void)
{
#if defined(__linux__)
    return gettid() == getpid();
#elif defined(__APPLE__)
    return pthread_main_np() != 0;
#else
    return true; /* not known: checking for signals on another thread is harmless */
#endif
}

const gp_interrupt *
pygo_interrupt(void)
{
    static const gp_interrupt interrupt = {.check = check_signals};
    static _Thread_local enum { UNKNOWN, MAIN, OTHER } which;
    /* The process that |which| was set in: a thread that forks is the main thread of the child. */
    static _Thread_local unsigned generation;

    if (which == UNKNOWN || generation != gp_runtime_generation()) {
        which = on_main_thread() ? MAIN : OTHER;
        generation = gp_runtime_generation();
    }
    return which == MAIN ? &interrupt : NULL;
}

/* ---- Threads that green threads share ---- */

static struct {
    PyObject *get_hub;          /* owned; NULL: no thread is shared */
    PyObject *get_current;      /* owned */
    PyObject *wait;             /* owned */
    PyObject *call_on_thread;   /* owned */
    PyObject *call_in_greenlet; /* owned; NULL: none is needed */
} sharing;

/* For gp_interrupt.wait. */
static int
wait_shared(void *Py_UNUSED(ctx), int fd, int64_t timeout_ns)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *result =
        timeout_ns < 0 ? PyObject_CallFunction(sharing.wait, "iO", fd, Py_None)
                       : PyObject_CallFunction(sharing.wait, "id", fd, (double)timeout_ns / 1e9);
    int rc = result != NULL ? 0 : GP_EUSER;

    Py_XDECREF(result);
    PyGILState_Release(gil);
    return rc;
}

void
pygo_gil_share(PyObject *get_hub, PyObject *get_current, PyObject *wait, PyObject *call_on_thread,
               PyObject *call_in_greenlet)
{
    sharing.get_current = Py_NewRef(get_current);
    sharing.wait = Py_NewRef(wait);
    sharing.call_on_thread = Py_NewRef(call_on_thread);
    sharing.call_in_greenlet = call_in_greenlet != Py_None ? Py_NewRef(call_in_greenlet) : NULL;
    sharing.get_hub = Py_NewRef(get_hub);
}

/*
 * Whether this is a green thread other than the hub. Both functions are written in C: in functions
 * written in Python, signal handlers might raise.
 */
static bool
thread_is_shared(void)
{
    PyObject *hub = PyObject_CallNoArgs(sharing.get_hub);
    PyObject *current = hub != NULL ? PyObject_CallNoArgs(sharing.get_current) : NULL;
    bool shared = current != NULL && hub != Py_None && hub != current;

    if (current == NULL) {
        PyErr_WriteUnraisable(sharing.get_hub);
    }
    Py_XDECREF(hub);
    Py_XDECREF(current);
    return shared;
}

PyObject *
pygo_gil_call_blocking(PyObject *const *args, Py_ssize_t count)
{
    if (sharing.call_on_thread != NULL) {
        return PyObject_Vectorcall(sharing.call_on_thread, args, (size_t)count, NULL);
    }
    return PyObject_Vectorcall(args[0], args + 1, (size_t)count - 1, NULL);
}

const gp_interrupt *
pygo_call_interrupt(void)
{
    static const gp_interrupt shared = {.check = check_signals, .wait = wait_shared};

    return sharing.get_hub != NULL && thread_is_shared() ? &shared : pygo_interrupt();
}

PyObject *
pygo_gil_call_user(PyObject *callable, PyObject *const *args, size_t count)
{
    PyObject *all[PYGO_USER_ARGS + 1] = {callable};

    if (sharing.call_in_greenlet == NULL || mine == NULL || count > PYGO_USER_ARGS) {
        return PyObject_Vectorcall(callable, args, count, NULL);
    }
    for (size_t i = 0; i < count; i++) {
        all[i + 1] = args[i];
    }
    return PyObject_Vectorcall(sharing.call_in_greenlet, all, count + 1, NULL);
}
