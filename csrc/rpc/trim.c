#include "rpc/trim.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/task.h"
#include "os/reactor.h"
#include "rpc/engine.h"
#include "rpc/worker_pool.h"

#ifdef __GLIBC__

#include <malloc.h>

enum { BURST = 32 << 20 /* bytes */, QUIET_MS = 1000 };

/*
 *             BURST counted                quiet for a second              trimmed
 *    (idle) -----------------> (watching) --------------------> (queued) ----------> (idle)
 */
static struct {
    atomic_size_t counted;
    atomic_bool busy; /* not idle */
    size_t before;    /* |counted| a second ago. Used by the reactor's thread only */
    gp__watch *timer; /* owned. Used by the reactor's thread only */
    gp__task queued;  /* in the worker pool */
} trim;

static void
trim_arenas(gp__task *task)
{
    (void)task;
    malloc_trim(0);
    atomic_store(&trim.busy, false);
}

/* On the reactor's thread, once a second. */
static void
check_quiet(void *ctx)
{
    size_t counted = atomic_load(&trim.counted);

    (void)ctx;
    if (counted != trim.before) {
        trim.before = counted;
        return;
    }
    gp__reactor_remove(trim.timer);
    atomic_store(&trim.counted, 0);
    trim.before = 0;
    trim.queued.run = trim_arenas;
    gp__pool_defer(&trim.queued);
}

void
gp__trim_count(size_t bytes)
{
    gp__poller *poller;

    if (atomic_fetch_add_explicit(&trim.counted, bytes, memory_order_relaxed) + bytes < BURST ||
        atomic_load(&trim.busy) || atomic_exchange(&trim.busy, true)) {
        return;
    }
    if (gp__engine_start(&poller, NULL) < 0 ||
        gp__reactor_every(&trim.timer, QUIET_MS, check_quiet, NULL, NULL) < 0) {
        atomic_store(&trim.busy, false);
    }
}

#else

void
gp__trim_count(size_t bytes)
{
    (void)bytes;
}

#endif
