/*
 * Layer: py. One operation of an asyncio program under way: what its end is told to.
 */
#ifndef PYGO_OPERATION_H
#define PYGO_OPERATION_H

#include "gp/message.h"
#include "py/loop.h"

typedef struct pygo_operation {
    pygo_completion base;
    PyObject *target; /* owned: a future, or with pygo_operation_call() what is called */
    void *call;       /* owned: what |release| takes; may be NULL */
    void (*release)(void *call);
    PyObject *keep;         /* owned; lives until the end: of a receive, what is told at the last */
    PyObject *deserializer; /* owned; of a receive */
    gp_message *message;    /* owned; what a receive got */
    bool failed;            /* a send did */
} pygo_operation;

/* How an operation ends: pygo_completion.finish. Each frees it. */
void pygo_operation_resolve(pygo_completion *self, bool alive); /* whether it did not fail */
void pygo_operation_receive(pygo_completion *self, bool alive); /* ... the message, or |keep| */
void pygo_operation_call(pygo_completion *self, bool alive);    /* the target is called */

/* |release|(|call|) is called when it is freed. NULL with an exception, |call| given back. */
pygo_operation *pygo_operation_new(gp_queue *queue, PyObject *target,
                                   void (*finish)(pygo_completion *, bool), void *call,
                                   void (*release)(void *call));
void pygo_operation_free(pygo_operation *self);

/* For the C library, with the operation as context: its end has come. No GIL needed. */
void pygo_operation_then(void *operation);
void pygo_operation_sent(void *operation, bool ok);
void pygo_operation_received(void *operation, gp_message *message);

/*
 * What the start of a send has come to: True, or False with the call over and the target left
 * alone.
 */
PyObject *pygo_operation_started(pygo_operation *self, int rc);

/* The same for what gp_call_post() and gp_server_call_post() return. */
PyObject *pygo_operation_posted(pygo_operation *self, int rc);

/* What the start of a receive has come to: None. |there|: as gp_call_receive_then(). */
PyObject *pygo_operation_receiving(pygo_operation *self, int there, gp_message *message);

#endif
