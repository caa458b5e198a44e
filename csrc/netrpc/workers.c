#include "netrpc/workers.h"

#include "base/thread.h"
#include "gp/runtime.h"
#include "netrpc/transport_state.h"
#include "os/fd.h"

/* For how long a worker drives without a task, and then is idle, before it ends. */
static const int64_t idle_ns = 10000 * GP__MS;

/* A task that takes longer is slow: its transport needs another worker meanwhile. */
static const int64_t quick_ns = 500000;

/* A task that runs, on its worker's stack. Guarded by the transport's lock. */
typedef struct run {
    gp_link link;             /* in the transport's |running| */
    gp__transport *transport; /* borrowed: the worker has a reference */
    atomic_bool *slow;  /* borrowed: of the task; NULL once that has ended, or if it has none */
    bool absent;        /* the worker is not among the attentive ones */
    bool absent_before; /* |absent| before it began to wait */
    bool ticked;        /* it ran at the last tick */
    bool overdue;       /* it has run for a whole tick */
    int64_t began;
    int64_t wait_began;
    int64_t waited; /* nanoseconds that it has waited on its own transport, which it drives then */
} run;

/* A worker, on its own stack. Guarded by the pool's lock. */
typedef struct worker {
    gp_link link;             /* in the pool's |idle| or |serving| */
    gp__transport *transport; /* shared: ref; the one that it serves. NULL: it is idle */
    gp_cond woken;            /* owned */
} worker;

/* The pool's lock may be taken while a transport's is held, not the other way round. */
static gp_mutex pool_lock = GP_MUTEX_INIT;

static void reset_in_child(void);

static struct {
    gp_list wanting GP_GUARDED_BY(&pool_lock); /* transports whose |wanted| is not 0 */
    /*
     * Idle workers. The one that became idle last is woken first, so that the others time out and
     * end.
     */
    gp_list idle GP_GUARDED_BY(&pool_lock);
    gp_list serving GP_GUARDED_BY(&pool_lock);
    int workers GP_GUARDED_BY(&pool_lock);
    atomic_bool ended; /* the process is about to end. Written with the lock held */
    gp_cond worker_ended;
    bool ready GP_GUARDED_BY(&pool_lock);
    void (*on_exit)(void); /* set once, before the first worker */
} pool;

static gp_fork_part fork_part = {.reset = reset_in_child};

/* The task that this thread runs; NULL: none. */
static _Thread_local run *current;

static void *run_worker(void *arg);

/* ---- The pool -------------------------------------------------------------------------------- */

static void
init_pool_locked(void) GP_REQUIRES(&pool_lock)
{
    gp_list_init(&pool.wanting);
    gp_list_init(&pool.idle);
    gp_list_init(&pool.serving);
    gp_cond_init(&pool.worker_ended);
    pool.workers = 0;
    pool.ready = true;
}

/* The parent's threads do not exist in a child, and may have held the lock. */
static void
reset_in_child(void)
{
    gp_mutex_init(&pool_lock);
    gp_mutex_lock(&pool_lock);
    init_pool_locked();
    gp_mutex_unlock(&pool_lock);
    current = NULL;
}

/* Wake or start a worker. Returns whether one will look at |wanting|. */
static bool
call_worker_locked(void) GP_REQUIRES(&pool_lock)
{
    gp_link *idle = gp_list_pop(&pool.idle);
    pthread_t thread;

    if (idle != NULL) {
        gp_cond_signal(&gp_container_of(idle, worker, link)->woken);
        return true;
    }
    if (atomic_load(&pool.ended) ||
        gp_user_thread_start(&thread, "gp-netrpc", run_worker, NULL, NULL) < 0) {
        return false;
    }
    pthread_detach(thread);
    pool.workers++;
    return true;
}

/* Have another worker serve |transport|. If there is none to be had, the next tick tries again. */
static void
wake_worker_locked(gp__transport *transport) GP_REQUIRES(&transport->lock)
{
    gp__transport_service *service = &transport->service;

    gp_mutex_lock(&pool_lock);
    if (!pool.ready) {
        init_pool_locked();
        gp_runtime_on_fork(&fork_part);
    }
    if (call_worker_locked()) {
        service->attentive++;
        service->wanted++;
        gp__transport_ref(transport); /* the worker's */
        if (!gp_link_is_linked(&service->wanting)) {
            gp_list_append(&pool.wanting, &service->wanting);
        }
    }
    gp_mutex_unlock(&pool_lock);
}

