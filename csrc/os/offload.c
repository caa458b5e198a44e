#include "os/offload.h"

#include <stdatomic.h>
#include <stdbool.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "gp/lock.h"

/*
 * Threads that may be at it at the same time: a peer must not make this process start any number.
 */
enum { MOST = 64 };

typedef struct job {
    gp_mutex lock;
    gp_cond changed;
    bool done;
    bool abandoned; /* nobody waits any more: the thread frees it all */
    void (*run)(void *ctx);
    void (*release)(void *ctx);
    void *ctx;
} job;

static atomic_int under_way;

/* In a forked child, which has none of the threads. */
static void
reset(void)
{
    atomic_store(&under_way, 0);
}

static gp_fork_part part = {.reset = reset};

static void
free_job(job *it)
{
    gp_cond_release(&it->changed);
    gp_mutex_release(&it->lock);
    gp__free(it);
}

static void *
run_job(void *arg)
{
    job *it = arg;
    bool abandoned;

    it->run(it->ctx);
    atomic_fetch_sub(&under_way, 1);
    gp_mutex_lock(&it->lock);
    it->done = true;
    abandoned = it->abandoned;
    gp_cond_signal(&it->changed);
    gp_mutex_unlock(&it->lock);
    if (abandoned) {
        it->release(it->ctx);
        free_job(it);
    }
    return NULL;
}

/* Returns 0 or a GP_E* code: nothing has been started. */
static int
start(job **out, void (*run)(void *ctx), void (*release)(void *ctx), void *ctx, pthread_t *thread,
      gp_error *err)
{
    job *it = gp__calloc(1, sizeof(*it));
    int rc;

    if (it == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a thread");
    }
    gp_mutex_init(&it->lock);
    gp_cond_init(&it->changed);
    gp_runtime_on_fork(&part);
    it->run = run;
    it->release = release;
    it->ctx = ctx;
    if (atomic_fetch_add(&under_way, 1) >= MOST) {
        rc = gp_error_set(err, GP_EOS, "%d system calls are under way that do not return", MOST);
    } else {
        rc = gp__thread_start(thread, "gp-offload", run_job, it, err);
    }
    if (rc < 0) {
        atomic_fetch_sub(&under_way, 1);
        free_job(it);
        return rc;
    }
    *out = it;
    return 0;
}

int
gp__offload(void (*run)(void *ctx), void (*release)(void *ctx), void *ctx, int64_t deadline,
            const gp_interrupt *interrupt, gp_error *err)
{
    pthread_t thread;
    job *it = NULL;
    bool done;
    int rc = start(&it, run, release, ctx, &thread, err);

    if (rc < 0) {
        release(ctx);
        return rc;
    }
    gp_mutex_lock(&it->lock);
    while (!it->done && rc == 0) {
        rc = gp__cond_wait_interruptible(&it->changed, &it->lock, deadline, interrupt);
    }
    done = it->done;
    it->abandoned = !done;
    gp_mutex_unlock(&it->lock);
    if (done) {
        pthread_join(thread, NULL);
        free_job(it);
        return 0;
    }
    pthread_detach(thread);
    return gp_error_set(err, rc, "%s", rc == GP_EUSER ? "interrupted" : "timed out");
}
