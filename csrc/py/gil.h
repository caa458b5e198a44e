/*
 * Layer: py. Entering Python from C threads, and asking Python from waits in C.
 */
#ifndef PYGO_GIL_H
#define PYGO_GIL_H

#include "py/state.h" /* Python.h comes before the system's headers */

#include <stdbool.h>

#include "gp/runtime.h"

/*
 * Take the GIL on a thread of ours. The thread keeps its PyThreadState until
 * pygo_gil_thread_exit(), so that entering again costs no more than the lock. When it enters first,
 * the module threading gets to know it under |name|, and the hooks of threading.settrace() and
 * setprofile() are set, if the program uses that module; otherwise as soon as it does.
 *
 * Returns: false when the interpreter is ending; then Python must not be touched.
 */
bool pygo_gil_enter(const char *name);
void pygo_gil_leave(void);

/* Give the thread's PyThreadState back. For threads that have entered; harmless for others. */
void pygo_gil_thread_exit(void);

/*
 * Let go of a reference, on any thread, with the GIL or without. Not once the interpreter is
 * ending.
 */
void pygo_gil_release(void *object);

/* From now on pygo_gil_enter() refuses. */
void pygo_gil_close(void);
bool pygo_gil_is_open(void);

/*
 * How a wait on this thread is interrupted: signal handlers run on the main thread only, so that
 * elsewhere there is nothing to ask (NULL). Call with the GIL.
 */
const gp_interrupt *pygo_interrupt(void);

/*
 * The same for waits of calls. Where pygo_gil_share() has said how, they let the thread go on with
 * other code meanwhile, as green threads want it; then signals are that code's business.
 */
const gp_interrupt *pygo_call_interrupt(void);

/*
 * A thread is shared if |get_hub|() is not None, nor what |get_current|() gives: the one that runs
 * the others. |wait|(fd, timeout) then waits until the descriptor is readable (-1: only that long),
 * at most timeout seconds (None: for ever). |elsewhere|(function, *args) calls what blocks
 * otherwise, for pygo_gil_call_blocking(). |visit|(function, *args), or None, calls functions of
 * the user's for threads of the core's, where such a thread runs greenlets. All are kept for good.
 */
void pygo_gil_share(PyObject *get_hub, PyObject *get_current, PyObject *wait, PyObject *elsewhere,
                    PyObject *visit);

/* Call args[0] with the others, where it may block. */
PyObject *pygo_gil_call_blocking(PyObject *const *args, Py_ssize_t count);

/*
 * Call a function of the user's that is no handler, with up to PYGO_USER_ARGS arguments: on this
 * thread, or, if it is the core's, where green threads want it. Returns as PyObject_Call().
 */
enum { PYGO_USER_ARGS = 4 };
PyObject *pygo_gil_call_user(PyObject *callable, PyObject *const *args, size_t count);

#endif
