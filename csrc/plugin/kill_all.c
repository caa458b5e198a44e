#include <stdatomic.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "gp/list.h"
#include "gp/lock.h"
#include "plugin/client.h"
#include "plugin/registry.h"

/* The clients that one gp_client_kill_all() kills at the same time. */
typedef struct group {
    bool managed_only;
    gp_list jobs; /* used by the thread in gp_client_kill_all() alone */
    gp_mutex lock;
    gp_cond done;
    size_t unfinished GP_GUARDED_BY(&lock);
    atomic_bool interrupted; /* plugins get no more time to exit by themselves */
} group;

/* One client, to be killed by a thread of its own. */
typedef struct job {
    gp_link link;
    gp_client *client; /* shared: ref */
    group *group;      /* borrowed */
    pthread_t thread;
    bool threaded; /* |thread| exists */
} job;

/*
 * Add a job for |client|, if it is to be killed. Called with the registry's lock held. Returns 0 or
 * GP_ENOMEM.
 */
static int
add_job(gp_client *client, void *ctx)
{
    group *jobs = ctx;
    job *one;

    if (!gp__client_is_killed_with_all(client, jobs->managed_only)) {
        return 0;
    }
    one = gp__calloc(1, sizeof(*one));
    if (one == NULL) {
        return GP_ENOMEM;
    }
    one->client = gp__client_ref(client);
    one->group = jobs;
    gp_list_append(&jobs->jobs, &one->link);
    return 0;
}

static job *
first_job(const group *jobs)
{
    return gp_list_first_entry(&jobs->jobs, job, link);
}

static job *
next_job(const group *jobs, job *one)
{
    return gp_list_next_entry(&jobs->jobs, one, job, link);
}

static int
is_interrupted(void *ctx)
{
    const group *jobs = ctx;

    return atomic_load(&jobs->interrupted) ? 1 : 0;
}

/*
 * Cancel all calls: the process ends, and no reply is wanted any more. A plugin that is asked to
 * exit would let running calls finish first.
 */
static void
cancel_calls(group *jobs)
{
    for (job *one = first_job(jobs); one != NULL; one = next_job(jobs, one)) {
        gp__client_cancel_calls(one->client);
    }
}

static void *
run_job(void *arg)
{
    job *one = arg;
    group *jobs = one->group;
    const gp_interrupt interrupt = {.check = is_interrupted, .ctx = jobs};

    gp_client_kill(one->client, &interrupt);
    gp__client_forget_if_runner_starts(one->client);
    gp_mutex_lock(&jobs->lock);
    jobs->unfinished--;
    gp_cond_broadcast(&jobs->done);
    gp_mutex_unlock(&jobs->lock);
    return NULL;
}

/*
 * Start a thread for each job. A client that this thread itself is starting or killing, further up
 * its stack, is only marked to be killed. Returns whether there are other clients.
 */
static bool
start_jobs(group *jobs)
{
    bool any = false;

    for (job *one = first_job(jobs); one != NULL; one = next_job(jobs, one)) {
        bool postponed = gp__client_is_at_work(one->client);

        gp_mutex_lock(&jobs->lock);
        jobs->unfinished++;
        gp_mutex_unlock(&jobs->lock);
        one->threaded =
            !postponed && gp__thread_start(&one->thread, "gp-kill", run_job, one, NULL) == 0;
        any = any || !postponed;
    }
    /*
     * Jobs without a thread run here, one after the other, while the other plugins' time to exit
     * runs, too.
     */
    for (job *one = first_job(jobs); one != NULL; one = next_job(jobs, one)) {
        if (!one->threaded) {
            run_job(one);
        }
    }
    return any;
}

/* Returns 0 or GP_EUSER. */
static int
await_jobs(group *jobs, const gp_interrupt *interrupt)
{
    int rc = 0;

    gp_mutex_lock(&jobs->lock);
    while (jobs->unfinished > 0) {
        if (rc == 0) {
            rc = gp__cond_wait_interruptible(&jobs->done, &jobs->lock, GP__FOREVER, interrupt);
        } else {
            atomic_store(&jobs->interrupted, true);
            gp_cond_wait_until(&jobs->done, &jobs->lock, GP__FOREVER);
        }
    }
    gp_mutex_unlock(&jobs->lock);
    return rc;
}

static void
free_jobs(group *jobs)
{
    gp_link *link;

    while ((link = gp_list_pop(&jobs->jobs)) != NULL) {
        job *one = gp_container_of(link, job, link);

        if (one->threaded) {
            pthread_join(one->thread, NULL);
        }
        gp__client_unref(one->client);
        gp__free(one);
    }
}

int
gp_client_kill_all(bool managed_only, const gp_interrupt *interrupt)
{
    group jobs = {.managed_only = managed_only};
    bool more = true;
    int rc = 0;

    if (gp_runtime_forked()) {
        return GP_EFORKED;
    }
    gp_mutex_init(&jobs.lock);
    gp_cond_init(&jobs.done);
    gp_list_init(&jobs.jobs);
    atomic_init(&jobs.interrupted, false);
    /* There is more than one round only if memory was short, or clients were started meanwhile. */
    while (more) {
        int interrupted;

        gp__registry_visit(add_job, &jobs);
        if (gp_list_is_empty(&jobs.jobs)) {
            break;
        }
        if (!managed_only) {
            cancel_calls(&jobs);
        }
        more = start_jobs(&jobs);
        interrupted = await_jobs(&jobs, interrupt);
        rc = rc == 0 ? interrupted : rc;
        free_jobs(&jobs);
    }
    gp_cond_release(&jobs.done);
    gp_mutex_release(&jobs.lock);
    return rc;
}
