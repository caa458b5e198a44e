#include "rpc/poller.h"

#include <grpc/support/time.h>

#include "base/alloc.h"
#include "gp/lock.h"
#include "os/fd.h"
#include "rpc/convert.h"

/*
 * How often the standby thread looks at the seat, and, once it has found it free, how long it stays
 * free before the thread takes it. Looking a thousand times a second would cost little by itself,
 * but make the scheduler move the two ends of a busy connection apart, which doubles a call's
 * latency.
 */
static const int64_t look_ns = 20000000;
static const int64_t tick_ns = 500000;

static _Thread_local bool seated; /* this thread is the one in the seat */
static _Thread_local int64_t waited;

struct gp__waiter {
    gp__gate *gate; /* borrowed: what it waits for */
    gp_cond cond;   /* owned */
    gp__waiter *next;
};

/* Who waits by gp_interrupt.wait. On the heap, since the stack of such a wait may be put away. */
struct gp__sharer {
    gp__gate *gate; /* borrowed: what it waits for */
    int fds[2];     /* owned: woken when the gate opens */
    gp__sharer *next;
};

void
gp__poller_init(gp__poller *poller)
{
    *poller = (gp__poller){0};
    gp_mutex_init(&poller->lock);
    gp_cond_init(&poller->standby);
}

void
gp__poller_open(gp__poller *poller)
{
    poller->queue = grpc_completion_queue_create_for_next(NULL);
}

static void
complete(void *tag, int ok)
{
    gp__event *event = tag;

    gp__take_back(event);
    event->complete(event, ok != 0);
}

bool
gp__poller_close(gp__poller *poller, int64_t deadline)
{
    grpc_event event;

    grpc_completion_queue_shutdown(poller->queue);
    for (;;) {
        event =
            grpc_completion_queue_next(poller->queue, gp__timespec_from_deadline(deadline), NULL);
        if (event.type != GRPC_OP_COMPLETE) {
            break;
        }
        complete(event.tag, event.success);
    }
    if (event.type == GRPC_QUEUE_SHUTDOWN) {
        grpc_completion_queue_destroy(poller->queue);
    }
    poller->queue = NULL;
    return event.type == GRPC_QUEUE_SHUTDOWN;
}

static bool
handle_one(gp__poller *poller, int64_t deadline)
{
    grpc_event event =
        grpc_completion_queue_next(poller->queue, gp__timespec_from_deadline(deadline), NULL);

    if (event.type != GRPC_OP_COMPLETE) {
        return false;
    }
    complete(event.tag, event.success);
    return true;
}

static void
take_seat(gp__poller *poller)
{
    poller->taken = true;
    poller->offered = false;
    poller->turns++;
    seated = true;
    gp_mutex_unlock(&poller->lock);
}

/*
 * The seat is free: for a sleeper, or the standby thread if something urgent is under way. Lock
 * held.
 */
static void
pass_on(gp__poller *poller)
{
    if (poller->waiters != NULL) {
        gp_cond_signal(&poller->waiters->cond);
    } else if (poller->urgent > 0 || poller->parked) {
        gp__poller_wake_standby(poller);
    }
}

static void
leave_seat(gp__poller *poller)
{
    gp_mutex_lock(&poller->lock);
    poller->taken = false;
    poller->awaited = NULL;
    seated = false;
    pass_on(poller);
}

void
gp__poller_turn(gp__poller *poller)
{
    take_seat(poller);
    handle_one(poller, GP__FOREVER);
    leave_seat(poller);
}

/* Sleep until woken, because the gate opened or the seat became free. Lock held. */
static void
sleep_as_waiter(gp__poller *poller, gp__waiter *me, int64_t deadline)
{
    gp__waiter **link = &poller->waiters;

    while (*link != NULL) {
        link = &(*link)->next;
    }
    me->next = NULL;
    *link = me;
    gp__cond_wait_until(&me->cond, &poller->lock, deadline);
    for (link = &poller->waiters; *link != me; link = &(*link)->next) {
    }
    *link = me->next;
}

