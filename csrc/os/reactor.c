#include "os/reactor.h"

#include <pthread.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fork.h"
#include "base/task.h"
#include "base/thread.h"
#include "gp/list.h"
#include "gp/lock.h"
#include "os/selector.h"

enum { MOST_READY = 64 };

_Static_assert((int)GP__WATCH_READ == (int)GP__SELECT_READ &&
                   (int)GP__WATCH_WRITE == (int)GP__SELECT_WRITE &&
                   (int)GP__WATCH_HANGUP == (int)GP__SELECT_HANGUP,
               "watches pass their events on as they are");

static gp_mutex lock = GP_MUTEX_INIT;

struct gp__watch {
    gp_link link GP_GUARDED_BY(&lock);    /* in |ticking| or |removed| */
    int fd;                               /* borrowed; -1: a timer */
    unsigned events GP_GUARDED_BY(&lock); /* to look for; of a timer: not 0 while it ticks */
    bool is_removed GP_GUARDED_BY(&lock);
    int64_t period;                   /* of a timer: nanoseconds */
    int64_t due GP_GUARDED_BY(&lock); /* of a timer: when it ticks next */
    gp__watch_fn *call;
    void *ctx; /* borrowed: outlives the watch */
};

/* A call of gp__reactor_call(), on its caller's stack. */
typedef struct request {
    gp__task task;
    void (*run)(void *ctx);
    void *ctx;
    bool done GP_GUARDED_BY(&lock);
} request;

static void reset_in_child(void);

/* A callback or a request has returned, or the thread has ended. */
static gp_cond changed = GP_COND_INIT;

static bool running GP_GUARDED_BY(&lock);
static bool stopping GP_GUARDED_BY(&lock);
static pthread_t reactor_thread GP_GUARDED_BY(&lock);

/* Owned. Written with the lock held while the thread does not run; the thread reads it unlocked. */
static gp__selector *selector;

/* Timers that are enabled; owned by their users. */
static gp_list ticking GP_GUARDED_BY(&lock) = GP_LIST_INIT(ticking);

/* Owned: watches that may still be among the events that the thread has just fetched. */
static gp_list removed GP_GUARDED_BY(&lock) = GP_LIST_INIT(removed);

/* Borrowed: the watch whose callback runs. */
static gp__watch *calling GP_GUARDED_BY(&lock);

/* Borrowed: tasks for the thread, whose owners wait until they have run. */
static gp_list tasks GP_GUARDED_BY(&lock) = GP_LIST_INIT(tasks);

static gp_fork_part fork_part = {.reset = reset_in_child};

/* Set on the reactor's own thread. */
static _Thread_local bool is_reactor;

static void free_removed_locked(void) GP_REQUIRES(&lock);
static void call_locked(gp__watch *watch) GP_REQUIRES(&lock);
static int ms_until_tick_locked(void) GP_REQUIRES(&lock);
static void tick_locked(void) GP_REQUIRES(&lock);
static void run_tasks_locked(void) GP_REQUIRES(&lock);
static int ensure_running_locked(gp_error *err) GP_REQUIRES(&lock);
static void set_events_locked(gp__watch *watch, unsigned events) GP_REQUIRES(&lock);

static void
free_removed_locked(void)
{
    gp_link *link;

    while ((link = gp_list_pop(&removed)) != NULL) {
        gp__free(gp_container_of(link, gp__watch, link));
    }
}

/* Releases and re-acquires the lock while the callback runs. */
static void
call_locked(gp__watch *watch)
{
    if (watch->is_removed || watch->events == 0) {
        return;
    }
    calling = watch;
    gp_mutex_unlock(&lock);
    watch->call(watch->ctx);
    gp_mutex_lock(&lock);
    calling = NULL;
    gp_cond_broadcast(&changed);
}

/* Milliseconds until the next timer ticks; negative if there is no timer. */
static int
ms_until_tick_locked(void)
{
    const int64_t longest = 3600 * 1000;
    int64_t soonest = GP__FOREVER;
    int64_t left;

    for (gp__watch *watch = gp_list_first_entry(&ticking, gp__watch, link); watch != NULL;
         watch = gp_list_next_entry(&ticking, watch, gp__watch, link)) {
        soonest = watch->due < soonest ? watch->due : soonest;
    }
    if (soonest == GP__FOREVER) {
        return -1;
    }
    left = (soonest - gp__now() + GP__MS - 1) / GP__MS;
    return (int)(left < 0 ? 0 : left > longest ? longest : left);
}

