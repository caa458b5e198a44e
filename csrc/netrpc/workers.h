/*
 * Layer: netrpc. The process's threads that run the handlers of servers on transports.
 *
 * A worker serves one transport at a time: it drives the transport (netrpc/transport.h), and when a
 * request has come, gives the role up, runs the request's task itself, and drives again. Tasks that
 * wait behind it run on the same worker, one after the other, as long as they are quick: so a
 * connection with quick handlers has one thread, and a request costs no change of threads. Another
 * worker is woken
 *
 *   - when a task is added and no worker will look for it soon, for instance because the thread
 *     that dispatches is a user's, which never runs a task, or the reactor;
 *   - before a task runs that is known to be slow: the other worker drives meanwhile;
 *   - when a task turns out to be slow, which the transport's tick notices, and others wait;
 *   - when a task waits for something on its own transport, for instance a call back.
 *
 *             woken for a transport                     no task for long, or another thread drives
 *    .- (idle) ---------------------> (driving) <--> (running a task) -------------------.
 *    |     ^                                                                             |
 *    |     '-----------------------------------------------------------------------------'
 *    v for 10 s
 *  ended
 */
#ifndef GP_NETRPC_WORKERS_H
#define GP_NETRPC_WORKERS_H

#include <stdatomic.h>

#include "base/task.h"
#include "netrpc/transport.h"

/*
 * A request to be handled. |task.run| is called on a worker, with no lock held. |slow| tells
 * whether this kind of task is known to be slow, and is kept up to date; it is borrowed until
 * gp__worker_queue_end_task_locked(). NULL: such tasks are always quick.
 */
typedef struct gp__worker_task {
    gp__task task;
    atomic_bool *slow;
} gp__worker_task;

/*
 * Tasks of which only |limit| run at a time: the requests of one server. The queues of a transport
 * take turns. All fields are guarded by the transport's lock, and written by workers.c alone.
 */
typedef struct gp__worker_queue {
    gp_list tasks; /* oldest first */
    gp_link turn;  /* linked while a task may run */
    int limit;
    int running;
    size_t waiting; /* the length of |tasks| */
} gp__worker_queue;

void gp__worker_queue_init(gp__worker_queue *queue, int limit);

/*
 * Append |task|, whose |run| has to call gp__worker_queue_end_task_locked() when another task may
 * run in its place, at the latest as the last thing it does with the transport.
 */
void gp__worker_queue_add_locked(gp__transport *transport, gp__worker_queue *queue,
                                 gp__worker_task *task) GP_REQUIRES(&transport->lock);

/* A task of |queue| ends. Called on a worker. The queue may be freed once the lock is released. */
void gp__worker_queue_end_task_locked(gp__transport *transport, gp__worker_queue *queue)
    GP_REQUIRES(&transport->lock);

/* Take back a task that has not begun; NULL: there is none. For a server that closes. */
gp__worker_task *gp__worker_queue_take_back_locked(gp__transport *transport,
                                                   gp__worker_queue *queue)
    GP_REQUIRES(&transport->lock);

/* How many tasks wait and run. */
size_t gp__worker_queue_count_locked(const gp__transport *transport, const gp__worker_queue *queue)
    GP_REQUIRES(&transport->lock);

/*
 * Have |then| called on each worker before it ends, with no lock held. Set once, before the first
 * worker starts.
 */
void gp__workers_on_exit(void (*then)(void));

/*
 * End the workers for the end of the process: no others are started after this. Returns whether
 * they have ended by |deadline|. Not on a worker.
 */
bool gp__workers_end(int64_t deadline);

#endif
