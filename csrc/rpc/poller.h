/*
 * Layer: rpc. The process's completion queue, polled by one thread at a time.
 *
 * gRPC polls with a single epoll call per process; a second thread inside it only adds a hand-over.
 * So there is one seat. Whoever waits for something takes the seat if it is free and handles what
 * comes in, for itself and for the others, who sleep. When it has what it waited for it leaves
 * quietly: it is likely to be back in a microsecond with the next call. A standby thread looks in
 * from time to time and takes a seat that stays free for a tick:
 *
 *                  wait / turn                    gate opens / event handled
 *        (free) ----------------> (polling) ------------------------------> (free)
 *           \                                                                 /
 *            '--- free for a tick, or somebody has urgent business: standby -'
 *
 * On the client that is how streams that nobody reads stay served; on the server it is how polling
 * goes on while a handler runs long. The standby thread is a worker (rpc/worker_pool.h).
 *
 * Locks: |lock| guards everything here, the worker pool and the servers. It is never held while polling,
 * in gp__event.complete, or while calling out. Lock order: call or channel lock first, then this.
 */
#ifndef GP_RPC_POLLER_H
#define GP_RPC_POLLER_H

#include <grpc/grpc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/handover.h"
#include "base/thread.h"
#include "gp/lock.h"

/*
 * The tag of everything put on the queue. |complete| runs on the polling thread, or where
 * gp__poller_end_here() says; no lock held.
 */
typedef struct gp__event {
    void (*complete)(struct gp__event *event, bool ok);
} gp__event;

/* Something that threads wait for. Closed is zero. Stays open once opened, until closed again. */
typedef struct gp__gate {
    atomic_bool open;
} gp__gate;

typedef struct gp__waiter gp__waiter;
typedef struct gp__sharer gp__sharer;

typedef struct gp__poller {
    grpc_completion_queue *queue; /* owned; NULL: closed */
    gp_mutex lock;
    gp__waiter *waiters;     /* asleep, oldest first; each lives on its own stack */
    gp__sharer *sharers;     /* who waits without blocking its thread, and so cannot poll */
    gp__gate *awaited;       /* by who sits in the seat; NULL: by nobody, or a worker does */
    gp_cond standby;         /* the standby thread's */
    unsigned urgent;         /* business that nobody waits for and that must not wait either */
    unsigned long turns;     /* times that the seat was taken */
    unsigned long takeovers; /* times that the standby thread found the seat neglected */
    unsigned long wakeups;   /* times that a sleeper's gate was opened */
    bool taken;              /* somebody is inside the queue */
    bool parked;             /* the standby thread sleeps until the seat is left */
    bool called;   /* gp__poller_wake_standby() was called since gp__poller_watch() was entered */
    bool offered;  /* whoever left the seat will not be back soon */
    bool busy;     /* the seat was taken anew since the standby thread last looked */
    bool relieved; /* it was left to somebody who may not come to take it */
    int servers;   /* that run: their calls come at any time, whether somebody polls or not */
} gp__poller;

/* All but the queue, which is there between gp__poller_open() and _close(). */
void gp__poller_init(gp__poller *poller);
void gp__poller_open(gp__poller *poller);

/*
 * Complete what is left on the queue, which nobody polls and nothing is put on any more. Returns
 * false if that did not end by |deadline|; then the queue is left behind.
 */
bool gp__poller_close(gp__poller *poller, int64_t deadline);

/*
 * Wait for |gate|, polling if nobody else does.
 *
 * Returns: 0, GP_ETIMEOUT at |deadline|, or GP_EUSER.
 */
int gp__poller_wait(gp__poller *poller, gp__gate *gate, int64_t deadline,
                    const gp_interrupt *interrupt);

/*
 * What a batch is started between, on a thread that does not poll: if it is complete at once, as a
 * receive of what has come before is, it need not go to the polling thread and come back:
 * gp__poller_end_here() completes it. No lock that its completion takes may be held.
 */
void gp__poller_begin_here(gp__poller *poller);
void gp__poller_end_here(gp__poller *poller);

/* For how long this thread has been in there, in nanoseconds. */
int64_t gp__poller_waited(void);

/*
 * Open |gate| and wake who waits for it, who may be polling. Close it again only when nobody can be
 * waiting.
 */
void gp__gate_open(gp__poller *poller, gp__gate *gate);
void gp__gate_close(gp__gate *gate);

static inline bool
gp__gate_is_open(const gp__gate *gate)
{
    return atomic_load_explicit(&gate->open, memory_order_acquire);
}

/* Count business that the standby thread must serve at once when nobody polls. */
void gp__poller_urgent_add(gp__poller *poller);
void gp__poller_urgent_drop(gp__poller *poller);

/* The same if somebody polls now; otherwise nothing is counted. Returns which. */
bool gp__poller_urgent_if_taken(gp__poller *poller);

/*
 * With |lock| held and the seat free: take it, handle one event, leave it. The lock is
 * released meanwhile.
 */
void gp__poller_turn(gp__poller *poller);

/*
 * The standby thread's wait, with |lock| held: returns true when the seat is this thread's to take,
 * false when woken by gp__poller_wake_standby() before that.
 */
bool gp__poller_watch(gp__poller *poller);

/* With |lock| held. */
void gp__poller_wake_standby(gp__poller *poller);

/* With |lock| held: have the standby thread take the free seat at once. */
void gp__poller_offer(gp__poller *poller);

/* Have whoever sits in the seat see an event, which means nothing, and look around. Any thread. */
void gp__poller_kick(gp__poller *poller);

/* With |lock| held: have the standby thread take the seat if nobody else does within a tick. */
void gp__poller_relieve(gp__poller *poller);

#endif
