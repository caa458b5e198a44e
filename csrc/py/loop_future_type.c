#include "py/loop_future.h"

#include "py/errors.h"

typedef enum future_state { PENDING, RESOLVED, FAILED, CANCELLED } future_state;

/* A future is its own iterator, which needs no state. */
typedef struct FutureObject {
    PyObject_HEAD
    PyObject *loop;     /* owned */
    PyObject *value;    /* owned: the result, the exception, or the message of cancel() */
    PyObject *callback; /* owned: the first callback; NULL: none */
    PyObject *context;  /* owned: the contextvars.Context that it runs in */
    PyObject *others;   /* owned list of more (callback, context); NULL: none */
    PyObject *weakrefs;
    struct FutureObject *next; /* in |woken| */
    future_state state;
    bool is_task; /* the first callback belongs to a task, which pygo_loop_future_end() may run */
    char blocking;
} FutureObject;

/* The futures whose tasks pygo_loop_future_end() will run on this thread, owned references. */
static _Thread_local struct {
    FutureObject *first;
    FutureObject **end; /* NULL: not between pygo_loop_future_begin() and _end() */
} woken;

static struct {
    PyObject *call_soon;
    PyObject *context_names; /* ("context",) */
} names;

bool
pygo_loop_future_check(PyObject *object)
{
    return Py_TYPE(object) == pygo_module_state->loop_future_type;
}

PyObject *
pygo_loop_future_new(PyObject *loop)
{
    PyTypeObject *type = pygo_module_state->loop_future_type;
    FutureObject *self = (FutureObject *)type->tp_alloc(type, 0);

    if (self != NULL) {
        self->loop = Py_NewRef(loop);
    }
    return (PyObject *)self;
}

/* ---- Callbacks ---- */

static int
call_soon(FutureObject *self, PyObject *callback, PyObject *context)
{
    PyObject *args[] = {self->loop, callback, (PyObject *)self, context};
    PyObject *handle = PyObject_VectorcallMethod(names.call_soon, args, 3, names.context_names);

    Py_XDECREF(handle);
    return handle != NULL ? 0 : -1;
}

/* Have the loop run the first callback in its next round. */
static int
schedule_first(FutureObject *self)
{
    PyObject *callback = self->callback;
    PyObject *context = self->context;
    int rc;

    self->callback = NULL;
    self->context = NULL;
    rc = callback != NULL ? call_soon(self, callback, context) : 0;
    Py_XDECREF(callback);
    Py_XDECREF(context);
    return rc;
}

static int
schedule_others(FutureObject *self)
{
    PyObject *others = self->others;
    int rc = 0;

    self->others = NULL;
    for (Py_ssize_t i = 0; others != NULL && rc == 0 && i < PyList_GET_SIZE(others); i++) {
        PyObject *pair = PyList_GET_ITEM(others, i);

        rc = call_soon(self, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
    }
    Py_XDECREF(others);
    return rc;
}

/* Steals |value|. */
static int
finish_pending(FutureObject *self, future_state state, PyObject *value)
{
    self->state = state;
    self->value = value;
    if (self->callback != NULL && self->is_task && woken.end != NULL) {
        self->next = NULL;
        *woken.end = (FutureObject *)Py_NewRef((PyObject *)self);
        woken.end = &self->next;
    } else if (schedule_first(self) < 0) {
        return -1;
    }
    return schedule_others(self);
}

int
pygo_loop_future_finish(PyObject *future, PyObject *value, bool failed)
{
    FutureObject *self = (FutureObject *)future;

    if (self->state != PENDING) {
        Py_DECREF(value);
        return 0;
    }
    return finish_pending(self, failed ? FAILED : RESOLVED, value);
}

void
pygo_loop_future_begin(void)
{
    if (woken.end == NULL) {
        woken.first = NULL;
        woken.end = &woken.first;
    }
}

/*
 * Run the first callback, which resumes a task. Returns 0, or -1 with an exception that is not the
 * task's own.
 */
static int
resume_task(FutureObject *self)
{
    PyObject *callback = self->callback;
    PyObject *context = self->context;
    PyObject *result;

    if (callback == NULL) { /* it has been removed */
        return 0;
    }
    if (PyContext_Enter(context) < 0) {
        /* The loop runs inside of this task, whose context has been entered already. */
        PyErr_Clear();
        return schedule_first(self);
    }
    self->callback = NULL;
    self->context = NULL;
    result = PyObject_CallOneArg(callback, (PyObject *)self);
    if (PyContext_Exit(context) < 0) {
        Py_CLEAR(result);
    }
    Py_DECREF(callback);
    Py_DECREF(context);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

int
pygo_loop_future_end(void)
{
    FutureObject *next = woken.first;
    PyObject *type = NULL;
    PyObject *exception;
    PyObject *traceback;

    woken.first = NULL;
    woken.end = NULL;
    while (next != NULL) {
        FutureObject *self = next;
        int rc;

        next = self->next;
        rc = type == NULL ? resume_task(self) : schedule_first(self);
        if (rc < 0 && type == NULL &&
            (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) ||
             PyErr_ExceptionMatches(PyExc_SystemExit))) {
            PyErr_Fetch(&type, &exception, &traceback);
        } else if (rc < 0) {
            PyErr_WriteUnraisable((PyObject *)self);
        }
        Py_DECREF(self);
    }
    if (type != NULL) {
        PyErr_Restore(type, exception, traceback);
        return -1;
    }
    return 0;
}

/* ---- The methods of asyncio.Future ---- */

static PyObject *
future_tp_new(PyTypeObject *Py_UNUSED(type), PyObject *args, PyObject *kwargs)
{
    PyObject *loop;

    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "LoopFuture() takes no keyword arguments");
        return NULL;
    }
    return PyArg_ParseTuple(args, "O:LoopFuture", &loop) ? pygo_loop_future_new(loop) : NULL;
}

