/*
 * Layer: rpc. The process's completion queue, polled by one thread at a time.
 *
 * gRPC waits in a single epoll call per process; a second thread inside it only adds a hand-over.
 * So there is one poller role. A thread that waits for something takes the role if it is free, and
 * handles all events that come in, also those of other threads, which sleep meanwhile. Once it has
 * what it waited for, it gives the role up, and one of the sleeping threads is woken to take it. If
 * no thread sleeps, no thread is woken: the thread that had the role is likely to be back in a
 * microsecond with the next call. The backup poller, one of the workers (rpc/worker_pool.h), looks
 * at the role from time to time, and takes it when it stays free for a tick:
 *
 *                  wait / poll                    gate opens / event handled
 *        (free) ----------------> (polled) -------------------------------> (free)
 *           \                                                                 /
 *            '--- free for a tick, offered, or with urgent work: backup ------'
 *
 * On a client the backup poller serves streams that no thread reads at the moment; on a server it
 * polls while a handler runs for long.
 */
#ifndef GP_RPC_POLLER_H
#define GP_RPC_POLLER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/handover.h"
#include "base/task.h"
#include "base/thread.h"
#include "gp/list.h"
#include "gp/lock.h"
#include "rpc/grpc_symbols.h"

/*
 * Guards the engine, which runs the process's calls: the poller, the worker pool, and the state of
 * servers. Never held while polling, while a gp__event's |complete| runs, or while a callback of
 * another part runs, unless that callback's comment says so.
 *
 * Lock order: a call's or a channel's lock first, then this one.
 */
extern gp_mutex gp__engine_lock;

/*
 * The tag of each operation that is put on the queue. |complete| runs on the polling thread, or on
 * the thread that calls gp__poller_end_here(); no lock is held.
 */
typedef struct gp__event {
    void (*complete)(struct gp__event *event, bool ok);
} gp__event;

/*
 * What threads wait for. Zeroed memory is a closed gate. Once opened, a gate stays open until it is
 * closed again.
 */
typedef struct gp__gate {
    atomic_bool open;
} gp__gate;

/*
 * Work that a thread puts off, since it expects to do it together with what follows. If it does
 * not take it back by the deadline, a worker runs |task|.
 */
typedef struct gp__hold {
    gp__task task;    /* its link is in the poller's |holds| */
    int64_t deadline; /* a fixed time after the hold has begun, the same for all */
    /* Called with gp__engine_lock held, before |task| is run. */
    void (*ref)(struct gp__hold *hold);
} gp__hold;

typedef struct gp__poller {
    grpc_completion_queue *queue; /* owned; NULL: closed. Written while no thread uses gRPC */
    /* Threads that sleep in gp__poller_wait(), oldest first. The members are on their stacks. */
    gp_list waiters GP_GUARDED_BY(&gp__engine_lock);
    /*
     * Waits by gp_interrupt.wait, which must not block the thread, so that it cannot poll. Each
     * wait owns its member.
     */
    gp_list yielding_waits GP_GUARDED_BY(&gp__engine_lock);
    /* The gate that the polling thread waits for; NULL: no thread polls, or a worker does. */
    gp__gate *awaited GP_GUARDED_BY(&gp__engine_lock);
    /*
     * Operations under way that no thread waits for, and for which the backup poller polls at once
     * when no other thread does.
     */
    unsigned urgent GP_GUARDED_BY(&gp__engine_lock);
    /* What threads put off, oldest first. */
    gp_list holds GP_GUARDED_BY(&gp__engine_lock);
    /* Servers that take calls. */
    int servers GP_GUARDED_BY(&gp__engine_lock);
    /* A thread has the poller role. */
    bool polled GP_GUARDED_BY(&gp__engine_lock);
    /*
     * The thread that polled last has other work, which is known to be slow: the backup poller is
     * to poll at once.
     */
    bool offered GP_GUARDED_BY(&gp__engine_lock);
    /* Times that a thread began to poll. */
    unsigned long polls GP_GUARDED_BY(&gp__engine_lock);
    /* Times that the backup poller found that no thread polled. */
    atomic_ulong takeovers;
    /* Times that a sleeping thread's gate was opened. */
    unsigned long wakeups GP_GUARDED_BY(&gp__engine_lock);
    /* |slow| of the last absence that was expected to be quick; NULL: that absence has ended. */
    _Atomic(atomic_bool *) slow_if_taken_over;

    /* ---- The backup poller ---- */

    gp_cond backup;
    /* The backup poller sleeps, and the thread that gives the role up is to wake it. */
    bool backup_parked GP_GUARDED_BY(&gp__engine_lock);
    /* The backup poller was woken after it began to wait. */
    bool backup_woken GP_GUARDED_BY(&gp__engine_lock);
    /* When the backup poller wakes by itself; 0: it is awake. */
    int64_t backup_wakes GP_GUARDED_BY(&gp__engine_lock);
    /* A thread began to poll after the backup poller last looked. */
    bool polled_anew GP_GUARDED_BY(&gp__engine_lock);
    /*
     * The role was left to a thread that may not take it: the backup poller is to look again after
     * a tick.
     */
    bool needs_backup GP_GUARDED_BY(&gp__engine_lock);
} gp__poller;

/* Initialize all but the queue, which exists between gp__poller_open() and gp__poller_close(). */
void gp__poller_init(gp__poller *poller);
void gp__poller_open(gp__poller *poller);

