#include "rpc/worker_pool.h"

#include "base/thread.h"
#include "gp/grpc.h"

/* For how long a worker is idle before it ends. */
static const int64_t idle_ns = 10000 * GP__MS;

/* An idle worker, on its stack. */
typedef struct idler {
    gp_link link;  /* in the pool's |idle|; unlinked by the thread that wakes the worker */
    gp_cond woken; /* owned */
} idler;

static struct {
    gp__poller *poller;                                /* borrowed: the process's */
    gp_list callbacks GP_GUARDED_BY(&gp__engine_lock); /* tasks of gp__pool_call_back_locked() */
    gp_list turns GP_GUARDED_BY(&gp__engine_lock);     /* queues with a task that may run */
    gp_list deferred GP_GUARDED_BY(&gp__engine_lock);  /* tasks of gp__pool_defer() */
    /*
     * Idle workers. The one that became idle last is woken first, so that the others time out and
     * end.
     */
    gp_list idle GP_GUARDED_BY(&gp__engine_lock);
    gp_cond worker_ended;
    int workers GP_GUARDED_BY(&gp__engine_lock);
    int starting GP_GUARDED_BY(&gp__engine_lock);    /* workers that have not begun to run yet */
    int busy GP_GUARDED_BY(&gp__engine_lock);        /* workers that run a task */
    bool has_backup GP_GUARDED_BY(&gp__engine_lock); /* a worker is the backup poller */
    bool suspended GP_GUARDED_BY(&gp__engine_lock);  /* the process is about to fork */
    bool ended GP_GUARDED_BY(&gp__engine_lock);      /* the process is about to end */
    void (*on_worker_exit)(void);                    /* set once, before the first worker */
} pool;

/* This worker polls, and looks for tasks as soon as it has handled the event. */
static _Thread_local bool will_look;

static void *run_worker(void *arg);

void
gp__pool_init(gp__poller *poller)
{
    gp_mutex_lock(&gp__engine_lock);
    pool.poller = poller;
    gp_list_init(&pool.callbacks);
    gp_list_init(&pool.turns);
    gp_list_init(&pool.deferred);
    gp_list_init(&pool.idle);
    gp_cond_init(&pool.worker_ended);
    pool.workers = pool.starting = pool.busy = 0;
    pool.has_backup = pool.suspended = pool.ended = false;
    will_look = false;
    gp_mutex_unlock(&gp__engine_lock);
}

void
gp_grpc_on_worker_exit(void (*then)(void))
{
    pool.on_worker_exit = then;
}

/* ---- Which worker does what ---- */

/* Two workers that run no task are enough: one to poll, and the backup poller. */
static bool
may_start_locked(void) GP_REQUIRES(&gp__engine_lock)
{
    return !pool.ended && !pool.suspended && pool.workers < pool.busy + 2;
}

static int
start_worker_locked(gp_error *err) GP_REQUIRES(&gp__engine_lock)
{
    pthread_t thread;
    int rc = gp_user_thread_start(&thread, "gp-worker", run_worker, NULL, err);

    if (rc == 0) {
        pthread_detach(thread);
        pool.workers++;
        pool.starting++;
    }
    return rc;
}

/* Wake the worker that has been idle for the shortest time. Returns whether there is one. */
static bool
wake_idle_locked(void) GP_REQUIRES(&gp__engine_lock)
{
    gp_link *first = gp_list_pop(&pool.idle);

    if (first == NULL) {
        return false;
    }
    gp_cond_signal(&gp_container_of(first, idler, link)->woken);
    return true;
}

/* Make a worker, other than the one that polls, look for tasks. */
static void
wake_worker_locked(void) GP_REQUIRES(&gp__engine_lock)
{
    if (wake_idle_locked()) {
        return;
    }
    if (pool.has_backup) {
        gp__poller_wake_backup_locked(pool.poller);
    } else if (may_start_locked()) {
        start_worker_locked(NULL);
    }
}

/*
 * This worker is about to run a task: make sure that another one is, or becomes, the backup poller.
 * Each worker that starts or wakes becomes it if there is none.
 */
static void
ensure_backup_locked(void) GP_REQUIRES(&gp__engine_lock)
{
    if (!pool.has_backup && pool.starting == 0 && !wake_idle_locked() && may_start_locked()) {
        start_worker_locked(NULL);
    }
}

