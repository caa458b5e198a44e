/*
 * Layer: py. An operation that an asyncio program has started: the future to resolve, or the
 * callable to call, when the C library has finished it.
 */
#ifndef PYGO_OPERATION_H
#define PYGO_OPERATION_H

#include "gp/message.h"
#include "py/loop.h"

typedef struct pygo_operation {
    pygo_completion base;
    PyObject *target; /* owned: a future; with pygo_operation_call(), a callable */
    void *call;       /* owned, given back by |release|; may be NULL */
    void (*release)(void *call);
    PyObject *keep;         /* owned until the end; of a receive, the result if no message comes */
    PyObject *deserializer; /* owned; of a receive */
    gp_message *message;    /* owned: what a receive has got; NULL if no message comes */
    bool failed;            /* a send has failed */
} pygo_operation;

/*
 * How an operation ends, for pygo_completion.finish. Each frees it.
 *
 * _resolve(): the result of the target is True, or False if the operation has failed.
 * _receive(): the result of the target is the message, or |keep| if none comes.
 * _call(): the target is called without arguments.
 */
void pygo_operation_resolve(pygo_completion *self, bool alive);
void pygo_operation_receive(pygo_completion *self, bool alive);
void pygo_operation_call(pygo_completion *self, bool alive);

/*
 * A new operation, which takes |call| over, also on failure: |release|(|call|) when it is freed.
 * NULL with an exception.
 */
pygo_operation *pygo_operation_new(gp_queue *queue, PyObject *target,
                                   void (*finish)(pygo_completion *, bool), void *call,
                                   void (*release)(void *call));
void pygo_operation_free(pygo_operation *self);

/* Completion callbacks for the C library, with the operation as context. No GIL needed. */
void pygo_operation_finished(void *operation);
void pygo_operation_sent(void *operation, bool ok);
void pygo_operation_received(void *operation, gp_message *message);

/*
 * The result of a Python method that has started a send with the result |rc|: True if the target
 * will be resolved, False if the call is over. NULL with an exception.
 */
PyObject *pygo_operation_started(pygo_operation *self, int rc);

/*
 * As pygo_operation_started(), for |rc| of gp_call_post() or gp_server_call_post(), which may have
 * nothing to wait for.
 */
PyObject *pygo_operation_posted(pygo_operation *self, int rc);

/*
 * The result of a Python method that has started a receive, which is None. If |there|, which
 * gp_call_receive_then() returned, the message was there already and is |message|.
 */
PyObject *pygo_operation_receiving(pygo_operation *self, int there, gp_message *message);

#endif
