#include "gp/lock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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
