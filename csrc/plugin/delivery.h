/*
 * Layer: plugin. The one thread per process that hands log batches and output to their sinks.
 *
 * It starts with gp__delivery_start() and ends with gp__delivery_stop(). Items run on it one after
 * the other, in the order in which they were posted, with no lock held. The lock in here is a leaf.
 */
#ifndef GP_PLUGIN_DELIVERY_H
#define GP_PLUGIN_DELIVERY_H

#include <stdbool.h>

#include "gp/error.h"
#include "gp/list.h"

/* Work for the delivery thread, embedded in the object that it is about. Zeros: not posted. */
typedef struct gp__delivery_item {
    gp_link link; /* in the queue */
    void (*run)(struct gp__delivery_item *item);
} gp__delivery_item;

/* Start the thread unless it runs. Returns 0, GP_EFORKED or GP_EOS. */
int gp__delivery_start(gp_error *err);

/*
 * Have |item| run once more after this call; if it is queued already that is one run for both.
 *
 * Returns: 1 if it was queued now, 0 if it was before, GP_ECLOSED if there is no thread to run it.
 */
int gp__delivery_post(gp__delivery_item *item);

/* Whether this is the delivery thread. */
bool gp__delivery_current(void);

/*
 * Run what is queued, end the thread and wait for it. An item that takes more than 5 s is not
 * waited for: then the thread goes on by itself. Does nothing on the delivery thread.
 */
void gp__delivery_stop(void);

#endif
