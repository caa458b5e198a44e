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
 * How a function that waits asks its caller whether to go on. |check| is called on the waiting
 * thread about ten times a second, with none of our locks held. If it returns another number than
 * zero, the wait ends with GP_EUSER.
 */
typedef struct gp_interrupt {
    int (*check)(void *ctx);
    void *ctx;
    /*
     * May be NULL. Otherwise waits for calls do not block the thread, but call this, which returns
     * when |fd| is readable (-1: there is none) or |timeout_ns| have passed (negative: never). The
     * thread may run other code meanwhile, for which the memory of this stack is used: no other
     * thread may know an address in it.
     * Returns: 0, perhaps for no reason; GP_ETIMEOUT; or GP_EUSER to end the wait.
     */
    int (*wait)(void *ctx, int fd, int64_t timeout_ns);
} gp_interrupt;

/* Install the fork guard. Idempotent. Returns: 0 or GP_EOS. */
int gp_runtime_init(void);

/*
 * Whether this process was forked from one in which gRPC was running, or the reactor watched
 * something, as it does while a plugin runs.
 *
 * gRPC's threads do not survive a fork, and its epoll descriptor does, so that a child that uses it
 * crashes its parent. In such a child every entry point must return GP_EFORKED, and every
 * destructor must do nothing. If gRPC was not running, a child may use the library as a new process
 * may: gp_grpc_suspend() shuts gRPC down in a parent that has closed everything.
 */
bool gp_runtime_forked(void);

/* Set GP_EFORKED, with the reason and what to do about it, and return that. */
int gp_runtime_refuse_fork(gp_error *err);

/* How many forks are between this process and the first one that called gp_runtime_init(). */
unsigned gp_runtime_generation(void);

/* A part of the program with static variables. */
typedef struct gp_fork_part {
    void (*reset)(void);
    struct gp_fork_part *next;
    bool known;
} gp_fork_part;

/*
 * Have |part|'s reset() called in each forked child that may use the library, before anything else:
 * the parent's threads do not exist there, and may have held locks. Idempotent. The part lives as
 * long as the process.
 */
void gp_runtime_on_fork(gp_fork_part *part);

/*
 * Block all signals for this thread, and for those that it starts: signals belong to the program's
 * own threads. Those by which a thread reports its own fault, such as SIGSEGV, stay unblocked.
 * |before| points to a sigset_t, which gets the mask before, or is NULL. (Not all files that
 * include this header know that type.)
 */
void gp_runtime_block_signals(void *before);

/*
 * Give this thread the signal mask of the program's own threads, as threads that run the user's
 * code have it. If gp_runtime_block_signals() has set the thread's mask, that becomes the one that
 * was remembered last, or else an empty one; otherwise the thread keeps its mask, which is
 * remembered. |before| is as above.
 */
void gp_runtime_user_signals(void *before);

/*
 * Start a joinable thread that runs the user's code, with the mask of the program's own threads:
 * child processes and threads that the code starts inherit it, and must be as open to signals as
 * any other. |name| shows in debuggers; at most 15 characters. Returns 0 or GP_EOS.
 */
int gp_user_thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *arg,
                         gp_error *err);

/* The exit status of a process that other code of this program has reaped: it is not known. */
#define GP_STATUS_UNKNOWN (-1000)

#endif
