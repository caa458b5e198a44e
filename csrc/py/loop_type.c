#include "py/loop.h"

#include "gp/lock.h"
#include "gp/runtime.h"
#include "py/callbacks.h"
#include "py/errors.h"
#include "py/loop_future.h"

typedef struct LoopQueueObject {
    PyObject_HEAD
    gp_queue *queue; /* owned */
    gp_list members; /* pygo_loop_member, newest first */
    PyObject *weakrefs;
} LoopQueueObject;

static void free_orphans(pygo_callback *self);

/*
 * Completions that were posted for loops that are gone. Invariant: |callback|, which frees them, is
 * queued while there are any.
 */
static struct {
    gp_mutex lock;
    gp_queue_item *newest GP_GUARDED_BY(&lock); /* each is linked to the one before */
    pygo_callback callback;
} orphans = {.lock = GP_MUTEX_INIT, .callback = {.run = free_orphans}};

/* Forget the completions in a forked child: they were posted for the parent's loops. */
static void
reset_orphans(void)
{
    gp_mutex_init(&orphans.lock);
    gp_mutex_lock(&orphans.lock);
    orphans.newest = NULL;
    gp_mutex_unlock(&orphans.lock);
}

static gp_fork_part part = {.reset = reset_orphans};

/* Interned names of methods. */
static struct {
    PyObject *done;
    PyObject *set_result;
    PyObject *set_exception;
} names;

/* ---- Completions ---- */

void *
pygo_completion_new_raw(size_t size, gp_queue *queue, void (*finish)(pygo_completion *, bool))
{
    pygo_completion *completion = PyMem_RawCalloc(1, size);

    if (completion != NULL) {
        completion->finish = finish;
        completion->queue = gp_queue_ref(queue);
    }
    return completion;
}

void *
pygo_completion_new(size_t size, gp_queue *queue, void (*finish)(pygo_completion *, bool))
{
    void *completion = pygo_completion_new_raw(size, queue, finish);

    if (completion == NULL) {
        PyErr_NoMemory();
    }
    return completion;
}

void
pygo_completion_free(pygo_completion *completion)
{
    gp_queue_unref(completion->queue);
    PyMem_RawFree(completion);
}

bool
pygo_completion_try_post(pygo_completion *completion)
{
    return gp_queue_post(completion->queue, &completion->item) == 0;
}

void
pygo_completion_post(pygo_completion *completion)
{
    bool queued;

    if (pygo_completion_try_post(completion)) {
        return;
    }
    gp_mutex_lock(&orphans.lock);
    queued = orphans.newest != NULL;
    completion->item.next = orphans.newest;
    orphans.newest = &completion->item;
    gp_mutex_unlock(&orphans.lock);
    if (!queued) {
        pygo_callback_post(&orphans.callback);
    }
}

static void
finish_all(gp_queue_item *item, bool alive)
{
    while (item != NULL) {
        pygo_completion *completion = (pygo_completion *)item;

        item = item->next;
        completion->finish(completion, alive);
    }
}

static void
free_orphans(pygo_callback *Py_UNUSED(self))
{
    gp_queue_item *all;

    gp_mutex_lock(&orphans.lock);
    all = orphans.newest;
    orphans.newest = NULL;
    gp_mutex_unlock(&orphans.lock);
    finish_all(all, false);
}

/* ---- Futures ---- */

/* Whether |future| needs no result any more. An exception of done() is reported and means yes. */
static bool
is_done(PyObject *future)
{
    PyObject *done = PyObject_CallMethodNoArgs(future, names.done);
    int truth = done != NULL ? PyObject_IsTrue(done) : -1;

    Py_XDECREF(done);
    if (truth < 0) {
        PyErr_WriteUnraisable(future);
    }
    return truth != 0;
}

void
pygo_future_resolve(PyObject *future, PyObject *value)
{
    bool failed = value == NULL;
    PyObject *name = failed ? names.set_exception : names.set_result;
    PyObject *result;

    if (failed) {
        value = pygo_take_exception();
    }
    if (pygo_loop_future_check(future)) {
        if (pygo_loop_future_finish(future, value, failed) < 0) {
            PyErr_WriteUnraisable(future);
        }
        return;
    }
    if (!is_done(future)) {
        result = PyObject_CallMethodOneArg(future, name, value);
        if (result == NULL) {
            PyErr_WriteUnraisable(future);
        }
        Py_XDECREF(result);
    }
    Py_DECREF(value);
}

/* ---- LoopQueue ---- */

gp_queue *
pygo_queue_of(PyObject *loop_queue)
{
    return pygo_check_type(loop_queue, pygo_module_state->loop_queue_type) == 0
               ? ((LoopQueueObject *)loop_queue)->queue
               : NULL;
}

void
pygo_loop_add(PyObject *loop_queue, pygo_loop_member *member)
{
    gp_list_prepend(&((LoopQueueObject *)loop_queue)->members, &member->link);
}

static PyObject *
queue_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    gp_error err = GP_ERROR_INIT;
    LoopQueueObject *self;

    if (PyTuple_GET_SIZE(args) > 0 || (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0)) {
        PyErr_SetString(PyExc_TypeError, "LoopQueue() takes no arguments");
        return NULL;
    }
    if (pygo_check_forked() < 0) {
        return NULL;
    }
    self = (LoopQueueObject *)type->tp_alloc(type, 0);
    if (self != NULL) {
        gp_list_init(&self->members);
    }
    if (self != NULL && gp_queue_new(&self->queue, &err) < 0) {
        self->queue = NULL;
        Py_CLEAR(self);
        pygo_raise(&err, NULL);
    }
    return (PyObject *)self;
}

static void
queue_dealloc(LoopQueueObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    pygo_loop_member *member;

    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    while ((member = gp_list_first_entry(&self->members, pygo_loop_member, link)) != NULL) {
        gp_link_remove(&member->link);
        member->orphaned(member);
    }
    if (self->queue != NULL) {
        gp_queue_close(self->queue);
        finish_all(gp_queue_take(self->queue), false);
        gp_queue_unref(self->queue);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
queue_fileno(LoopQueueObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(gp_queue_fd(self->queue));
}

static PyObject *
queue_drain(LoopQueueObject *self, PyObject *Py_UNUSED(ignored))
{
    int rc;

    Py_INCREF(self); /* a completion may close the loop and drop its queue */
    pygo_loop_future_begin();
    finish_all(gp_queue_take(self->queue), true);
    rc = pygo_loop_future_end();
    Py_DECREF(self);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"fileno", (PyCFunction)queue_fileno, METH_NOARGS,
     "fileno($self)\n--\n\nA descriptor that is readable while there is something to drain."},
    {"drain", (PyCFunction)queue_drain, METH_NOARGS,
     "drain($self)\n--\n\nFinish what has been posted, and resume the tasks that wait for it. Call "
     "it on the loop's thread."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(LoopQueueObject, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, queue_new},
    {Py_tp_dealloc, queue_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_doc,
     "LoopQueue()\n--\n\nThe completions that the C core has posted for one event loop."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.LoopQueue",
    .basicsize = sizeof(LoopQueueObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

int
pygo_loop_setup(PyObject *module, pygo_state *state)
{
    gp_runtime_on_fork(&part);
    state->loop_queue_type = pygo_add_type(module, &spec);
    names.done = PyUnicode_InternFromString("done");
    names.set_result = PyUnicode_InternFromString("set_result");
    names.set_exception = PyUnicode_InternFromString("set_exception");
    return state->loop_queue_type != NULL && !PyErr_Occurred() ? 0 : -1;
}