/*
 * Take the transport that has wanted a worker for longest, with a reference. NULL: there is none.
 */
static gp__transport *take_wanting_locked(void) GP_REQUIRES(&pool_lock)
    GP_NO_THREAD_SAFETY_ANALYSIS; /* |wanting| and |wanted| are guarded by the pool's lock */

static gp__transport *
take_wanting_locked(void)
{
    gp__transport *transport = gp_list_first_entry(&pool.wanting, gp__transport, service.wanting);

    if (transport != NULL && --transport->service.wanted == 0) {
        gp_link_remove(&transport->service.wanting);
    }
    return transport;
}

/* ---- Queues ---------------------------------------------------------------------------------- */

void
gp__worker_queue_init(gp__worker_queue *queue, int limit)
{
    *queue = (gp__worker_queue){.limit = limit};
    gp_list_init(&queue->tasks);
}

/* Have |queue| wait for its turn, if it has a task that may run and is not waiting yet. */
static void
await_turn_locked(gp__transport *transport, gp__worker_queue *queue) GP_REQUIRES(&transport->lock)
{
    if (!gp_link_is_linked(&queue->turn) && !gp_list_is_empty(&queue->tasks) &&
        queue->running < queue->limit) {
        gp_list_append(&transport->service.turns, &queue->turn);
    }
}

void
gp__worker_queue_add_locked(gp__transport *transport, gp__worker_queue *queue,
                            gp__worker_task *task)
{
    gp_list_append(&queue->tasks, &task->task.link);
    queue->waiting++;
    await_turn_locked(transport, queue);
    if (!gp_link_is_linked(&queue->turn)) {
        return; /* the limit is reached: it runs when another task ends */
    }
    if (transport->service.attentive == 0) {
        wake_worker_locked(transport);
    } else if (transport->service.driving && !transport->channel.dispatching) {
        gp__transport_role_wake_locked(transport);
    }
}

gp__worker_task *
gp__worker_queue_take_back_locked(gp__transport *transport, gp__worker_queue *queue)
{
    gp_link *link = gp_list_pop(&queue->tasks);

    (void)transport;
    if (link == NULL) {
        return NULL;
    }
    queue->waiting--;
    if (gp_list_is_empty(&queue->tasks)) {
        gp_link_remove(&queue->turn);
    }
    return gp_container_of(link, gp__worker_task, task.link);
}

size_t
gp__worker_queue_count_locked(const gp__transport *transport, const gp__worker_queue *queue)
{
    (void)transport;
    return queue->waiting + (size_t)queue->running;
}

/* Take the next task of the queue whose turn it is. NULL: there is none. */
static gp__worker_task *
take_task_locked(gp__transport *transport) GP_REQUIRES(&transport->lock)
{
    gp_link *turn = gp_list_pop(&transport->service.turns);
    gp__worker_queue *queue;
    gp_link *task;

    if (turn == NULL) {
        return NULL;
    }
    queue = gp_container_of(turn, gp__worker_queue, turn);
    task = gp_list_pop(&queue->tasks);
    queue->waiting--;
    queue->running++;
    await_turn_locked(transport, queue);
    return gp_container_of(task, gp__worker_task, task.link);
}

void
gp__transport_service_init_locked(gp__transport *transport)
{
    gp_list_init(&transport->service.turns);
    gp_list_init(&transport->service.running);
}

/* ---- Tasks that run -------------------------------------------------------------------------- */

/* The worker of |it| will not look for tasks soon: another one has to. */
static void
become_absent_locked(gp__transport *transport, run *it) GP_REQUIRES(&transport->lock)
{
    if (!it->absent) {
        it->absent = true;
        transport->service.attentive--;
        if (transport->service.attentive == 0 && !gp_list_is_empty(&transport->service.turns)) {
            wake_worker_locked(transport);
        }
    }
}

