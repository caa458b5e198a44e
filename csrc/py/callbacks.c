#include "py/callbacks.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <time.h>

#include "gp/lock.h"
#include "py/errors.h"
#include "py/gil.h"

/* How long one callback may take once the interpreter is ending. Then it is left behind. */
enum { PATIENCE_S = 5 };

typedef struct callback_queue {
    const char *name; /* of the thread, in Python */
    gp_mutex lock;
    gp_cond more;
    gp_cond progress; /* a callback has returned, or the thread has ended */
    pygo_callback *first;
    pygo_callback **end;
    pthread_t thread;
    bool running;
    bool stopping;
    bool ended;
    unsigned finished; /* callbacks; goes round */
} callback_queue;

#define QUEUE_INIT(queue, of_thread) \
    {.name = of_thread,              \
     .lock = GP_MUTEX_INIT,          \
     .more = GP_COND_INIT,           \
     .progress = GP_COND_INIT,       \
     .end = &(queue).first}

static callback_queue callbacks = QUEUE_INIT(callbacks, "pygo-callbacks");
static callback_queue questions = QUEUE_INIT(questions, "pygo-questions");

/* In a forked child, which has not the threads. What is queued is the parent's. */
static void
reset(void)
{
    callbacks = (callback_queue)QUEUE_INIT(callbacks, "pygo-callbacks");
    questions = (callback_queue)QUEUE_INIT(questions, "pygo-questions");
}

static gp_fork_part part = {.reset = reset};

static pygo_callback *
take_all(callback_queue *queue)
{
    pygo_callback *all;

    gp_mutex_lock(&queue->lock);
    while (queue->first == NULL && !queue->stopping) {
        gp_cond_wait(&queue->more, &queue->lock);
    }
    all = queue->first;
    queue->first = NULL;
    queue->end = &queue->first;
    gp_mutex_unlock(&queue->lock);
    return all;
}

static void
run_callable(pygo_callback *callback)
{
    pygo_call_back(callback->callable);
    Py_DECREF(callback->callable);
    PyMem_RawFree(callback);
}

static void
note_progress(callback_queue *queue, bool ended)
{
    gp_mutex_lock(&queue->lock);
    queue->finished++;
    queue->ended = ended;
    gp_cond_broadcast(&queue->progress);
    gp_mutex_unlock(&queue->lock);
}

static void *
run_thread(void *arg)
{
    callback_queue *queue = arg;
    pygo_callback *callback;

    while ((callback = take_all(queue)) != NULL) {
        if (!pygo_gil_enter(queue->name)) {
            break;
        }
        while (callback != NULL) {
            pygo_callback *next = callback->next;

            callback->run(callback);
            callback = next;
            note_progress(queue, false);
        }
        pygo_gil_leave();
    }
    pygo_gil_thread_exit();
    note_progress(queue, true);
    return NULL;
}

/* Lock held. */
static void
ensure_thread(callback_queue *queue)
{
    sigset_t before;

    if (!queue->running && !queue->stopping) {
        gp_runtime_on_fork(&part);
        gp_runtime_user_signals(&before);
        queue->running = pthread_create(&queue->thread, NULL, run_thread, queue) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
}

static int
start(callback_queue *queue)
{
    bool failed;

    gp_mutex_lock(&queue->lock);
    ensure_thread(queue);
    /* Once the interpreter is ending, callbacks stay queued. */
    failed = !queue->running && !queue->stopping;
    gp_mutex_unlock(&queue->lock);
    if (failed) {
        PyErr_SetString(PyExc_RuntimeError, "cannot start the thread for callbacks");
    }
    return failed ? -1 : 0;
}

int
pygo_questions_start(void)
{
    return start(&questions);
}

pygo_callback *
pygo_callback_new(PyObject *callable)
{
    pygo_callback *callback;

    if (start(&callbacks) < 0) {
        return NULL;
    }
    callback = PyMem_RawMalloc(sizeof(*callback));
    if (callback == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    callback->run = run_callable;
    callback->callable = Py_NewRef(callable);
    return callback;
}

static void
post(callback_queue *queue, pygo_callback *callback)
{
    callback->next = NULL;
    gp_mutex_lock(&queue->lock);
    ensure_thread(queue);
    *queue->end = callback;
    queue->end = &callback->next;
    gp_cond_signal(&queue->more);
    gp_mutex_unlock(&queue->lock);
}

void
pygo_callback_post(pygo_callback *callback)
{
    post(&callbacks, callback);
}

void
pygo_question_post(pygo_callback *question)
{
    post(&questions, question);
}

/*
 * Lock held. Whether the thread has ended, which it does not while a callback of the user's is
 * stuck.
 */
static bool
await_end(callback_queue *queue)
{
    int rc = 0;

    while (!queue->ended && rc == 0) {
        unsigned before = queue->finished;
        struct timespec until;

        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += PATIENCE_S;
        while (queue->finished == before && rc == 0) {
            rc = pthread_cond_timedwait(&queue->progress.os, &queue->lock.os, &until);
        }
    }
    return queue->ended;
}

static void
shut_down(callback_queue *queue)
{
    bool running;
    bool ended;

    gp_mutex_lock(&queue->lock);
    running = queue->running;
    queue->running = false;
    queue->stopping = true;
    gp_cond_signal(&queue->more);
    ended = running && await_end(queue);
    gp_mutex_unlock(&queue->lock);
    if (ended) {
        pthread_join(queue->thread, NULL);
    } else if (running) {
        pthread_detach(queue->thread); /* as a daemon thread of Python's */
    }
}

void
pygo_callbacks_shutdown(void)
{
    shut_down(&callbacks);
    shut_down(&questions);
}
