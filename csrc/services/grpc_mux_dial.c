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
 * A connection that is to become a stream, and its dial:
 *
 *     queued --turn--> asking --answer--> stream, or refused
 *                        |   '--5 s, and its dialler waits on--> queued
 *                        '------5 s, and its dialler has given up--> unanswered
 *
 * The side that was asked may connect the next stream that comes to the id of the request, whatever
 * that stream is for (go-plugin waits for it without end). So a request keeps its place, and its
 * answer gets a stream, whether the dialler still waits for it or not.
 *
 * The stream must also come before the next request. In a host that uses go-plugin, each listener
 * that was asked waits for the next stream, and if two wait, either may get it. So the next request
 * is sent once the stream was accepted, or when that takes longer than an answer may.
 */

enum { REFUSALS_MOST = 8 };

/* ---- Dials and their connections ------------------------------------------------------------- */

static gp__grpc_dial *find_dial_locked(gp_grpc_mux *mux, unsigned number) GP_REQUIRES(&mux->lock);
static void set_outcome_locked(gp_grpc_mux *mux, unsigned number, int outcome, const char *refusal)
    GP_REQUIRES(&mux->lock);
static int open_stream_locked(gp_grpc_mux *mux, int fd, gp_error *err) GP_REQUIRES(&mux->lock);
static void open_pending_locked(gp_grpc_mux *mux, gp__grpc_pending *pending)
    GP_REQUIRES(&mux->lock);
static int open_expected_locked(gp_grpc_mux *mux, gp_error *err) GP_REQUIRES(&mux->lock);

/* Free |pending|, which must not be in the queue. */
static void
free_pending(gp__grpc_pending *pending)
{
    gp__fd_close(&pending->fd);
    gp__free(pending);
}

/*
 * Free |dial|. To be called without the lock: this waits for a callback that runs, which takes it.
 */
static void
free_dial(gp__grpc_dial *dial)
{
    gp__reactor_remove(dial->watch);
    gp__fd_close(&dial->fd);
    if (dial->path[0] != '\0') {
        unlink(dial->path);
    }
    gp__free(dial->refusal);
    gp__free(dial);
}

/* The dial with that number; NULL if its dialler has given up. */
static gp__grpc_dial *
find_dial_locked(gp_grpc_mux *mux, unsigned number)
{
    gp__grpc_dial *dial = gp_list_first_entry(&mux->dials, gp__grpc_dial, link);

    while (dial != NULL && dial->number != number) {
        dial = gp_list_next_entry(&mux->dials, dial, gp__grpc_dial, link);
    }
    return dial;
}

static void
set_outcome_locked(gp_grpc_mux *mux, unsigned number, int outcome, const char *refusal)
{
    gp__grpc_dial *dial = find_dial_locked(mux, number);

    if (dial != NULL && dial->outcome == 0) {
        dial->outcome = outcome;
        dial->refusal = refusal != NULL ? gp__strdup(refusal) : NULL;
        gp_cond_broadcast(&mux->changed);
    }
}

/*
 * Open a stream with the local end |fd|, which is closed if this fails. Returns 0 or a GP_E* code.
 */
static int
open_stream_locked(gp_grpc_mux *mux, int fd, gp_error *err)
{
    int rc;

    if (mux->pump == NULL) {
        gp__fd_close(&fd);
        rc = gp_error_set(err, GP_ECLOSED, "the connection is closed");
    } else {
        rc = gp__pump_open_stream(mux->pump, fd, err);
    }
    mux->accept_until = gp_deadline_in(gp__grpc_mux_answer_ms);
    return rc;
}

/* Open the stream for |pending|, which the other side expects. Frees |pending|. */
static void
open_pending_locked(gp_grpc_mux *mux, gp__grpc_pending *pending)
{
    gp_error err = GP_ERROR_INIT;
    int fd = pending->fd;
    int rc;

    pending->fd = -1;
    rc = open_stream_locked(mux, fd, &err);
    if (rc < 0 && pending->id != GP__GRPC_MUX_MAIN) {
        mux->unopened++;
    }
    set_outcome_locked(mux, pending->number, rc < 0 ? rc : 1,
                       rc < 0 ? gp_error_message(&err) : NULL);
    gp_error_release(&err);
    free_pending(pending);
}

