/*
 * Layer: py. A future of one event loop. Unlike an asyncio.Future it resumes the task that awaits
 * it at the end of LoopQueue.drain(). A Future would do so in the next round of the loop, which
 * costs as much as the rest of a call's Python.
 */
#ifndef PYGO_LOOP_FUTURE_H
#define PYGO_LOOP_FUTURE_H

#include <stdbool.h>

#include "py/state.h"

/* Whether |object| is a LoopFuture. */
bool pygo_loop_future_check(PyObject *object);

/* A pending LoopFuture of |loop|. NULL with an exception. */
PyObject *pygo_loop_future_new(PyObject *loop);

/*
 * Give |future| its result or, if |failed|, its exception, unless it is done. Steals |value|.
 * Returns 0, or -1 with the exception of a loop that could not schedule the callbacks.
 */
int pygo_loop_future_finish(PyObject *future, PyObject *value, bool failed);

/*
 * Call these two before and after code that finishes futures, on the loop's thread and outside all
 * tasks: pygo_loop_future_end() runs the tasks that await the futures. Returns 0, or -1 with the
 * exception that has to leave the loop.
 */
void pygo_loop_future_begin(void);
int pygo_loop_future_end(void);

#endif
