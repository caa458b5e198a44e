/*
 * Layer: py. The thread on which Python callbacks of calls run.
 *
 * A call's end is noticed on whatever thread polls, which may not enter Python nor wait for it. It
 * queues the callback here, as gRPC's threads do with their log lines. One thread, started with the
 * first callback, runs them in order.
 *
 * Callbacks are the user's and may wait for other calls. Questions to the credentials of calls,
 * which those may be waiting for in turn, have a second thread, on which nothing may block.
 */
#ifndef PYGO_CALLBACKS_H
#define PYGO_CALLBACKS_H

#include "py/state.h"

typedef struct pygo_callback {
    struct pygo_callback *next;
    void (*run)(
        struct pygo_callback *self); /* with the GIL; frees |self| and leaves no exception */
    PyObject *callable;              /* owned; of pygo_callback_new() only */
} pygo_callback;

/* Make sure that the thread for questions runs. Returns 0, or -1 with an exception. */
int pygo_questions_start(void);

/* Prepare a callback of |callable| and make sure that the thread runs. NULL with an exception. */
pygo_callback *pygo_callback_new(PyObject *callable);

/*
 * Queue it, starting the thread if need be. Freed once run. No GIL needed. Never blocks. Any
 * thread.
 */
void pygo_callback_post(pygo_callback *callback);
void pygo_question_post(pygo_callback *question);

/*
 * Run what is queued and end the threads. Without the GIL. Idempotent. One callback that takes more
 * than 5 s is left behind, and what comes after it: it must not keep the process.
 */
void pygo_callbacks_shutdown(void);

#endif
