/*
 * Layer: plugin. The delivery thread, one per process, which passes log batches and output to their
 * sinks.
 *
 * It starts with gp__delivery_start() and ends with gp__delivery_stop(). Items run on it one after
 * the other, in the order in which they were posted, with no lock held. The lock in delivery.c is
 * the last in the lock order.
 */
#ifndef GP_PLUGIN_DELIVERY_H
#define GP_PLUGIN_DELIVERY_H

#include <stdbool.h>

#include "gp/error.h"
#include "gp/list.h"

/*
 * Work for the delivery thread, a member of the object that it is for. Zeroed memory is an item
 * that is not queued.
 */
typedef struct gp__delivery_item {
    gp_link link; /* in the queue */
    void (*run)(struct gp__delivery_item *item);
} gp__delivery_item;

/* Start the thread unless it runs. Returns 0, GP_EFORKED or GP_EOS. */
int gp__delivery_start(gp_error *err);

/*
 * Have |item| run after this call. If it is queued already, one run is enough for both calls.
 *
 * Returns: 1 if it was queued now, 0 if it was queued before, GP_ECLOSED if there is no thread to
 * run it.
 */
int gp__delivery_post(gp__delivery_item *item);

/* Whether this is the delivery thread. */
bool gp__delivery_current(void);

/*
 * Run the queued items, end the thread, and wait for it. If an item takes more than 5 s, this
 * returns, and the thread goes on by itself. Does nothing on the delivery thread.
 */
void gp__delivery_stop(void);

#endif