int
gp__pool_start(bool poll, gp_error *err)
{
    int rc = 0;

    gp_mutex_lock(&gp__engine_lock);
    if (pool.workers == 0 && !pool.ended) {
        rc = start_worker_locked(err);
        if (poll) {
            gp__poller_offer_locked(pool.poller);
        }
    }
    gp_mutex_unlock(&gp__engine_lock);
    return rc;
}

/* ---- Tasks ---- */

/* A task was added: wake a worker for it, unless this thread is about to look for tasks itself. */
static void
announce_task_locked(void) GP_REQUIRES(&gp__engine_lock)
{
    if (!will_look) {
        wake_worker_locked();
    }
}

void
gp__pool_call_back_locked(gp__task *task)
{
    gp_list_append(&pool.callbacks, &task->link);
    announce_task_locked();
}

void
gp__pool_defer(gp__task *task)
{
    gp_mutex_lock(&gp__engine_lock);
    gp_list_append(&pool.deferred, &task->link);
    announce_task_locked();
    gp_mutex_unlock(&gp__engine_lock);
}

void
gp__task_queue_init(gp__task_queue *queue, int limit, void (*on_full)(gp__task_queue *queue))
{
    *queue = (gp__task_queue){.limit = limit, .on_full = on_full};
    gp_list_init(&queue->tasks);
}

/* Have |queue| wait for its turn, if it has a task that may run and is not waiting yet. */
static void
await_turn_locked(gp__task_queue *queue) GP_REQUIRES(&gp__engine_lock)
{
    if (gp_link_is_linked(&queue->turn) || gp_list_is_empty(&queue->tasks)) {
        return;
    }
    if (queue->running < queue->limit) {
        gp_list_append(&pool.turns, &queue->turn);
    } else if (queue->on_full != NULL && !queue->reported_full) {
        queue->reported_full = true;
        queue->on_full(queue);
    }
}

void
gp__task_queue_add_locked(gp__task_queue *queue, gp__task *task)
{
    gp_list_append(&queue->tasks, &task->link);
    await_turn_locked(queue);
    /* If the limit of the queue is reached, the task runs when another one ends. */
    if (gp_link_is_linked(&queue->turn)) {
        announce_task_locked();
    }
}

void
gp__task_queue_end_task_locked(gp__task_queue *queue)
{
    queue->running--;
    queue->reported_full = queue->reported_full && queue->running > queue->limit / 2;
    await_turn_locked(queue); /* this worker looks for tasks next, so no other is woken */
}

/* Take the next task of the queue whose turn it is. NULL: there is none. */
static gp_link *
pop_queued_locked(void) GP_REQUIRES(&gp__engine_lock)
{
    gp_link *turn = gp_list_pop(&pool.turns);
    gp__task_queue *queue;
    gp_link *task;

    if (turn == NULL) {
        return NULL;
    }
    queue = gp_container_of(turn, gp__task_queue, turn);
    task = gp_list_pop(&queue->tasks);
    queue->running++;
    await_turn_locked(queue);
    return task;
}

/* Run |task|. Releases and re-acquires the lock meanwhile. */
static void
run_task_locked(gp_link *link) GP_REQUIRES(&gp__engine_lock)
{
    gp__task *task = gp_container_of(link, gp__task, link);

    pool.busy++;
    ensure_backup_locked();
    if (!gp_list_is_empty(&pool.turns) || !gp_list_is_empty(&pool.callbacks)) {
        /* Two tasks may have been announced to one worker, which is busy from now on. */
        wake_worker_locked();
    }
    gp_mutex_unlock(&gp__engine_lock);
    task->run(task);
    gp_mutex_lock(&gp__engine_lock);
    pool.busy--;
}

/* ---- The workers ---- */

/*
 * Poll until one event has been handled; releases and re-acquires the lock meanwhile. Returns
 * whether this worker is to poll on: not if other threads are waiting, or if the event has woken
 * one, since they can poll for themselves, which saves a hand-over.
 */
static bool
poll_once_locked(void) GP_REQUIRES(&gp__engine_lock)
{
    gp__poller *poller = pool.poller;
    unsigned long wakeups = poller->wakeups;

    will_look = true;
    gp__poller_poll_locked(poller);
    will_look = false;
    if (gp_list_is_empty(&poller->waiters) && (poller->urgent > 0 || poller->wakeups == wakeups)) {
        return true;
    }
    if (poller->servers > 0) {
        gp__poller_request_backup_locked(poller);
    }
    return false;
}