static int
future_traverse(FutureObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->loop);
    Py_VISIT(self->value);
    Py_VISIT(self->callback);
    Py_VISIT(self->context);
    Py_VISIT(self->others);
    return 0;
}

/* The loop and the value stay until the end, since methods rely on them. */
static int
future_clear(FutureObject *self)
{
    Py_CLEAR(self->callback);
    Py_CLEAR(self->context);
    Py_CLEAR(self->others);
    return 0;
}

static void
future_dealloc(FutureObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    future_clear(self);
    Py_XDECREF(self->value);
    Py_XDECREF(self->loop);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
future_add_done_callback(FutureObject *self, PyObject *const *args, Py_ssize_t nargs,
                         PyObject *kwnames)
{
    Py_ssize_t named = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    PyObject *context = named == 1 ? args[nargs] : Py_None;
    bool is_task = context != Py_None; /* only tasks pass a context */
    PyObject *pair;
    int rc = 0;

    if (nargs != 1 || named > 1 ||
        (named == 1 &&
         PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), "context") != 0)) {
        PyErr_SetString(PyExc_TypeError, "add_done_callback() takes a callback, and a context");
        return NULL;
    }
    context = is_task ? Py_NewRef(context) : PyContext_CopyCurrent();
    if (context == NULL) {
        return NULL;
    }
    if (self->state != PENDING) {
        rc = call_soon(self, args[0], context);
    } else if (self->callback == NULL) {
        self->callback = Py_NewRef(args[0]);
        self->context = Py_NewRef(context);
        self->is_task = is_task;
    } else {
        if (self->others == NULL) {
            self->others = PyList_New(0);
        }
        pair = self->others != NULL ? PyTuple_Pack(2, args[0], context) : NULL;
        rc = pair != NULL ? PyList_Append(self->others, pair) : -1;
        Py_XDECREF(pair);
    }
    Py_DECREF(context);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Whether two callbacks are the same; negative: an exception. Comparing may change the future. */
static int
same_callback(PyObject *ours, PyObject *theirs)
{
    int same;

    Py_INCREF(ours);
    same = PyObject_RichCompareBool(ours, theirs, Py_EQ);
    Py_DECREF(ours);
    return same;
}

static PyObject *
future_remove_done_callback(FutureObject *self, PyObject *callback)
{
    PyObject *first = self->callback;
    long removed = 0;
    int same;

    if (first != NULL) {
        same = same_callback(first, callback);
        if (same < 0) {
            return NULL;
        }
        if (same > 0 && self->callback == first) {
            Py_CLEAR(self->callback);
            Py_CLEAR(self->context);
            removed++;
        }
    }
    for (Py_ssize_t i = self->others != NULL ? PyList_GET_SIZE(self->others) : 0; i-- > 0;) {
        PyObject *pair;

        if (self->others == NULL || i >= PyList_GET_SIZE(self->others)) {
            continue; /* a comparison has removed it */
        }
        pair = PyList_GET_ITEM(self->others, i);
        same = same_callback(PyTuple_GET_ITEM(pair, 0), callback);
        if (same > 0 && self->others != NULL && i < PyList_GET_SIZE(self->others) &&
            PyList_GET_ITEM(self->others, i) == pair) {
            same = PyList_SetSlice(self->others, i, i + 1, NULL) < 0 ? -1 : 1;
            removed++;
        }
        if (same < 0) {
            return NULL;
        }
    }
    return PyLong_FromLong(removed);
}