/* NULL: memory or descriptors are short. */
static gp__sharer *
add_sharer(gp__poller *poller, gp__gate *gate)
{
    gp__sharer *me = gp__calloc(1, sizeof(*me));

    if (me == NULL || gp__fd_open_wakeup(me->fds, NULL) < 0) {
        gp__free(me);
        return NULL;
    }
    me->gate = gate;
    gp__poller_urgent_add(poller);
    gp_mutex_lock(&poller->lock);
    me->next = poller->sharers;
    poller->sharers = me;
    gp_mutex_unlock(&poller->lock);
    return me;
}

static void
remove_sharer(gp__poller *poller, gp__sharer *me)
{
    gp__sharer **link = &poller->sharers;

    gp_mutex_lock(&poller->lock);
    while (*link != me) {
        link = &(*link)->next;
    }
    *link = me->next;
    gp_mutex_unlock(&poller->lock);
    gp__poller_urgent_drop(poller);
    gp__fd_close_wakeup(me->fds);
    gp__free(me);
}

/* Wait while another thread polls, and this one does whatever |interrupt| has it do. */
static int
share_thread(gp__poller *poller, gp__sharer *me, int64_t deadline, const gp_interrupt *interrupt)
{
    gp__gate *gate = me->gate;
    int rc = 0;

    while (!gp__gate_is_open(gate) && rc != GP_EUSER) {
        int64_t left = deadline == GP__FOREVER ? -1 : deadline - gp__now();

        if (deadline != GP__FOREVER && left <= 0) {
            rc = GP_ETIMEOUT;
            break;
        }
        rc = interrupt->wait(interrupt->ctx, me->fds[0], left);
    }
    remove_sharer(poller, me);
    return rc != GP_EUSER && gp__gate_is_open(gate) ? 0 : rc;
}

int
gp__poller_wait(gp__poller *poller, gp__gate *gate, int64_t deadline, const gp_interrupt *interrupt)
{
    gp__waiter me = {.gate = gate};
    gp__sharer *sharer;
    bool has_cond = false;
    int64_t began;
    int rc = 0;

    if (gp__gate_is_open(gate)) {
        return 0;
    }
    /* Without a descriptor to spare, others have to wait. */
    if (interrupt != NULL && interrupt->wait != NULL &&
        (sharer = add_sharer(poller, gate)) != NULL) {
        return share_thread(poller, sharer, deadline, interrupt);
    }
    began = gp__now();
    gp_mutex_lock(&poller->lock);
    while (!gp__gate_is_open(gate)) {
        int64_t slice = gp__slice(deadline, interrupt);

        if (!poller->taken) {
            poller->awaited = gate;
            take_seat(poller);
            while (handle_one(poller, slice) && !gp__gate_is_open(gate)) {
            }
            leave_seat(poller);
        } else {
            if (!has_cond) {
                gp_cond_init(&me.cond);
                has_cond = true;
            }
            sleep_as_waiter(poller, &me, slice);
        }
        if (gp__gate_is_open(gate) || slice == GP__FOREVER || gp__now() < slice) {
            continue;
        }
        if (slice == deadline) {
            rc = GP_ETIMEOUT;
            break;
        }
        gp_mutex_unlock(&poller->lock);
        rc = gp__interrupted(interrupt);
        gp_mutex_lock(&poller->lock);
        if (rc < 0) {
            break;
        }
    }
    /* Whoever was woken to poll and no longer needs to must pass that on. */
    if (has_cond && !poller->taken) {
        pass_on(poller);
    }
    gp_mutex_unlock(&poller->lock);
    if (has_cond) {
        gp_cond_release(&me.cond);
    }
    waited += gp__now() - began;
    return rc != GP_EUSER && gp__gate_is_open(gate) ? 0 : rc; /* an exception must get out */
}

int64_t
gp__poller_waited(void)
{
    return waited;
}

