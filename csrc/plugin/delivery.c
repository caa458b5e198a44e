#include "plugin/delivery.h"

#include <pthread.h>
#include <stddef.h>

#include "base/thread.h"
#include "gp/lock.h"
#include "gp/log.h"
#include "os/reactor.h"

static void reset_after_fork(void);

static gp_fork_part part = {.reset = reset_after_fork};

static struct {
    gp_mutex lock;
    gp_cond changed;                /* broadcast when an item is queued, or a field below changes */
    bool made GP_GUARDED_BY(&lock); /* |changed| is initialized */
    bool running GP_GUARDED_BY(&lock);
    bool stopping GP_GUARDED_BY(&lock);
    pthread_t thread GP_GUARDED_BY(&lock);  /* while |running| */
    unsigned finished GP_GUARDED_BY(&lock); /* how many items have run; may overflow */
    gp_list items GP_GUARDED_BY(&lock);     /* borrowed: they live until they have run */
} delivery = {.lock = GP_MUTEX_INIT, .items = GP_LIST_INIT(delivery.items)};

/* How long one item may take while the thread is being stopped. */
static const int64_t patience_ms = 5000;

/* Set on the delivery thread itself. */
static _Thread_local bool is_delivery;

static void *
deliver_items(void *unused)
{
    (void)unused;
    is_delivery = true;
    gp_mutex_lock(&delivery.lock);
    for (;;) {
        gp_link *link;

        while (gp_list_is_empty(&delivery.items) && !delivery.stopping) {
            gp_cond_wait(&delivery.changed, &delivery.lock);
        }
        link = gp_list_pop(&delivery.items);
        if (link != NULL) {
            gp__delivery_item *item = gp_container_of(link, gp__delivery_item, link);

            gp_mutex_unlock(&delivery.lock);
            item->run(item);
            gp_mutex_lock(&delivery.lock);
            delivery.finished++;
            if (delivery.stopping) {
                gp_cond_broadcast(&delivery.changed);
            }
        } else {
            break;
        }
    }
    /* The lock is held since the queue was last looked at, so that nothing is posted in between. */
    delivery.running = false;
    gp_cond_broadcast(&delivery.changed);
    gp_mutex_unlock(&delivery.lock);
    return NULL;
}

int
gp__delivery_start(gp_error *err)
{
    int rc = 0;

    if (gp_runtime_forked()) {
        return gp_runtime_refuse_fork(err);
    }
    gp_mutex_lock(&delivery.lock);
    gp_runtime_on_fork(&part);
    if (!delivery.made) {
        gp_cond_init(&delivery.changed);
        delivery.made = true;
    }
    while (delivery.stopping && !is_delivery) {
        gp_cond_wait(&delivery.changed, &delivery.lock);
    }
    if (!delivery.running) {
        rc = gp_user_thread_start(&delivery.thread, "gp-logs", deliver_items, NULL, err);
        delivery.running = rc == 0;
    }
    gp_mutex_unlock(&delivery.lock);
    return rc;
}

int
gp__delivery_post(gp__delivery_item *item)
{
    int rc = GP_ECLOSED;

    gp_mutex_lock(&delivery.lock);
    /*
     * While the thread is being stopped, only items that are queued already run: a plugin that
     * prints without end would put the end off for ever.
     */
    if (delivery.running && (!delivery.stopping || gp_link_is_linked(&item->link))) {
        rc = 0;
        if (!gp_link_is_linked(&item->link)) {
            gp_list_append(&delivery.items, &item->link);
            gp_cond_broadcast(&delivery.changed);
            rc = 1;
        }
    }
    gp_mutex_unlock(&delivery.lock);
    return rc;
}

bool
gp__delivery_current(void)
{
    return is_delivery;
}

static bool await_end_locked(void) GP_REQUIRES(&delivery.lock);

/*
 * Wait for the thread to end, as long as it goes on finishing items. Returns false if an item takes
 * too long: then a callback of the user hangs.
 */
static bool
await_end_locked(void)
{
    int rc = 0;

    while (delivery.running && rc == 0) {
        int64_t deadline = gp_deadline_in(patience_ms);
        unsigned before = delivery.finished;

        while (delivery.running && delivery.finished == before && rc == 0) {
            rc = gp_cond_wait_until(&delivery.changed, &delivery.lock, deadline);
        }
    }
    return !delivery.running;
}

void
gp__delivery_stop(void)
{
    if (gp_runtime_forked() || is_delivery) {
        return;
    }
    gp_mutex_lock(&delivery.lock);
    if (!delivery.running || delivery.stopping) {
        gp_mutex_unlock(&delivery.lock);
        return;
    }
    delivery.stopping = true;
    gp_cond_broadcast(&delivery.changed);
    if (await_end_locked()) {
        pthread_t thread = delivery.thread; /* no other thread is started meanwhile */

        gp_mutex_unlock(&delivery.lock);
        pthread_join(thread, NULL);
        gp_mutex_lock(&delivery.lock);
    }
    delivery.stopping = false; /* if a callback hangs, the thread goes on once it returns */
    gp_cond_broadcast(&delivery.changed);
    gp_mutex_unlock(&delivery.lock);
}

/* In a forked child, which does not have the thread. The queued items belong to the parent. */
static void
reset_after_fork(void)
{
    gp_mutex_init(&delivery.lock);
    gp_mutex_lock(&delivery.lock);
    delivery.made = false;
    delivery.running = false;
    delivery.stopping = false;
    gp_list_init(&delivery.items); /* another thread may have been changing it */
    gp_mutex_unlock(&delivery.lock);
    is_delivery = false;
}

void
gp_log_shutdown(void)
{
    gp__reactor_stop();
    gp__delivery_stop();
}
