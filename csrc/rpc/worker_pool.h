/*
 * Layer: rpc. The threads of a process that poll its completion queue and run its servers'
 * handlers.
 *
 * All client calls and all servers share one queue, and so one place where it is polled
 * (rpc/poller.h). With a queue each, their threads would wait for each other in gRPC, which has one
 * epoll set in the process, and a call that comes back to its caller would change threads at each
 * step.
 *
 *             a task, or the end                             the task is done
 *    .-- (idle) -------------------------> (running a task) -------------------.
 *    |      ^                                                                  v
 *    |      |  a backup poller exists      no thread polls for long, or offered
 *    |      '---------- (backup poller) -----------------------------> (polling)
 *    |                       ^                                             |
 *    v for long              '---------- another thread polls for itself --'
 *   ended
 *
 * Each worker does what is most urgent: run the completion callback of a finished call, run a task
 * of a queue (a server's handler), run a deferred task (a free), poll, be the backup poller.
 * Handlers never hold up a callback: there are always two workers more than those that run tasks,
 * unless the system has no more threads. One worker polls or is the backup poller as long as the
 * process lives.
 *
 * Tasks run with no lock held. Any part may call gp__pool_start() and gp__pool_defer(); the other
 * functions are for the engine and for servers.
 */
#ifndef GP_RPC_WORKER_POOL_H
#define GP_RPC_WORKER_POOL_H

#include "base/task.h"
#include "gp/error.h"
#include "rpc/poller.h"

/*
 * To be called before all other functions, and again in a forked child, which has none of the
 * threads.
 */
void gp__pool_init(gp__poller *poller);

/*
 * Make sure that there is a worker, which handles events that no thread waits for. With |poll|, the
 * first worker polls at once; for a caller that does not poll itself.
 *
 * Returns: 0 or GP_EOS.
 */
int gp__pool_start(bool poll, gp_error *err) GP_EXCLUDES(&gp__engine_lock);

/*
 * End the workers, and start no others until gp__pool_resume(). Returns whether they have ended by
 * |deadline|.
 */
bool gp__pool_suspend(int64_t deadline) GP_EXCLUDES(&gp__engine_lock);
void gp__pool_resume(void) GP_EXCLUDES(&gp__engine_lock);

/*
 * End the workers for the end of the process: no others are started after this. Returns as
 * gp__pool_suspend().
 */
bool gp__pool_end(int64_t deadline) GP_EXCLUDES(&gp__engine_lock);

/* ---- Tasks ---- */

/* Have |task| run before all others: the completion callback of a call that has finished. */
void gp__pool_call_back_locked(gp__task *task) GP_REQUIRES(&gp__engine_lock);

/*
 * Have |task| run once nothing more urgent is left to do. For a free for which the thread that
 * drops the last reference must not wait. Threads: any.
 */
void gp__pool_defer(gp__task *task) GP_EXCLUDES(&gp__engine_lock);

/*
 * Tasks of which only |limit| run at a time: the handlers of one server. Queues take turns: each
 * gives the pool one task at a time. Written by worker_pool.c alone.
 */
typedef struct gp__task_queue {
    gp_list tasks GP_GUARDED_BY(&gp__engine_lock); /* oldest first */
    gp_link turn GP_GUARDED_BY(&gp__engine_lock);  /* linked while a task may run */
    int limit;
    int running GP_GUARDED_BY(&gp__engine_lock);
    bool reported_full GP_GUARDED_BY(&gp__engine_lock); /* |on_full| has been called */
    /*
     * Called with the lock held, when |limit| tasks run and another one waits; then not again
     * before half of them have ended. May be NULL.
     */
    void (*on_full)(struct gp__task_queue *queue);
} gp__task_queue;

void gp__task_queue_init(gp__task_queue *queue, int limit, void (*on_full)(gp__task_queue *queue));

/*
 * Append |task|, which has to call gp__task_queue_end_task_locked() when another task may run in
 * its place.
 */
void gp__task_queue_add_locked(gp__task_queue *queue, gp__task *task) GP_REQUIRES(&gp__engine_lock);

/* A task of |queue| ends. Called on a worker. The queue may be freed once the lock is released. */
void gp__task_queue_end_task_locked(gp__task_queue *queue) GP_REQUIRES(&gp__engine_lock);

#endif