void
gp__gate_open(gp__poller *poller, gp__gate *gate)
{
    bool unseen;

    gp_mutex_lock(&poller->lock);
    atomic_store_explicit(&gate->open, true, memory_order_release);
    for (gp__waiter *waiter = poller->waiters; waiter != NULL; waiter = waiter->next) {
        if (waiter->gate == gate) {
            poller->wakeups++;
            gp_cond_signal(&waiter->cond);
        }
    }
    for (gp__sharer *sharer = poller->sharers; sharer != NULL; sharer = sharer->next) {
        if (sharer->gate == gate) {
            gp__fd_wake(sharer->fds);
        }
    }
    unseen = poller->awaited == gate && !seated;
    gp_mutex_unlock(&poller->lock);
    if (unseen) {
        gp__poller_kick(poller);
    }
}

void
gp__gate_close(gp__gate *gate)
{
    atomic_store_explicit(&gate->open, false, memory_order_release);
}

void
gp__poller_urgent_add(gp__poller *poller)
{
    gp_mutex_lock(&poller->lock);
    poller->urgent++;
    if (!poller->taken) {
        gp__poller_wake_standby(poller);
    }
    gp_mutex_unlock(&poller->lock);
}

bool
gp__poller_urgent_if_taken(gp__poller *poller)
{
    bool taken;

    gp_mutex_lock(&poller->lock);
    taken = poller->taken;
    poller->urgent += taken;
    gp_mutex_unlock(&poller->lock);
    return taken;
}

void
gp__poller_urgent_drop(gp__poller *poller)
{
    gp_mutex_lock(&poller->lock);
    poller->urgent--;
    gp_mutex_unlock(&poller->lock);
}

void
gp__poller_wake_standby(gp__poller *poller)
{
    poller->parked = false;
    poller->called = true;
    gp_cond_signal(&poller->standby);
}

void
gp__poller_offer(gp__poller *poller)
{
    if (!poller->taken) {
        poller->offered = true;
        gp__poller_wake_standby(poller);
    }
}

void
gp__poller_relieve(gp__poller *poller)
{
    poller->relieved = true;
    gp__poller_wake_standby(poller);
}

static void
kicked(gp__event *event, bool ok)
{
    (void)event;
    (void)ok;
}

/* An empty batch completes at once. */
void
gp__poller_kick(gp__poller *poller)
{
    static gp__event nothing = {kicked};
    grpc_channel *nowhere = grpc_lame_client_channel_create("", GRPC_STATUS_UNAVAILABLE, "");
    grpc_call *call = grpc_channel_create_call(nowhere, NULL, GRPC_PROPAGATE_DEFAULTS,
                                               poller->queue, grpc_slice_from_static_string("/"),
                                               NULL, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);

    gp__hand_over(&nothing);
    grpc_call_start_batch(call, NULL, 0, &nothing, NULL);
    grpc_call_unref(call);
    grpc_channel_destroy(nowhere);
}

void
gp__poller_begin_here(gp__poller *poller)
{
    grpc_completion_queue_thread_local_cache_init(poller->queue);
}

void
gp__poller_end_here(gp__poller *poller)
{
    void *tag;
    int ok;

    if (grpc_completion_queue_thread_local_cache_flush(poller->queue, &tag, &ok)) {
        complete(tag, ok);
    }
}

/* Whether the standby thread should take the seat without a look at the clock. Lock held. */
static bool
wanted_at_once(const gp__poller *poller)
{
    return !poller->taken && (poller->offered || (poller->urgent > 0 && poller->waiters == NULL));
}

bool
gp__poller_watch(gp__poller *poller)
{
    bool suspicious = poller->relieved; /* the seat was free at the last look */

    poller->relieved = false;
    poller->called = false;
    for (;;) {
        unsigned long turns = poller->turns;
        int rc;

        if (wanted_at_once(poller)) {
            return true;
        }
        poller->parked = poller->taken && !poller->busy;
        rc = gp__cond_wait_until(&poller->standby, &poller->lock,
                                 poller->parked ? GP__FOREVER
                                                : gp__now() + (suspicious ? tick_ns : look_ns));
        /* A call may come between the end of a wait, when its time is up, and its return. */
        if (rc != GP_ETIMEOUT || poller->called) {
            poller->busy = true; /* there was nothing to see yet */
            return wanted_at_once(poller);
        }
        poller->busy = turns != poller->turns;
        if (!poller->taken && !poller->busy) {
            poller->takeovers++;
            return true;
        }
        suspicious = !poller->taken && !suspicious;
    }
}