/* Releases and re-acquires the lock while a callback runs. */
static void
tick_locked(void)
{
    gp__watch *watch = gp_list_first_entry(&ticking, gp__watch, link);
    int64_t now = watch != NULL ? gp__now() : 0;

    while (watch != NULL) {
        if (watch->due <= now) {
            watch->due = now + watch->period;
            call_locked(watch);
        }
        /*
         * A timer that has been removed or disabled meanwhile has no successor: the others tick
         * next time.
         */
        watch = watch->is_removed || watch->events == 0
                    ? NULL
                    : gp_list_next_entry(&ticking, watch, gp__watch, link);
    }
}

/* Releases and re-acquires the lock while a task runs. */
static void
run_tasks_locked(void)
{
    gp_link *link;

    while ((link = gp_list_pop(&tasks)) != NULL) {
        gp__task *task = gp_container_of(link, gp__task, link);

        gp_mutex_unlock(&lock);
        task->run(task);
        gp_mutex_lock(&lock);
    }
}

static void *
run_reactor(void *unused)
{
    void *ready[MOST_READY];

    (void)unused;
    is_reactor = true;
    gp_mutex_lock(&lock);
    while (!stopping) {
        int timeout = ms_until_tick_locked();
        int count;

        /* All events that were fetched have been handled, and none refers to a removed watch. */
        free_removed_locked();
        gp_mutex_unlock(&lock);
        count = gp__selector_wait(selector, ready, MOST_READY, timeout);
        gp_mutex_lock(&lock);
        for (int i = 0; i < count; i++) {
            call_locked(ready[i]);
        }
        tick_locked();
        run_tasks_locked();
    }
    /* If it was stopped before it got here, the caller that started it still waits for its task. */
    run_tasks_locked();
    gp_mutex_unlock(&lock);
    return NULL;
}

static int
ensure_running_locked(gp_error *err)
{
    int rc;

    while (stopping) {
        gp_cond_wait(&changed, &lock);
    }
    if (running) {
        return 0;
    }
    gp_runtime_on_fork(&fork_part);
    if (selector == NULL && (rc = gp__selector_new(&selector, err)) < 0) {
        return rc;
    }
    rc = gp__thread_start(&reactor_thread, "gp-reactor", run_reactor, NULL, err);
    running = rc == 0;
    return rc;
}

static int
add_watch(gp__watch **out, int fd, int64_t period_ms, gp__watch_fn *fn, void *ctx, gp_error *err)
{
    gp__watch *watch;
    int rc;

    if (gp_runtime_forked()) {
        return gp_runtime_refuse_fork(err);
    }
    watch = gp__calloc(1, sizeof(*watch));
    if (watch == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory to watch a plugin");
    }
    watch->fd = fd;
    watch->call = fn;
    watch->ctx = ctx;
    watch->period = period_ms * GP__MS;
    gp_mutex_lock(&lock);
    watch->events = GP__WATCH_READ;
    watch->due = period_ms > 0 ? gp__now() + watch->period : 0;
    *out = watch;
    rc = ensure_running_locked(err);
    if (rc == 0 && fd >= 0) {
        rc = gp__selector_add(selector, fd, watch->events, watch, err);
    } else if (rc == 0) {
        gp_list_prepend(&ticking, &watch->link);
        gp__selector_wake(selector);
    }
    if (rc < 0) {
        *out = NULL;
        gp__free(watch);
    } else {
        gp__fork_add(GP__FORK_WATCH);
    }
    gp_mutex_unlock(&lock);
    return rc;
}

int
gp__reactor_add(gp__watch **out, int fd, gp__watch_fn *ready, void *ctx, gp_error *err)
{
    return add_watch(out, fd, 0, ready, ctx, err);
}

int
gp__reactor_every(gp__watch **out, int64_t period_ms, gp__watch_fn *fn, void *ctx, gp_error *err)
{
    return add_watch(out, -1, period_ms, fn, ctx, err);
}

