/*
 * Layer: public. A queue that any thread fills and one event loop empties.
 *
 * The loop watches one descriptor, which is readable while there is something to take. Posting
 * costs a system call only when the queue was empty. Shared by reference: who may still have to
 * post outlives the loop.
 */
#ifndef GP_QUEUE_H
#define GP_QUEUE_H

#include "gp/error.h"

typedef struct gp_queue gp_queue;

/* Something posted, part of a larger structure of the poster's. */
typedef struct gp_queue_item {
    struct gp_queue_item *next;
} gp_queue_item;

/* Returns: 0, GP_EOS or GP_ENOMEM. */
int gp_queue_new(gp_queue **out, gp_error *err);
gp_queue *gp_queue_ref(gp_queue *queue);
void gp_queue_unref(gp_queue *queue);

/* What to wait for. Valid until gp_queue_close(). */
int gp_queue_fd(const gp_queue *queue);

/* Append. Returns: 0, or GP_ECLOSED; then the item is still the caller's. Never blocks. */
int gp_queue_post(gp_queue *queue, gp_queue_item *item);

/* Everything that has been posted, first things first; NULL if there is nothing. */
gp_queue_item *gp_queue_take(gp_queue *queue);

/*
 * Refuse what is posted from now on, and close the descriptor. What was posted can still be taken.
 */
void gp_queue_close(gp_queue *queue);

#endif
