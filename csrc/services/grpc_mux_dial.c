#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "os/fd.h"
#include "os/socket.h"
#include "services/grpc_mux_state.h"

/*
 * A connection that is to become a stream, by way of its local:
 *
 *     queued --turn--> knocking --answer--> stream, or refused
 *                        |   '--5 s, and its dialler waits on--> queued
 *                        '------5 s, and its dialler has given up--> overdue
 *
 * Whoever was knocked at may hold a door open for us (go-plugin's does so for ever), and give it
 * the next stream that comes, whosever that is. So a knock keeps its place, and the answer gets its
 * stream, whether there is somebody to use it or not.
 *
 * And it gets it before the next knock. A host of go-plugin has each of its listeners wait for the
 * next stream once it is knocked for, and if two do, either may get it: so the next knock waits
 * until the stream is accepted, for as long as an answer would be waited for.
 */

enum { EARLY_MOST = 8 };

static void
free_pending(gp__grpc_mux_pending *one)
{
    gp__fd_close(&one->fd);
    gp__free(one);
}

/* Without the lock: a callback that runs is waited for. */
static void
free_local(gp__grpc_mux_local *one)
{
    gp__reactor_remove(one->watch);
    gp__fd_close(&one->fd);
    if (one->path[0] != '\0') {
        unlink(one->path);
    }
    gp__free(one->refusal);
    gp__free(one);
}

/* With the lock held. NULL: its dialler has given up. */
static gp__grpc_mux_local *
find_local(gp_grpc_mux *mux, unsigned number)
{
    gp__grpc_mux_local *one = mux->locals;

    while (one != NULL && one->number != number) {
        one = one->next;
    }
    return one;
}

/* With the lock held. */
static void
settle(gp_grpc_mux *mux, unsigned number, int outcome, const char *refusal)
{
    gp__grpc_mux_local *one = find_local(mux, number);

    if (one != NULL && one->outcome == 0) {
        one->outcome = outcome;
        one->refusal = refusal != NULL ? gp__strdup(refusal) : NULL;
        gp_cond_broadcast(&mux->changed);
    }
}

/* With the lock held. Takes |fd| over. Returns 0 or a GP_E* code: then the stream is owed. */
static int
open_stream(gp_grpc_mux *mux, int fd, gp_error *err)
{
    int rc;

    if (mux->pump == NULL) {
        gp__fd_close(&fd);
        rc = gp_error_set(err, GP_ECLOSED, "the connection is closed");
    } else {
        rc = gp__pump_open_stream(mux->pump, fd, err);
    }
    mux->opened_until = gp_deadline_in(gp__knock_ms);
    return rc;
}

/* With the lock held: the answer has come. Takes the connection over. */
static void
enter(gp_grpc_mux *mux, gp__grpc_mux_pending *one)
{
    gp_error err = GP_ERROR_INIT;
    int fd = one->fd;
    int rc;

    one->fd = -1;
    rc = open_stream(mux, fd, &err);
    if (rc < 0 && one->id != GP__GRPC_MUX_MAIN) {
        mux->owed++;
    }
    settle(mux, one->number, rc < 0 ? rc : 1, rc < 0 ? gp_error_message(&err) : NULL);
    gp_error_release(&err);
    free_pending(one);
}

/*
 * With the lock held: open what is owed, streams that end at once, for doors that were opened too
 * late or to no use. Returns 0 or a GP_E* code.
 */
static int
walk_through(gp_grpc_mux *mux, gp_error *err)
{
    int ends[2];
    int rc = 0;

    while (rc == 0 && mux->owed > 0 && (rc = gp__fd_socketpair(ends, err)) == 0) {
        gp__fd_close(&ends[1]);
        rc = open_stream(mux, ends[0], err);
        mux->owed -= rc == 0 ? 1 : 0;
    }
    return rc;
}

/* ---- Turns ----------------------------------------------------------------------------------- */

static void
enqueue(gp_grpc_mux *mux, gp__grpc_mux_pending *one)
{
    one->next = NULL;
    *mux->queue_end = one;
    mux->queue_end = &one->next;
}

