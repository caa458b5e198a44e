/*
 * Layer: py. What one event loop waits for: like an asyncio.Future, but a task that awaits it goes
 * on as soon as LoopQueue.drain() has given out what was posted. From a Future it would be woken by
 * one more round of the loop, which costs as much as the rest of a call's Python.
 */
#ifndef PYGO_LOOP_FUTURE_H
#define PYGO_LOOP_FUTURE_H

#include <stdbool.h>

#include "py/state.h"

/* Whether |object| is one. */
bool pygo_loop_future_check(PyObject *object);

/* A pending one for |loop|. NULL with an exception. */
PyObject *pygo_loop_future_new(PyObject *loop);

/*
 * Give it its result or, if |failed|, an exception, unless it is done. Steals |value|. Returns 0,
 * or -1 with an exception, with its result given.
 */
int pygo_loop_future_settle(PyObject *future, PyObject *value, bool failed);

/*
 * Around what settles futures on the loop's thread, outside all tasks: tasks that it wakes run in
 * pygo_loop_future_end(). Returns 0, or -1 with the exception that is to leave the loop.
 */
void pygo_loop_future_begin(void);
int pygo_loop_future_end(void);

#endif
