#include "py/gil.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

static atomic_bool closed;
static _Thread_local PyThreadState *mine;
static _Thread_local PyGILState_STATE first;
static _Thread_local PyObject *thread; /* owned: what _base.threads.enter() has returned */

/* ---- Threads of ours, as Python sees them ---- */

/* With the GIL. No exception gets out. */
static void
introduce(const char *name)
{
    static PyObject *module_name;
    PyObject *enter;

    if (module_name == NULL && (module_name = PyUnicode_InternFromString("threading")) == NULL) {
        PyErr_Clear();
        return;
    }
    /* A plugin's start should not pay for an import that it does without. */
    if (PyDict_GetItemWithError(PyImport_GetModuleDict(), module_name) == NULL) {
        PyErr_Clear();
        return;
    }
    enter = pygo_provided(PYGO_REGISTER_THREAD);
    thread = enter != NULL ? PyObject_CallFunction(enter, "s", name) : NULL;
    if (thread == NULL) {
        PyErr_WriteUnraisable(enter);
        thread = Py_NewRef(Py_None); /* the next call would fare no better */
    }
}

static void
say_goodbye(void)
{
    PyObject *leave;
    PyObject *result;

    if (thread == Py_None) { /* introducing it has failed */
        Py_CLEAR(thread);
        return;
    }
    leave = pygo_provided(PYGO_UNREGISTER_THREAD);
    result = leave != NULL ? PyObject_CallOneArg(leave, thread) : NULL;
    if (result == NULL) {
        PyErr_WriteUnraisable(leave);
    }
    Py_XDECREF(result);
    Py_CLEAR(thread);
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
    if (thread == NULL) {
        introduce(name);
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
        if (thread != NULL) {
            say_goodbye();
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

/* Python runs signal handlers on the process's first thread alone. */
static bool
on_main_thread(void)
{
#if defined(__linux__)
    return gettid() == getpid();
#elif defined(__APPLE__)
    return pthread_main_np() != 0;
#else
    return true; /* cannot tell: asking on another thread is harmless */
#endif
}

const gp_interrupt *
pygo_interrupt(void)
{
    static const gp_interrupt interrupt = {.check = check_signals};
    static _Thread_local enum { UNKNOWN, MAIN, OTHER } which;
    /* Of which process that is said: the thread that forks is the first one of the child. */
    static _Thread_local unsigned generation;

    if (which == UNKNOWN || generation != gp_runtime_generation()) {
        which = on_main_thread() ? MAIN : OTHER;
        generation = gp_runtime_generation();
    }
    return which == MAIN ? &interrupt : NULL;
}

/* ---- Threads that others share ---- */

static struct {
    PyObject *get_hub;     /* owned; NULL: no thread is shared */
    PyObject *get_current; /* owned */
    PyObject *wait;        /* owned */
    PyObject *elsewhere;   /* owned */
    PyObject *visit;       /* owned; NULL: none is needed */
} sharing;

static int
share_thread(void *Py_UNUSED(ctx), int fd, int64_t timeout_ns)
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
pygo_gil_share(PyObject *get_hub, PyObject *get_current, PyObject *wait, PyObject *elsewhere,
               PyObject *visit)
{
    sharing.get_current = Py_NewRef(get_current);
    sharing.wait = Py_NewRef(wait);
    sharing.elsewhere = Py_NewRef(elsewhere);
    sharing.visit = visit != Py_None ? Py_NewRef(visit) : NULL;
    sharing.get_hub = Py_NewRef(get_hub);
}

/* By functions written in C: in Python's, signal handlers might raise. */
static bool
shares_thread(void)
{
    PyObject *hub = PyObject_CallNoArgs(sharing.get_hub);
    PyObject *current = hub != NULL ? PyObject_CallNoArgs(sharing.get_current) : NULL;
    bool shares = current != NULL && hub != Py_None && hub != current;

    if (current == NULL) {
        PyErr_WriteUnraisable(sharing.get_hub);
    }
    Py_XDECREF(hub);
    Py_XDECREF(current);
    return shares;
}

PyObject *
pygo_gil_call_blocking(PyObject *const *args, Py_ssize_t count)
{
    if (sharing.elsewhere != NULL) {
        return PyObject_Vectorcall(sharing.elsewhere, args, (size_t)count, NULL);
    }
    return PyObject_Vectorcall(args[0], args + 1, (size_t)count - 1, NULL);
}

const gp_interrupt *
pygo_call_interrupt(void)
{
    static const gp_interrupt shared = {.check = check_signals, .wait = share_thread};

    return sharing.get_hub != NULL && shares_thread() ? &shared : pygo_interrupt();
}

PyObject *
pygo_gil_call_user(PyObject *callable, PyObject *const *args, size_t count)
{
    PyObject *all[PYGO_USER_ARGS + 1] = {callable};

    if (sharing.visit == NULL || mine == NULL || count > PYGO_USER_ARGS) {
        return PyObject_Vectorcall(callable, args, count, NULL);
    }
    for (size_t i = 0; i < count; i++) {
        all[i + 1] = args[i];
    }
    return PyObject_Vectorcall(sharing.visit, all, count + 1, NULL);
}