static void
set_events_locked(gp__watch *watch, unsigned events)
{
    unsigned before = watch->events;

    watch->events = events;
    if (watch->fd < 0) {
        gp_link_remove(&watch->link);
        if (events != 0) {
            watch->due = gp__now() + watch->period;
            gp_list_prepend(&ticking, &watch->link);
            if (!is_reactor) {
                gp__selector_wake(selector);
            }
        }
        return;
    }
    /* A hang-up is reported whatever is looked for, so the selector gets only what has events. */
    if (events == 0) {
        gp__selector_remove(selector, watch->fd);
    } else if (before != 0) {
        gp__selector_change(selector, watch->fd, events, watch);
    } else if (gp__selector_add(selector, watch->fd, events, watch, NULL) < 0) {
        watch->events = 0;
    }
}

void
gp__reactor_want(gp__watch *watch, unsigned events)
{
    if (gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&lock);
    if (!watch->is_removed && watch->events != events) {
        set_events_locked(watch, events);
    }
    gp_mutex_unlock(&lock);
}

void
gp__reactor_enable(gp__watch *watch, bool enabled)
{
    gp__reactor_want(watch, enabled ? GP__WATCH_READ : 0);
}

void
gp__reactor_remove(gp__watch *watch)
{
    if (watch == NULL || gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&lock);
    if (watch->fd < 0) {
        gp_link_remove(&watch->link);
    } else if (watch->events != 0) {
        gp__selector_remove(selector, watch->fd);
    }
    watch->is_removed = true;
    gp__fork_drop(GP__FORK_WATCH);
    while (calling == watch && !is_reactor) {
        gp_cond_wait(&changed, &lock);
    }
    gp_list_append(&removed, &watch->link);
    if (!running) {
        free_removed_locked();
    }
    gp_mutex_unlock(&lock);
}

static void
run_request(gp__task *task)
{
    request *self = gp_container_of(task, request, task);

    self->run(self->ctx);
    gp_mutex_lock(&lock);
    self->done = true;
    gp_cond_broadcast(&changed);
    gp_mutex_unlock(&lock);
}

int
gp__reactor_call(void (*fn)(void *ctx), void *ctx, gp_error *err)
{
    request self = {.task = {.run = run_request}, .run = fn, .ctx = ctx};
    int rc;

    if (gp_runtime_forked()) {
        return gp_runtime_refuse_fork(err);
    }
    if (is_reactor) {
        fn(ctx);
        return 0;
    }
    gp_mutex_lock(&lock);
    rc = ensure_running_locked(err);
    if (rc == 0) {
        gp_list_append(&tasks, &self.task.link);
        gp__selector_wake(selector);
        while (!self.done) {
            gp_cond_wait(&changed, &lock);
        }
    }
    gp_mutex_unlock(&lock);
    return rc;
}

bool
gp__reactor_current(void)
{
    return is_reactor;
}

void
gp__reactor_stop(void)
{
    pthread_t thread;

    if (gp_runtime_forked() || is_reactor) {
        return;
    }
    gp_mutex_lock(&lock);
    if (!running || stopping) {
        gp_mutex_unlock(&lock);
        return;
    }
    stopping = true;
    thread = reactor_thread;
    gp__selector_wake(selector);
    gp_mutex_unlock(&lock);
    pthread_join(thread, NULL);
    gp_mutex_lock(&lock);
    running = false;
    stopping = false;
    free_removed_locked();
    gp_cond_broadcast(&changed);
    gp_mutex_unlock(&lock);
}

/*
 * Called in a forked child that may use the library: its parent watched nothing. The child has no
 * reactor thread. The lists, which another thread of the parent may have been changing, are made
 * anew; so is the selector, whose descriptors are shared with the parent.
 */
static void
reset_in_child(void)
{
    gp__selector_free(selector);
    selector = NULL;
    is_reactor = false;
    gp_mutex_init(&lock);
    gp_cond_init(&changed);
    gp_mutex_lock(&lock);
    running = false;
    stopping = false;
    calling = NULL;
    gp_list_init(&ticking);
    gp_list_init(&removed);
    gp_list_init(&tasks);
    gp_mutex_unlock(&lock);
}