/* With the lock held. Take out what waits for its turn at |*at|. */
static gp__grpc_mux_pending *
dequeue(gp_grpc_mux *mux, gp__grpc_mux_pending **at)
{
    gp__grpc_mux_pending *one = *at;

    *at = one->next;
    if (one->next == NULL) {
        mux->queue_end = at;
    }
    return one;
}

/* With the lock held: the first in the queue cannot be. */
static void
refuse_first(gp_grpc_mux *mux, const char *why)
{
    gp__grpc_mux_pending *first = dequeue(mux, &mux->queue);

    settle(mux, first->number, GP_EBROKER, why);
    free_pending(first);
}

/* With the lock held: the other side has taken the streams that are open, or is not going to. */
static bool
taken(gp_grpc_mux *mux)
{
    size_t unsent;
    size_t waiting = mux->pump != NULL ? gp__pump_waiting(mux->pump, &unsent) : 0;

    if (waiting < mux->written_off) {
        mux->written_off = waiting;
    }
    return waiting == mux->written_off;
}

/* With the lock held: knock for the first in the queue, whose dialler is |local|. */
static void
knock(gp_grpc_mux *mux, gp__grpc_mux_local *local)
{
    const gp__grpc_mux_knock one = {mux->queue->id, mux->last_mark % INT32_MAX + 1};

    if (!gp__grpc_mux_write(mux, (gp__grpc_mux_letter){one, NULL})) {
        refuse_first(mux, "it could not be told");
        return;
    }
    local->queued = false;
    if (local->turn == 0) {
        local->turn = gp__now();
        gp_cond_broadcast(&mux->changed);
    }
    mux->knocking = dequeue(mux, &mux->queue);
    mux->knocking->mark = mux->last_mark = one.mark;
    mux->knocked_until = gp_deadline_in(gp__knock_ms);
}

/* One knock at a time, or the other side would mix the streams up. */
void
gp__grpc_mux_advance(gp_grpc_mux *mux)
{
    while (mux->knocking == NULL && mux->queue != NULL && !mux->closed) {
        gp__grpc_mux_local *local = find_local(mux, mux->queue->number);
        gp_error err = GP_ERROR_INIT;

        if (mux->queue->id == GP__GRPC_MUX_MAIN) {
            enter(mux, dequeue(mux, &mux->queue));
        } else if (local == NULL) {
            free_pending(dequeue(mux, &mux->queue));
        } else if (mux->post.knock == NULL) {
            refuse_first(mux, "the broker is closed");
        } else if (walk_through(mux, &err) < 0) {
            refuse_first(mux, gp_error_message(&err));
        } else if (taken(mux)) {
            knock(mux, local);
        } else {
            break; /* until it has, or it has had its time */
        }
        gp_error_release(&err);
    }
}

void
gp__grpc_mux_unsaid(gp_grpc_mux *mux, gp__grpc_mux_knock knock)
{
    if (mux->knocking != NULL && mux->knocking->mark == knock.mark) {
        settle(mux, mux->knocking->number, GP_EBROKER, "it could not be told");
        free_pending(mux->knocking);
        mux->knocking = NULL;
    }
    gp__grpc_mux_advance(mux);
}

/* An answer without a mark is to any knock for that id. */
static bool
is_answer(gp__grpc_mux_knock knock, uint32_t id, uint32_t mark)
{
    return knock.id == id && (mark == 0 || knock.mark == mark);
}

/* With the lock held. Whether such an answer is still due, which it is no more. */
static bool
take_overdue(gp_grpc_mux *mux, uint32_t id, uint32_t mark)
{
    for (size_t i = 0; i < mux->overdue_count; i++) {
        if (is_answer(mux->overdue[i], id, mark)) {
            mux->overdue_count--;
            memmove(&mux->overdue[i], &mux->overdue[i + 1],
                    (mux->overdue_count - i) * sizeof(mux->overdue[0]));
            return true;
        }
    }
    return false;
}

/* With the lock held. */
static void
add_overdue(gp_grpc_mux *mux, const gp__grpc_mux_pending *late)
{
    if (mux->overdue_count == GP__GRPC_MUX_OVERDUE) {
        take_overdue(mux, mux->overdue[0].id, mux->overdue[0].mark);
    }
    mux->overdue[mux->overdue_count++] = (gp__grpc_mux_knock){late->id, late->mark};
}

