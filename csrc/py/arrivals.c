#include "py/async_server.h"

#include <string.h>

#include "gp/lock.h"
#include "py/loop.h"
#include "py/message.h"
#include "py/server.h"

/* How many methods are remembered to take one request. */
enum { MAX_UNARY = 256 };

/*
 * If a method is known to take one request, a call of it is announced to the loop together with the
 * request, which saves the loop a second wake-up. Other calls are announced at once, since their
 * handlers may send the first message.
 *
 * Invariant: |unary| and |unary_count| change with both |lock| and the GIL held, so that either is
 * enough to read them.
 */
struct pygo_arrivals {
    gp_mutex lock;
    PyObject *unary[MAX_UNARY] GP_GUARDED_BY(&lock); /* owned bytes: paths of such methods */
    int unary_count GP_GUARDED_BY(&lock);
    gp_queue *queue;      /* shared: ref; NULL until the start */
    PyObject *loop_queue; /* borrowed: the LoopQueue of |queue|; valid while it drains */
    pygo_loop_member member;
    PyObject *arrived;      /* owned; NULL once the loop or the server is gone */
    PyTypeObject *contexts; /* owned: a subclass of AsyncServerCall */
    PyObject *registered;   /* owned dict: method -> handler */
};

/* A call on its way to the loop. */
typedef struct arrival {
    pygo_completion base;
    gp_server_call *call;    /* owned: the application's reference */
    gp_message *message;     /* owned: the first message; NULL if none has come */
    bool with_message;       /* |message| has been received, or there are no messages */
    pygo_arrivals *arrivals; /* borrowed: lives as long as the server, which the call keeps */
} arrival;

