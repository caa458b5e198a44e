#include "rpc/server.h"

#include "base/thread.h"

/* The server in whose seat this thread sits and whose jobs it will look for when it leaves. */
static _Thread_local gp_server *turning;

static void *run_worker(void *arg);

/* ---- Who does what ---- */

void
gp__server_start_worker(gp_server *server)
{
    pthread_t thread;

    atomic_fetch_add(&server->refs, 1);
    server->threads++;
    server->starting++;
    if (gp__thread_start(&thread, "gp-worker", run_worker, server, NULL) < 0) {
        server->threads--;
        server->starting--;
        atomic_fetch_sub(&server->refs, 1);
        return;
    }
    pthread_detach(thread);
}

/* One worker more than handlers may run: the one that polls while all of them do. Lock held. */
static bool
may_start_worker(const gp_server *server)
{
    return server->threads <= server->max_workers;
}

/* Have some other worker than the one that is turning see to a new job. Lock held. */
static void
call_worker(gp_server *server)
{
    if (server->idle_count > 0) {
        pthread_cond_signal(&server->idle);
    } else if (server->has_standby) {
        gp__poller_wake_standby(&server->poller);
    } else if (may_start_worker(server)) {
        gp__server_start_worker(server);
    }
}

/* Somebody must look after the seat while this worker is busy: whoever starts up will. Lock held. */
static void
ensure_standby(gp_server *server)
{
    if (server->has_standby || server->starting > 0) {
        return;
    }
    if (server->idle_count > 0) {
        pthread_cond_signal(&server->idle);
    } else if (may_start_worker(server)) {
        gp__server_start_worker(server);
    }
}

void
gp__server_queue_job(gp_server *server, gp_server_call *call)
{
    call->next_job = NULL;
    *server->jobs_end = call;
    server->jobs_end = &call->next_job;
    /* Otherwise this thread comes to it next, or else whoever is done first. */
    if (turning != server && server->running < server->max_workers) {
        call_worker(server);
    }
}

void
gp__server_queue_over(gp_server_call *call)
{
    gp_server *server = call->server;

    pthread_mutex_lock(&server->poller.lock);
    call->next_over = server->over;
    server->over = call;
    if (turning != server) {
        call_worker(server);
    }
    pthread_mutex_unlock(&server->poller.lock);
}

/* ---- Running handlers ---- */

/* The next call for the handler, if one may run. Lock held. */
static gp_server_call *
next_job(gp_server *server)
{
    gp_server_call *call = server->jobs;

    if (call == NULL || server->running >= server->max_workers) {
        return NULL;
    }
    server->jobs = call->next_job;
    if (server->jobs == NULL) {
        server->jobs_end = &server->jobs;
    }
    return call;
}

static void
refuse_unknown(gp_server_call *call)
{
    static const char text[] = "Method not found!";

    gp_server_call_finish(call, GRPC_STATUS_UNIMPLEMENTED, (gp_bytes){text, sizeof(text) - 1},
                          (gp_metadata){NULL, 0});
}

typedef enum verdict {
    RUN,
    REFUSED,
    LATER, /* once its message is there: whoever has the lock may run it, and free it */
} verdict;

/* Let the handler look at a new call. Lock held on entry and exit, not in between. */
static verdict
begin_call(gp_server *server, gp_server_call *call)
{
    int answer;

    pthread_mutex_unlock(&server->poller.lock);
    answer = server->handler.begin(server->handler_ctx, call, &call->data);
    if (answer < 0) {
        refuse_unknown(call);
    }
    pthread_mutex_lock(&server->poller.lock);
    if (answer < 0) {
        return REFUSED;
    }
    if (answer == 0 || gp__gate_is_open(&call->inbox.there)) {
        return RUN;
    }
    call->phase = GP__CALL_EXPECTING;
    return LATER;
}

/*
 * Methods that have been found slow are not waited for until a tick has passed: the seat is offered
 * before they run, until one of them turns out to be quick.
 */
static const int64_t slow_ns = 500000;

static bool *
place_of(gp_server *server, const gp_server_call *call)
{
    gp_bytes path = gp_server_call_method(call);
    const unsigned char *bytes = path.data;
    unsigned hash = 0;

    for (size_t i = 0; i < path.len; i++) {
        hash = 31 * hash + bytes[i];
    }
    return &server->slow[hash % GP__METHOD_PLACES];
}

/* Run the handler, and remember whether somebody had to take over the polling meanwhile. */
static void
run_handler(gp_server *server, gp_server_call *call)
{
    gp__poller *poller = &server->poller;
    bool *slow = place_of(server, call);
    unsigned long takeovers = poller->takeovers;
    bool expected = *slow;
    int64_t start = 0;

    if (expected) {
        gp__poller_offer(poller);
        start = gp__now();
    } else {
        server->left_for = slow;
    }
    pthread_mutex_unlock(&poller->lock);
    server->handler.run(server->handler_ctx, call, call->data);
    pthread_mutex_lock(&poller->lock);
    if (!expected) {
        *slow = poller->takeovers != takeovers;
        server->left_for = server->left_for == slow ? NULL : server->left_for;
    } else {
        *slow = gp__now() - start >= slow_ns;
    }
}