/*
 * With the lock held. Hosts of go-plugin's commonly accept an id in a goroutine of its own and tell
 * it meanwhile: a knock that is there first is refused. A few more take the millisecond that this
 * needs.
 */
static bool
comes_early(gp_grpc_mux *mux, const gp__grpc_mux_pending *one, const char *error)
{
    static const char refusal[] = "no listener for id";
    gp__grpc_mux_local *local = find_local(mux, one->number);

    return local != NULL && strncmp(error, refusal, sizeof(refusal) - 1) == 0 &&
           local->early++ < EARLY_MOST;
}

void
gp__grpc_mux_answered(gp_grpc_mux *mux, uint32_t id, uint32_t mark, const char *error)
{
    gp__grpc_mux_pending *one;

    gp_mutex_lock(&mux->lock);
    one = mux->knocking;
    if (one != NULL && is_answer((gp__grpc_mux_knock){one->id, one->mark}, id, mark)) {
        mux->knocking = NULL;
        if (error[0] == '\0') {
            enter(mux, one);
        } else if (comes_early(mux, one, error)) {
            enqueue(mux, one);
        } else {
            settle(mux, one->number, GP_EBROKER, error);
            free_pending(one);
        }
        gp__grpc_mux_advance(mux);
    } else if (take_overdue(mux, id, mark) && error[0] == '\0') {
        mux->owed++;
        walk_through(mux, NULL);
    }
    gp_mutex_unlock(&mux->lock);
    gp__grpc_mux_say(mux);
}

/* With the lock held: a knock has gone without an answer for too long. */
static void
end_knock(gp_grpc_mux *mux)
{
    gp__grpc_mux_pending *late = mux->knocking;

    mux->knocking = NULL;
    add_overdue(mux, late);
    if (find_local(mux, late->number) != NULL) {
        enqueue(mux, late);
    } else {
        free_pending(late);
    }
}

/* With the lock held: the other side has not taken a stream for too long. */
static void
end_waiting(gp_grpc_mux *mux)
{
    size_t unsent = 0;
    size_t waiting = mux->pump != NULL ? gp__pump_waiting(mux->pump, &unsent) : 0;

    if (unsent == 0) {
        mux->written_off = waiting;
        return;
    }
    /* A knock would get there before the stream of the one before. */
    for (gp__grpc_mux_pending **at = &mux->queue; *at != NULL;) {
        if ((*at)->id == GP__GRPC_MUX_MAIN) {
            at = &(*at)->next;
        } else {
            gp__grpc_mux_pending *one = dequeue(mux, at);

            settle(mux, one->number, GP_EBROKER, "it does not take the connections that it has");
            free_pending(one);
        }
    }
}

void
gp__grpc_mux_dial_tick(gp_grpc_mux *mux)
{
    for (gp__grpc_mux_local *one = mux->locals; one != NULL; one = one->next) {
        if (one->resting) {
            one->resting = false;
            gp__reactor_enable(one->watch, true);
        }
    }
    walk_through(mux, NULL);
    if (mux->knocking != NULL && gp__now() >= mux->knocked_until) {
        end_knock(mux);
    }
    if (mux->knocking == NULL && mux->queue != NULL && !taken(mux) &&
        gp__now() >= mux->opened_until) {
        end_waiting(mux);
    }
    gp__grpc_mux_advance(mux);
}

/* ---- Locals ---------------------------------------------------------------------------------- */

bool
gp__grpc_mux_exhausted(int errnum)
{
    return errnum == EMFILE || errnum == ENFILE || errnum == ENOBUFS || errnum == ENOMEM;
}