/*
 * Open the streams that the other side expects but that no dialler waits for any more. They end at
 * once. Returns 0 or a GP_E* code.
 */
static int
open_expected_locked(gp_grpc_mux *mux, gp_error *err)
{
    int ends[2];
    int rc = 0;

    while (rc == 0 && mux->unopened > 0 && (rc = gp__fd_socketpair(ends, err)) == 0) {
        gp__fd_close(&ends[1]);
        rc = open_stream_locked(mux, ends[0], err);
        mux->unopened -= rc == 0 ? 1 : 0;
    }
    return rc;
}

/* ---- Requests, one at a time ----------------------------------------------------------------- */

static gp__grpc_pending *first_pending_locked(gp_grpc_mux *mux) GP_REQUIRES(&mux->lock);
static gp__grpc_pending *take_first_locked(gp_grpc_mux *mux) GP_REQUIRES(&mux->lock);
static void refuse_locked(gp_grpc_mux *mux, gp__grpc_pending *pending, const char *why)
    GP_REQUIRES(&mux->lock);
static bool all_accepted_locked(gp_grpc_mux *mux) GP_REQUIRES(&mux->lock);
static void ask_for_first_locked(gp_grpc_mux *mux, gp__grpc_dial *dial) GP_REQUIRES(&mux->lock);
static bool take_unanswered_locked(gp_grpc_mux *mux, uint32_t id, uint32_t serial)
    GP_REQUIRES(&mux->lock);
static void add_unanswered_locked(gp_grpc_mux *mux, const gp__grpc_pending *late)
    GP_REQUIRES(&mux->lock);
static bool asked_too_early_locked(gp_grpc_mux *mux, const gp__grpc_pending *pending,
                                   const char *error) GP_REQUIRES(&mux->lock);
static void end_request_locked(gp_grpc_mux *mux) GP_REQUIRES(&mux->lock);
static void end_accept_wait_locked(gp_grpc_mux *mux) GP_REQUIRES(&mux->lock);

/* The first connection in the queue; NULL if it is empty. */
static gp__grpc_pending *
first_pending_locked(gp_grpc_mux *mux)
{
    return gp_list_first_entry(&mux->queue, gp__grpc_pending, link);
}

/* Take the first connection out of the queue, which must not be empty. */
static gp__grpc_pending *
take_first_locked(gp_grpc_mux *mux)
{
    gp__grpc_pending *first = first_pending_locked(mux);

    gp_link_remove(&first->link);
    return first;
}

/* Take |pending| out of the queue, make its dial fail because of |why|, and free it. */
static void
refuse_locked(gp_grpc_mux *mux, gp__grpc_pending *pending, const char *why)
{
    gp_link_remove(&pending->link);
    set_outcome_locked(mux, pending->number, GP_EBROKER, why);
    free_pending(pending);
}

/*
 * Whether the other side has accepted all streams that are open, apart from those that were given
 * up.
 */
static bool
all_accepted_locked(gp_grpc_mux *mux)
{
    size_t unsent;
    size_t waiting = mux->pump != NULL ? gp__pump_waiting(mux->pump, &unsent) : 0;

    if (waiting < mux->given_up) {
        mux->given_up = waiting;
    }
    return waiting == mux->given_up;
}

/* Ask the other side to accept the first connection in the queue, which belongs to |dial|. */
static void
ask_for_first_locked(gp_grpc_mux *mux, gp__grpc_dial *dial)
{
    gp__grpc_pending *first = first_pending_locked(mux);
    const gp__accept_request request = {first->id, mux->last_serial % INT32_MAX + 1};

    if (!gp__grpc_mux_queue_message_locked(mux, (gp__grpc_mux_message){request, NULL})) {
        refuse_locked(mux, first, "the request could not be sent");
        return;
    }
    dial->queued = false;
    if (dial->asked_at == 0) {
        dial->asked_at = gp__now();
        gp_cond_broadcast(&mux->changed);
    }
    mux->asking = take_first_locked(mux);
    mux->asking->serial = mux->last_serial = request.serial;
    mux->answer_until = gp_deadline_in(gp__grpc_mux_answer_ms);
}

