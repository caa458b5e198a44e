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

#include "gp/queue.h"
#include "py/state.h"

/* Something that the loop's thread is to finish. Begins a larger structure. */
typedef struct pygo_completion {
    gp_queue_item item;
    /* With the GIL; frees the structure. Without |alive| the loop is gone: nothing but that. */
    void (*finish)(struct pygo_completion *self, bool alive);
    gp_queue *queue; /* shared: ref, given back after finish */
} pygo_completion;

/* The queue of a LoopQueue, borrowed. NULL with TypeError. */
gp_queue *pygo_queue_of(PyObject *loop_queue);

/* Something that makes no sense without its loop. In a ring of its LoopQueue; with the GIL. */
typedef struct pygo_loop_member {
    struct pygo_loop_member *next;
    struct pygo_loop_member *prev;
    void (*orphaned)(struct pygo_loop_member *self); /* the loop is gone; must not block */
} pygo_loop_member;

void pygo_ring_join(pygo_loop_member *head, pygo_loop_member *member);
void pygo_loop_join(PyObject *loop_queue, pygo_loop_member *member);

/* Idempotent; harmless for one that never joined. */
void pygo_loop_leave(pygo_loop_member *member);

/* A zeroed completion of |size| bytes for |queue|. NULL with MemoryError. */
void *pygo_completion_new(size_t size, gp_queue *queue, void (*finish)(pygo_completion *, bool));

/*
 * The same without the GIL: NULL when memory is short.
 */
void *pygo_completion_new_raw(size_t size, gp_queue *queue,
                              void (*finish)(pygo_completion *, bool));

/* Free the structure of a completion that was not posted, or that finish() is done with. */
void pygo_completion_free(pygo_completion *completion);

/*
 * Have the loop finish it. Any thread, no GIL needed. When the loop is gone, the thread for
 * callbacks frees what it holds.
 */
void pygo_completion_post(pygo_completion *completion);

/* The same, but false (and still the caller's) when the loop is gone. */
bool pygo_completion_try_post(pygo_completion *completion);

/*
 * Give |future|, one of asyncio's or a LoopFuture, its result, unless it is done (which includes
 * cancelled). Steals |value|; NULL: the exception under way.
 */
void pygo_future_resolve(PyObject *future, PyObject *value);

#endif