/*
 * Complete what is left on the queue, and free the queue. No thread polls it or puts anything on it
 * any more. Returns false if that was not finished by |deadline|; then the queue is leaked.
 */
bool gp__poller_close(gp__poller *poller, int64_t deadline);

/*
 * Wait for |gate|, polling if no other thread does.
 *
 * Returns: 0, GP_ETIMEOUT at |deadline|, or GP_EUSER.
 */
int gp__poller_wait(gp__poller *poller, gp__gate *gate, int64_t deadline,
                    const gp_interrupt *interrupt) GP_EXCLUDES(&gp__engine_lock);

/*
 * On a thread that does not poll, start a batch between these two calls. If the batch is complete
 * at once (such as a receive, when the message has arrived before), gp__poller_end_here() completes
 * it on this thread, and the polling thread has no part in it. The caller must hold no lock that
 * the completion takes.
 */
void gp__poller_begin_here(gp__poller *poller);
void gp__poller_end_here(gp__poller *poller);

/*
 * Open |gate| and wake the threads that wait for it, one of which may be polling. Close it again
 * only when no thread can be waiting.
 */
void gp__gate_open(gp__poller *poller, gp__gate *gate) GP_EXCLUDES(&gp__engine_lock);
void gp__gate_close(gp__gate *gate);

static inline bool
gp__gate_is_open(const gp__gate *gate)
{
    return atomic_load_explicit(&gate->open, memory_order_acquire);
}

/* Count an operation that the backup poller must poll for at once when no thread polls. */
void gp__poller_urgent_add(gp__poller *poller) GP_EXCLUDES(&gp__engine_lock);
void gp__poller_urgent_drop(gp__poller *poller) GP_EXCLUDES(&gp__engine_lock);

/* Count it only if a thread polls now. Returns whether that is so. */
bool gp__poller_urgent_if_polled(gp__poller *poller) GP_EXCLUDES(&gp__engine_lock);

/* Returns whether a thread polls now. */
bool gp__poller_is_polled(gp__poller *poller) GP_EXCLUDES(&gp__engine_lock);

/* Have the backup poller poll if something urgent is under way and no thread polls. */
void gp__poller_ensure_polled(gp__poller *poller) GP_EXCLUDES(&gp__engine_lock);

/* Begin to put off the work of |hold|, which is in no list. */
void gp__poller_hold(gp__poller *poller, gp__hold *hold) GP_EXCLUDES(&gp__engine_lock);

/*
 * End |hold|, whose work counts as urgent from here on. No other thread is woken: the caller polls,
 * or calls gp__poller_ensure_polled().
 */
void gp__poller_end_hold(gp__poller *poller, gp__hold *hold) GP_EXCLUDES(&gp__engine_lock);

/* A server begins, or ceases, to take calls, which come at any time. */
void gp__poller_add_server_locked(gp__poller *poller) GP_REQUIRES(&gp__engine_lock);
void gp__poller_remove_server_locked(gp__poller *poller) GP_REQUIRES(&gp__engine_lock);

/*
 * Put an event that does nothing on the queue, so that the polling thread looks for tasks. Threads:
 * any.
 */
void gp__poller_interrupt(gp__poller *poller);

/* ---- For the workers ---- */

/*
 * Poll until one event has been handled. No other thread may be polling. Releases and re-acquires
 * the lock meanwhile.
 */
void gp__poller_poll_locked(gp__poller *poller) GP_REQUIRES(&gp__engine_lock);

/*
 * Wait as the backup poller. Returns true when this thread is to poll, and false when it was woken
 * by gp__poller_wake_backup_locked() before that, or when a hold is overdue. Releases and
 * re-acquires the lock meanwhile.
 */
bool gp__poller_back_up_locked(gp__poller *poller) GP_REQUIRES(&gp__engine_lock);

void gp__poller_wake_backup_locked(gp__poller *poller) GP_REQUIRES(&gp__engine_lock);

/* End the oldest hold if it is overdue. Returns its task, or NULL. */
gp_link *gp__poller_pop_overdue_locked(gp__poller *poller) GP_REQUIRES(&gp__engine_lock);

/* Have the backup poller poll at once if no thread does. */
void gp__poller_offer_locked(gp__poller *poller) GP_REQUIRES(&gp__engine_lock);

/* Have the backup poller poll if no other thread does so within a tick. */
void gp__poller_request_backup_locked(gp__poller *poller) GP_REQUIRES(&gp__engine_lock);

/*
 * An absence is what a thread does in place of polling, such as running a handler. A kind of work
 * counts as slow once the backup poller has had to take over during it, and as quick again once it
 * has taken less than a tick. Time in gp__poller_wait() does not count: the thread polls there
 * itself.
 */
typedef struct gp__absence {
    atomic_bool *slow; /* borrowed: whether this kind of work is known to be slow */
    bool expected_slow;
    unsigned long takeovers; /* the poller's, when the absence began */
    int64_t began;
} gp__absence;

/*
 * Called before and after the work. If the work is known to be slow, the backup poller is to poll
 * at once.
 */
void gp__poller_begin_absence(gp__poller *poller, gp__absence *absence, atomic_bool *slow)
    GP_EXCLUDES(&gp__engine_lock);
void gp__poller_end_absence_locked(gp__poller *poller, const gp__absence *absence)
    GP_REQUIRES(&gp__engine_lock);

#endif
