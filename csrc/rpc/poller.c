#include "rpc/poller.h"

#include "base/alloc.h"
#include "gp/lock.h"
#include "os/fd.h"
#include "rpc/convert.h"
#include "rpc/grpc_symbols.h"

/*
 * How often the backup poller looks at the poller role; and how long the role must stay free, once
 * found free, before the backup poller takes it. Looking a thousand times a second would cost
 * little by itself, but would make the scheduler move the two ends of a busy connection apart,
 * which doubles a call's latency.
 */
static const int64_t look_ns = 20000000;
static const int64_t tick_ns = 500000;

/* For how long work is put off at most. */
static const int64_t hold_ns = 200000;

gp_mutex gp__engine_lock = GP_MUTEX_INIT;

static _Thread_local bool polling;      /* this thread has the poller role */
static _Thread_local int64_t waited_ns; /* for how long this thread has been in gp__poller_wait() */

typedef struct waiter {
    gp_link link;   /* in the poller's |waiters| */
    gp__gate *gate; /* borrowed: what it waits for */
    gp_cond cond;   /* owned */
} waiter;

/*
 * A wait by gp_interrupt.wait. It is on the heap, since other code may use the memory of the
 * waiting stack.
 */
typedef struct yielding_wait {
    gp_link link;   /* in the poller's |yielding_waits| */
    gp__gate *gate; /* borrowed: what it waits for */
    int fds[2];     /* owned: woken when the gate opens */
} yielding_wait;

void
gp__poller_init(gp__poller *poller)
{
    *poller = (gp__poller){0};
    gp_list_init(&poller->waiters);
    gp_list_init(&poller->yielding_waits);
    gp_list_init(&poller->holds);
    gp_cond_init(&poller->backup);
}

void
gp__poller_open(gp__poller *poller)
{
    poller->queue = grpc_completion_queue_create_for_next(NULL);
}

static void
complete_event(void *tag, int ok)
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
        complete_event(event.tag, event.success);
    }
    if (event.type == GRPC_QUEUE_SHUTDOWN) {
        grpc_completion_queue_destroy(poller->queue);
    }
    poller->queue = NULL;
    return event.type == GRPC_QUEUE_SHUTDOWN;
}

/* Handle one event. Returns false if none came by |deadline|. */
static bool
handle_event(gp__poller *poller, int64_t deadline)
{
    grpc_event event =
        grpc_completion_queue_next(poller->queue, gp__timespec_from_deadline(deadline), NULL);

    if (event.type != GRPC_OP_COMPLETE) {
        return false;
    }
    complete_event(event.tag, event.success);
    return true;
}

static void
begin_polling_locked(gp__poller *poller, gp__gate *awaited) GP_REQUIRES(&gp__engine_lock)
{
    poller->polled = true;
    poller->awaited = awaited;
    poller->offered = false;
    poller->polls++;
    polling = true;
}

/*
 * No thread polls now: wake a sleeping thread to poll, or the backup poller if something urgent is
 * under way.
 */
static void
pass_role_on_locked(gp__poller *poller) GP_REQUIRES(&gp__engine_lock)
{
    waiter *oldest = gp_list_first_entry(&poller->waiters, waiter, link);

    if (oldest != NULL) {
        gp_cond_signal(&oldest->cond);
    } else if (poller->urgent > 0 || poller->backup_parked) {
        gp__poller_wake_backup_locked(poller);
    }
}

static void
end_polling_locked(gp__poller *poller) GP_REQUIRES(&gp__engine_lock)
{
    poller->polled = false;
    poller->awaited = NULL;
    polling = false;
    pass_role_on_locked(poller);
}

void
gp__poller_poll_locked(gp__poller *poller)
{
    begin_polling_locked(poller, NULL);
    gp_mutex_unlock(&gp__engine_lock);
    handle_event(poller, GP__FOREVER);
    gp_mutex_lock(&gp__engine_lock);
    end_polling_locked(poller);
}

/* Poll until |gate| is open, or |deadline|. Releases and re-acquires the lock meanwhile. */
static void
poll_for_gate_locked(gp__poller *poller, gp__gate *gate, int64_t deadline)
    GP_REQUIRES(&gp__engine_lock)
{
    begin_polling_locked(poller, gate);
    gp_mutex_unlock(&gp__engine_lock);
    while (handle_event(poller, deadline) && !gp__gate_is_open(gate)) {
    }
    gp_mutex_lock(&gp__engine_lock);
    end_polling_locked(poller);
}

