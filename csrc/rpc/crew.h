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
#ifndef GP_RPC_CREW_H
#define GP_RPC_CREW_H

#include "gp/error.h"
#include "gp/server.h"
#include "rpc/poller.h"

/*
 * |out| is the process's poller, made, with gRPC, on first use. It lives until the process ends.
 *
 * Returns: 0, GP_EFORKED in a forked child, or GP_ENOMEM.
 */
int gp__crew_poller(gp__poller **out, gp_error *err);

/*
 * Make sure that there is a thread, so that somebody sees to what nobody waits for. |poll|: the
 * first one is to begin at once, as the caller is not about to. After gp__crew_poller().
 *
 * Returns: 0 or GP_EOS.
 */
int gp__crew_start(bool poll, gp_error *err);

/*
 * What nobody refers to any more: to be freed by one of the crew, for whoever let go cannot wait
 * for that.
 */
typedef struct gp__remains {
    struct gp__remains *next;
    void (*free)(struct gp__remains *remains);
} gp__remains;

/* ---- What there is to do. With the poller's lock held. ---- */

/* |server| has a call for its handler, which may run; or may again, as another one has returned. */
void gp__crew_add_job(gp_server *server);

/* |call|'s on_over is due. Takes a reference over. */
void gp__crew_add_over(gp_server_call *call);

void gp__crew_add_remains(gp__remains *remains);

/* ---- Before a fork. Without the lock. ---- */

/*
 * End the threads and the queue, until gp__crew_poller() is called the next time; nobody may be
 * using them. Returns false if that was not possible by |deadline|.
 */
bool gp__crew_rest(int64_t deadline);

#endif
