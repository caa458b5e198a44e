#include "os/reactor.h"

#include <pthread.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fork.h"
#include "base/thread.h"
#include "gp/lock.h"
#include "os/selector.h"

enum { MOST_READY = 64 };

_Static_assert((int)GP__WATCH_READ == (int)GP__SELECT_READ &&
                   (int)GP__WATCH_WRITE == (int)GP__SELECT_WRITE &&
                   (int)GP__WATCH_HANGUP == (int)GP__SELECT_HANGUP,
               "watches pass their events on as they are");

struct gp__watch {
    gp__watch *prev; /* in the list of ticking watches, or of dead ones (next only) */
    gp__watch *next;
    int fd;          /* borrowed; -1 for one that ticks */
    unsigned events; /* looked for; not 0 for one that ticks */
    bool dead;
    int64_t period; /* nanoseconds, of one that ticks */
    int64_t due;    /* when it does so next */
    gp__watch_fn *call;
    void *ctx; /* borrowed: outlives the watch */
};

/* One gp__reactor_call(), on its caller's stack. */
typedef struct errand {
    struct errand *next;
    void (*run)(void *ctx);
    void *ctx;
    bool done;
} errand;

static void reset(void);

static struct {
    gp_mutex lock;
    gp_cond idle; /* a callback or an errand is over, or the thread has ended */
    bool running;
    bool stopping;
    pthread_t thread;
    gp__selector *selector; /* owned */
    gp__watch *ticking;     /* owned by their users */
    gp__watch *dead;        /* owned: removed, but perhaps among the events just fetched */
    gp__watch *calling;     /* borrowed: whose callback runs */
    errand *errands;        /* borrowed: their callers wait */
    gp_fork_part part;
} reactor = {.lock = GP_MUTEX_INIT, .idle = GP_COND_INIT, .part = {.reset = reset}};

/* Set on the reactor's own thread. */
static _Thread_local bool is_reactor;

static void
free_dead(void)
{
    while (reactor.dead != NULL) {
        gp__watch *watch = reactor.dead;

        reactor.dead = watch->next;
        gp__free(watch);
    }
}

/* With the lock held, which is released while the callback runs. */
static void
call(gp__watch *watch)
{
    if (watch->dead || watch->events == 0) {
        return;
    }
    reactor.calling = watch;
    gp_mutex_unlock(&reactor.lock);
    watch->call(watch->ctx);
    gp_mutex_lock(&reactor.lock);
    reactor.calling = NULL;
    gp_cond_broadcast(&reactor.idle);
}

/* Milliseconds until something ticks; negative when nothing does. With the lock held. */
static int
until_tick(void)
{
    const int64_t longest = 3600 * 1000;
    int64_t soonest = GP__FOREVER;
    int64_t left;

    for (gp__watch *watch = reactor.ticking; watch != NULL; watch = watch->next) {
        soonest = watch->due < soonest ? watch->due : soonest;
    }
    if (soonest == GP__FOREVER) {
        return -1;
    }
    left = (soonest - gp__now() + GP__MS - 1) / GP__MS;
    return (int)(left < 0 ? 0 : left > longest ? longest : left);
}

static void
tick(void)
{
    gp__watch *watch = reactor.ticking;
    int64_t now = watch != NULL ? gp__now() : 0;

    while (watch != NULL) {
        if (watch->due <= now) {
            watch->due = now + watch->period;
            call(watch);
        }
        /* If it was removed meanwhile, its link leads into the list of the dead: next time. */
        watch = watch->dead ? NULL : watch->next;
    }
}

/* With the lock held, which is released meanwhile. */
static void
run_errands(void)
{
    while (reactor.errands != NULL) {
        errand *it = reactor.errands;

        reactor.errands = it->next;
        gp_mutex_unlock(&reactor.lock);
        it->run(it->ctx);
        gp_mutex_lock(&reactor.lock);
        it->done = true;
        gp_cond_broadcast(&reactor.idle);
    }
}

static void *
run(void *unused)
{
    void *ready[MOST_READY];

    (void)unused;
    is_reactor = true;
    gp_mutex_lock(&reactor.lock);
    while (!reactor.stopping) {
        int timeout = until_tick();
        int count;

        /* Nothing fetched is left, so nobody looks at a dead watch any more. */
        free_dead();
        gp_mutex_unlock(&reactor.lock);
        count = gp__selector_wait(reactor.selector, ready, MOST_READY, timeout);
        gp_mutex_lock(&reactor.lock);
        for (int i = 0; i < count; i++) {
            call(ready[i]);
        }
        tick();
        run_errands();
    }
    /*
     * It may have been told to stop before it got here, and somebody waits for what it was started
     * for.
     */
    run_errands();
    gp_mutex_unlock(&reactor.lock);
    return NULL;
}

/* With the lock held. */
static int
ensure_running(gp_error *err)
{
    int rc;

    while (reactor.stopping) {
        gp_cond_wait(&reactor.idle, &reactor.lock);
    }
    if (reactor.running) {
        return 0;
    }
    gp_runtime_on_fork(&reactor.part);
    if (reactor.selector == NULL && (rc = gp__selector_new(&reactor.selector, err)) < 0) {
        return rc;
    }
    rc = gp__thread_start(&reactor.thread, "gp-reactor", run, NULL, err);
    reactor.running = rc == 0;
    return rc;
}