pygo_arrivals *
pygo_arrivals_new(PyObject *arrived, PyObject *contexts, PyObject *registered)
{
    pygo_arrivals *self;

    if (pygo_check_subclass(contexts, pygo_module_state->async_server_call_type) < 0) {
        return NULL;
    }
    self = PyMem_RawCalloc(1, sizeof(*self));
    if (self == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    gp_mutex_init(&self->lock);
    self->arrived = Py_NewRef(arrived);
    self->contexts = (PyTypeObject *)Py_NewRef(contexts);
    self->registered = Py_NewRef(registered);
    return self;
}

/*
 * Called when the loop is gone: no more calls arrive. |arrived| keeps the tasks of this server's
 * calls, which keep the calls, which keep the server. Dropping it breaks that cycle.
 */
static void
drop_orphaned_arrivals(pygo_loop_member *member)
{
    pygo_arrivals *self = gp_container_of(member, pygo_arrivals, member);

    Py_CLEAR(self->arrived);
}

int
pygo_arrivals_set_queue(pygo_arrivals *arrivals, PyObject *loop_queue)
{
    gp_queue *queue = pygo_queue_of(loop_queue);

    if (queue == NULL) {
        return -1;
    }
    gp_queue_unref(arrivals->queue);
    arrivals->queue = gp_queue_ref(queue);
    arrivals->loop_queue = loop_queue;
    arrivals->member.orphaned = drop_orphaned_arrivals;
    gp_link_remove(&arrivals->member.link);
    pygo_loop_add(loop_queue, &arrivals->member);
    return 0;
}

int
pygo_arrivals_traverse(pygo_arrivals *arrivals, visitproc visit, void *arg)
{
    Py_VISIT(arrivals->arrived);
    Py_VISIT(arrivals->contexts);
    Py_VISIT(arrivals->registered);
    return 0;
}

void
pygo_arrivals_clear(pygo_arrivals *arrivals)
{
    Py_CLEAR(arrivals->arrived); /* from now on calls are refused */
    Py_CLEAR(arrivals->registered);
}

/* Not analysed, since no other thread uses |arrivals| any more. */
GP_NO_THREAD_SAFETY_ANALYSIS void
pygo_arrivals_free(pygo_arrivals *arrivals)
{
    if (arrivals != NULL) {
        gp_link_remove(&arrivals->member.link);
        Py_XDECREF(arrivals->arrived);
        Py_DECREF(arrivals->contexts);
        Py_XDECREF(arrivals->registered);
        gp_queue_unref(arrivals->queue);
        for (int i = 0; i < arrivals->unary_count; i++) {
            Py_DECREF(arrivals->unary[i]);
        }
        gp_mutex_release(&arrivals->lock);
        PyMem_RawFree(arrivals);
    }
}

/* Call with the lock or the GIL held. The analysis knows only the lock. */
GP_NO_THREAD_SAFETY_ANALYSIS static bool
takes_one_request(const pygo_arrivals *arrivals, gp_bytes path)
{
    for (int i = 0; i < arrivals->unary_count; i++) {
        gp_bytes known = pygo_bytes_view(arrivals->unary[i]);

        if (known.len == path.len && memcmp(known.data, path.data, path.len) == 0) {
            return true;
        }
    }
    return false;
}

void
pygo_arrivals_expect_one(pygo_arrivals *arrivals, gp_bytes path)
{
    PyObject *bytes;

    if (takes_one_request(arrivals, path)) {
        return;
    }
    bytes = PyBytes_FromStringAndSize(path.data, (Py_ssize_t)path.len);
    if (bytes == NULL) {
        PyErr_Clear();
        return;
    }
    gp_mutex_lock(&arrivals->lock);
    if (arrivals->unary_count < MAX_UNARY) {
        arrivals->unary[arrivals->unary_count++] = bytes;
        bytes = NULL;
    }
    gp_mutex_unlock(&arrivals->lock);
    Py_XDECREF(bytes);
}

/* ---- Calls on their way to the loop ---- */

static void
refuse_call(gp_server_call *call, int code, const char *details)
{
    pygo_server_call_refuse(call, code, details);
    gp_server_call_hand_back(call);
}

/* Make the call's context and have the server's |arrived| take it. On the loop's thread. */
static void
announce_call(arrival *self)
{
    PyObject *method = pygo_server_call_method(self->call);
    PyObject *handler =
        method != NULL ? PyDict_GetItemWithError(self->arrivals->registered, method) : NULL;
    PyObject *context = NULL;
    PyObject *result;

    if (handler != NULL || !PyErr_Occurred()) {
        handler = Py_NewRef(handler != NULL ? handler : Py_None);
        context = pygo_async_server_call_new(self->arrivals->contexts, self->call, self->arrivals,
                                             self->arrivals->loop_queue);
    }
    Py_XDECREF(method);
    if (context == NULL) {
        PyErr_WriteUnraisable(self->arrivals->arrived);
        refuse_call(self->call, GP_GRPC_UNKNOWN, "out of memory");
        Py_XDECREF(handler);
        return;
    }
    if (self->with_message) {
        pygo_async_server_call_put_first(context, self->message);
        self->message = NULL;
    }
    result = PyObject_CallFunctionObjArgs(self->arrivals->arrived, context, handler, NULL);
    if (result == NULL) {
        PyErr_WriteUnraisable(self->arrivals->arrived);
    }
    Py_XDECREF(result);
    Py_DECREF(handler);
    Py_DECREF(context); /* the last reference ends the call */
}

static void
finish_arrival(pygo_completion *completion, bool alive)
{
    arrival *self = (arrival *)completion;

    if (alive && self->arrivals->arrived != NULL) {
        announce_call(self);
    } else {
        refuse_call(self->call, GP_GRPC_UNAVAILABLE, "the server's event loop is closed");
    }
    if (self->message != NULL) {
        gp_message_free(self->message);
    }
    pygo_completion_free(completion);
}

static void
post_arrival(arrival *self)
{
    if (!pygo_completion_try_post(&self->base)) {
        refuse_call(self->call, GP_GRPC_UNAVAILABLE, "the server's event loop is closed");
        if (self->message != NULL) {
            gp_message_free(self->message);
        }
        pygo_completion_free(&self->base);
    }
}

static void
receive_first(void *ctx, gp_message *message)
{
    arrival *self = ctx;

    self->message = message;
    self->with_message = true;
    post_arrival(self);
}

void
pygo_arrivals_take(pygo_arrivals *arrivals, gp_server_call *call)
{
    gp_message *message;
    bool wait;
    arrival *self = pygo_completion_new_raw(sizeof(*self), arrivals->queue, finish_arrival);

    if (self == NULL) {
        refuse_call(call, GP_GRPC_UNAVAILABLE, "out of memory");
        return;
    }
    self->call = call;
    self->arrivals = arrivals;
    gp_mutex_lock(&arrivals->lock);
    wait = takes_one_request(arrivals, gp_server_call_method(call));
    gp_mutex_unlock(&arrivals->lock);
    if (!wait) {
        post_arrival(self);
    } else if (gp_server_call_receive_then(call, &message, receive_first, self)) {
        receive_first(self, message);
    }
}
