#include "py/gil.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

static atomic_bool closed;
static _Thread_local PyThreadState *mine;
static _Thread_local PyGILState_STATE first;

bool
pygo_gil_enter(void)
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
    static const gp_interrupt interrupt = {check_signals, NULL};
    static _Thread_local enum { UNKNOWN, MAIN, OTHER } thread;

    if (thread == UNKNOWN) {
        thread = on_main_thread() ? MAIN : OTHER;
    }
    return thread == MAIN ? &interrupt : NULL;
}
