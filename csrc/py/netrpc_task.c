#include "py/errors.h"
#include "py/loop.h"
#include "py/netrpc.h"

/* A request for a coroutine, on its way to the loop. */
typedef struct arrival {
    pygo_completion base;
    gp_netrpc_request *request; /* owned: to be answered. It keeps |shared| and |method| */
    pygo_netrpc_shared *shared;
    pygo_netrpc_method *method;
} arrival;

/* A coroutine that runs: the callback of its task. */
typedef struct TaskObject {
    PyObject_HEAD
    gp_link link;               /* in the |tasks| of |shared|, which has a reference */
    gp_netrpc_request *request; /* owned: to be answered; NULL: it was */
    pygo_netrpc_method *method; /* kept by |request| */
    PyObject *task;             /* owned: event loops have weak references only */
} TaskObject;

/* Interned names of methods. */
static struct {
    PyObject *create_task;
    PyObject *add_done_callback;
    PyObject *result;
} names;

static const char closed[] = "the server's event loop is closed";

/* ---- Tasks ---- */

static void
answer(gp_netrpc_request *request, gp_gob_output *output, pygo_netrpc_text failure)
{
    Py_BEGIN_ALLOW_THREADS
    pygo_netrpc_answer(request, output, failure);
    Py_END_ALLOW_THREADS
    gp_gob_output_free(output);
}

/* The task is done, or is not waited for any more. */
static void
forget_task(TaskObject *self)
{
    self->request = NULL;
    if (gp_link_is_linked(&self->link)) {
        gp_link_remove(&self->link);
        Py_DECREF((PyObject *)self);
    }
}

void
pygo_netrpc_drop_tasks(pygo_loop_member *member)
{
    pygo_netrpc_shared *shared = gp_container_of(member, pygo_netrpc_shared, member);
    TaskObject *task;
    gp_list dropped;

    gp_list_init(&dropped);
    gp_list_move(&dropped, &shared->tasks);
    while ((task = gp_list_first_entry(&dropped, TaskObject, link)) != NULL) {
        gp_netrpc_request *request = task->request;

        forget_task(task);
        pygo_netrpc_refuse(request, closed); /* this may free |shared|, with the last request */
    }
}

/* Called by the loop when the task is done. */
static PyObject *
task_call(TaskObject *self, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    gp_netrpc_request *request = self->request;
    pygo_netrpc_method *method = self->method;
    pygo_netrpc_text failure = {NULL, 0};
    gp_gob_output *output = NULL;
    PyObject *task;
    PyObject *result;

    if (!PyArg_ParseTuple(args, "O", &task)) {
        return NULL;
    }
    if (request != NULL) {
        result = PyObject_CallMethodNoArgs(task, names.result);
        if (result != NULL) {
            output = pygo_netrpc_encode_result(method, result, &failure);
        } else {
            failure = pygo_netrpc_describe_failure(method, false);
        }
        forget_task(self);
        answer(request, output, failure);
    }
    Py_RETURN_NONE;
}

static void
task_dealloc(TaskObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_XDECREF(self->task);
    type->tp_free(self);
    Py_DECREF(type);
}

/*
 * Have the loop run |coroutine|, and its callback answer the request. 0, or -1 with an exception.
 */
static int
start_task(const arrival *from, PyObject *coroutine)
{
    PyTypeObject *type = pygo_module_state->netrpc_task_type;
    TaskObject *self = (TaskObject *)type->tp_alloc(type, 0);
    PyObject *added;

    if (self == NULL) {
        return -1;
    }
    self->task = PyObject_CallMethodOneArg(from->shared->loop, names.create_task, coroutine);
    added = self->task != NULL
                ? PyObject_CallMethodOneArg(self->task, names.add_done_callback, (PyObject *)self)
                : NULL;
    if (added != NULL) {
        self->request = from->request;
        self->method = from->method;
        gp_list_append(&from->shared->tasks, &self->link); /* keeps the reference */
        Py_DECREF(added);
        return 0;
    }
    Py_DECREF(self);
    return -1;
}

/* ---- Requests on their way to the loop ---- */

/* On the loop's thread. */
static void
start_request(const arrival *self)
{
    pygo_netrpc_text failure = {NULL, 0};
    PyObject *coroutine = pygo_netrpc_call_method(self->method, self->request, &failure);

    if (coroutine == NULL) {
        answer(self->request, NULL, failure);
        return;
    }
    if (start_task(self, coroutine) < 0) {
        answer(self->request, NULL, pygo_netrpc_describe_failure(self->method, false));
    }
    Py_DECREF(coroutine);
}

/* For pygo_completion.finish. */
static void
finish_arrival(pygo_completion *completion, bool alive)
{
    arrival *self = (arrival *)completion;

    if (alive) {
        start_request(self);
    } else {
        pygo_netrpc_refuse(self->request, closed);
    }
    pygo_completion_free(completion);
}

void
pygo_netrpc_post_request(void *ctx, void *data, gp_netrpc_request *request)
{
    pygo_netrpc_shared *shared = ctx;
    arrival *self = pygo_completion_new_raw(sizeof(*self), shared->queue, finish_arrival);

    if (self == NULL) {
        pygo_netrpc_refuse(request, "out of memory");
        return;
    }
    self->request = request;
    self->shared = shared;
    self->method = data;
    if (!pygo_completion_try_post(&self->base)) {
        pygo_completion_free(&self->base);
        pygo_netrpc_refuse(request, closed);
    }
}

/* ---- The type ---- */

static PyType_Slot slots[] = {
    {Py_tp_dealloc, task_dealloc},
    {Py_tp_call, task_call},
    {Py_tp_doc, "Answers a request when the task of its coroutine is done."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.NetRpcTask",
    .basicsize = sizeof(TaskObject),
    .flags = Py_TPFLAGS_DEFAULT | PYGO_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int
pygo_netrpc_task_setup(PyObject *module, pygo_state *state)
{
    state->netrpc_task_type = pygo_add_type(module, &spec);
    names.create_task = PyUnicode_InternFromString("create_task");
    names.add_done_callback = PyUnicode_InternFromString("add_done_callback");
    names.result = PyUnicode_InternFromString("result");
    return state->netrpc_task_type != NULL && !PyErr_Occurred() ? 0 : -1;
}