/* One request at a time, or the other side would mix the streams up. */
void
gp__grpc_mux_advance_locked(gp_grpc_mux *mux)
{
    gp__grpc_pending *first;

    while (mux->asking == NULL && !mux->closed && (first = first_pending_locked(mux)) != NULL) {
        gp__grpc_dial *dial = find_dial_locked(mux, first->number);
        gp_error err = GP_ERROR_INIT;

        if (first->id == GP__GRPC_MUX_MAIN) {
            open_pending_locked(mux, take_first_locked(mux));
        } else if (dial == NULL) {
            free_pending(take_first_locked(mux));
        } else if (mux->sender.send_request == NULL) {
            refuse_locked(mux, first, "the broker is closed");
        } else if (open_expected_locked(mux, &err) < 0) {
            refuse_locked(mux, first, gp_error_message(&err));
        } else if (all_accepted_locked(mux)) {
            ask_for_first_locked(mux, dial);
        } else {
            break; /* until they are accepted, or given up */
        }
        gp_error_release(&err);
    }
}

void
gp__grpc_mux_request_unsent_locked(gp_grpc_mux *mux, gp__accept_request request)
{
    if (mux->asking != NULL && mux->asking->serial == request.serial) {
        set_outcome_locked(mux, mux->asking->number, GP_EBROKER, "the request could not be sent");
        free_pending(mux->asking);
        mux->asking = NULL;
    }
    gp__grpc_mux_advance_locked(mux);
}

/*
 * Whether an answer with |id| and |serial| is for |request|. Without a serial number it is for any
 * request with that id.
 */
static bool
is_answer(gp__accept_request request, uint32_t id, uint32_t serial)
{
    return request.id == id && (serial == 0 || request.serial == serial);
}

/*
 * Remove the request that an answer with |id| and |serial| is for from the unanswered ones. Returns
 * false if there is none.
 */
static bool
take_unanswered_locked(gp_grpc_mux *mux, uint32_t id, uint32_t serial)
{
    for (size_t i = 0; i < mux->unanswered_count; i++) {
        if (is_answer(mux->unanswered[i], id, serial)) {
            mux->unanswered_count--;
            memmove(&mux->unanswered[i], &mux->unanswered[i + 1],
                    (mux->unanswered_count - i) * sizeof(mux->unanswered[0]));
            return true;
        }
    }
    return false;
}

static void
add_unanswered_locked(gp_grpc_mux *mux, const gp__grpc_pending *late)
{
    if (mux->unanswered_count == GP__GRPC_MUX_UNANSWERED) {
        take_unanswered_locked(mux, mux->unanswered[0].id, mux->unanswered[0].serial);
    }
    mux->unanswered[mux->unanswered_count++] = (gp__accept_request){late->id, late->serial};
}

/*
 * Whether to repeat the request, which |error| has refused. Hosts that use go-plugin commonly
 * accept an id in a goroutine of its own and tell the plugin about it at the same time: a request
 * that arrives before the goroutine has started is refused. A few more requests take the
 * millisecond that the goroutine needs.
 */
static bool
asked_too_early_locked(gp_grpc_mux *mux, const gp__grpc_pending *pending, const char *error)
{
    static const char refusal[] = "no listener for id";
    gp__grpc_dial *dial = find_dial_locked(mux, pending->number);

    return dial != NULL && strncmp(error, refusal, sizeof(refusal) - 1) == 0 &&
           dial->refusals++ < REFUSALS_MOST;
}