/* On the reactor's thread: something of this process's has connected. */
static void
local_ready(void *ctx)
{
    gp__grpc_mux_local *one = ctx;
    gp_grpc_mux *mux = one->mux;
    gp__grpc_mux_pending *made;
    int fd = accept(one->fd, NULL, NULL);
    bool exhausted = fd < 0 && gp__grpc_mux_exhausted(errno);

    made = fd >= 0 ? gp__calloc(1, sizeof(*made)) : NULL;
    gp_mutex_lock(&mux->lock);
    if (made != NULL && !mux->closed) {
        gp__fd_prepare(fd);
        *made = (gp__grpc_mux_pending){NULL, one->number, one->id, 0, fd};
        enqueue(mux, made);
        if (one->id != GP__GRPC_MUX_MAIN) {
            one->queued = true;
            gp__reactor_enable(one->watch, false);
        }
        gp__grpc_mux_advance(mux);
    } else {
        /* gRPC connects again by itself. What is left in the backlog would call us without end. */
        gp__fd_close(&fd);
        gp__free(made);
        if (exhausted || mux->closed) {
            one->resting = !mux->closed;
            gp__reactor_enable(one->watch, false);
        }
    }
    gp_mutex_unlock(&mux->lock);
    gp__grpc_mux_say(mux);
}

/* NULL when memory is short. */
static gp__grpc_mux_local *
make_local(gp_grpc_mux *mux, uint32_t id)
{
    static atomic_uint number;
    gp__grpc_mux_local *one = gp__calloc(1, sizeof(*one));

    if (one != NULL) {
        one->mux = mux;
        one->id = id;
        one->number = atomic_fetch_add(&number, 1);
        one->fd = -1;
    }
    return one;
}

static int
add_local(gp__grpc_mux_local **out, gp_grpc_mux *mux, uint32_t id, const char *path, gp_error *err)
{
    gp__grpc_mux_local *one = make_local(mux, id);
    int rc;

    if (one == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a stream");
    }
    if (path != NULL) {
        snprintf(one->path, sizeof(one->path), "%s", path);
    } else {
        snprintf(one->path, sizeof(one->path), "%s/%u-%u", mux->directory, (unsigned)id,
                 one->number);
    }
    if ((rc = gp__socket_listen(&one->fd, "unix", one->path, NULL, err)) < 0) {
        gp__free(one);
        return rc;
    }
    gp_mutex_lock(&mux->lock);
    rc = mux->closed ? gp_error_set(err, GP_ECLOSED, "the connection is closed")
                     : gp__reactor_add(&one->watch, one->fd, local_ready, one, err);
    if (rc == 0) {
        one->next = mux->locals;
        mux->locals = one;
    }
    gp_mutex_unlock(&mux->lock);
    if (rc < 0) {
        free_local(one);
        return rc;
    }
    *out = one;
    return 0;
}

int
gp__grpc_mux_add_main(gp_grpc_mux *mux, gp_error *err)
{
    gp__grpc_mux_local *one;

    return add_local(&one, mux, GP__GRPC_MUX_MAIN, mux->main_path, err);
}

int
gp__grpc_mux_dial(gp_grpc_mux *mux, uint32_t id, gp__grpc_mux_local **out, gp_error *err)
{
    return add_local(out, mux, id, NULL, err);
}

int
gp__grpc_mux_dial_pair(gp_grpc_mux *mux, uint32_t id, gp__grpc_mux_local **out, int *fd,
                       gp_error *err)
{
    gp__grpc_mux_local *one = make_local(mux, id);
    gp__grpc_mux_pending *made = gp__calloc(1, sizeof(*made));
    int ends[2] = {-1, -1};
    int rc;

    if (one == NULL || made == NULL) {
        rc = gp_error_set(err, GP_ENOMEM, "out of memory for a stream");
        goto fail;
    }
    if ((rc = gp__fd_socketpair(ends, err)) < 0) {
        goto fail;
    }
    *made = (gp__grpc_mux_pending){NULL, one->number, id, 0, ends[0]};
    gp_mutex_lock(&mux->lock);
    if (mux->closed) {
        rc = gp_error_set(err, GP_ECLOSED, "the connection is closed");
    } else {
        one->queued = true;
        one->next = mux->locals;
        mux->locals = one;
        enqueue(mux, made);
        gp__grpc_mux_advance(mux);
    }
    gp_mutex_unlock(&mux->lock);
    if (rc < 0) {
        goto fail;
    }
    gp__grpc_mux_say(mux);
    *out = one;
    *fd = ends[1];
    return 0;

fail:
    gp__fd_close(&ends[0]);
    gp__fd_close(&ends[1]);
    gp__free(made);
    gp__free(one);
    return rc;
}

const char *
gp__grpc_mux_local_path(const gp__grpc_mux_local *local)
{
    return local->path;
}

