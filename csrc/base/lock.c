#include "gp/lock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/thread.h"

static void
require_success(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "pygo_plugin: cannot make a %s: %s\n", what, strerror(rc));
        abort();
    }
}

void
gp_mutex_init(gp_mutex *mutex)
{
    require_success(pthread_mutex_init(&mutex->os, NULL), "mutex");
}

void
gp_cond_init(gp_cond *cond)
{
    pthread_condattr_t attributes;
    int rc = pthread_condattr_init(&attributes);

    require_success(rc, "condition variable");
    rc = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    rc = rc == 0 ? pthread_cond_init(&cond->os, &attributes) : rc;
    require_success(rc, "condition variable");
    pthread_condattr_destroy(&attributes);
}

int64_t
gp_deadline_in(int64_t timeout_ms)
{
    return gp__deadline_in_ns(timeout_ms > GP__FOREVER / GP__MS ? -1 : timeout_ms * GP__MS);
}

int
gp_cond_wait_until(gp_cond *cond, gp_mutex *mutex, int64_t deadline)
{
    struct timespec until;

    if (deadline == GP__FOREVER) {
        gp_cond_wait(cond, mutex);
        return 0;
    }
    until.tv_sec = (time_t)(deadline / 1000000000);
    until.tv_nsec = (long)(deadline % 1000000000);
    return pthread_cond_timedwait(&cond->os, &mutex->os, &until) == ETIMEDOUT ? GP_ETIMEOUT : 0;
}
