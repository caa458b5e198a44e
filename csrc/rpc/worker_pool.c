#include "rpc/worker_pool.h"

#include <string.h>

#include "base/thread.h"
#include "gp/grpc.h"
#include "gp/lock.h"
#include "rpc/runtime.h"
#include "rpc/server.h"

/* How long a thread rests before it goes. */
static const int64_t rest_ns = 10000 * GP__MS;

/* A worker that waits. The last one is woken first, so that those that are not needed end. */
typedef struct idle {
    gp_cond woken; /* owned; as long as the worker lives */
    bool waiting;  /* it is in the list */
    struct idle *next;
} idle;
static void reset(void);

static struct {
    gp_mutex making; /* comes before the poller's lock; guards |made| and |open| */
    bool made;
    bool open; /* the poller has its queue */
    gp_fork_part part;

    gp__poller poller;     /* its lock guards everything below */
    gp_server *ready;      /* with a job that may run, in turn */
    gp_server **ready_end; /* NULL: |ready| itself */
    gp_server_call *over;  /* whose on_over is due; each with a reference */
    gp_list deferred;      /* tasks of gp__pool_defer() */
    struct idle *idle;     /* workers that wait for something to do, the last one first */
    gp_cond left;          /* for who waits until all have gone */
    int threads;
    int starting;    /* of these, those that have not looked around yet */
    int working;     /* and those that are busy with something that may take long */
    bool has_backup; /* one is in gp__poller_watch() */
    bool ended;      /* the process is about to end */
    bool leaving;    /* it is about to fork, and nothing uses gRPC */
    void (*goodbye)(void);
} pool = {.making = GP_MUTEX_INIT, .part = {.reset = reset}};

/* This thread sits in the seat, and will look for jobs when it leaves. */
static _Thread_local bool polling;

static void *run_thread(void *arg);

/* ---- Making ---- */

/* Lock held. */
static void
make(void)
{
    if (!pool.made) {
        gp_runtime_on_fork(&pool.part);
        pool.ready_end = &pool.ready;
        gp_list_init(&pool.deferred);
        gp_cond_init(&pool.left);
        gp__poller_init(&pool.poller);
        pool.made = true;
    }
}

int
gp__pool_poller(gp__poller **out, gp_error *err)
{
    int rc = gp__grpc_start(err); /* first, as a forked child must not wait for a lock */

    if (rc < 0) {
        return rc;
    }
    gp_mutex_lock(&pool.making);
    make();
    if (!pool.open) {
        gp__poller_open(&pool.poller);
        pool.open = true;
    }
    gp_mutex_unlock(&pool.making);
    *out = &pool.poller;
    return 0;
}

void
gp_server_on_thread_exit(void (*goodbye)(void))
{
    pool.goodbye = goodbye;
}

/* ---- Who does what. Lock held. ---- */

/* Two that are not at work are enough: one for the seat, and one to stand by. */
static bool
may_start(void)
{
    return !pool.ended && !pool.leaving && pool.threads < pool.working + 2;
}

static int
start_thread(gp_error *err)
{
    pthread_t thread;
    int rc = gp_user_thread_start(&thread, "gp-worker", run_thread, NULL, err);

    if (rc == 0) {
        pthread_detach(thread);
        pool.threads++;
        pool.starting++;
    }
    return rc;
}

/* Wake the worker that has waited for the shortest time, if one waits. Returns whether. */
static bool
wake_idle(void)
{
    idle *last = pool.idle;

    if (last == NULL) {
        return false;
    }
    pool.idle = last->next;
    last->waiting = false;
    gp_cond_signal(&last->woken);
    return true;
}

/* Have some other thread than the one that is polling see to what has come up. */
static void
wake_worker(void)
{
    if (wake_idle()) {
        return;
    }
    if (pool.has_backup) {
        gp__poller_wake_backup_locked(&pool.poller);
    } else if (may_start()) {
        start_thread(NULL);
    }
}

/* Somebody must look after the seat while this thread is at work: whoever starts up will. */
static void
ensure_standby(void)
{
    if (pool.has_backup || pool.starting > 0) {
        return;
    }
    if (!wake_idle() && may_start()) {
        start_thread(NULL);
    }
}

int
gp__pool_start(bool poll, gp_error *err)
{
    int rc = 0;

    gp_mutex_lock(&gp__engine_lock);
    if (pool.threads == 0 && !pool.ended) {
        rc = start_thread(err);
        if (poll) {
            gp__poller_offer_locked(&pool.poller);
        }
    }
    gp_mutex_unlock(&gp__engine_lock);
    return rc;
}

/* ---- What there is to do ---- */

/* Give |server| its turn, if it has something to run and has none yet. */
static void
queue_up(gp_server *server)
{
    if (server->ready || server->jobs == NULL) {
        return;
    }
    if (server->running < server->max_workers) {
        server->ready = true;
        server->next_ready = NULL;
        *pool.ready_end = server;
        pool.ready_end = &server->next_ready;
    } else if (server->handler.full != NULL && !server->told_full) {
        server->told_full = true;
        server->handler.full(server->handler_ctx, server->max_workers);
    }
}