static PyObject *
future_set_result(FutureObject *self, PyObject *value)
{
    if (self->state != PENDING) {
        PyErr_SetString(PyExc_RuntimeError, "the future is done");
        return NULL;
    }
    if (finish_pending(self, RESOLVED, Py_NewRef(value)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
future_cancel(FutureObject *self, PyObject *args, PyObject *kwargs)
{
    static char *arguments[] = {"msg", NULL};
    PyObject *message = Py_None;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:cancel", arguments, &message)) {
        return NULL;
    }
    if (self->state != PENDING) {
        Py_RETURN_FALSE;
    }
    /* The caller may be a task, inside which no other task may run. */
    self->is_task = false;
    if (finish_pending(self, CANCELLED, Py_NewRef(message)) < 0) {
        return NULL;
    }
    Py_RETURN_TRUE;
}

static void
raise_asyncio(const char *name, PyObject *value)
{
    PyObject *module = PyImport_ImportModule("asyncio");
    PyObject *class = module != NULL ? PyObject_GetAttrString(module, name) : NULL;

    if (class != NULL) {
        PyErr_SetObject(class, value);
    }
    Py_XDECREF(class);
    Py_XDECREF(module);
}

/* The result, borrowed. NULL with the exception of the future. */
static PyObject *
borrow_result(FutureObject *self)
{
    switch (self->state) {
    case RESOLVED:
        return self->value;
    case FAILED:
        return pygo_raise_object(Py_NewRef(self->value));
    case CANCELLED:
        raise_asyncio("CancelledError", self->value != Py_None ? self->value : NULL);
        return NULL;
    default:
        raise_asyncio("InvalidStateError", NULL);
        return NULL;
    }
}

static PyObject *
future_result(FutureObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_XNewRef(borrow_result(self));
}

static PyObject *
future_exception(FutureObject *self, PyObject *Py_UNUSED(ignored))
{
    if (self->state == FAILED) {
        return Py_NewRef(self->value);
    }
    if (borrow_result(self) == NULL) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
future_done(FutureObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(self->state != PENDING);
}

static PyObject *
future_cancelled(FutureObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(self->state == CANCELLED);
}

static PyObject *
future_get_loop(FutureObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self->loop);
}

static PyObject *
future_iternext(FutureObject *self)
{
    PyObject *value;
    PyObject *stop;

    if (self->state == PENDING) {
        if (self->blocking) {
            PyErr_SetString(PyExc_RuntimeError, "await wasn't used with future");
            return NULL;
        }
        self->blocking = true;
        return Py_NewRef((PyObject *)self);
    }
    value = borrow_result(self);
    /* PyErr_SetObject() would take a tuple or an exception for the arguments of StopIteration. */
    stop = value != NULL ? PyObject_CallOneArg(PyExc_StopIteration, value) : NULL;
    if (stop != NULL) {
        PyErr_SetObject(PyExc_StopIteration, stop);
        Py_DECREF(stop);
    }
    return NULL;
}

static PyMethodDef methods[] = {
    {"add_done_callback", (PyCFunction)(void (*)(void))future_add_done_callback,
     METH_FASTCALL | METH_KEYWORDS,
     "add_done_callback($self, callback, /, *, context=None)\n--\n\nAs asyncio.Future has it."},
    {"remove_done_callback", (PyCFunction)future_remove_done_callback, METH_O,
     "remove_done_callback($self, callback, /)\n--\n\nAs asyncio.Future has it."},
    {"set_result", (PyCFunction)future_set_result, METH_O,
     "set_result($self, value, /)\n--\n\nAs asyncio.Future has it."},
    {"cancel", (PyCFunction)(void (*)(void))future_cancel, METH_VARARGS | METH_KEYWORDS,
     "cancel($self, msg=None)\n--\n\nAs asyncio.Future has it."},
    {"result", (PyCFunction)future_result, METH_NOARGS,
     "result($self)\n--\n\nAs asyncio.Future has it."},
    {"exception", (PyCFunction)future_exception, METH_NOARGS,
     "exception($self)\n--\n\nAs asyncio.Future has it."},
    {"done", (PyCFunction)future_done, METH_NOARGS, "done($self)\n--\n\nAs asyncio.Future has it."},
    {"cancelled", (PyCFunction)future_cancelled, METH_NOARGS,
     "cancelled($self)\n--\n\nAs asyncio.Future has it."},
    {"get_loop", (PyCFunction)future_get_loop, METH_NOARGS,
     "get_loop($self)\n--\n\nAs asyncio.Future has it."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"_asyncio_future_blocking", T_BOOL, offsetof(FutureObject, blocking), 0,
     "a task is about to await it"},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(FutureObject, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, future_tp_new},
    {Py_tp_dealloc, future_dealloc},
    {Py_tp_traverse, future_traverse},
    {Py_tp_clear, future_clear},
    {Py_am_await, PyObject_SelfIter},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, future_iternext},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_doc, "LoopFuture(loop, /)\n--\n\nA future that the C core resolves for one event loop."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.LoopFuture",
    .basicsize = sizeof(FutureObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

int
pygo_loop_future_setup(PyObject *module, pygo_state *state)
{
    state->loop_future_type = pygo_add_type(module, &spec);
    names.call_soon = PyUnicode_InternFromString("call_soon");
    names.context_names = Py_BuildValue("(s)", "context");
    return state->loop_future_type != NULL && !PyErr_Occurred() ? 0 : -1;
}
