#include "base/thread.h"

#include <signal.h>
#include <time.h>

/* How often a wait asks its interrupt: Ctrl-C must have an effect within 0.2 s. */
static const int64_t slice_ns = 50 * GP__MS;

int64_t
gp__now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t
gp__deadline_in_ns(int64_t timeout_ns)
{
    int64_t now;

    if (timeout_ns < 0) {
        return GP__FOREVER;
    }
    now = gp__now();
    return timeout_ns > GP__FOREVER - now ? GP__FOREVER : now + timeout_ns;
}

double
gp__seconds_until(int64_t deadline)
{
    int64_t left;

    if (deadline == GP__FOREVER) {
        return -1.0;
    }
    left = deadline - gp__now();
    return left > 0 ? (double)left / 1e9 : 0.0;
}

int64_t
gp__slice(int64_t deadline, const gp_interrupt *interrupt)
{
    int64_t slice;

    if (interrupt == NULL) {
        return deadline;
    }
    slice = gp__now() + slice_ns;
    return slice < deadline ? slice : deadline;
}

int
gp__interrupted(const gp_interrupt *interrupt)
{
    return interrupt != NULL && interrupt->check(interrupt->ctx) != 0 ? GP_EUSER : 0;
}

int
gp__cond_wait_interruptible(gp_cond *cond, gp_mutex *lock, int64_t deadline,
                            const gp_interrupt *interrupt)
{
    int64_t slice = gp__slice(deadline, interrupt);
    int rc = gp_cond_wait_until(cond, lock, slice);

    if (rc != GP_ETIMEOUT || slice == deadline) {
        return rc;
    }
    gp_mutex_unlock(lock);
    rc = gp__interrupted(interrupt);
    gp_mutex_lock(lock);
    return rc;
}

/* The new thread inherits this one's mask. */
static int
start_thread(pthread_t *thread, const char *name, void *(*run)(void *), void *arg,
             const sigset_t *before, gp_error *err)
{
    int rc = pthread_create(thread, NULL, run, arg);

    pthread_sigmask(SIG_SETMASK, before, NULL);
    if (rc != 0) {
        return gp_error_set_errno(err, rc, "cannot start thread %s", name);
    }
#ifdef __linux__
    pthread_setname_np(*thread, name);
#else
    (void)name;
#endif
    return 0;
}

int
gp__thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *arg,
                 gp_error *err)
{
    sigset_t before;

    gp_runtime_user_signals(&before); /* for the threads that this one may start */
    gp_runtime_block_signals(NULL);
    return start_thread(thread, name, run, arg, &before, err);
}

int
gp_user_thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *arg,
                     gp_error *err)
{
    sigset_t before;

    gp_runtime_user_signals(&before);
    return start_thread(thread, name, run, arg, &before, err);
}