static void
link_ticking(gp__watch *watch)
{
    watch->next = reactor.ticking;
    if (watch->next != NULL) {
        watch->next->prev = watch;
    }
    reactor.ticking = watch;
}

static void
unlink_ticking(gp__watch *watch)
{
    if (watch->prev != NULL) {
        watch->prev->next = watch->next;
    } else {
        reactor.ticking = watch->next;
    }
    if (watch->next != NULL) {
        watch->next->prev = watch->prev;
    }
}

static int
add(gp__watch **out, int fd, int64_t period_ms, gp__watch_fn *fn, void *ctx, gp_error *err)
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
    watch->events = GP__WATCH_READ;
    watch->period = period_ms * GP__MS;
    watch->due = period_ms > 0 ? gp__now() + watch->period : 0;
    gp_mutex_lock(&reactor.lock);
    *out = watch;
    rc = ensure_running(err);
    if (rc == 0 && fd >= 0) {
        rc = gp__selector_add(reactor.selector, fd, watch->events, watch, err);
    } else if (rc == 0) {
        link_ticking(watch);
        gp__selector_wake(reactor.selector);
    }
    if (rc < 0) {
        *out = NULL;
        gp__free(watch);
    } else {
        gp__fork_add(GP__FORK_WATCH);
    }
    gp_mutex_unlock(&reactor.lock);
    return rc;
}

int
gp__reactor_add(gp__watch **out, int fd, gp__watch_fn *ready, void *ctx, gp_error *err)
{
    return add(out, fd, 0, ready, ctx, err);
}

int
gp__reactor_every(gp__watch **out, int64_t period_ms, gp__watch_fn *fn, void *ctx, gp_error *err)
{
    return add(out, -1, period_ms, fn, ctx, err);
}

/* With the lock held. */
static void
want(gp__watch *watch, unsigned events)
{
    unsigned before = watch->events;

    watch->events = events;
    if (watch->fd < 0) {
        return;
    }
    /* A hung-up pipe would be reported for ever, so one nobody looks at is not in the selector. */
    if (events == 0) {
        gp__selector_remove(reactor.selector, watch->fd);
    } else if (before != 0) {
        gp__selector_change(reactor.selector, watch->fd, events, watch);
    } else if (gp__selector_add(reactor.selector, watch->fd, events, watch, NULL) < 0) {
        watch->events = 0;
    }
}

void
gp__reactor_want(gp__watch *watch, unsigned events)
{
    if (gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&reactor.lock);
    if (!watch->dead && watch->events != events) {
        want(watch, events);
    }
    gp_mutex_unlock(&reactor.lock);
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
    gp_mutex_lock(&reactor.lock);
    if (watch->fd < 0) {
        unlink_ticking(watch);
    } else if (watch->events != 0) {
        gp__selector_remove(reactor.selector, watch->fd);
    }
    watch->dead = true;
    gp__fork_drop(GP__FORK_WATCH);
    while (reactor.calling == watch && !is_reactor) {
        gp_cond_wait(&reactor.idle, &reactor.lock);
    }
    watch->next = reactor.dead;
    reactor.dead = watch;
    if (!reactor.running) {
        free_dead();
    }
    gp_mutex_unlock(&reactor.lock);
}

int
gp__reactor_call(void (*fn)(void *ctx), void *ctx, gp_error *err)
{
    errand it = {.run = fn, .ctx = ctx};
    int rc;

    if (gp_runtime_forked()) {
        return gp_runtime_refuse_fork(err);
    }
    if (is_reactor) {
        fn(ctx);
        return 0;
    }
    gp_mutex_lock(&reactor.lock);
    rc = ensure_running(err);
    if (rc == 0) {
        it.next = reactor.errands;
        reactor.errands = &it;
        gp__selector_wake(reactor.selector);
        while (!it.done) {
            gp_cond_wait(&reactor.idle, &reactor.lock);
        }
    }
    gp_mutex_unlock(&reactor.lock);
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
    gp_mutex_lock(&reactor.lock);
    if (!reactor.running || reactor.stopping) {
        gp_mutex_unlock(&reactor.lock);
        return;
    }
    reactor.stopping = true;
    thread = reactor.thread;
    gp__selector_wake(reactor.selector);
    gp_mutex_unlock(&reactor.lock);
    pthread_join(thread, NULL);
    gp_mutex_lock(&reactor.lock);
    reactor.running = false;
    reactor.stopping = false;
    free_dead();
    gp_cond_broadcast(&reactor.idle);
    gp_mutex_unlock(&reactor.lock);
}

/*
 * In a forked child, which has not the thread: nothing was watched. Its selector is the parent's as
 * well.
 */
static void
reset(void)
{
    gp_fork_part part = reactor.part;

    gp__selector_free(reactor.selector);
    memset(&reactor, 0, sizeof(reactor));
    gp_mutex_init(&reactor.lock);
    gp_cond_init(&reactor.idle);
    reactor.part = part;
    is_reactor = false;
}
