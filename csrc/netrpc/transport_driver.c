#include <poll.h>

#include "base/alloc.h"
#include "netrpc/transport.h"
#include "netrpc/transport_state.h"
#include "os/fd.h"

/*
 * How often the reactor looks whether a thread still drives. With a much shorter tick the scheduler
 * moves the two ends of a busy connection apart, which slows calls down.
 */
enum { TICK_MS = 20 };

/*
 * A wait for a gate: on the stack of its thread, or on the heap if it is by gp_interrupt.wait,
 * which lets other code use the memory of the stack.
 */
struct gp__transport_waiter {
    gp_link link;                /* in the role's |waiters| while the thread sleeps */
    gp__transport_waiter *next;  /* in the gate's chain */
    gp__transport_gate *chained; /* the gate whose chain it is in; NULL: none */
    bool opened;                 /* the gate has been opened, and may be closed again by now */
    bool driving;                /* the thread has the driver role */
    bool yielding;               /* it is woken by |fds|, and else by |cond| */
    gp_cond cond;                /* owned; made before the thread first sleeps */
    int fds[2];                  /* owned */
};

/* ---- Gates ----------------------------------------------------------------------------------- */

static void
chain_waiter(gp__transport_gate *gate, gp__transport_waiter *waiter)
{
    if (waiter->chained == NULL) {
        waiter->chained = gate;
        waiter->next = gate->waiters;
        gate->waiters = waiter;
    }
}

static void
unchain_waiter(gp__transport_waiter *waiter)
{
    gp__transport_waiter **at;

    if (waiter->chained != NULL) {
        for (at = &waiter->chained->waiters; *at != waiter; at = &(*at)->next) {
        }
        *at = waiter->next;
        waiter->chained = NULL;
    }
}

/* The waiter is in no list and no chain after this. */
static void
wake_waiter_locked(gp__transport *transport, gp__transport_waiter *waiter)
    GP_REQUIRES(&transport->lock)
{
    unchain_waiter(waiter);
    gp_link_remove(&waiter->link);
    waiter->opened = true;
    if (waiter->yielding) {
        gp__fd_wake(waiter->fds);
    } else if (!waiter->driving) {
        transport->role.woken++;
        gp_cond_signal(&waiter->cond);
    } else if (!transport->channel.dispatching) {
        gp__fd_wake(transport->role.wakeup);
    }
}

void
gp__transport_gate_open_locked(gp__transport *transport, gp__transport_gate *gate)
{
    gate->open = true;
    while (gate->waiters != NULL) {
        wake_waiter_locked(transport, gate->waiters);
    }
}

/* ---- The reactor as the driver's backup ------------------------------------------------------ */

static void
enable_ticks_locked(gp__transport *transport, bool enabled) GP_REQUIRES(&transport->lock)
{
    if (transport->role.ticking != enabled) {
        transport->role.ticking = enabled;
        gp__reactor_enable(transport->role.ticks, enabled);
    }
}

/* What the reactor is to watch for. If tasks are to run, it is called as soon as possible. */
static unsigned
watched_events_locked(const gp__transport *transport) GP_REQUIRES(&transport->lock)
{
    return gp__transport_events_locked(transport) |
           (gp_list_is_empty(&transport->role.deferred) ? 0u : GP__STREAM_WRITE);
}

/* Have the reactor watch the connection from now on, for what it is to be waited for. */
static void
watch_locked(gp__transport *transport) GP_REQUIRES(&transport->lock)
{
    transport->role.watching = true;
    transport->role.awaited = watched_events_locked(transport);
    gp__reactor_want(transport->role.watch, transport->role.awaited);
}

static void
unwatch_locked(gp__transport *transport) GP_REQUIRES(&transport->lock)
{
    transport->role.watching = false;
    gp__reactor_want(transport->role.watch, 0);
}

/* Run |tasks|. The last one may free the transport. */
static void
run_tasks(gp_list *tasks)
{
    gp_link *link;

    while ((link = gp_list_pop(tasks)) != NULL) {
        gp__task *task = gp_container_of(link, gp__task, link);

        task->run(task);
    }
}

/* On the reactor's thread: the watched connection is ready. */
static void
connection_ready(void *ctx)
{
    gp__transport *transport = ctx;
    gp__transport_role *role;
    gp_list deferred;

    gp_list_init(&deferred);
    gp_mutex_lock(&transport->lock);
    role = &transport->role;
    if (gp__transport_is_over_locked(transport)) {
        gp_list_move(&deferred, &role->deferred);
    } else if (role->driven) {
        /* A thread has taken the role since: it sees the same. */
        unwatch_locked(transport);
        enable_ticks_locked(transport, true);
    } else {
        gp__transport_dispatch_locked(transport);
        gp_list_move(&deferred, &role->deferred);
        if (!gp__transport_is_over_locked(transport)) {
            gp__transport_role_update_locked(transport);
            if (gp__transport_service_is_busy_locked(transport)) {
                enable_ticks_locked(transport, true);
            }
        }
    }
    gp_mutex_unlock(&transport->lock);
    run_tasks(&deferred);
}