void
gp__grpc_mux_answered(gp_grpc_mux *mux, uint32_t id, uint32_t serial, const char *error)
{
    gp__grpc_pending *asking;

    gp_mutex_lock(&mux->lock);
    asking = mux->asking;
    if (asking != NULL && is_answer((gp__accept_request){asking->id, asking->serial}, id, serial)) {
        mux->asking = NULL;
        if (error[0] == '\0') {
            open_pending_locked(mux, asking);
        } else if (asked_too_early_locked(mux, asking, error)) {
            gp_list_append(&mux->queue, &asking->link);
        } else {
            set_outcome_locked(mux, asking->number, GP_EBROKER, error);
            free_pending(asking);
        }
        gp__grpc_mux_advance_locked(mux);
    } else if (take_unanswered_locked(mux, id, serial) && error[0] == '\0') {
        mux->unopened++;
        open_expected_locked(mux, NULL);
    }
    gp_mutex_unlock(&mux->lock);
    gp__grpc_mux_send_messages(mux);
}

/* There was no answer to the request in time. */
static void
end_request_locked(gp_grpc_mux *mux)
{
    gp__grpc_pending *late = mux->asking;

    mux->asking = NULL;
    add_unanswered_locked(mux, late);
    if (find_dial_locked(mux, late->number) != NULL) {
        gp_list_append(&mux->queue, &late->link);
    } else {
        free_pending(late);
    }
}

/* The other side has not accepted the open streams in time. */
static void
end_accept_wait_locked(gp_grpc_mux *mux)
{
    size_t unsent = 0;
    size_t waiting = mux->pump != NULL ? gp__pump_waiting(mux->pump, &unsent) : 0;
    gp__grpc_pending *pending;
    gp__grpc_pending *next;

    if (unsent == 0) {
        mux->given_up = waiting;
        return;
    }
    /*
     * Some streams have not even been announced: a request would arrive before the stream of the
     * request before it.
     */
    for (pending = first_pending_locked(mux); pending != NULL; pending = next) {
        next = gp_list_next_entry(&mux->queue, pending, gp__grpc_pending, link);
        if (pending->id != GP__GRPC_MUX_MAIN) {
            refuse_locked(mux, pending, "it has not accepted the connections before");
        }
    }
}

void
gp__grpc_mux_dial_tick_locked(gp_grpc_mux *mux)
{
    for (gp__grpc_dial *dial = gp_list_first_entry(&mux->dials, gp__grpc_dial, link); dial != NULL;
         dial = gp_list_next_entry(&mux->dials, dial, gp__grpc_dial, link)) {
        if (dial->paused) {
            dial->paused = false;
            gp__reactor_enable(dial->watch, true);
        }
    }
    open_expected_locked(mux, NULL);
    if (mux->asking != NULL && gp__now() >= mux->answer_until) {
        end_request_locked(mux);
    }
    if (mux->asking == NULL && !gp_list_is_empty(&mux->queue) && !all_accepted_locked(mux) &&
        gp__now() >= mux->accept_until) {
        end_accept_wait_locked(mux);
    }
    gp__grpc_mux_advance_locked(mux);
}

/* ---- Starting to dial ------------------------------------------------------------------------ */

/* Called on the reactor's thread: this process's gRPC has connected. */
static void
dial_ready(void *ctx)
{
    gp__grpc_dial *dial = ctx;
    gp_grpc_mux *mux = dial->mux;
    gp__grpc_pending *pending;
    int fd = accept(dial->fd, NULL, NULL);
    bool exhausted = fd < 0 && gp__fd_exhausted(errno);

    pending = fd >= 0 ? gp__calloc(1, sizeof(*pending)) : NULL;
    gp_mutex_lock(&mux->lock);
    if (pending != NULL && !mux->closed) {
        gp__fd_prepare(fd);
        *pending = (gp__grpc_pending){.number = dial->number, .id = dial->id, .fd = fd};
        gp_list_append(&mux->queue, &pending->link);
        if (dial->id != GP__GRPC_MUX_MAIN) {
            dial->queued = true;
            gp__reactor_enable(dial->watch, false);
        }
        gp__grpc_mux_advance_locked(mux);
    } else {
        /*
         * gRPC connects again by itself. The watch is paused, since a connection that stays in the
         * backlog would make the reactor call this function without end.
         */
        gp__fd_close(&fd);
        gp__free(pending);
        if (exhausted || mux->closed) {
            dial->paused = !mux->closed;
            gp__reactor_enable(dial->watch, false);
        }
    }
    gp_mutex_unlock(&mux->lock);
    gp__grpc_mux_send_messages(mux);
}