/* Returns whether this worker is to poll. Releases and re-acquires the lock meanwhile. */
static bool
back_up_locked(void) GP_REQUIRES(&gp__engine_lock)
{
    bool wanted;

    pool.has_backup = true;
    wanted = gp__poller_back_up_locked(pool.poller);
    pool.has_backup = false;
    return wanted;
}

/*
 * Wait for something to do; releases and re-acquires the lock meanwhile. Returns false if nothing
 * came for long: then there is one worker too many.
 */
static bool
idle_locked(idler *me) GP_REQUIRES(&gp__engine_lock)
{
    int64_t deadline = gp__now() + idle_ns;
    int rc = 0;

    gp_list_prepend(&pool.idle, &me->link);
    while (gp_link_is_linked(&me->link) && rc == 0) {
        rc = gp_cond_wait_until(&me->woken, &gp__engine_lock, deadline);
    }
    if (!gp_link_is_linked(&me->link)) {
        return true;
    }
    gp_link_remove(&me->link);
    return !gp_list_is_empty(&pool.callbacks) || !gp_list_is_empty(&pool.turns) ||
           !gp_list_is_empty(&pool.deferred) || !pool.has_backup;
}

static void *
run_worker(void *arg)
{
    idler me = {.link = {NULL, NULL}};
    bool wants_to_poll = false;

    (void)arg;
    gp_cond_init(&me.woken);
    gp_mutex_lock(&gp__engine_lock);
    pool.starting--;
    while (!pool.ended && !pool.suspended) {
        gp_link *task;

        if ((task = gp_list_pop(&pool.callbacks)) != NULL || (task = pop_queued_locked()) != NULL) {
            run_task_locked(task);
            wants_to_poll = true;
        } else if ((task = gp__poller_pop_overdue_locked(pool.poller)) != NULL) {
            run_task_locked(task);
            wants_to_poll = true;
        } else if ((task = gp_list_pop(&pool.deferred)) != NULL) {
            run_task_locked(task);
        } else if (wants_to_poll && !pool.poller->polled) {
            wants_to_poll = poll_once_locked();
        } else if (!pool.has_backup) {
            wants_to_poll = back_up_locked();
        } else if (idle_locked(&me)) {
            wants_to_poll = false;
        } else {
            break;
        }
    }
    gp_mutex_unlock(&gp__engine_lock);
    gp_cond_release(&me.woken);
    if (pool.on_worker_exit != NULL) {
        pool.on_worker_exit();
    }
    gp_mutex_lock(&gp__engine_lock);
    pool.workers--;
    gp_cond_broadcast(&pool.worker_ended);
    gp_mutex_unlock(&gp__engine_lock);
    return NULL;
}

/* ---- The end ---- */

/*
 * Set |*reason|, at which workers end. Returns whether all have ended by |deadline|. Releases and
 * re-acquires the lock meanwhile.
 */
static bool
end_workers_locked(bool *reason, int64_t deadline) GP_REQUIRES(&gp__engine_lock)
{
    *reason = true;
    gp__poller_wake_backup_locked(pool.poller);
    while (wake_idle_locked()) {
    }
    if (pool.workers > 0) {
        gp_mutex_unlock(&gp__engine_lock);
        gp__poller_interrupt(pool.poller);
        gp_mutex_lock(&gp__engine_lock);
    }
    while (pool.workers > 0 && gp__now() < deadline) {
        gp_cond_wait_until(&pool.worker_ended, &gp__engine_lock, deadline);
    }
    return pool.workers == 0;
}

bool
gp__pool_end(int64_t deadline)
{
    bool ended;

    gp_mutex_lock(&gp__engine_lock);
    ended = end_workers_locked(&pool.ended, deadline);
    gp_mutex_unlock(&gp__engine_lock);
    return ended;
}

bool
gp__pool_suspend(int64_t deadline)
{
    bool ended;

    gp_mutex_lock(&gp__engine_lock);
    ended = end_workers_locked(&pool.suspended, deadline);
    gp_mutex_unlock(&gp__engine_lock);
    return ended;
}

void
gp__pool_resume(void)
{
    gp_mutex_lock(&gp__engine_lock);
    pool.suspended = false;
    if (pool.workers > 0) { /* some could not end */
        ensure_backup_locked();
    }
    gp_mutex_unlock(&gp__engine_lock);
}