/* ---- Waiting --------------------------------------------------------------------------------- */

/*
 * With the lock held. What the dialler's patience is for is the other side: it begins anew when the
 * turn comes, and is not used up by those before it, each of which takes a few seconds at most.
 */
static int
wait_for(gp__grpc_mux_local *one, int64_t timeout_ms, const gp_interrupt *interrupt)
{
    gp_grpc_mux *mux = one->mux;
    int64_t deadline = gp_deadline_in(timeout_ms);
    bool turned = false;
    int rc = 0;

    while (one->outcome == 0 && !mux->over && !mux->closed && rc == 0) {
        if (one->turn != 0 && !turned) {
            turned = true;
            deadline = gp_deadline_in(timeout_ms);
        }
        rc = gp__cond_wait_interruptible(&mux->changed, &mux->lock, deadline, interrupt);
        if (rc == GP_ETIMEOUT && !turned && (one->queued || one->turn != 0)) {
            deadline = gp_deadline_in(gp__knock_ms);
            rc = 0;
        }
    }
    return rc;
}

/* Nobody waits for it any more. A knock on its way keeps its place, see above. */
static void
leave(gp__grpc_mux_local *one)
{
    gp_grpc_mux *mux = one->mux;
    gp__grpc_mux_local **at = &mux->locals;

    gp_mutex_lock(&mux->lock);
    while (*at != one) {
        at = &(*at)->next;
    }
    *at = one->next;
    for (gp__grpc_mux_pending **first = &mux->queue; *first != NULL;) {
        if ((*first)->number == one->number) {
            free_pending(dequeue(mux, first));
        } else {
            first = &(*first)->next;
        }
    }
    gp_mutex_unlock(&mux->lock);
    free_local(one);
}

int
gp__grpc_mux_await(gp__grpc_mux_local *one, const char *who, int64_t timeout_ms,
                   const gp_interrupt *interrupt, gp_error *err)
{
    gp_grpc_mux *mux = one->mux;
    char reason[GP__GRPC_MUX_REASON];
    unsigned id = one->id;
    bool closed;
    bool over;
    int rc;

    gp_mutex_lock(&mux->lock);
    rc = wait_for(one, timeout_ms, interrupt);
    closed = mux->closed;
    over = mux->over;
    gp__grpc_mux_reason(mux, reason);
    gp_mutex_unlock(&mux->lock);
    if (one->outcome == 1) {
        rc = 0;
    } else if (one->outcome < 0 && !over) {
        rc = gp_error_set(err, GP_EBROKER, "connection %u was dialled, and refused by %s: %s", id,
                          who, one->refusal != NULL ? one->refusal : "no reason");
    } else if (rc == GP_EUSER) {
        gp_error_set(err, rc, "interrupted while waiting for connection %u", id);
    } else if (closed) {
        rc = gp_error_set(err, GP_EBROKER, "connection %u cannot be dialled: it is closed", id);
    } else if (rc == GP_ETIMEOUT) {
        rc = gp_error_set(
            err, GP_EBROKER,
            "connection %u was dialled, and %s did not accept it within %.3g s; it has "
            "to accept the same id",
            id, who, (double)timeout_ms / 1000);
    } else {
        rc = gp_error_set(err, GP_EBROKER, "connection %u cannot be dialled: %s has gone%s", id,
                          who, reason);
    }
    leave(one);
    return rc;
}

void
gp__grpc_mux_dial_close(gp_grpc_mux *mux)
{
    gp__grpc_mux_local *start = NULL;

    gp_mutex_lock(&mux->lock);
    for (gp__grpc_mux_local **at = &mux->locals; *at != NULL; at = &(*at)->next) {
        if ((*at)->id == GP__GRPC_MUX_MAIN) {
            start = *at;
            *at = start->next;
            break;
        }
    }
    gp_mutex_unlock(&mux->lock);
    if (start != NULL) {
        free_local(start);
    }
    gp_mutex_lock(&mux->lock);
    while (mux->queue != NULL) {
        free_pending(dequeue(mux, &mux->queue));
    }
    if (mux->knocking != NULL) {
        free_pending(mux->knocking);
        mux->knocking = NULL;
    }
    gp_mutex_unlock(&mux->lock);
}