/*
 * Wait as the standby thread; returns whether the seat is to be taken. A handler that it had to be taken
 * over from is known to be slow at once: it may be one that never returns, with more calls of the same
 * method behind it, of which each would have to be waited for. Lock held on entry and exit.
 */
static bool
stand_by(gp_server *server)
{
    unsigned long takeovers = server->poller.takeovers;
    bool claim;

    server->has_standby = true;
    claim = gp__poller_watch(&server->poller);
    server->has_standby = false;
    if (claim) {
        ensure_standby(server);
    }
    if (server->poller.takeovers != takeovers && server->left_for != NULL) {
        *server->left_for = true;
    }
    return claim;
}

/* Lock held on entry and exit, not in between. */
static void
run_job(gp_server *server, gp_server_call *call)
{
    verdict found = RUN;

    server->running++;
    ensure_standby(server);
    if (server->jobs != NULL && server->running < server->max_workers) {
        /* Two calls may have woken the same worker, which is busy from now on. */
        call_worker(server);
    }
    if (call->phase == GP__CALL_ARRIVED) {
        found = begin_call(server, call);
    }
    if (found == RUN) {
        call->phase = GP__CALL_RUNNING;
        run_handler(server, call);
    }
    server->running--;
    if (found != LATER) {
        server->active--;
        pthread_mutex_unlock(&server->poller.lock);
        gp_server_call_unref(call);
        pthread_mutex_lock(&server->poller.lock);
    }
}

/* Tell that a call is over. No handler: it is never held up by those that run. As run_job(). */
static void
run_over(gp_server *server)
{
    gp_server_call *call = server->over;

    server->over = call->next_over;
    server->active++;
    ensure_standby(server);
    pthread_mutex_unlock(&server->poller.lock);
    call->on_over(call->on_over_ctx);
    gp_server_call_unref(call);
    pthread_mutex_lock(&server->poller.lock);
    server->active--;
}

/* ---- The threads ---- */

/*
 * Close the connections once no call is left on them: a client that keeps its connection open while
 * it waits for us to be gone must not keep us. Lock held.
 */
void
gp__server_hang_up_if_idle(gp_server *server)
{
    if (server->stopping && !server->hung_up && server->active == 0 && server->over == NULL &&
        atomic_load(&server->batches) == 0) {
        server->hung_up = true;
        pthread_mutex_unlock(&server->poller.lock);
        grpc_server_cancel_all_calls(server->grpc);
        pthread_mutex_lock(&server->poller.lock);
    }
}

/* Whether the workers have nothing left to do, ever. Lock held. */
static bool
all_done(const gp_server *server)
{
    return server->stopped && server->active == 0 && server->over == NULL &&
           atomic_load(&server->batches) == 0;
}

/*
 * Until when a worker may sit in the queue. Once the server has stopped, the last handler to return
 * leaves no event behind that would tell it. Lock held.
 */
static int64_t
next_look(const gp_server *server)
{
    return server->stopped ? gp__now() + 10 * GP__MS : GP__FOREVER;
}

static void *
run_worker(void *arg)
{
    gp_server *server = arg;
    gp__poller *poller = &server->poller;
    bool claim;

    pthread_mutex_lock(&poller->lock);
    server->starting--;
    claim = server->threads == 1; /* the first one polls; a later one only fills in */
    while (!all_done(server)) {
        gp_server_call *call;

        gp__server_tell_idle(server);
        gp__server_hang_up_if_idle(server);
        if (server->over != NULL) {
            run_over(server);
            claim = true;
        } else if ((call = next_job(server)) != NULL) {
            run_job(server, call);
            claim = true;
        } else if (claim && !poller->taken) {
            turning = server;
            gp__poller_turn(poller, next_look(server));
            turning = NULL;
        } else if (!server->has_standby) {
            claim = stand_by(server);
        } else {
            server->idle_count++;
            pthread_cond_wait(&server->idle, &poller->lock);
            server->idle_count--;
            claim = false;
        }
    }
    /* Pass the news on to those who sleep. */
    gp__poller_wake_standby(poller);
    pthread_cond_broadcast(&server->idle);
    pthread_mutex_unlock(&poller->lock);

    if (server->handler.thread_exit != NULL) {
        server->handler.thread_exit(server->handler_ctx);
    }
    pthread_mutex_lock(&poller->lock);
    server->threads--;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&poller->lock);
    gp__server_unref(server);
    return NULL;
}