/*
 * Sleep until the gate has opened, the poller role is free, or |deadline|. Releases and re-acquires
 * the lock meanwhile.
 */
static void
sleep_locked(gp__poller *poller, waiter *me, int64_t deadline) GP_REQUIRES(&gp__engine_lock)
{
    gp_list_append(&poller->waiters, &me->link);
    gp_cond_wait_until(&me->cond, &gp__engine_lock, deadline);
    gp_link_remove(&me->link);
}

/* Returns NULL if memory or descriptors are short. */
static yielding_wait *
add_yielding_wait(gp__poller *poller, gp__gate *gate)
{
    yielding_wait *me = gp__calloc(1, sizeof(*me));

    if (me == NULL || gp__fd_open_wakeup(me->fds, NULL) < 0) {
        gp__free(me);
        return NULL;
    }
    me->gate = gate;
    gp__poller_urgent_add(poller);
    gp_mutex_lock(&gp__engine_lock);
    gp_list_append(&poller->yielding_waits, &me->link);
    gp_mutex_unlock(&gp__engine_lock);
    return me;
}

static void
remove_yielding_wait(gp__poller *poller, yielding_wait *me)
{
    gp_mutex_lock(&gp__engine_lock);
    gp_link_remove(&me->link);
    gp_mutex_unlock(&gp__engine_lock);
    gp__poller_urgent_drop(poller);
    gp__fd_close_wakeup(me->fds);
    gp__free(me);
}

/*
 * Wait by |interrupt->wait|, in which this thread may run other code, while another thread polls.
 * Frees |me|.
 */
static int
wait_by_interrupt(gp__poller *poller, yielding_wait *me, int64_t deadline,
                  const gp_interrupt *interrupt)
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
    remove_yielding_wait(poller, me);
    return rc != GP_EUSER && gp__gate_is_open(gate) ? 0 : rc;
}

int
gp__poller_wait(gp__poller *poller, gp__gate *gate, int64_t deadline, const gp_interrupt *interrupt)
{
    waiter me = {.gate = gate};
    yielding_wait *shared;
    bool has_slept = false;
    int64_t began;
    int rc = 0;

    if (gp__gate_is_open(gate)) {
        return 0;
    }
    /* If memory or descriptors are short, the wait blocks its thread. */
    if (interrupt != NULL && interrupt->wait != NULL &&
        (shared = add_yielding_wait(poller, gate)) != NULL) {
        return wait_by_interrupt(poller, shared, deadline, interrupt);
    }
    began = gp__now();
    gp_mutex_lock(&gp__engine_lock);
    while (!gp__gate_is_open(gate)) {
        int64_t slice = gp__slice(deadline, interrupt);

        if (!poller->polled) {
            poll_for_gate_locked(poller, gate, slice);
        } else {
            if (!has_slept) {
                gp_cond_init(&me.cond);
                has_slept = true;
            }
            sleep_locked(poller, &me, slice);
        }
        if (gp__gate_is_open(gate) || slice == GP__FOREVER || gp__now() < slice) {
            continue;
        }
        if (slice == deadline) {
            rc = GP_ETIMEOUT;
            break;
        }
        gp_mutex_unlock(&gp__engine_lock);
        rc = gp__interrupted(interrupt);
        gp_mutex_lock(&gp__engine_lock);
        if (rc < 0) {
            break;
        }
    }
    /* This thread may have been woken to poll, which it no longer needs to: wake another one. */
    if (has_slept && !poller->polled) {
        pass_role_on_locked(poller);
    }
    gp_mutex_unlock(&gp__engine_lock);
    if (has_slept) {
        gp_cond_release(&me.cond);
    }
    waited_ns += gp__now() - began;
    return rc != GP_EUSER && gp__gate_is_open(gate) ? 0 : rc; /* GP_EUSER is never dropped */
}

