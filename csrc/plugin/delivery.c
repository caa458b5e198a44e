#include "plugin/delivery.h"

#include <pthread.h>
#include <stddef.h>
#include <string.h>

#include "base/thread.h"
#include "gp/lock.h"
#include "gp/log.h"
#include "os/reactor.h"

static void reset(void);

static struct {
    gp_mutex lock;
    gp_cond changed; /* something to do, or the thread has ended */
    pthread_t thread;
    bool made; /* the condition variable is */
    bool running;
    bool stopping;
    unsigned finished;        /* items; goes round */
    gp__delivery_item *first; /* borrowed: items live until they have run */
    gp__delivery_item **last; /* where the next one is linked */
    gp_fork_part part;
} delivery = {
    .lock = GP_MUTEX_INIT,
    .last = &delivery.first,
    .part = {.reset = reset},
};

/* How long one delivery may take once the process ends. */
static const int64_t patience_ms = 5000;

/* Set on the delivery thread itself. */
static _Thread_local bool is_delivery;

static gp__delivery_item *
pop(void)
{
    gp__delivery_item *item = delivery.first;

    delivery.first = item->next;
    if (delivery.first == NULL) {
        delivery.last = &delivery.first;
    }
    item->next = NULL;
    item->queued = false;
    return item;
}

static void *
run(void *unused)
{
    (void)unused;
    is_delivery = true;
    gp_mutex_lock(&delivery.lock);
    for (;;) {
        gp__delivery_item *item;

        while (delivery.first == NULL && !delivery.stopping) {
            gp_cond_wait(&delivery.changed, &delivery.lock);
        }
        if (delivery.first == NULL) {
            break;
        }
        item = pop();
        gp_mutex_unlock(&delivery.lock);
        item->run(item);
        gp_mutex_lock(&delivery.lock);
        delivery.finished++;
        if (delivery.stopping) {
            gp_cond_broadcast(&delivery.changed);
        }
    }
    /* In the same breath as the last look at the queue, so that nothing is posted in between. */
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
    gp_runtime_on_fork(&delivery.part);
    if (!delivery.made) {
        gp_cond_init(&delivery.changed);
        delivery.made = true;
    }
    while (delivery.stopping && !is_delivery) {
        gp_cond_wait(&delivery.changed, &delivery.lock);
    }
    if (!delivery.running) {
        rc = gp_user_thread_start(&delivery.thread, "gp-logs", run, NULL, err);
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
     * At the end there is only what is queued: whoever prints without end would put it off for
     * ever.
     */
    if (delivery.running && (!delivery.stopping || item->queued)) {
        rc = 0;
        if (!item->queued) {
            item->queued = true;
            *delivery.last = item;
            delivery.last = &item->next;
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

/*
 * Lock held. Whether the thread has ended, which it does not while a callback of the user's is
 * stuck; one that has much to deliver, and does, may take its time.
 */
static bool
await_end(void)
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
    bool ended;

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
    ended = await_end();
    if (ended) {
        gp_mutex_unlock(&delivery.lock);
        pthread_join(delivery.thread, NULL); /* nobody starts another one while we are stopping */
        gp_mutex_lock(&delivery.lock);
    }
    delivery.stopping = false; /* one that is stuck goes on if it ever comes back */
    gp_cond_broadcast(&delivery.changed);
    gp_mutex_unlock(&delivery.lock);
}

/* In a forked child, which has not the thread. What is queued is the parent's. */
static void
reset(void)
{
    gp_fork_part part = delivery.part;

    memset(&delivery, 0, sizeof(delivery));
    gp_mutex_init(&delivery.lock);
    delivery.last = &delivery.first;
    delivery.part = part;
    is_delivery = false;
}

void
gp_log_shutdown(void)
{
    gp__reactor_stop();
    gp__delivery_stop();
}
