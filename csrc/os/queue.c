#include "gp/queue.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#include "base/alloc.h"
#include "gp/runtime.h"
#include "os/fd.h"

/*
 * Without a lock: posting wakes the loop's thread, which would only go back to sleep until the lock
 * is free, two changes of threads for nothing.
 */
struct gp_queue {
    atomic_int refs;
    _Atomic(gp_queue_item *) last; /* what was posted, the last thing first; or |closed| */
    atomic_int posting;            /* threads that may be about to use fds[1] */
    gp_queue_item *rest;           /* what the close has found; the closing thread's */
    unsigned generation;           /* of the process that it was made in */
    int fds[2];                    /* owned: to read, to write; with an eventfd the same one */
};

/* Nothing can be posted behind it. */
static gp_queue_item closed;

int
gp_queue_new(gp_queue **out, gp_error *err)
{
    gp_queue *queue = gp__calloc(1, sizeof(*queue));
    int rc;

    if (queue == NULL) {
        return gp_error_set(err, GP_ENOMEM, "queue");
    }
    if ((rc = gp__fd_open_wakeup(queue->fds, err)) < 0) {
        gp__free(queue);
        return rc;
    }
    atomic_init(&queue->refs, 1);
    queue->generation = gp_runtime_generation();
    *out = queue;
    return 0;
}

gp_queue *
gp_queue_ref(gp_queue *queue)
{
    atomic_fetch_add(&queue->refs, 1);
    return queue;
}

void
gp_queue_unref(gp_queue *queue)
{
    if (queue != NULL && atomic_fetch_sub(&queue->refs, 1) == 1) {
        gp__fd_close_wakeup(queue->fds);
        gp__free(queue);
    }
}

int
gp_queue_fd(const gp_queue *queue)
{
    return queue->fds[0];
}

int
gp_queue_post(gp_queue *queue, gp_queue_item *item)
{
    gp_queue_item *last;

    /* Who closes the queue waits for this to go, also when the item is taken and gone before. */
    atomic_fetch_add(&queue->posting, 1);
    last = atomic_load(&queue->last);
    do {
        item->next = last;
    } while (last != &closed && !atomic_compare_exchange_weak(&queue->last, &last, item));
    if (last == NULL) {
        gp__fd_wake(queue->fds);
    }
    atomic_fetch_sub(&queue->posting, 1);
    return last == &closed ? GP_ECLOSED : 0;
}

/* As they were posted. */
static gp_queue_item *
first_things_first(gp_queue_item *last)
{
    gp_queue_item *first = NULL;

    while (last != NULL) {
        gp_queue_item *earlier = last->next;

        last->next = first;
        first = last;
        last = earlier;
    }
    return first;
}

gp_queue_item *
gp_queue_take(gp_queue *queue)
{
    gp_queue_item *all;
    char bytes[64];

    /* A forked child shares the descriptor with its parent, whose wake-up it must not take away. */
    if (queue->generation != gp_runtime_generation()) {
        return NULL;
    }
    if (atomic_load(&queue->last) == &closed) {
        all = queue->rest;
        queue->rest = NULL;
        return first_things_first(all);
    }
    /*
     * First the wake-up, then what it is for: who finds the queue empty after that wakes us again.
     */
    while (read(queue->fds[0], bytes, sizeof(bytes)) < 0 && errno == EINTR) {
    }
    return first_things_first(atomic_exchange(&queue->last, NULL));
}

void
gp_queue_close(gp_queue *queue)
{
    gp_queue_item *all = atomic_exchange(&queue->last, &closed);

    if (all == &closed) {
        return;
    }
    queue->rest = all;
    while (atomic_load(&queue->posting) > 0) {
        sched_yield();
    }
    gp__fd_close_wakeup(queue->fds);
}
