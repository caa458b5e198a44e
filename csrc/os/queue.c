#include "gp/queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#if defined(__linux__) && !defined(GP_PORTABLE)
#include <sys/eventfd.h>
#define USE_EVENTFD 1
#else
#define USE_EVENTFD 0
#endif

#include "base/alloc.h"
#include "gp/runtime.h"
#include "os/fd.h"

struct gp_queue {
    atomic_int refs;
    pthread_mutex_t lock; /* guards what follows */
    gp_queue_item *first;
    gp_queue_item **end;
    int fds[2]; /* owned: to read, to write; with an eventfd the same one */
    bool closed;
};

static int
open_fds(int fds[2], gp_error *err)
{
#if USE_EVENTFD
    fds[0] = fds[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fds[0] < 0 ? gp_error_set_errno(err, errno, "eventfd") : 0;
#else
    int rc = gp__fd_pipe(fds, err);

    if (rc == 0 && (gp__fd_set_nonblocking(fds[0]) < 0 || gp__fd_set_nonblocking(fds[1]) < 0)) {
        rc = gp_error_set_errno(err, errno, "cannot make a pipe non-blocking");
        gp__fd_close(&fds[0]);
        gp__fd_close(&fds[1]);
    }
    return rc;
#endif
}

/* Lock held. */
static void
close_fds(gp_queue *queue)
{
    if (queue->fds[1] == queue->fds[0]) {
        queue->fds[1] = -1;
    }
    gp__fd_close(&queue->fds[0]);
    gp__fd_close(&queue->fds[1]);
}

int
gp_queue_new(gp_queue **out, gp_error *err)
{
    gp_queue *queue = gp__calloc(1, sizeof(*queue));
    int rc;

    if (queue == NULL || pthread_mutex_init(&queue->lock, NULL) != 0) {
        gp__free(queue);
        return gp_error_set(err, GP_ENOMEM, "queue");
    }
    if ((rc = open_fds(queue->fds, err)) < 0) {
        pthread_mutex_destroy(&queue->lock);
        gp__free(queue);
        return rc;
    }
    atomic_init(&queue->refs, 1);
    queue->end = &queue->first;
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
        close_fds(queue);
        pthread_mutex_destroy(&queue->lock);
        gp__free(queue);
    }
}

int
gp_queue_fd(const gp_queue *queue)
{
    return queue->fds[0];
}

/* Under the lock, so that the descriptor cannot be closed, and given to others, meanwhile. */
static void
signal_loop(gp_queue *queue)
{
#if USE_EVENTFD
    uint64_t one = 1;
#else
    char one = 1;
#endif

    /* A full pipe is readable, which is all that is wanted. */
    while (write(queue->fds[1], &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}

int
gp_queue_post(gp_queue *queue, gp_queue_item *item)
{
    int rc = GP_ECLOSED;

    pthread_mutex_lock(&queue->lock);
    if (!queue->closed) {
        bool was_empty = queue->first == NULL;

        item->next = NULL;
        *queue->end = item;
        queue->end = &item->next;
        if (was_empty) {
            signal_loop(queue);
        }
        rc = 0;
    }
    pthread_mutex_unlock(&queue->lock);
    return rc;
}

gp_queue_item *
gp_queue_take(gp_queue *queue)
{
    gp_queue_item *all;
    char bytes[64];

    /* A forked child shares the descriptor with its parent, whose wake-up it must not take away. */
    if (gp_runtime_forked()) {
        return NULL;
    }
    pthread_mutex_lock(&queue->lock);
    while (!queue->closed && read(queue->fds[0], bytes, sizeof(bytes)) < 0 && errno == EINTR) {
    }
    all = queue->first;
    queue->first = NULL;
    queue->end = &queue->first;
    pthread_mutex_unlock(&queue->lock);
    return all;
}

void
gp_queue_close(gp_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    close_fds(queue);
    pthread_mutex_unlock(&queue->lock);
}
