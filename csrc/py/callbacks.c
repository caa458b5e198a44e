#include "py/callbacks.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

#include "py/gil.h"

static struct {
    pthread_mutex_t lock;
    pthread_cond_t more;
    pygo_callback *first;
    pygo_callback **end;
    pthread_t thread;
    bool running;
    bool stopping;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};

static pygo_callback *
take_all(void)
{
    pygo_callback *all;

    pthread_mutex_lock(&queue.lock);
    while (queue.first == NULL && !queue.stopping) {
        pthread_cond_wait(&queue.more, &queue.lock);
    }
    all = queue.first;
    queue.first = NULL;
    queue.end = &queue.first;
    pthread_mutex_unlock(&queue.lock);
    return all;
}

static void
run(pygo_callback *callback)
{
    PyObject *result = PyObject_CallNoArgs(callback->callable);

    if (result == NULL) {
        PyErr_WriteUnraisable(callback->callable);
    }
    Py_XDECREF(result);
    Py_DECREF(callback->callable);
    PyMem_RawFree(callback);
}

static void *
run_thread(void *arg)
{
    pygo_callback *callback;

    (void)arg;
    while ((callback = take_all()) != NULL) {
        if (!pygo_gil_enter()) {
            break;
        }
        while (callback != NULL) {
            pygo_callback *next = callback->next;

            run(callback);
            callback = next;
        }
        pygo_gil_leave();
    }
    pygo_gil_thread_exit();
    return NULL;
}

/* Returns 0 or an error number. */
static int
ensure_thread(void)
{
    sigset_t all;
    sigset_t before;
    int rc = 0;

    sigfillset(&all);
    pthread_mutex_lock(&queue.lock);
    if (!queue.running) {
        queue.end = &queue.first;
        queue.stopping = false;
        pthread_sigmask(SIG_SETMASK, &all, &before);
        rc = pthread_create(&queue.thread, NULL, run_thread, NULL);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        queue.running = rc == 0;
    }
    pthread_mutex_unlock(&queue.lock);
    return rc;
}

pygo_callback *
pygo_callback_new(PyObject *callable)
{
    pygo_callback *callback;

    if (ensure_thread() != 0) {
        PyErr_SetString(PyExc_RuntimeError, "cannot start the thread for callbacks");
        return NULL;
    }
    callback = PyMem_RawMalloc(sizeof(*callback));
    if (callback == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    callback->next = NULL;
    callback->callable = Py_NewRef(callable);
    return callback;
}

void
pygo_callback_post(pygo_callback *callback)
{
    pthread_mutex_lock(&queue.lock);
    *queue.end = callback;
    queue.end = &callback->next;
    pthread_cond_signal(&queue.more);
    pthread_mutex_unlock(&queue.lock);
}

void
pygo_callbacks_shutdown(void)
{
    bool join;

    pthread_mutex_lock(&queue.lock);
    join = queue.running;
    queue.running = false;
    queue.stopping = true;
    pthread_cond_signal(&queue.more);
    pthread_mutex_unlock(&queue.lock);
    if (join) {
        pthread_join(queue.thread, NULL);
    }
}
