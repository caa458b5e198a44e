#include "os/offload.h"

#include <stdatomic.h>
#include <stdbool.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "gp/lock.h"

/*
 * How many operations may run at the same time: no peer can make this process start more threads.
 */
enum { MOST_OPERATIONS = 64 };

/* A call of gp__offload(). Whichever of its two threads is done last frees it. */
typedef struct operation {
    gp_mutex lock;
    gp_cond changed;
    bool done GP_GUARDED_BY(&lock);
    bool abandoned GP_GUARDED_BY(&lock); /* the caller has stopped waiting */
    void (*run)(void *ctx);
    void (*release)(void *ctx);
    void *ctx;
} operation;

static atomic_int running_count;

/* A forked child has none of the threads. */
static void
reset_in_child(void)
{
    atomic_store(&running_count, 0);
}

static gp_fork_part fork_part = {.reset = reset_in_child};

static void
free_operation(operation *self)
{
    gp_cond_release(&self->changed);
    gp_mutex_release(&self->lock);
    gp__free(self);
}

static void *
run_operation(void *arg)
{
    operation *self = arg;
    bool abandoned;

    self->run(self->ctx);
    atomic_fetch_sub(&running_count, 1);
    gp_mutex_lock(&self->lock);
    self->done = true;
    abandoned = self->abandoned;
    gp_cond_signal(&self->changed);
    gp_mutex_unlock(&self->lock);
    if (abandoned) {
        self->release(self->ctx);
        free_operation(self);
    }
    return NULL;
}

/* Returns 0 or a GP_E* code: nothing has been started. */
static int
start_operation(operation **out, void (*run)(void *ctx), void (*release)(void *ctx), void *ctx,
                pthread_t *thread, gp_error *err)
{
    operation *self = gp__calloc(1, sizeof(*self));
    int rc;

    if (self == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a thread");
    }
    gp_mutex_init(&self->lock);
    gp_cond_init(&self->changed);
    gp_runtime_on_fork(&fork_part);
    self->run = run;
    self->release = release;
    self->ctx = ctx;
    if (atomic_fetch_add(&running_count, 1) >= MOST_OPERATIONS) {
        rc = gp_error_set(err, GP_EOS, "%d system calls have been started and do not return",
                          MOST_OPERATIONS);
    } else {
        rc = gp__thread_start(thread, "gp-offload", run_operation, self, err);
    }
    if (rc < 0) {
        atomic_fetch_sub(&running_count, 1);
        free_operation(self);
        return rc;
    }
    *out = self;
    return 0;
}

int
gp__offload(void (*run)(void *ctx), void (*release)(void *ctx), void *ctx, int64_t deadline,
            const gp_interrupt *interrupt, gp_error *err)
{
    pthread_t thread;
    operation *self = NULL;
    bool done;
    int rc = start_operation(&self, run, release, ctx, &thread, err);

    if (rc < 0) {
        release(ctx);
        return rc;
    }
    gp_mutex_lock(&self->lock);
    while (!self->done && rc == 0) {
        rc = gp__cond_wait_interruptible(&self->changed, &self->lock, deadline, interrupt);
    }
    done = self->done;
    self->abandoned = !done;
    gp_mutex_unlock(&self->lock);
    if (done) {
        pthread_join(thread, NULL);
        free_operation(self);
        return 0;
    }
    pthread_detach(thread);
    return gp_error_set(err, rc, "%s", rc == GP_EUSER ? "interrupted" : "timed out");
}
