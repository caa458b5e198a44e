#include "rpc/engine.h"

#include "base/thread.h"
#include "gp/grpc.h"
#include "gp/lock.h"
#include "gp/runtime.h"
#include "rpc/grpc_library.h"
#include "rpc/worker_pool.h"

static void reset_after_fork(void);

static gp_mutex start_lock = GP_MUTEX_INIT; /* comes before gp__engine_lock */
static bool made GP_GUARDED_BY(&start_lock);
static bool running GP_GUARDED_BY(&start_lock); /* the poller has its queue */
static gp__poller poller;
static gp_fork_part part = {.reset = reset_after_fork};

static void
make_engine_locked(void) GP_REQUIRES(&start_lock)
{
    gp__poller_init(&poller);
    gp__pool_init(&poller);
    made = true;
}

int
gp__engine_start(gp__poller **out, gp_error *err)
{
    int rc = gp__grpc_start(err); /* first: a forked child must not wait for a lock */

    if (rc < 0) {
        return rc;
    }
    gp_mutex_lock(&start_lock);
    if (!made) {
        gp_runtime_on_fork(&part);
        make_engine_locked();
    }
    if (!running) {
        gp__poller_open(&poller);
        running = true;
    }
    gp_mutex_unlock(&start_lock);
    *out = &poller;
    return 0;
}

static bool
is_running(void)
{
    bool answer;

    gp_mutex_lock(&start_lock);
    answer = running;
    gp_mutex_unlock(&start_lock);
    return answer;
}

bool
gp_grpc_shutdown(int64_t timeout_ms)
{
    return gp_runtime_forked() || !is_running() || gp__pool_end(gp_deadline_in(timeout_ms));
}

bool
gp__engine_suspend(int64_t deadline)
{
    bool ended;

    if (!is_running()) {
        return true;
    }
    ended = gp__pool_suspend(deadline);
    gp_mutex_lock(&start_lock);
    gp__pool_resume();
    if (ended) {
        ended = gp__poller_close(&poller, deadline);
        running = false;
    }
    gp_mutex_unlock(&start_lock);
    return ended;
}

/* In a forked child, which has none of the threads. */
static void
reset_after_fork(void)
{
    gp_mutex_init(&gp__engine_lock);
    gp_mutex_init(&start_lock);
    gp_mutex_lock(&start_lock);
    running = false;
    make_engine_locked(); /* at once: servers that stopped before the fork still use it */
    gp_mutex_unlock(&start_lock);
}