void
gp__pool_add_job(gp_server *server)
{
    queue_up(server);
    /* Otherwise this thread comes to it next, or else whoever is done first. */
    if (!polling && server->ready) {
        wake_worker();
    }
}

void
gp__pool_add_over(gp_server_call *call)
{
    call->next_over = pool.over;
    pool.over = call;
    if (!polling) {
        wake_worker();
    }
}

void
gp__pool_defer(gp__task *task)
{
    gp_mutex_lock(&gp__engine_lock);
    gp_list_append(&pool.deferred, &task->link);
    if (!polling) {
        wake_worker();
    }
    gp_mutex_unlock(&gp__engine_lock);
}

/* The next call for a handler, or NULL. Its server's turn is over. */
static gp_server_call *
next_job(void)
{
    gp_server *server = pool.ready;
    gp_server_call *call;

    if (server == NULL) {
        return NULL;
    }
    pool.ready = server->next_ready;
    if (pool.ready == NULL) {
        pool.ready_end = &pool.ready;
    }
    server->ready = false;
    call = server->jobs;
    server->jobs = call->next_job;
    if (server->jobs == NULL) {
        server->jobs_end = &server->jobs;
    }
    server->running++;
    queue_up(server);
    return call;
}

static void
start_work(void)
{
    pool.working++;
    ensure_standby();
    if (pool.ready != NULL || pool.over != NULL) {
        /* Two calls may have woken the same thread, which is busy from now on. */
        wake_worker();
    }
}

/* ---- Running handlers. Lock held on entry and exit, not in between. ---- */

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

/* Let the handler look at a new call. */
static verdict
begin_call(gp_server *server, gp_server_call *call)
{
    int answer;

    gp_mutex_unlock(&gp__engine_lock);
    answer = server->handler.begin(server->handler_ctx, call, &call->data);
    if (answer < 0) {
        refuse_unknown(call);
    }
    gp_mutex_lock(&gp__engine_lock);
    if (answer < 0) {
        return REFUSED;
    }
    if (answer == 0 || gp__gate_is_open(&call->inbox.there)) {
        return RUN;
    }
    call->phase = GP__CALL_EXPECTING;
    return LATER;
}

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

static void
run_handler(gp_server *server, gp_server_call *call)
{
    gp__absence absence;

    gp__poller_begin_absence_locked(&pool.poller, &absence, place_of(server, call));
    gp_mutex_unlock(&gp__engine_lock);
    server->handler.run(server->handler_ctx, call, call->data);
    gp_mutex_lock(&gp__engine_lock);
    gp__poller_end_absence_locked(&pool.poller, &absence);
}

static void
run_job(gp_server_call *call)
{
    gp_server *server = gp__server_ref(call->server); /* a call that is run later may be gone */
    verdict found = RUN;

    start_work();
    if (call->phase == GP__CALL_ARRIVED) {
        found = begin_call(server, call);
    }
    if (found == RUN) {
        call->phase = GP__CALL_RUNNING;
        run_handler(server, call);
    }
    server->running--;
    server->told_full = server->told_full && server->running > server->max_workers / 2;
    queue_up(server);
    pool.working--;
    if (found != LATER && !call->kept) {
        server->active--;
        gp__server_settle(server);
    }
    gp_mutex_unlock(&gp__engine_lock);
    if (found != LATER) {
        gp_server_call_unref(call);
    }
    gp__server_unref(server);
    gp_mutex_lock(&gp__engine_lock);
}

/* Tell that a call is over. No handler: it is never held up by those that run. */
static void
run_over(void)
{
    gp_server_call *call = pool.over;
    gp_server *server = gp__server_ref(call->server);

    pool.over = call->next_over;
    start_work();
    gp_mutex_unlock(&gp__engine_lock);
    call->on_over(call->on_over_ctx);
    gp_server_call_unref(call);
    gp_mutex_lock(&gp__engine_lock);
    pool.working--;
    server->overs--;
    gp__server_settle(server);
    gp_mutex_unlock(&gp__engine_lock);
    gp__server_unref(server);
    gp_mutex_lock(&gp__engine_lock);
}

static void
run_deferred(void)
{
    gp__task *task = gp_container_of(gp_list_pop(&pool.deferred), gp__task, link);

    start_work();
    gp_mutex_unlock(&gp__engine_lock);
    task->run(task);
    gp_mutex_lock(&gp__engine_lock);
    pool.working--;
}

/* ---- The seat. Lock held on entry and exit. ---- */

/*
 * Sit in the seat until something has come. Returns whether to go on: not when a thread sleeps for
 * what comes in or was just woken by it, which polls better for itself.
 */