/* Run |task|. Releases and re-acquires the lock meanwhile. */
static void
run_task_locked(gp__transport *transport, gp__worker_task *task) GP_REQUIRES(&transport->lock)
{
    gp__transport_service *service = &transport->service;
    run me = {.transport = transport, .slow = task->slow, .began = gp__now()};

    gp_list_append(&service->running, &me.link);
    if (me.slow != NULL && atomic_load(me.slow)) {
        become_absent_locked(transport, &me);
        if (service->attentive == 0 && !transport->role.driven &&
            gp_list_is_empty(&transport->role.waiters)) {
            wake_worker_locked(transport); /* to drive */
        }
    }
    current = &me;
    gp_mutex_unlock(&transport->lock);
    task->task.run(&task->task);
    gp_mutex_lock(&transport->lock);
    current = NULL;
    gp_link_remove(&me.link);
    service->attentive += me.absent ? 1 : 0;
}

void
gp__worker_queue_end_task_locked(gp__transport *transport, gp__worker_queue *queue)
{
    run *me = current;

    queue->running--;
    await_turn_locked(transport, queue); /* this worker looks for tasks next: no other is woken */
    if (me->slow != NULL) {
        atomic_store(me->slow, gp__now() - me->began - me->waited >= quick_ns);
        me->slow = NULL;
    }
}

bool
gp__transport_service_tick_locked(gp__transport *transport)
{
    gp__transport_service *service = &transport->service;

    for (run *it = gp_list_first_entry(&service->running, run, link); it != NULL;
         it = gp_list_next_entry(&service->running, it, run, link)) {
        if (it->ticked && !it->absent) {
            it->overdue = true;
            become_absent_locked(transport, it);
            /*
             * It may never return, and more tasks of its kind may wait behind it, each of which
             * would take a tick.
             */
            if (it->slow != NULL) {
                atomic_store(it->slow, true);
            }
        }
        it->ticked = true;
    }
    if (service->attentive == 0 && !gp_list_is_empty(&service->turns)) {
        wake_worker_locked(transport); /* there was none to be had before */
    }
    return gp__transport_service_is_busy_locked(transport);
}

bool
gp__transport_service_is_busy_locked(const gp__transport *transport)
{
    return !gp_list_is_empty(&transport->service.running) ||
           !gp_list_is_empty(&transport->service.turns);
}

void
gp__transport_service_begin_wait_locked(gp__transport *transport)
{
    run *me = current;

    if (me != NULL && me->transport == transport) {
        me->wait_began = gp__now();
        me->absent_before = me->absent;
        become_absent_locked(transport, me);
    }
}

void
gp__transport_service_end_wait_locked(gp__transport *transport)
{
    run *me = current;

    if (me != NULL && me->transport == transport) {
        me->waited += gp__now() - me->wait_began;
        me->ticked = false;
        if (!me->absent_before) {
            me->absent = false;
            transport->service.attentive++;
        }
    }
}

/* ---- The workers ----------------------------------------------------------------------------- */

/*
 * Drive until a task has come. Releases and re-acquires the lock meanwhile. Returns false when this
 * worker is not needed: nothing has come for long, or other threads wait, or one was woken, which
 * then drive themselves and save a change of threads.
 */
static bool
drive_for_task_locked(gp__transport *transport) GP_REQUIRES(&transport->lock)
{
    gp__transport_service *service = &transport->service;
    const gp__transport_role *role = &transport->role;
    int64_t deadline = gp__now() + idle_ns;
    unsigned long woken = role->woken;
    bool needed;

    service->driving = true;
    gp__transport_role_take_locked(transport);
    do {
        needed = gp__transport_role_drive_locked(transport, deadline) &&
                 !gp__transport_is_over_locked(transport) && gp_list_is_empty(&role->waiters) &&
                 role->woken == woken && !atomic_load(&pool.ended);
    } while (needed && gp_list_is_empty(&service->turns));
    service->driving = false;
    gp__transport_role_give_up_locked(transport);
    if (!needed) {
        gp__transport_role_watch_locked(transport);
    }
    return needed;
}

