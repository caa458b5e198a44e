/*
 * Layer: py. Entering Python from C threads, and asking Python from waits in C.
 */
#ifndef PYGO_GIL_H
#define PYGO_GIL_H

#include <stdbool.h>

#include "gp/runtime.h"
#include "py/state.h"

/*
 * Take the GIL on a thread of ours. The thread keeps its PyThreadState until pygo_gil_thread_exit(),
 * so that entering again costs no more than the lock. When it enters first, the module threading gets to
 * know it under |name|, and the hooks of threading.settrace() and setprofile() are set, if the program
 * uses that module; otherwise as soon as it does.
 *
 * Returns: false when the interpreter is ending; then Python must not be touched.
 */
bool pygo_gil_enter(const char *name);
void pygo_gil_leave(void);

/* Give the thread's PyThreadState back. For threads that have entered; harmless for others. */
void pygo_gil_thread_exit(void);

/* Let go of a reference, on any thread, with the GIL or without. Not once the interpreter is ending. */
void pygo_gil_release(void *object);

/* From now on pygo_gil_enter() refuses. */
void pygo_gil_close(void);
bool pygo_gil_is_open(void);

/*
 * How a wait on this thread is interrupted: signal handlers run on the main thread only, so that
 * elsewhere there is nothing to ask (NULL). Call with the GIL.
 */
const gp_interrupt *pygo_interrupt(void);

#endif
