/*
 * Layer: rpc. The process's completion queue, polled by one thread at a time.
 *
 * gRPC waits in a single epoll call per process; a second thread inside it only adds a hand-over.
 * So there is one poller role. A thread that waits for something takes the role if it is free, and
 * handles all events that come in, also those of other threads, which sleep meanwhile. Once it has
 * what it waited for, it gives the role up. One of the sleeping threads is woken to take it; if
 * there is none, no thread is, since the first is likely to be back in a microsecond with the next
 * call. The backup poller, one of the workers (rpc/worker_pool.h), looks at the role from time to
 * time, and takes it when it stays free for a tick:
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

#include <grpc/grpc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/handover.h"
#include "base/thread.h"
#include "gp/list.h"
#include "gp/lock.h"

/*
 * Guards the engine, which runs the process's calls: the poller, the worker pool, and the state of
 * servers. It is never held while polling, in gp__event.complete, or while calling out.
 *
 * Lock order: a call's or a channel's lock first, then this one.
 */
extern gp_mutex gp__engine_lock;

/*
 * The tag of everything put on the queue. |complete| runs on the polling thread, or where
 * gp__poller_end_here() says; no lock is held.
 */
typedef struct gp__event {
    void (*complete)(struct gp__event *event, bool ok);
} gp__event;

/* Something that threads wait for. Closed is zero. Stays open once opened, until closed again. */
typedef struct gp__gate {
    atomic_bool open;
} gp__gate;

typedef struct gp__poller {
    grpc_completion_queue *queue; /* owned; NULL: closed. Written while no thread uses gRPC */
    /* Threads that sleep in gp__poller_wait(), oldest first. The members are on their stacks. */
    gp_list waiters GP_GUARDED_BY(&gp__engine_lock);
    /* Waits by gp_interrupt.wait, whose threads cannot poll. Each wait owns its member. */
    gp_list sharers GP_GUARDED_BY(&gp__engine_lock);
    /* What the polling thread waits for; NULL: no thread polls, or it is a worker. */
    gp__gate *awaited GP_GUARDED_BY(&gp__engine_lock);
    /* Operations under way that no thread waits for, and that must be polled for at once. */
    unsigned urgent GP_GUARDED_BY(&gp__engine_lock);
    /* Servers that take calls. */
    int servers GP_GUARDED_BY(&gp__engine_lock);
    /* A thread has the poller role. */
    bool polled GP_GUARDED_BY(&gp__engine_lock);
    /* The thread that polled last has other work, which is known to be slow. */
    bool offered GP_GUARDED_BY(&gp__engine_lock);
    /* Times that a thread began to poll. */
    unsigned long polls GP_GUARDED_BY(&gp__engine_lock);
    /* Times that the backup poller found that no thread polled. */
    atomic_ulong takeovers;
    /* Times that a sleeping thread's gate was opened. */
    unsigned long wakeups GP_GUARDED_BY(&gp__engine_lock);
    /* |slow| of the last absence that was expected to be quick; NULL: that one has ended. */
    _Atomic(atomic_bool *) slow_if_taken_over;

    /* ---- The backup poller's ---- */

    gp_cond backup;
    /* It sleeps until the polling thread gives the role up. */
    bool backup_parked GP_GUARDED_BY(&gp__engine_lock);
    /* It was woken since it began to wait. */
    bool backup_woken GP_GUARDED_BY(&gp__engine_lock);
    /* Threads began to poll since it last looked. */
    bool polled_anew GP_GUARDED_BY(&gp__engine_lock);
    /* The role was left to a thread that may not take it: look again after a tick. */
    bool needs_backup GP_GUARDED_BY(&gp__engine_lock);
} gp__poller;

/* Without the queue, which exists between gp__poller_open() and gp__poller_close(). */
void gp__poller_init(gp__poller *poller);
void gp__poller_open(gp__poller *poller);

/*
 * Complete what is left on the queue, which no thread polls and nothing is put on any more. Returns
 * false if that did not end by |deadline|; then the queue is leaked.
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
 * Start a batch between these two, on a thread that does not poll. If it is complete at once, as a
 * receive of a message that has arrived before is, gp__poller_end_here() completes it, and the
 * polling thread has no part in it. No lock that the completion takes may be held.
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

/* The same if a thread polls now; otherwise nothing is counted. Returns which. */
bool gp__poller_urgent_if_polled(gp__poller *poller) GP_EXCLUDES(&gp__engine_lock);

/* A server begins, or ends, to take calls: they come at any time, whether a thread polls or not. */
void gp__poller_add_server_locked(gp__poller *poller) GP_REQUIRES(&gp__engine_lock);
void gp__poller_remove_server_locked(gp__poller *poller) GP_REQUIRES(&gp__engine_lock);

/* Give the polling thread an event without meaning, so that it looks for tasks. Any thread. */
void gp__poller_interrupt(gp__poller *poller);

/* ---- For the workers ---- */

/*
 * No thread polls: poll until one event has been handled. Releases and re-acquires the lock
 * meanwhile.
 */
void gp__poller_poll_locked(gp__poller *poller) GP_REQUIRES(&gp__engine_lock);

/*
 * Wait as the backup poller: returns true when this thread is to poll, and false when it was woken
 * by gp__poller_wake_backup_locked() before that. Releases and re-acquires the lock meanwhile.
 */
bool gp__poller_back_up_locked(gp__poller *poller) GP_REQUIRES(&gp__engine_lock);

void gp__poller_wake_backup_locked(gp__poller *poller) GP_REQUIRES(&gp__engine_lock);

/* Have the backup poller poll at once if no thread does. */
void gp__poller_offer_locked(gp__poller *poller) GP_REQUIRES(&gp__engine_lock);

/* Have the backup poller poll if no other thread does so within a tick. */
void gp__poller_request_backup_locked(gp__poller *poller) GP_REQUIRES(&gp__engine_lock);

/*
 * What a thread does in place of polling, such as running a handler, and what is learned from it. A
 * kind of work becomes slow when the backup poller has had to take over meanwhile, and quick again
 * when it has taken less than a tick. Time in gp__poller_wait() does not count: the thread polls
 * there itself.
 */
typedef struct gp__absence {
    atomic_bool *slow; /* borrowed: what is known of this kind of work */
    bool expected_slow;
    unsigned long takeovers;
    int64_t began;
} gp__absence;

/* The work begins and ends. If it is known to be slow, the backup poller is to poll at once. */
void gp__poller_begin_absence(gp__poller *poller, gp__absence *absence, atomic_bool *slow)
    GP_EXCLUDES(&gp__engine_lock);
void gp__poller_end_absence_locked(gp__poller *poller, const gp__absence *absence)
    GP_REQUIRES(&gp__engine_lock);

#endif