/* On the reactor's thread. */
static void
look_at_role(void *ctx)
{
    gp__transport *transport = ctx;
    gp__transport_role *role;
    gp_list deferred;
    bool busy;

    gp_list_init(&deferred);
    gp_mutex_lock(&transport->lock);
    role = &transport->role;
    if (gp__transport_is_over_locked(transport)) {
        enable_ticks_locked(transport, false);
        gp_list_move(&deferred, &role->deferred);
    } else {
        busy = gp__transport_service_tick_locked(transport);
        if (!role->driven && !role->driven_anew && !role->watching) {
            watch_locked(transport);
        }
        /* A thread that has driven for a whole tick has the reactor watch when it leaves. */
        if (!busy && (role->watching || (role->driven && !role->driven_anew))) {
            enable_ticks_locked(transport, false);
        }
        role->driven_anew = false;
    }
    gp_mutex_unlock(&transport->lock);
    run_tasks(&deferred);
}

void
gp__transport_role_update_locked(gp__transport *transport)
{
    gp__transport_role *role = &transport->role;
    unsigned events;

    if (transport->channel.dispatching || gp__transport_is_over_locked(transport)) {
        return;
    }
    if (role->driven) {
        if ((gp__transport_events_locked(transport) & ~role->awaited) != 0) {
            gp__fd_wake(role->wakeup);
        }
        return;
    }
    events = watched_events_locked(transport);
    if (role->watching ? events != role->awaited
                       : role->urgent > 0 || (events & GP__STREAM_WRITE) != 0) {
        watch_locked(transport);
    }
}

void
gp__transport_urgent_locked(gp__transport *transport, int change)
{
    transport->role.urgent += change;
    if (change > 0) {
        gp__transport_role_update_locked(transport);
    }
}

/* ---- The role -------------------------------------------------------------------------------- */

void
gp__transport_role_take_locked(gp__transport *transport)
{
    transport->role.driven = true;
    transport->role.driven_anew = true;
}

void
gp__transport_role_give_up_locked(gp__transport *transport)
{
    gp__transport_role *role = &transport->role;
    gp__transport_waiter *oldest;

    role->driven = false;
    role->awaited = 0;
    if (gp__transport_is_over_locked(transport)) {
        gp__transport_close_stream_locked(transport);
        return;
    }
    oldest = gp_list_first_entry(&role->waiters, gp__transport_waiter, link);
    if (oldest != NULL) {
        gp_cond_signal(&oldest->cond);
    } else if (!role->watching && !role->ticking) {
        /* The thread has driven for long, so that the ticks have been disabled. */
        if (gp__transport_service_is_busy_locked(transport)) {
            enable_ticks_locked(transport, true);
        } else {
            watch_locked(transport);
        }
    }
}

void
gp__transport_role_watch_locked(gp__transport *transport)
{
    gp__transport_role *role = &transport->role;

    if (!role->driven && !role->watching && gp_list_is_empty(&role->waiters) &&
        !gp__transport_is_over_locked(transport)) {
        watch_locked(transport);
    }
}

/*
 * Whether the other side may call at any time, while no worker is about to drive: in a plugin,
 * where a thread of the user has driven while it waited.
 */
static bool
is_deserted_locked(const gp__transport *transport) GP_REQUIRES(&transport->lock)
{
    return !transport->options.raw && !transport->options.client &&
           transport->service.attentive == 0 && !gp__transport_service_is_busy_locked(transport);
}

/* This thread does not drive. If none does, and none is woken to, the reactor may be needed. */
static void
leave_role_locked(gp__transport *transport) GP_REQUIRES(&transport->lock)
{
    gp__transport_role_give_up_locked(transport);
    if (!gp_list_is_empty(&transport->role.waiters)) {
        return;
    }
    if (is_deserted_locked(transport)) {
        gp__transport_role_watch_locked(transport);
    } else {
        gp__transport_role_update_locked(transport);
    }
}

void
gp__transport_role_wake_locked(gp__transport *transport)
{
    gp__fd_wake(transport->role.wakeup);
}

