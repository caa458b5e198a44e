/*
 * Layer: base. Clocks, threads of our own, and waits that Ctrl-C can interrupt. Deadlines, locks
 * and condition variables are those of gp/lock.h.
 */
#ifndef GP_BASE_THREAD_H
#define GP_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "gp/error.h"
#include "gp/lock.h"
#include "gp/runtime.h"

#define GP__MS INT64_C(1000000)
#define GP__FOREVER INT64_MAX

/* Now, in nanoseconds. */
int64_t gp__now(void);

/* As gp_deadline_in(), in nanoseconds. */
int64_t gp__deadline_in_ns(int64_t timeout_ns);

/* Seconds left until |deadline|, 0 when it has passed; negative if it is GP__FOREVER. */
double gp__seconds_until(int64_t deadline);

/*
 * As gp_cond_wait_until(), in slices, between which |interrupt| (may be NULL) is asked, with |lock|
 * released, whether to go on.
 *
 * Returns: 0 after a wake-up, GP_ETIMEOUT, or GP_EUSER when the interrupt said stop.
 */
int gp__cond_wait_interruptible(gp_cond *cond, gp_mutex *lock, int64_t deadline,
                                const gp_interrupt *interrupt) GP_REQUIRES(lock);

/* When the next slice of an interruptible wait ends: at |deadline| or sooner. */
int64_t gp__slice(int64_t deadline, const gp_interrupt *interrupt);

/*
 * Ask |interrupt| (may be NULL). Returns 0 to go on, or GP_EUSER. To be called with no lock held.
 */
int gp__interrupted(const gp_interrupt *interrupt);

/*
 * Start a joinable thread with every signal blocked: signals belong to the program's own threads.
 * It never runs the user's code; a thread that does is started by gp_user_thread_start().
 * |name| shows in debuggers; at most 15 characters.
 */
int gp__thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *arg,
                     gp_error *err);

#endif
