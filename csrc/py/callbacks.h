/*
 * Layer: py. The threads on which Python callbacks of calls run.
 *
 * The end of a call is noticed on the polling thread, which may neither enter Python nor wait for
 * it. It queues the callback here, as gRPC's threads do with their log lines. A thread that is
 * started with the first callback runs them in order.
 *
 * Callbacks are the user's and may wait for other calls. These calls may in turn wait for the
 * answers of credentials plugins. Questions to such plugins therefore have a second thread, on
 * which nothing may block.
 */
#ifndef PYGO_CALLBACKS_H
#define PYGO_CALLBACKS_H

#include "gp/list.h"
#include "py/state.h"

/* A function to be run on one of these threads. Often the first member of a larger structure. */
typedef struct pygo_callback {
    gp_link link; /* in the queue */
    /* Called with the GIL. Frees |self| and leaves no exception. */
    void (*run)(struct pygo_callback *self);
    PyObject *callable; /* owned; NULL unless made by pygo_callback_new() */
} pygo_callback;

/* Once, when the module is set up. */
void pygo_callbacks_setup(void);

/* Make sure that the thread for questions runs. Returns 0, or -1 with an exception. */
int pygo_questions_start(void);

/*
 * Make a callback that calls |callable|(), to be posted, and make sure that the thread for
 * callbacks runs. NULL with an exception.
 */
pygo_callback *pygo_callback_new(PyObject *callable);

/*
 * Queue a callback or a question, and start its thread unless that runs. Threads: any; no GIL
 * needed. Never blocks.
 */
void pygo_callback_post(pygo_callback *callback);
void pygo_question_post(pygo_callback *question);

/*
 * Run what is queued and end the threads. Call without the GIL. Idempotent. If a single callback
 * takes more than 5 s, it is left behind with all that is queued after it, so that it does not keep
 * the process.
 */
void pygo_callbacks_shutdown(void);

#endif