/* Releases and re-acquires the lock while the tasks run. */
static void
run_deferred_locked(gp__transport *transport) GP_REQUIRES(&transport->lock)
{
    gp_list deferred;

    if (!gp_list_is_empty(&transport->role.deferred)) {
        gp_list_init(&deferred);
        gp_list_move(&deferred, &transport->role.deferred);
        gp_mutex_unlock(&transport->lock);
        run_tasks(&deferred);
        gp_mutex_lock(&transport->lock);
    }
}

bool
gp__transport_role_drive_locked(gp__transport *transport, int64_t deadline)
{
    gp__transport_role *role = &transport->role;
    struct pollfd fds[2] = {{.fd = -1}, {.fd = role->wakeup[0], .events = POLLIN}};
    char drained[64];
    int ready;

    run_deferred_locked(transport);
    if (gp__transport_is_over_locked(transport)) {
        return true;
    }
    role->awaited = gp__transport_events_locked(transport);
    if (role->awaited != 0) { /* otherwise a closed connection would be ready all the time */
        fds[0].fd = gp__stream_fd(transport->channel.stream);
    }
    fds[0].events = gp__stream_poll_events(role->awaited);
    gp_mutex_unlock(&transport->lock);
    ready = gp__fd_poll(fds, 2, deadline);
    gp_mutex_lock(&transport->lock);
    if (fds[1].revents != 0) {
        gp__fd_read(role->wakeup[0], drained, sizeof(drained));
    }
    if (fds[0].revents != 0 && !gp__transport_is_over_locked(transport)) {
        gp__transport_dispatch_locked(transport);
        run_deferred_locked(transport);
        if (gp__transport_service_is_busy_locked(transport) &&
            !gp__transport_is_over_locked(transport)) {
            enable_ticks_locked(transport, true); /* they find out which tasks are slow */
        }
    }
    return ready != 0;
}

/* ---- Waiting --------------------------------------------------------------------------------- */

/* Drive until the gate is opened, the connection is over, or |deadline|. */
static void
drive_for_gate_locked(gp__transport *transport, gp__transport_waiter *me, int64_t deadline)
    GP_REQUIRES(&transport->lock)
{
    me->driving = true;
    gp__transport_role_take_locked(transport);
    while (gp__transport_role_drive_locked(transport, deadline) && !me->opened &&
           !gp__transport_is_over_locked(transport)) {
    }
    me->driving = false;
    leave_role_locked(transport);
}

/* Sleep until the gate has opened, the role is free, the connection is over, or |deadline|. */
static void
sleep_locked(gp__transport *transport, gp__transport_waiter *me, int64_t deadline)
    GP_REQUIRES(&transport->lock)
{
    gp_list_append(&transport->role.waiters, &me->link);
    gp_cond_wait_until(&me->cond, &transport->lock, deadline);
    gp_link_remove(&me->link);
}

/* Returns NULL if memory or descriptors are short. */
static gp__transport_waiter *
new_yielding_waiter(void)
{
    gp__transport_waiter *waiter = gp__calloc(1, sizeof(*waiter));

    if (waiter == NULL || gp__fd_open_wakeup(waiter->fds, NULL) < 0) {
        gp__free(waiter);
        return NULL;
    }
    waiter->yielding = true;
    return waiter;
}

/*
 * As wait_on_thread_locked(), by |interrupt->wait|, in which this thread may run other code, while
 * another thread or the reactor drives. Frees |me|.
 */
static int
wait_by_interrupt_locked(gp__transport *transport, gp__transport_waiter *me,
                         gp__transport_gate *gate, int64_t deadline, const gp_interrupt *interrupt)
    GP_REQUIRES(&transport->lock)
{
    int rc = 0;

    gp__transport_urgent_locked(transport, 1);
    while (!me->opened && rc != GP_EUSER) {
        int64_t left = deadline == GP__FOREVER ? -1 : deadline - gp__now();

        if (deadline != GP__FOREVER && left <= 0) {
            rc = GP_ETIMEOUT;
            break;
        }
        chain_waiter(gate, me);
        gp_mutex_unlock(&transport->lock);
        rc = interrupt->wait(interrupt->ctx, me->fds[0], left);
        gp_mutex_lock(&transport->lock);
    }
    unchain_waiter(me);
    gp__transport_urgent_locked(transport, -1);
    rc = me->opened && rc != GP_EUSER ? 0 : rc;
    gp__fd_close_wakeup(me->fds);
    gp__free(me);
    return rc;
}

