#include <stdlib.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "gp/lock.h"
#include "plugin/client.h"

/* One client to be killed by a thread of its own. */
typedef struct job {
    struct job *next;
    gp_client *client; /* shared: ref */
    pthread_t thread;
    bool threaded; /* else there was no thread to be had */
    struct group *group;
} job;

/* The jobs of one gp_client_kill_all(). */
typedef struct group {
    gp_mutex lock;
    gp_cond done;
    size_t unfinished;
    atomic_bool hurry;
} group;

/* The lock guards the list and its links, nothing else, and nothing is called with it held. */
static gp_mutex lock = GP_MUTEX_INIT;
static gp_client *first; /* borrowed: clients take themselves off before they are freed */

/* In a forked child: those that run are the parent's, and it could not use them. */
static void
reset(void)
{
    gp_mutex_init(&lock);
    for (gp_client *client = first; client != NULL; client = client->next) {
        client->registered = false;
    }
    first = NULL;
}

static gp_fork_part part = {.reset = reset};

void
gp__registry_add(gp_client *client)
{
    gp_runtime_on_fork(&part);
    gp_mutex_lock(&lock);
    client->prev = NULL;
    client->next = first;
    if (first != NULL) {
        first->prev = client;
    }
    first = client;
    client->registered = true;
    gp_mutex_unlock(&lock);
}

void
gp__registry_remove(gp_client *client)
{
    gp_mutex_lock(&lock);
    if (client->registered) {
        if (client->prev != NULL) {
            client->prev->next = client->next;
        } else {
            first = client->next;
        }
        if (client->next != NULL) {
            client->next->prev = client->prev;
        }
        client->registered = false;
    }
    gp_mutex_unlock(&lock);
}

static bool
concerned(const gp_client *client, bool managed_only)
{
    const gp_client_options *options = &client->options.view;

    return options->managed || (!managed_only && gp__client_launched(client) && !options->detach);
}

/* A job for each client concerned, or for as many as there is memory for. */
static job *
collect(bool managed_only, group *jobs_of)
{
    job *jobs = NULL;

    gp_mutex_lock(&lock);
    for (gp_client *client = first; client != NULL; client = client->next) {
        job *one;

        if (!concerned(client, managed_only)) {
            continue;
        }
        one = gp__calloc(1, sizeof(*one));
        if (one == NULL) {
            break;
        }
        one->client = gp__client_ref(client);
        one->group = jobs_of;
        one->next = jobs;
        jobs = one;
    }
    gp_mutex_unlock(&lock);
    return jobs;
}

static int
in_a_hurry(void *ctx)
{
    const group *jobs = ctx;

    return atomic_load(&jobs->hurry) ? 1 : 0;
}

/*
 * Nobody is left who wants their replies, and a plugin that is asked to exit would give them its
 * grace.
 */
static void
cancel_calls(job *jobs)
{
    for (job *one = jobs; one != NULL; one = one->next) {
        gp_channel *channel = gp_client_channel(one->client);

        if (channel != NULL) {
            gp_channel_cancel_others(channel);
        }
    }
}

static void *
run(void *arg)
{
    job *one = arg;
    group *jobs = one->group;
    const gp_interrupt interrupt = {.check = in_a_hurry, .ctx = jobs};

    gp_client_kill(one->client, &interrupt);
    if (gp__client_waits_for_runner(one->client)) {
        gp__registry_remove(one->client); /* it will be killed as soon as it can be, by its start */
    }
    gp_mutex_lock(&jobs->lock);
    jobs->unfinished--;
    gp_cond_broadcast(&jobs->done);
    gp_mutex_unlock(&jobs->lock);
    return NULL;
}

/*
 * Whether this thread is here by way of an interrupt, and its own work on that client has to end
 * first.
 */
static bool
is_at_work(gp_client *client)
{
    bool at_work;

    gp_mutex_lock(&client->lock);
    at_work = gp__client_is_at_work(client);
    gp_mutex_unlock(&client->lock);
    return at_work;
}

/* Returns whether there is one that can be seen through. */
static bool
start(job *jobs)
{
    bool any = false;

    for (job *one = jobs; one != NULL; one = one->next) {
        bool postponed = is_at_work(one->client);

        gp_mutex_lock(&one->group->lock);
        one->group->unfinished++;
        gp_mutex_unlock(&one->group->lock);
        one->threaded =
            !postponed && gp__thread_start(&one->thread, "gp-kill", run, one, NULL) == 0;
        any = any || !postponed;
    }
    /* Those that got no thread come one after the other, while the others' patience runs. */
    for (job *one = jobs; one != NULL; one = one->next) {
        if (!one->threaded) {
            run(one);
        }
    }
    return any;
}

/* Returns 0 or GP_EUSER. */
static int
await(group *jobs, const gp_interrupt *interrupt)
{
    int rc = 0;

    gp_mutex_lock(&jobs->lock);
    while (jobs->unfinished > 0) {
        if (rc == 0) {
            rc = gp__cond_wait_interruptible(&jobs->done, &jobs->lock, GP__FOREVER, interrupt);
        } else {
            atomic_store(&jobs->hurry, true);
            gp_cond_wait_until(&jobs->done, &jobs->lock, GP__FOREVER);
        }
    }
    gp_mutex_unlock(&jobs->lock);
    return rc;
}

static void
finish(job *jobs)
{
    while (jobs != NULL) {
        job *one = jobs;

        jobs = one->next;
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
    group jobs_of = {.unfinished = 0};
    bool more = true;
    job *jobs;
    int rc = 0;

    if (gp_runtime_forked()) {
        return GP_EFORKED;
    }
    gp_mutex_init(&jobs_of.lock);
    gp_cond_init(&jobs_of.done);
    atomic_init(&jobs_of.hurry, false);
    /* More rounds than one only if memory was short, or clients were started meanwhile. */
    while (more && (jobs = collect(managed_only, &jobs_of)) != NULL) {
        int interrupted;

        if (!managed_only) {
            cancel_calls(jobs);
        }
        more = start(jobs);
        interrupted = await(&jobs_of, interrupt);
        rc = rc == 0 ? interrupted : rc;
        finish(jobs);
    }
    gp_cond_release(&jobs_of.done);
    gp_mutex_release(&jobs_of.lock);
    return rc;
}
