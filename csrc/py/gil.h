/*
 * Layer: py. Entering Python from C threads, and asking Python from waits in C.
 */
#ifndef PYGO_GIL_H
#define PYGO_GIL_H

#include "py/state.h" /* Python.h comes before the system's headers */

#include <stdbool.h>

#include "gp/runtime.h"

/*
 * Take the GIL on a thread of the C library. The thread keeps its PyThreadState until
 * pygo_gil_thread_exit(), so that entering again costs no more than the lock. Once the program uses
 * the module threading, the thread is registered there under |name| when it enters, and the hooks
 * of threading.settrace() and setprofile() are set.
 *
 * Returns: false when the interpreter is ending; then Python must not be touched.
 */
bool pygo_gil_enter(const char *name);
void pygo_gil_leave(void);

/* Free the thread's PyThreadState. Harmless for threads that have never entered. */
void pygo_gil_thread_exit(void);

/*
 * Drop a reference, on any thread, with the GIL or without. Does nothing once the interpreter is
 * ending.
 */
void pygo_gil_release(void *object);

/* Have pygo_gil_enter() return false from now on. */
void pygo_gil_close(void);
bool pygo_gil_is_open(void);

/*
 * How a wait on this thread is interrupted by signals. NULL except on the main thread, since Python
 * runs signal handlers there alone. Call with the GIL.
 */
const gp_interrupt *pygo_interrupt(void);

/*
 * As pygo_interrupt(), for waits for calls. On a thread that green threads share
 * (pygo_gil_share()), such a wait lets the others run, and their library handles signals.
 */
const gp_interrupt *pygo_call_interrupt(void);

/*
 * Set how green threads share their thread. All functions are kept until the process ends.
 *
 * get_hub():                  the green thread that runs the others; None on other threads
 * get_current():              the green thread that is running
 * wait(fd, timeout):          wait in a green thread that is not the hub until |fd| (-1: none) is
 *                             readable or |timeout| seconds (None: no limit) are over
 * call_on_thread(function, *args):
 *                             call a function that blocks, for pygo_gil_call_blocking()
 * call_in_greenlet(function, *args):
 *                             call a function of the user for a thread of the core, on which the
 *                             user's locks do not work; None: it is called directly
 */
void pygo_gil_share(PyObject *get_hub, PyObject *get_current, PyObject *wait,
                    PyObject *call_on_thread, PyObject *call_in_greenlet);

/* Call args[0], which may block, with the |count| - 1 other |args|. */
PyObject *pygo_gil_call_blocking(PyObject *const *args, Py_ssize_t count);

/*
 * Call a function of the user that is not a handler, with up to PYGO_USER_ARGS arguments. On a
 * thread of the core it is called by |call_in_greenlet|, if that is set. Returns as
 * PyObject_Call().
 */
enum { PYGO_USER_ARGS = 4 };
PyObject *pygo_gil_call_user(PyObject *callable, PyObject *const *args, size_t count);

#endif
