/*
 * Layer: py. From threads of the C library to asyncio: completions, and the queue that an event
 * loop takes them from.
 *
 * The polling thread posts and does not enter Python. The loop's thread is woken by the queue's
 * descriptor and calls LoopQueue.drain(), which finishes what has been posted.
 */
#ifndef PYGO_LOOP_H
#define PYGO_LOOP_H

#include <stdbool.h>

#include "gp/list.h"
#include "gp/queue.h"
#include "py/state.h"

/* An operation that the loop's thread is to finish. The first member of a larger structure. */
typedef struct pygo_completion {
    gp_queue_item item;
    /*
     * Called with the GIL. Frees the structure. If the loop is not |alive| any more, it does
     * nothing else, and may run on another thread.
     */
    void (*finish)(struct pygo_completion *self, bool alive);
    gp_queue *queue; /* shared: ref */
} pygo_completion;

/* The queue of a LoopQueue, borrowed. NULL with TypeError. */
gp_queue *pygo_queue_of(PyObject *loop_queue);

/* A member of an object that must end together with its event loop. Used with the GIL. */
typedef struct pygo_loop_member {
    gp_link link; /* in its LoopQueue; gp_link_remove() takes it out */
    /* Called when the loop is gone, after |link| was taken out of the list. Must not block. */
    void (*orphaned)(struct pygo_loop_member *self);
} pygo_loop_member;

void pygo_loop_add(PyObject *loop_queue, pygo_loop_member *member);

/* A zeroed completion of |size| bytes for |queue|. NULL with MemoryError. */
void *pygo_completion_new(size_t size, gp_queue *queue, void (*finish)(pygo_completion *, bool));

/* As pygo_completion_new(), without the GIL. NULL when memory is short. */
void *pygo_completion_new_raw(size_t size, gp_queue *queue,
                              void (*finish)(pygo_completion *, bool));

/* Free a completion that has not been posted, or that finish() has no more use for. */
void pygo_completion_free(pygo_completion *completion);

/*
 * Have the loop finish the completion or, if the loop is gone, the thread for callbacks. Threads:
 * any; no GIL needed.
 */
void pygo_completion_post(pygo_completion *completion);

/* As pygo_completion_post(); if the loop is gone: false, and the completion stays the caller's. */
bool pygo_completion_try_post(pygo_completion *completion);

/*
 * Set the result of |future|, an asyncio.Future or a LoopFuture, unless it is done or cancelled.
 * Steals |value|. If |value| is NULL, the future fails with the exception that is set.
 */
void pygo_future_resolve(PyObject *future, PyObject *value);

#endif