static bool
take_turn(void)
{
    gp__poller *poller = &pool.poller;
    unsigned long wakeups = poller->wakeups;

    polling = true;
    gp__poller_poll_locked(poller);
    polling = false;
    if (gp_list_is_empty(&poller->waiters) && (poller->urgent > 0 || poller->wakeups == wakeups)) {
        return true;
    }
    if (poller->servers > 0) {
        gp__poller_request_backup_locked(poller);
    }
    return false;
}

/* Wait as the backup poller; returns whether this thread is to poll. */
static bool
stand_by(void)
{
    bool wanted;

    pool.has_backup = true;
    wanted = gp__poller_back_up_locked(&pool.poller);
    pool.has_backup = false;
    return wanted;
}

/*
 * Wait for something to do. Returns false if there has been nothing for long: one thread too many.
 */
static bool
rest(idle *me)
{
    int64_t deadline = gp__now() + rest_ns;
    idle **link = &pool.idle;
    int rc = 0;

    me->waiting = true;
    me->next = pool.idle;
    pool.idle = me;
    while (me->waiting && rc == 0) {
        rc = gp_cond_wait_until(&me->woken, &gp__engine_lock, deadline);
    }
    if (!me->waiting) {
        return true;
    }
    while (*link != me) {
        link = &(*link)->next;
    }
    *link = me->next;
    return pool.over != NULL || pool.ready != NULL || !gp_list_is_empty(&pool.deferred) ||
           !pool.has_backup;
}

/* ---- The threads ---- */

static void *
run_thread(void *arg)
{
    idle me = {.waiting = false};
    bool claim = false;

    (void)arg;
    gp_cond_init(&me.woken);
    gp_mutex_lock(&gp__engine_lock);
    pool.starting--;
    while (!pool.ended && !pool.leaving) {
        gp_server_call *call;

        if (pool.over != NULL) {
            run_over();
            claim = true;
        } else if ((call = next_job()) != NULL) {
            run_job(call);
            claim = true;
        } else if (!gp_list_is_empty(&pool.deferred)) {
            run_deferred();
        } else if (claim && !pool.poller.polled) {
            claim = take_turn();
        } else if (!pool.has_backup) {
            claim = stand_by();
        } else if (rest(&me)) {
            claim = false;
        } else {
            break;
        }
    }
    gp_mutex_unlock(&gp__engine_lock);
    gp_cond_release(&me.woken);
    if (pool.goodbye != NULL) {
        pool.goodbye();
    }
    gp_mutex_lock(&gp__engine_lock);
    pool.threads--;
    gp_cond_broadcast(&pool.left);
    gp_mutex_unlock(&gp__engine_lock);
    return NULL;
}

/* ---- The end ---- */

static bool
has_poller(void)
{
    bool open;

    gp_mutex_lock(&pool.making);
    open = pool.open;
    gp_mutex_unlock(&pool.making);
    return open;
}

/* End the threads, for the reason |why|. Returns whether they have gone by |deadline|. */
static bool
end_threads(bool *why, int64_t deadline)
{
    bool gone;

    gp_mutex_lock(&gp__engine_lock);
    *why = true;
    gone = pool.threads == 0;
    gp__poller_wake_backup_locked(&pool.poller);
    while (wake_idle()) {
    }
    gp_mutex_unlock(&gp__engine_lock);
    if (gone) {
        return true;
    }
    gp__poller_interrupt(&pool.poller);
    gp_mutex_lock(&gp__engine_lock);
    while (pool.threads > 0 && gp__now() < deadline) {
        gp_cond_wait_until(&pool.left, &gp__engine_lock, deadline);
    }
    gone = pool.threads == 0;
    gp_mutex_unlock(&gp__engine_lock);
    return gone;
}

bool
gp_grpc_shutdown(int64_t timeout_ms)
{
    int64_t deadline = gp_deadline_in(timeout_ms);

    if (gp_runtime_forked() || !has_poller()) {
        return true;
    }
    return end_threads(&pool.ended, deadline);
}

/* ---- Before a fork, and after ---- */

bool
gp__pool_rest(int64_t deadline)
{
    bool gone;

    if (!has_poller()) {
        return true;
    }
    gone = end_threads(&pool.leaving, deadline);
    gp_mutex_lock(&pool.making);
    gp_mutex_lock(&gp__engine_lock);
    pool.leaving = false;
    if (!gone) {
        ensure_standby();
    }
    gp_mutex_unlock(&gp__engine_lock);
    if (gone) {
        gone = gp__poller_close(&pool.poller, deadline);
        pool.open = false;
    }
    gp_mutex_unlock(&pool.making);
    return gone;
}

/* In a forked child, which has none of the threads. */
static void
reset(void)
{
    void (*goodbye)(void) = pool.goodbye;
    gp_fork_part part = pool.part;

    memset(&pool, 0, sizeof(pool));
    pool.goodbye = goodbye;
    pool.part = part;
    polling = false;
    gp_mutex_init(&gp__engine_lock);
    gp_mutex_init(&pool.making);
    make(); /* at once: servers that had stopped before still take the lock */
}