/* Make a dial. NULL when memory is short. */
static gp__grpc_dial *
new_dial(gp_grpc_mux *mux, uint32_t id)
{
    static atomic_uint number;
    gp__grpc_dial *dial = gp__calloc(1, sizeof(*dial));

    if (dial != NULL) {
        dial->mux = mux;
        dial->id = id;
        dial->number = atomic_fetch_add(&number, 1);
        dial->fd = -1;
    }
    return dial;
}

/* Make a dial that listens at |path|; NULL: at a path of its own. */
static int
start_listening(gp__grpc_dial **out, gp_grpc_mux *mux, uint32_t id, const char *path, gp_error *err)
{
    gp__grpc_dial *dial = new_dial(mux, id);
    int rc;

    if (dial == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a stream");
    }
    if (path != NULL) {
        snprintf(dial->path, sizeof(dial->path), "%s", path);
    } else {
        snprintf(dial->path, sizeof(dial->path), "%s/%u-%u", mux->directory, (unsigned)id,
                 dial->number);
    }
    if ((rc = gp__socket_listen(&dial->fd, "unix", dial->path, NULL, err)) < 0) {
        gp__free(dial);
        return rc;
    }
    gp_mutex_lock(&mux->lock);
    rc = mux->closed ? gp_error_set(err, GP_ECLOSED, "the connection is closed")
                     : gp__reactor_add(&dial->watch, dial->fd, dial_ready, dial, err);
    if (rc == 0) {
        gp_list_prepend(&mux->dials, &dial->link);
    }
    gp_mutex_unlock(&mux->lock);
    if (rc < 0) {
        free_dial(dial);
        return rc;
    }
    *out = dial;
    return 0;
}

int
gp__grpc_mux_listen_main(gp_grpc_mux *mux, gp_error *err)
{
    gp__grpc_dial *dial;

    return start_listening(&dial, mux, GP__GRPC_MUX_MAIN, mux->main_path, err);
}

int
gp__grpc_dial_start(gp_grpc_mux *mux, uint32_t id, gp__grpc_dial **out, gp_error *err)
{
    return start_listening(out, mux, id, NULL, err);
}

int
gp__grpc_dial_start_pair(gp_grpc_mux *mux, uint32_t id, gp__grpc_dial **out, int *fd, gp_error *err)
{
    gp__grpc_dial *dial = new_dial(mux, id);
    gp__grpc_pending *pending = gp__calloc(1, sizeof(*pending));
    int ends[2] = {-1, -1};
    int rc;

    if (dial == NULL || pending == NULL) {
        rc = gp_error_set(err, GP_ENOMEM, "out of memory for a stream");
        goto fail;
    }
    if ((rc = gp__fd_socketpair(ends, err)) < 0) {
        goto fail;
    }
    *pending = (gp__grpc_pending){.number = dial->number, .id = id, .fd = ends[0]};
    gp_mutex_lock(&mux->lock);
    if (mux->closed) {
        rc = gp_error_set(err, GP_ECLOSED, "the connection is closed");
    } else {
        dial->queued = true;
        gp_list_prepend(&mux->dials, &dial->link);
        gp_list_append(&mux->queue, &pending->link);
        gp__grpc_mux_advance_locked(mux);
    }
    gp_mutex_unlock(&mux->lock);
    if (rc < 0) {
        goto fail;
    }
    gp__grpc_mux_send_messages(mux);
    *out = dial;
    *fd = ends[1];
    return 0;

fail:
    gp__fd_close(&ends[0]);
    gp__fd_close(&ends[1]);
    gp__free(pending);
    gp__free(dial);
    return rc;
}

const char *
gp__grpc_dial_path(const gp__grpc_dial *dial)
{
    return dial->path;
}

/* ---- Waiting --------------------------------------------------------------------------------- */