void
gp__gate_open(gp__poller *poller, gp__gate *gate)
{
    bool unseen;

    gp_mutex_lock(&gp__engine_lock);
    atomic_store_explicit(&gate->open, true, memory_order_release);
    for (waiter *it = gp_list_first_entry(&poller->waiters, waiter, link); it != NULL;
         it = gp_list_next_entry(&poller->waiters, it, waiter, link)) {
        if (it->gate == gate) {
            poller->wakeups++;
            gp_cond_signal(&it->cond);
        }
    }
    for (yielding_wait *it = gp_list_first_entry(&poller->yielding_waits, yielding_wait, link);
         it != NULL; it = gp_list_next_entry(&poller->yielding_waits, it, yielding_wait, link)) {
        if (it->gate == gate) {
            gp__fd_wake(it->fds);
        }
    }
    unseen = poller->awaited == gate && !polling;
    gp_mutex_unlock(&gp__engine_lock);
    if (unseen) {
        gp__poller_interrupt(poller);
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
    gp_mutex_lock(&gp__engine_lock);
    poller->urgent++;
    if (!poller->polled) {
        gp__poller_wake_backup_locked(poller);
    }
    gp_mutex_unlock(&gp__engine_lock);
}

bool
gp__poller_urgent_if_polled(gp__poller *poller)
{
    bool polled;

    gp_mutex_lock(&gp__engine_lock);
    polled = poller->polled;
    poller->urgent += polled;
    gp_mutex_unlock(&gp__engine_lock);
    return polled;
}

bool
gp__poller_is_polled(gp__poller *poller)
{
    bool polled;

    gp_mutex_lock(&gp__engine_lock);
    polled = poller->polled;
    gp_mutex_unlock(&gp__engine_lock);
    return polled;
}

void
gp__poller_ensure_polled(gp__poller *poller)
{
    gp_mutex_lock(&gp__engine_lock);
    if (poller->urgent > 0 && !poller->polled) {
        gp__poller_wake_backup_locked(poller);
    }
    gp_mutex_unlock(&gp__engine_lock);
}

void
gp__poller_urgent_drop(gp__poller *poller)
{
    gp_mutex_lock(&gp__engine_lock);
    poller->urgent--;
    gp_mutex_unlock(&gp__engine_lock);
}

/* When the oldest hold is overdue. */
static int64_t
hold_deadline_locked(const gp__poller *poller) GP_REQUIRES(&gp__engine_lock)
{
    const gp_link *oldest = gp_list_first(&poller->holds);

    return oldest == NULL ? GP__FOREVER : gp_container_of(oldest, gp__hold, task.link)->deadline;
}

void
gp__poller_hold(gp__poller *poller, gp__hold *hold)
{
    hold->deadline = gp__now() + hold_ns;
    gp_mutex_lock(&gp__engine_lock);
    gp_list_append(&poller->holds, &hold->task.link);
    if (poller->backup_wakes > hold->deadline) {
        gp__poller_wake_backup_locked(poller);
    }
    gp_mutex_unlock(&gp__engine_lock);
}

void
gp__poller_end_hold(gp__poller *poller, gp__hold *hold)
{
    gp_mutex_lock(&gp__engine_lock);
    gp_link_remove(&hold->task.link);
    poller->urgent++;
    gp_mutex_unlock(&gp__engine_lock);
}

gp_link *
gp__poller_pop_overdue_locked(gp__poller *poller)
{
    gp_link *oldest;

    if (gp_list_is_empty(&poller->holds) || hold_deadline_locked(poller) > gp__now()) {
        return NULL;
    }
    oldest = gp_list_pop(&poller->holds);
    gp_container_of(oldest, gp__hold, task.link)->ref(gp_container_of(oldest, gp__hold, task.link));
    return oldest;
}

void
gp__poller_add_server_locked(gp__poller *poller)
{
    poller->servers++;
}

void
gp__poller_remove_server_locked(gp__poller *poller)
{
    poller->servers--;
}

void
gp__poller_wake_backup_locked(gp__poller *poller)
{
    poller->backup_parked = false;
    poller->backup_woken = true;
    poller->backup_wakes = 0;
    gp_cond_signal(&poller->backup);
}

void
gp__poller_offer_locked(gp__poller *poller)
{
    if (!poller->polled) {
        poller->offered = true;
        gp__poller_wake_backup_locked(poller);
    }
}

void
gp__poller_request_backup_locked(gp__poller *poller)
{
    poller->needs_backup = true;
    gp__poller_wake_backup_locked(poller);
}

static void
ignore_event(gp__event *event, bool ok)
{
    (void)event;
    (void)ok;
}

/* An empty batch completes at once. */
void
gp__poller_interrupt(gp__poller *poller)
{
    static gp__event nothing = {ignore_event};
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
        complete_event(tag, ok);
    }
}

