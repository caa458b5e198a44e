/*
 * Layer: public. A queue that any thread fills and one event loop empties.
 *
 * The loop watches one descriptor, which is readable while there are items. Posting makes a system
 * call only if the queue was empty. Shared by reference, since threads may still post when the loop
 * has ended.
 */
#ifndef GP_QUEUE_H
#define GP_QUEUE_H

#include "gp/error.h"

typedef struct gp_queue gp_queue;

/* A field of the objects that are posted. */
typedef struct gp_queue_item {
    struct gp_queue_item *next;
} gp_queue_item;

/* Returns: 0, GP_EOS or GP_ENOMEM. */
int gp_queue_new(gp_queue **out, gp_error *err);
gp_queue *gp_queue_ref(gp_queue *queue);
void gp_queue_unref(gp_queue *queue);

/* The descriptor to wait for. Valid until gp_queue_close(). */
int gp_queue_fd(const gp_queue *queue);

/* Append. Returns: 0, or GP_ECLOSED; then the item is still the caller's. Never blocks. */
int gp_queue_post(gp_queue *queue, gp_queue_item *item);

/* Take all items, linked by |next|, the oldest first; NULL: there are none. */
gp_queue_item *gp_queue_take(gp_queue *queue);

/* Refuse items from now on, and close the descriptor. Items posted before can still be taken. */
void gp_queue_close(gp_queue *queue);

#endif