static int wait_for_outcome_locked(gp_grpc_mux *mux, gp__grpc_dial *dial, int64_t timeout_ms,
                                   const gp_interrupt *interrupt) GP_REQUIRES(&mux->lock);

/*
 * Wait until the dial has an outcome. |timeout_ms| is for the other side: it begins anew when the
 * request is sent, and is not used up by the dials before, each of which takes a few seconds at
 * most. Releases and re-acquires the lock while it waits.
 */
static int
wait_for_outcome_locked(gp_grpc_mux *mux, gp__grpc_dial *dial, int64_t timeout_ms,
                        const gp_interrupt *interrupt)
{
    int64_t deadline = gp_deadline_in(timeout_ms);
    bool asked = false;
    int rc = 0;

    while (dial->outcome == 0 && !mux->over && !mux->closed && rc == 0) {
        if (dial->asked_at != 0 && !asked) {
            asked = true;
            deadline = gp_deadline_in(timeout_ms);
        }
        rc = gp__cond_wait_interruptible(&mux->changed, &mux->lock, deadline, interrupt);
        if (rc == GP_ETIMEOUT && !asked && (dial->queued || dial->asked_at != 0)) {
            deadline = gp_deadline_in(gp__grpc_mux_answer_ms);
            rc = 0;
        }
    }
    return rc;
}

/*
 * The dialler has stopped waiting: free |dial|, and its connection if that is queued. A request
 * that was sent keeps its place: see the head of this file.
 */
static void
end_dial(gp_grpc_mux *mux, gp__grpc_dial *dial)
{
    gp__grpc_pending *pending;
    gp__grpc_pending *next;

    gp_mutex_lock(&mux->lock);
    gp_link_remove(&dial->link);
    for (pending = first_pending_locked(mux); pending != NULL; pending = next) {
        next = gp_list_next_entry(&mux->queue, pending, gp__grpc_pending, link);
        if (pending->number == dial->number) {
            gp_link_remove(&pending->link);
            free_pending(pending);
        }
    }
    gp_mutex_unlock(&mux->lock);
    free_dial(dial);
}

int
gp__grpc_dial_await(gp__grpc_dial *dial, const char *who, int64_t timeout_ms,
                    const gp_interrupt *interrupt, gp_error *err)
{
    gp_grpc_mux *mux = dial->mux;
    char reason[GP__GRPC_MUX_REASON];
    unsigned id = dial->id;
    bool closed;
    bool over;
    int rc;

    gp_mutex_lock(&mux->lock);
    rc = wait_for_outcome_locked(mux, dial, timeout_ms, interrupt);
    closed = mux->closed;
    over = mux->over;
    gp__grpc_mux_reason_locked(mux, reason);
    gp_mutex_unlock(&mux->lock);
    if (dial->outcome == 1) {
        rc = 0;
    } else if (dial->outcome < 0 && !over) {
        rc = gp_error_set(err, GP_EBROKER, "connection %u was dialled, and refused by %s: %s", id,
                          who, dial->refusal != NULL ? dial->refusal : "no reason");
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
    end_dial(mux, dial);
    return rc;
}

void
gp__grpc_mux_dial_close(gp_grpc_mux *mux)
{
    gp__grpc_dial *dial;

    gp_mutex_lock(&mux->lock);
    dial = gp_list_first_entry(&mux->dials, gp__grpc_dial, link);
    while (dial != NULL && dial->id != GP__GRPC_MUX_MAIN) {
        dial = gp_list_next_entry(&mux->dials, dial, gp__grpc_dial, link);
    }
    if (dial != NULL) {
        gp_link_remove(&dial->link);
    }
    gp_mutex_unlock(&mux->lock);
    if (dial != NULL) {
        free_dial(dial);
    }
    gp_mutex_lock(&mux->lock);
    while (!gp_list_is_empty(&mux->queue)) {
        free_pending(take_first_locked(mux));
    }
    if (mux->asking != NULL) {
        free_pending(mux->asking);
        mux->asking = NULL;
    }
    gp_mutex_unlock(&mux->lock);
}