static void
serve_transport(gp__transport *transport)
{
    gp__worker_task *task;

    gp_mutex_lock(&transport->lock);
    for (;;) {
        if (atomic_load(&pool.ended)) {
            break;
        }
        if ((task = take_task_locked(transport)) != NULL) {
            run_task_locked(transport, task);
        } else if (transport->role.driven || gp__transport_is_over_locked(transport) ||
                   !gp_list_is_empty(&transport->role.waiters) ||
                   !drive_for_task_locked(transport)) {
            if (gp_list_is_empty(&transport->service.turns)) {
                break;
            }
        }
    }
    transport->service.attentive--;
    gp_mutex_unlock(&transport->lock);
}

/* Wait to be woken. Releases and re-acquires the lock. Returns false if nothing came for long. */
static bool
idle_locked(worker *me) GP_REQUIRES(&pool_lock)
{
    int64_t deadline = gp__now() + idle_ns;
    int rc = 0;

    gp_list_prepend(&pool.idle, &me->link);
    while (gp_link_is_linked(&me->link) && rc == 0) {
        rc = gp_cond_wait_until(&me->woken, &pool_lock, deadline);
    }
    if (!gp_link_is_linked(&me->link)) {
        return true;
    }
    gp_link_remove(&me->link);
    return false;
}

static void *
run_worker(void *arg)
{
    worker me = {.link = {NULL, NULL}};
    bool needed = true;

    (void)arg;
    gp_cond_init(&me.woken);
    gp_mutex_lock(&pool_lock);
    while (needed && !atomic_load(&pool.ended)) {
        me.transport = take_wanting_locked();
        if (me.transport == NULL) {
            needed = idle_locked(&me);
            continue;
        }
        gp_list_append(&pool.serving, &me.link);
        gp_mutex_unlock(&pool_lock);
        serve_transport(me.transport);
        gp_mutex_lock(&pool_lock);
        gp_link_remove(&me.link);
        gp_mutex_unlock(&pool_lock);
        gp__transport_unref(me.transport);
        gp_mutex_lock(&pool_lock);
    }
    gp_mutex_unlock(&pool_lock);
    gp_cond_release(&me.woken);
    if (pool.on_exit != NULL) {
        pool.on_exit();
    }
    gp_mutex_lock(&pool_lock);
    pool.workers--;
    gp_cond_broadcast(&pool.worker_ended);
    gp_mutex_unlock(&pool_lock);
    return NULL;
}

/* ---- The end --------------------------------------------------------------------------------- */

void
gp__workers_on_exit(void (*then)(void))
{
    pool.on_exit = then;
}

/* Wake every worker, so that it sees that the pool has ended. */
static void wake_all_locked(void) GP_REQUIRES(&pool_lock)
    GP_NO_THREAD_SAFETY_ANALYSIS; /* |wakeup| never changes while there are references */

static void
wake_all_locked(void)
{
    gp_link *link;

    while ((link = gp_list_pop(&pool.idle)) != NULL) {
        gp_cond_signal(&gp_container_of(link, worker, link)->woken);
    }
    for (worker *it = gp_list_first_entry(&pool.serving, worker, link); it != NULL;
         it = gp_list_next_entry(&pool.serving, it, worker, link)) {
        gp__fd_wake(it->transport->role.wakeup);
    }
}

bool
gp__workers_end(int64_t deadline)
{
    gp__transport *wanting = NULL;
    bool ended;

    gp_mutex_lock(&pool_lock);
    atomic_store(&pool.ended, true);
    if (pool.ready) {
        wake_all_locked();
        while (pool.workers > 0 && gp__now() < deadline) {
            gp_cond_wait_until(&pool.worker_ended, &pool_lock, deadline);
        }
    }
    ended = pool.workers == 0;
    do {
        wanting = pool.ready ? take_wanting_locked() : NULL;
        gp_mutex_unlock(&pool_lock);
        gp__transport_unref(wanting);
        gp_mutex_lock(&pool_lock);
    } while (wanting != NULL);
    gp_mutex_unlock(&pool_lock);
    return ended;
}
