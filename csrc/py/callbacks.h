/*
 * Layer: py. The thread on which Python callbacks of calls run.
 *
 * A call's end is noticed on whatever thread polls, which may not enter Python nor wait for it. It
 * queues the callback here. One thread, started with the first callback, runs them in order.
 */
#ifndef PYGO_CALLBACKS_H
#define PYGO_CALLBACKS_H

#include "py/state.h"

typedef struct pygo_callback {
    struct pygo_callback *next;
    PyObject *callable; /* owned */
} pygo_callback;

/* Prepare a callback of |callable| and make sure that the thread runs. NULL with an exception. */
pygo_callback *pygo_callback_new(PyObject *callable);

/* Queue it: it is called without arguments, and freed. No GIL needed. Any thread. */
void pygo_callback_post(pygo_callback *callback);

/* Run what is queued and end the thread. Without the GIL. Idempotent. */
void pygo_callbacks_shutdown(void);

#endif