/* Whether the backup poller is to poll at once. */
static bool
wanted_at_once_locked(const gp__poller *poller) GP_REQUIRES(&gp__engine_lock)
{
    return !poller->polled &&
           (poller->offered || (poller->urgent > 0 && gp_list_is_empty(&poller->waiters)));
}

/* The backup poller is about to poll, since no thread has polled for a tick. */
static void
take_over_locked(gp__poller *poller) GP_REQUIRES(&gp__engine_lock)
{
    atomic_bool *slow = atomic_load(&poller->slow_if_taken_over);

    atomic_fetch_add(&poller->takeovers, 1);
    /*
     * The handler that keeps the last poller away counts as slow at once, and not only when it
     * returns: it may never return, and more calls of the same method may wait behind it, each of
     * which would take a tick.
     */
    if (slow != NULL) {
        atomic_store(slow, true);
    }
}

/*
 * Wait as the backup poller until |look|, or until a hold is overdue. Returns whether it was woken
 * before that. Releases and re-acquires the lock meanwhile.
 */
static bool
wait_to_look_locked(gp__poller *poller, int64_t look) GP_REQUIRES(&gp__engine_lock)
{
    int64_t overdue;
    int rc;

    do {
        overdue = hold_deadline_locked(poller);
        poller->backup_wakes = overdue < look ? overdue : look;
        rc = gp_cond_wait_until(&poller->backup, &gp__engine_lock, poller->backup_wakes);
        /* A wake-up may come after the wait has timed out, and before it returns. */
        if (rc != GP_ETIMEOUT || poller->backup_woken) {
            poller->backup_wakes = 0;
            return true;
        }
        /* The hold for which it has waited may have ended. */
    } while (gp__now() < look && hold_deadline_locked(poller) > gp__now());
    poller->backup_wakes = 0;
    return false;
}

bool
gp__poller_back_up_locked(gp__poller *poller)
{
    bool suspicious = poller->needs_backup; /* no thread polled at the last look */

    poller->needs_backup = false;
    poller->backup_woken = false;
    for (;;) {
        unsigned long polls = poller->polls;
        int64_t look = gp__now() + (suspicious ? tick_ns : look_ns);

        if (wanted_at_once_locked(poller)) {
            return true;
        }
        poller->backup_parked = poller->polled && !poller->polled_anew;
        if (wait_to_look_locked(poller, poller->backup_parked ? GP__FOREVER : look)) {
            poller->polled_anew = true; /* unknown: do not park before the next look */
            return wanted_at_once_locked(poller);
        }
        if (hold_deadline_locked(poller) <= gp__now()) {
            poller->needs_backup = suspicious;
            return false;
        }
        poller->polled_anew = polls != poller->polls;
        if (!poller->polled && !poller->polled_anew) {
            take_over_locked(poller);
            return true;
        }
        suspicious = !poller->polled && !suspicious;
    }
}

void
gp__poller_begin_absence(gp__poller *poller, gp__absence *absence, atomic_bool *slow)
{
    *absence = (gp__absence){.slow = slow,
                             .expected_slow = atomic_load(slow),
                             .takeovers = atomic_load(&poller->takeovers)};
    if (absence->expected_slow) {
        gp_mutex_lock(&gp__engine_lock);
        gp__poller_offer_locked(poller);
        gp_mutex_unlock(&gp__engine_lock);
        absence->began = gp__now() - waited_ns;
    } else {
        atomic_store(&poller->slow_if_taken_over, slow);
    }
}

void
gp__poller_end_absence_locked(gp__poller *poller, const gp__absence *absence)
{
    atomic_bool *mine = absence->slow;

    if (absence->expected_slow) {
        atomic_store(mine, gp__now() - waited_ns - absence->began >= tick_ns);
        return;
    }
    atomic_store(mine, atomic_load(&poller->takeovers) != absence->takeovers);
    /*
     * Done under the lock, since take_over_locked() uses |slow|, which may be freed from here on.
     */
    atomic_compare_exchange_strong(&poller->slow_if_taken_over, &mine, NULL);
}