/* Wait by polling or sleeping. GP_EUSER is returned even if the gate has opened meanwhile. */
static int
wait_on_thread_locked(gp__transport *transport, gp__transport_gate *gate, int64_t deadline,
                      const gp_interrupt *interrupt) GP_REQUIRES(&transport->lock)
{
    gp__transport_waiter me = {.link = {NULL, NULL}};
    bool has_slept = false;
    int rc = 0;

    while (!me.opened) {
        int64_t slice = gp__slice(deadline, interrupt);

        chain_waiter(gate, &me);
        if (!transport->role.driven && !gp__transport_is_over_locked(transport)) {
            drive_for_gate_locked(transport, &me, slice);
        } else {
            if (!has_slept) {
                gp_cond_init(&me.cond);
                has_slept = true;
            }
            sleep_locked(transport, &me, slice);
        }
        if (me.opened || slice == GP__FOREVER || gp__now() < slice) {
            continue;
        }
        if (slice == deadline) {
            rc = GP_ETIMEOUT;
            break;
        }
        gp_mutex_unlock(&transport->lock);
        rc = gp__interrupted(interrupt);
        gp_mutex_lock(&transport->lock);
        if (rc < 0) {
            break;
        }
    }
    unchain_waiter(&me);
    if (has_slept) {
        /* This thread may have been woken to drive, which it does not need any more. */
        if (!transport->role.driven) {
            leave_role_locked(transport);
        }
        gp_cond_release(&me.cond);
    }
    return me.opened && rc != GP_EUSER ? 0 : rc;
}

int
gp__transport_wait_locked(gp__transport *transport, gp__transport_gate *gate, int64_t deadline,
                          const gp_interrupt *interrupt)
{
    gp__transport_waiter *yielding = NULL;
    int rc;

    if (gate->open) {
        return 0;
    }
    gp__transport_service_begin_wait_locked(transport);
    /* If memory or descriptors are short, the wait blocks its thread. */
    if (interrupt != NULL && interrupt->wait != NULL) {
        yielding = new_yielding_waiter();
    }
    rc = yielding != NULL ? wait_by_interrupt_locked(transport, yielding, gate, deadline, interrupt)
                          : wait_on_thread_locked(transport, gate, deadline, interrupt);
    gp__transport_service_end_wait_locked(transport);
    return rc;
}

/* ---- Deferred tasks -------------------------------------------------------------------------- */

void
gp__transport_defer_locked(gp__transport *transport, gp__task *task)
{
    gp__transport_role *role = &transport->role;

    gp_list_append(&role->deferred, &task->link);
    if (transport->channel.dispatching) {
        return; /* this thread runs it */
    }
    if (gp__transport_is_over_locked(transport)) {
        enable_ticks_locked(transport, true);
    } else if (role->driven) {
        gp__fd_wake(role->wakeup);
    } else {
        gp__transport_role_update_locked(transport);
    }
}

void
gp__transport_run_deferred(gp__transport *transport)
{
    gp_list deferred;

    gp_list_init(&deferred);
    gp_mutex_lock(&transport->lock);
    gp_list_move(&deferred, &transport->role.deferred);
    gp_mutex_unlock(&transport->lock);
    run_tasks(&deferred);
}

/* ---- Opening, closing ------------------------------------------------------------------------ */

int
gp__transport_role_open_locked(gp__transport *transport, gp_error *err)
{
    gp__transport_role *role = &transport->role;
    int rc;

    gp_list_init(&role->waiters);
    gp_list_init(&role->deferred);
    rc = gp__fd_open_wakeup(role->wakeup, err);

    if (rc < 0) {
        role->wakeup[0] = role->wakeup[1] = -1;
        return rc;
    }
    if ((rc = gp__reactor_every(&role->ticks, TICK_MS, look_at_role, transport, err)) < 0) {
        return rc;
    }
    gp__reactor_enable(role->ticks, false);
    rc = gp__reactor_add(&role->watch, gp__stream_fd(transport->channel.stream), connection_ready,
                         transport, err);
    role->watching = rc == 0;
    role->awaited = GP__STREAM_READ;
    return rc;
}

void
gp__transport_role_end_locked(gp__transport *transport)
{
    gp__transport_role *role = &transport->role;

    unwatch_locked(transport);
    enable_ticks_locked(transport, !gp_list_is_empty(&role->deferred));
    if (!role->driven) {
        gp__transport_close_stream_locked(transport);
    } else if (!transport->channel.dispatching) {
        gp__fd_wake(role->wakeup);
    }
}

/* Nothing else uses the transport any more. */
void gp__transport_role_release(gp__transport *transport) GP_NO_THREAD_SAFETY_ANALYSIS;

void
gp__transport_role_release(gp__transport *transport)
{
    gp__reactor_remove(transport->role.watch);
    gp__reactor_remove(transport->role.ticks);
    gp__fd_close_wakeup(transport->role.wakeup);
}
