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
 * Lock-free: posting wakes the loop's thread, which would then have to wait for the lock, at the
 * cost of two context switches.
 */
struct gp_queue {
    atomic_int refs;
    _Atomic(gp_queue_item *) last; /* the items, the newest first; or &closed */
    atomic_int posting;            /* how many threads may be about to use fds[1] */
    gp_queue_item *rest;           /* the items at the close; used by the closing thread alone */
    unsigned generation;           /* gp_runtime_generation() of the process that has made it */
    int fds[2];                    /* owned: to read, to write; with an eventfd the same one */
};

/* What |last| points to in a closed queue. */
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

    /*
     * gp_queue_close() waits until no thread is posting, even if the item has been taken by then.
     */
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

/* Reverse a list, so that the oldest item is the first. */
static gp_queue_item *
reverse_items(gp_queue_item *last)
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

    /* A forked child shares the descriptor with its parent, and must not consume its wake-up. */
    if (queue->generation != gp_runtime_generation()) {
        return NULL;
    }
    if (atomic_load(&queue->last) == &closed) {
        all = queue->rest;
        queue->rest = NULL;
        return reverse_items(all);
    }
    /*
     * Consume the wake-up before taking the items: a thread that posts to an empty queue after that
     * wakes us again.
     */
    while (read(queue->fds[0], bytes, sizeof(bytes)) < 0 && errno == EINTR) {
    }
    return reverse_items(atomic_exchange(&queue->last, NULL));
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
