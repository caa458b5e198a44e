/*
 * Layer: rpc. The threads of a process that see to its completion queue and run its servers'
 * handlers.
 *
 * All client calls and all servers share one queue, and so one place where it is polled
 * (rpc/poller.h): with a queue each, gRPC would have their threads wait for each other, since it
 * has one epoll set in the process, and a call that comes back to its caller would change threads
 * at each step.
 *
 *             a job, or its end is due                   the job is done
 *    .-- (resting) -----------------------> (at work) ------------------------.
 *    |      ^                                                                  v
 *    |      |  no part is vacant          the seat is neglected, or offered
 *    |      '---------- (standing by) --------------------------------> (in the seat)
 *    |                       ^                                                 |
 *    v for long              '------------- somebody polls for himself --------'
 *  gone
 *
 * Each looks for the most urgent part: something that is over, a job, the seat, standing by. There
 * is one in the seat or standing by as long as the process lives.
 *
 * Locks: the poller's guards all of it.
 */
#ifndef GP_RPC_WORKER_POOL_H
#define GP_RPC_WORKER_POOL_H

#include "base/task.h"
#include "gp/error.h"
#include "gp/server.h"
#include "rpc/poller.h"

/*
 * |out| is the process's poller, made, with gRPC, on first use. It lives until the process ends.
 *
 * Returns: 0, GP_EFORKED in a forked child, or GP_ENOMEM.
 */
int gp__pool_poller(gp__poller **out, gp_error *err);

/*
 * Make sure that there is a thread, so that somebody sees to what nobody waits for. |poll|: the
 * first one is to begin at once, as the caller is not about to. After gp__pool_poller().
 *
 * Returns: 0 or GP_EOS.
 */
int gp__pool_start(bool poll, gp_error *err);

/*
 * Have |task| run by a worker, once nothing more urgent is left to do: a free that the thread which
 * drops the last reference must not wait for. Any thread; takes the poller's lock.
 */
void gp__pool_defer(gp__task *task);

/* ---- What there is to do. With the poller's lock held. ---- */

/* |server| has a call for its handler, which may run; or may again, as another one has returned. */
void gp__pool_add_job(gp_server *server);

/* |call|'s on_over is due. Takes a reference over. */
void gp__pool_add_over(gp_server_call *call);

/* ---- Before a fork. Without the lock. ---- */

/*
 * End the threads and the queue, until gp__pool_poller() is called the next time; nobody may be
 * using them. Returns false if that was not possible by |deadline|.
 */
bool gp__pool_rest(int64_t deadline);

#endif
