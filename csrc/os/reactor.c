#include "os/reactor.h"

#include <pthread.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "os/selector.h"

enum { MOST_READY = 64 };

struct gp__watch {
    gp__watch *prev; /* in the list of ticking watches, or of dead ones (next only) */
    gp__watch *next;
    int fd; /* borrowed; -1 for one that ticks */
    bool enabled;
    bool dead;
    gp__watch_fn *call;
    void *ctx; /* borrowed: outlives the watch */
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t idle; /* the running callback has returned, or the thread has ended */
    bool running;
    bool stopping;
    pthread_t thread;
    gp__selector *selector; /* owned */
    gp__watch *ticking;     /* owned by their users */
    gp__watch *dead;        /* owned: removed, but perhaps among the events just fetched */
    gp__watch *calling;     /* borrowed: whose callback runs */
} reactor = {.lock = PTHREAD_MUTEX_INITIALIZER, .idle = PTHREAD_COND_INITIALIZER};

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
    if (watch->dead || !watch->enabled) {
        return;
    }
    reactor.calling = watch;
    pthread_mutex_unlock(&reactor.lock);
    watch->call(watch->ctx);
    pthread_mutex_lock(&reactor.lock);
    reactor.calling = NULL;
    pthread_cond_broadcast(&reactor.idle);
}

static void
tick(void)
{
    gp__watch *watch = reactor.ticking;

    while (watch != NULL) {
        call(watch);
        /* If it was removed meanwhile, its link leads into the list of the dead: wait a tick. */
        watch = watch->dead ? NULL : watch->next;
    }
}

static void *
run(void *unused)
{
    void *ready[MOST_READY];

    (void)unused;
    is_reactor = true;
    pthread_mutex_lock(&reactor.lock);
    while (!reactor.stopping) {
        int timeout = reactor.ticking != NULL ? GP__REACTOR_TICK_MS : -1;
        int count;

        /* Nothing fetched is left, so nobody looks at a dead watch any more. */
        free_dead();
        pthread_mutex_unlock(&reactor.lock);
        count = gp__selector_wait(reactor.selector, ready, MOST_READY, timeout);
        pthread_mutex_lock(&reactor.lock);
        for (int i = 0; i < count; i++) {
            call(ready[i]);
        }
        tick();
    }
    pthread_mutex_unlock(&reactor.lock);
    return NULL;
}

/* With the lock held. */
static int
ensure_running(gp_error *err)
{
    int rc;

    while (reactor.stopping) {
        pthread_cond_wait(&reactor.idle, &reactor.lock);
    }
    if (reactor.running) {
        return 0;
    }
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
add(gp__watch **out, int fd, gp__watch_fn *fn, void *ctx, gp_error *err)
{
    gp__watch *watch;
    int rc;

    if (gp_runtime_forked()) {
        return gp_error_set(err, GP_EFORKED, "plugins cannot be used in a forked child");
    }
    watch = gp__calloc(1, sizeof(*watch));
    if (watch == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory to watch a plugin");
    }
    watch->fd = fd;
    watch->call = fn;
    watch->ctx = ctx;
    watch->enabled = true;
    pthread_mutex_lock(&reactor.lock);
    *out = watch;
    rc = ensure_running(err);
    if (rc == 0 && fd >= 0) {
        rc = gp__selector_add(reactor.selector, fd, watch, err);
    } else if (rc == 0) {
        link_ticking(watch);
        gp__selector_wake(reactor.selector);
    }
    if (rc < 0) {
        *out = NULL;
        gp__free(watch);
    }
    pthread_mutex_unlock(&reactor.lock);
    return rc;
}

int
gp__reactor_add(gp__watch **out, int fd, gp__watch_fn *ready, void *ctx, gp_error *err)
{
    return add(out, fd, ready, ctx, err);
}

int
gp__reactor_every(gp__watch **out, gp__watch_fn *fn, void *ctx, gp_error *err)
{
    return add(out, -1, fn, ctx, err);
}

void
gp__reactor_enable(gp__watch *watch, bool enabled)
{
    if (gp_runtime_forked()) {
        return;
    }
    pthread_mutex_lock(&reactor.lock);
    if (!watch->dead && watch->enabled != enabled) {
        watch->enabled = enabled;
        /* A hung-up pipe would be reported for ever, so a disabled one is not in the selector. */
        if (watch->fd >= 0 && !enabled) {
            gp__selector_remove(reactor.selector, watch->fd);
        } else if (watch->fd >= 0 &&
                   gp__selector_add(reactor.selector, watch->fd, watch, NULL) < 0) {
            watch->enabled = false;
        }
    }
    pthread_mutex_unlock(&reactor.lock);
}

void
gp__reactor_remove(gp__watch *watch)
{
    if (watch == NULL || gp_runtime_forked()) {
        return;
    }
    pthread_mutex_lock(&reactor.lock);
    if (watch->fd < 0) {
        unlink_ticking(watch);
    } else if (watch->enabled) {
        gp__selector_remove(reactor.selector, watch->fd);
    }
    watch->dead = true;
    while (reactor.calling == watch && !is_reactor) {
        pthread_cond_wait(&reactor.idle, &reactor.lock);
    }
    watch->next = reactor.dead;
    reactor.dead = watch;
    if (!reactor.running) {
        free_dead();
    }
    pthread_mutex_unlock(&reactor.lock);
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
    pthread_mutex_lock(&reactor.lock);
    if (!reactor.running || reactor.stopping) {
        pthread_mutex_unlock(&reactor.lock);
        return;
    }
    reactor.stopping = true;
    thread = reactor.thread;
    gp__selector_wake(reactor.selector);
    pthread_mutex_unlock(&reactor.lock);
    pthread_join(thread, NULL);
    pthread_mutex_lock(&reactor.lock);
    reactor.running = false;
    reactor.stopping = false;
    free_dead();
    pthread_cond_broadcast(&reactor.idle);
    pthread_mutex_unlock(&reactor.lock);
}
