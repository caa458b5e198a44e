/*
 * Layer: public. What holds for the whole process: the fork guard and interruptible waits.
 */
#ifndef GP_RUNTIME_H
#define GP_RUNTIME_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "gp/error.h"

/*
 * A way for a blocked call to ask its caller whether to give up. |check| runs on the waiting thread
 * about ten times a second, with none of our locks held; a non-zero answer ends the wait with
 * GP_EUSER.
 */
typedef struct gp_interrupt {
    int (*check)(void *ctx);
    void *ctx;
    /*
     * Not NULL: waits for calls do not block the thread, but have this wait until |fd| is readable
     * (-1: not at all) or |timeout_ns| are over, negative: never. The thread may run other code
     * meanwhile, on another stack, while this one's memory is used for that: nobody else may know
     * an address in it.
     * Returns: 0, perhaps for no reason, GP_ETIMEOUT, or GP_EUSER to end the wait.
     */
    int (*wait)(void *ctx, int fd, int64_t timeout_ns);
} gp_interrupt;

/* Install the fork guard. Idempotent. Returns 0 or GP_EOS. */
int gp_runtime_init(void);

/*
 * Whether this process is a fork of one in which gRPC was running.
 *
 * gRPC's threads do not survive a fork while its epoll descriptor does, so that a child that goes
 * on using it crashes its parent. In such a child every entry point must answer GP_EFORKED and
 * every destructor must do nothing. A child of a parent in which it was not running, not yet or not
 * any more, is as free as a new process: gp_grpc_rest() gets a parent there that has closed
 * everything.
 */
bool gp_runtime_forked(void);

/* Set GP_EFORKED, with the reason and what to do about it, and return that. */
int gp_runtime_refuse_fork(gp_error *err);

/* How many forks are between this process and the first one that called gp_runtime_init(). */
unsigned gp_runtime_generation(void);

/* A part of the program with variables of its own, for which see gp_runtime_on_fork(). */
typedef struct gp_fork_part {
    void (*reset)(void);
    struct gp_fork_part *next;
    bool known;
} gp_fork_part;

/*
 * Have |part|'s reset() called in each forked child that may use the library, before anything else:
 * threads did not come along, and locks may be held for ever. Idempotent. The part lives as long as
 * the process.
 */
void gp_runtime_on_fork(gp_fork_part *part);

/*
 * Block all signals for this thread, and for those that it starts: they belong to the program's
 * own. Not those by which a thread reports its own fault, or nobody could handle them. |before|
 * points to a sigset_t, for pthread_sigmask(). (Its type is not known wherever this header is.)
 */
void gp_runtime_block_signals(void *before);

/*
 * Give this thread the mask that threads which run the user's code have: that of the program's own
 * threads. It is the thread's own, which is remembered, unless gp_runtime_block_signals() has set
 * it; then it is the one remembered last, or an empty one. |before| is as above, or NULL.
 */
void gp_runtime_user_signals(void *before);

/*
 * Start a joinable thread that runs the user's code, with the mask of the program's own threads:
 * child processes and threads that the code starts inherit it, and must be as open to signals as
 * any other. |name| shows in debuggers; at most 15 characters. Returns 0 or GP_EOS.
 */
int gp_user_thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *arg,
                         gp_error *err);

/* The exit status of a process when nobody could tell it: somebody else had reaped it. */
#define GP_STATUS_UNKNOWN (-1000)

#endif
