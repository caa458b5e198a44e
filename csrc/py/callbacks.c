#include "py/callbacks.h"

#include <pthread.h>
#include <stdbool.h>

#include "gp/lock.h"
#include "gp/runtime.h"
#include "py/errors.h"
#include "py/gil.h"

/* How long one callback may take once the interpreter is ending, before it is left behind. */
enum { CALLBACK_MS = 5000 };

typedef struct callback_queue {
    const char *name; /* the thread's, also in Python */
    gp_mutex lock;
    gp_cond posted;                         /* a callback is waiting, or |stopping| is set */
    gp_cond progressed;                     /* a callback has returned, or the thread has ended */
    gp_list waiting GP_GUARDED_BY(&lock);   /* pygo_callback, oldest first */
    pthread_t thread GP_GUARDED_BY(&lock);  /* valid while |running| */
    bool running GP_GUARDED_BY(&lock);      /* the thread has been started, and not been joined */
    bool stopping GP_GUARDED_BY(&lock);     /* the interpreter is ending: no thread is started */
    bool ended GP_GUARDED_BY(&lock);        /* the thread will run no more callbacks */
    unsigned finished GP_GUARDED_BY(&lock); /* callbacks that have returned, modulo 2**32 */
} callback_queue;

static callback_queue callbacks;
static callback_queue questions;

static bool start_thread_locked(callback_queue *queue) GP_REQUIRES(&queue->lock);
static bool wait_for_end_locked(callback_queue *queue) GP_REQUIRES(&queue->lock);

static void
init_queue(callback_queue *queue, const char *name)
{
    *queue = (callback_queue){.name = name};
    gp_mutex_init(&queue->lock);
    gp_cond_init(&queue->posted);
    gp_cond_init(&queue->progressed);
    gp_list_init(&queue->waiting);
}

/* Also called in a forked child, to forget the threads and the queued callbacks of the parent. */
static void
init_queues(void)
{
    init_queue(&callbacks, "pygo-callbacks");
    init_queue(&questions, "pygo-questions");
}

static gp_fork_part part = {.reset = init_queues};

void
pygo_callbacks_setup(void)
{
    if (!part.known) { /* otherwise threads may be using the queues */
        init_queues();
        gp_runtime_on_fork(&part);
    }
}

/* ---- The thread ---- */

/* Wait for callbacks and move them to |batch|, which stays empty if the thread is to end. */
static void
take_waiting(callback_queue *queue, gp_list *batch)
{
    gp_mutex_lock(&queue->lock);
    while (gp_list_is_empty(&queue->waiting) && !queue->stopping) {
        gp_cond_wait(&queue->posted, &queue->lock);
    }
    gp_list_move(batch, &queue->waiting);
    gp_mutex_unlock(&queue->lock);
}

static void
note_progress(callback_queue *queue, bool ended)
{
    gp_mutex_lock(&queue->lock);
    queue->finished++;
    queue->ended = ended;
    gp_cond_broadcast(&queue->progressed);
    gp_mutex_unlock(&queue->lock);
}

static void *
run_callbacks(void *arg)
{
    callback_queue *queue = arg;
    pygo_callback *callback;
    gp_list batch;

    gp_list_init(&batch);
    for (;;) {
        take_waiting(queue, &batch);
        if (gp_list_is_empty(&batch) || !pygo_gil_enter(queue->name)) {
            break;
        }
        while ((callback = gp_list_first_entry(&batch, pygo_callback, link)) != NULL) {
            gp_link_remove(&callback->link);
            callback->run(callback);
            note_progress(queue, false);
        }
        pygo_gil_leave();
    }
    pygo_gil_thread_exit();
    note_progress(queue, true);
    return NULL;
}

/* Start the thread unless it runs or the interpreter is ending. Returns false if that fails. */
static bool
start_thread_locked(callback_queue *queue)
{
    gp_error err = GP_ERROR_INIT;

    if (!queue->running && !queue->stopping) {
        queue->running =
            gp_user_thread_start(&queue->thread, queue->name, run_callbacks, queue, &err) == 0;
        gp_error_release(&err);
    }
    return queue->running || queue->stopping;
}

/* ---- What is queued ---- */

static int
start_thread(callback_queue *queue)
{
    bool started;

    gp_mutex_lock(&queue->lock);
    started = start_thread_locked(queue);
    gp_mutex_unlock(&queue->lock);
    if (!started) {
        PyErr_SetString(PyExc_RuntimeError, "cannot start the thread for callbacks");
    }
    return started ? 0 : -1;
}

int
pygo_questions_start(void)
{
    return start_thread(&questions);
}

static void
run_callable(pygo_callback *callback)
{
    pygo_call_back(callback->callable);
    Py_DECREF(callback->callable);
    PyMem_RawFree(callback);
}

pygo_callback *
pygo_callback_new(PyObject *callable)
{
    pygo_callback *callback;

    if (start_thread(&callbacks) < 0) {
        return NULL;
    }
    callback = PyMem_RawCalloc(1, sizeof(*callback));
    if (callback == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    callback->run = run_callable;
    callback->callable = Py_NewRef(callable);
    return callback;
}

static void
post_callback(callback_queue *queue, pygo_callback *callback)
{
    gp_mutex_lock(&queue->lock);
    start_thread_locked(queue);
    gp_list_append(&queue->waiting, &callback->link);
    gp_cond_signal(&queue->posted);
    gp_mutex_unlock(&queue->lock);
}

void
pygo_callback_post(pygo_callback *callback)
{
    post_callback(&callbacks, callback);
}

void
pygo_question_post(pygo_callback *question)
{
    post_callback(&questions, question);
}

/* ---- The end ---- */

/* Whether the thread has ended. It does not while one callback takes too long. */
static bool
wait_for_end_locked(callback_queue *queue)
{
    int rc = 0;

    while (!queue->ended && rc == 0) {
        int64_t deadline = gp_deadline_in(CALLBACK_MS);
        unsigned before = queue->finished;

        while (queue->finished == before && rc == 0) {
            rc = gp_cond_wait_until(&queue->progressed, &queue->lock, deadline);
        }
    }
    return queue->ended;
}

static void
shut_queue_down(callback_queue *queue)
{
    pthread_t thread;
    bool running;
    bool ended;

    gp_mutex_lock(&queue->lock);
    running = queue->running;
    thread = queue->thread;
    queue->running = false;
    queue->stopping = true;
    gp_cond_signal(&queue->posted);
    ended = running && wait_for_end_locked(queue);
    gp_mutex_unlock(&queue->lock);
    if (ended) {
        pthread_join(thread, NULL);
    } else if (running) {
        pthread_detach(thread); /* the process does not wait for it, as for a daemon thread */
    }
}

void
pygo_callbacks_shutdown(void)
{
    shut_queue_down(&callbacks);
    shut_queue_down(&questions);
}
