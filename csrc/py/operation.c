#include "py/operation.h"

#include "py/errors.h"
#include "py/message.h"

pygo_operation *
pygo_operation_new(gp_queue *queue, PyObject *target, void (*finish)(pygo_completion *, bool),
                   void *call, void (*release)(void *call))
{
    pygo_operation *self = pygo_completion_new(sizeof(*self), queue, finish);

    if (self == NULL) {
        if (call != NULL) {
            release(call);
        }
        return NULL;
    }
    self->target = Py_NewRef(target);
    self->call = call;
    self->release = release;
    return self;
}

void
pygo_operation_free(pygo_operation *self)
{
    gp_message_free(self->message);
    if (self->call != NULL) {
        self->release(self->call);
    }
    Py_XDECREF(self->keep);
    Py_XDECREF(self->deserializer);
    Py_DECREF(self->target);
    pygo_completion_free(&self->base);
}

/* ---- On the thread of the loop ---- */

void
pygo_operation_resolve(pygo_completion *completion, bool alive)
{
    pygo_operation *self = (pygo_operation *)completion;

    if (alive) {
        pygo_future_resolve(self->target, PyBool_FromLong(!self->failed));
    }
    pygo_operation_free(self);
}

void
pygo_operation_receive(pygo_completion *completion, bool alive)
{
    pygo_operation *self = (pygo_operation *)completion;

    if (alive) {
        gp_message *message = self->message;

        self->message = NULL;
        pygo_future_resolve(self->target, message != NULL
                                              ? pygo_deserialize(self->deserializer, message)
                                              : Py_NewRef(self->keep));
    }
    pygo_operation_free(self);
}

void
pygo_operation_call(pygo_completion *completion, bool alive)
{
    pygo_operation *self = (pygo_operation *)completion;

    if (alive) {
        pygo_call_back(self->target);
    }
    pygo_operation_free(self);
}

/* ---- On the polling thread ---- */

void
pygo_operation_finished(void *operation)
{
    pygo_completion_post(&((pygo_operation *)operation)->base);
}

void
pygo_operation_sent(void *operation, bool ok)
{
    ((pygo_operation *)operation)->failed = !ok;
    pygo_operation_finished(operation);
}

void
pygo_operation_received(void *operation, gp_message *message)
{
    ((pygo_operation *)operation)->message = message;
    pygo_operation_finished(operation);
}

/* ---- Results of the methods that start operations ---- */

PyObject *
pygo_operation_started(pygo_operation *self, int rc)
{
    if (rc < 0) {
        pygo_operation_free(self);
    }
    if (rc == GP_EINVAL) {
        PyErr_SetString(PyExc_RuntimeError, "another message is being sent");
        return NULL;
    }
    return rc == GP_ENOMEM ? PyErr_NoMemory() : PyBool_FromLong(rc == 0);
}

PyObject *
pygo_operation_posted(pygo_operation *self, int rc)
{
    if (rc > 0) { /* nothing to wait for */
        pygo_operation_resolve(&self->base, true);
        Py_RETURN_TRUE;
    }
    return pygo_operation_started(self, rc);
}

PyObject *
pygo_operation_receiving(pygo_operation *self, int there, gp_message *message)
{
    if (there) {
        self->message = message;
        pygo_operation_receive(&self->base, true);
    }
    Py_RETURN_NONE;
}
