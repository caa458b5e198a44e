#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "os/socket.h"
#include "services/grpc_mux_state.h"

/*
 * How long a request that comes before its id is accepted is kept. It is shorter than the dialler
 * waits: if an answer were sent when the dialler has already given up, this side would expect a
 * stream that never comes.
 */
static const int64_t early_ms = 4500;

/* ---- Expected streams ------------------------------------------------------------------------ */

static void drop_expected_locked(gp_grpc_mux *mux, size_t index) GP_REQUIRES(&mux->lock);
static void expect_stream_locked(gp_grpc_mux *mux, gp__accept_request request,
                                 const gp__grpc_target *target) GP_REQUIRES(&mux->lock);
static gp__grpc_target *find_target_locked(gp_grpc_mux *mux, uint32_t id) GP_REQUIRES(&mux->lock);
static uint32_t *find_forgotten_locked(gp_grpc_mux *mux, uint32_t id) GP_REQUIRES(&mux->lock);

static void
drop_expected_locked(gp_grpc_mux *mux, size_t index)
{
    mux->expected_count--;
    memmove(&mux->expected[index], &mux->expected[index + 1],
            (mux->expected_count - index) * sizeof(mux->expected[0]));
}

/*
 * Answer |request| with yes, and have its stream connected to |target|.
 *
 * A request with a serial number gets its stream in any case, in the order of the requests. If
 * there are no serial numbers, only the last request counts: the dialler (a go-plugin) opens its
 * stream before it sends the next request, unless it has given up.
 */
static void
expect_stream_locked(gp_grpc_mux *mux, gp__accept_request request, const gp__grpc_target *target)
{
    gp__expected_stream *last;

    if (!gp__grpc_mux_queue_message_locked(mux, (gp__grpc_mux_message){request, ""})) {
        return;
    }
    if (request.serial == 0) {
        mux->expected_count = 0;
    } else if (mux->expected_count == GP__GRPC_MUX_EXPECTED) {
        drop_expected_locked(mux, 0);
    }
    last = &mux->expected[mux->expected_count++];
    last->request = request;
    last->until = gp_deadline_in(gp__grpc_mux_answer_ms);
    memcpy(last->path, target->path, sizeof(last->path));
}

void
gp__grpc_mux_answer_unsent_locked(gp_grpc_mux *mux, gp__accept_request request)
{
    for (size_t i = 0; i < mux->expected_count; i++) {
        if (mux->expected[i].request.id == request.id &&
            mux->expected[i].request.serial == request.serial) {
            drop_expected_locked(mux, i);
            break;
        }
    }
}

/* A stream that is not expected is a main connection, if this side is the plugin. */
int
gp__grpc_mux_accept_stream(void *ctx)
{
    gp_grpc_mux *mux = ctx;
    char path[GP__GRPC_MUX_PATH] = "";
    int fd = -1;

    gp_mutex_lock(&mux->lock);
    if (mux->expected_count > 0 && mux->expected[0].request.serial == 0 &&
        gp__now() >= mux->expected[0].until) {
        drop_expected_locked(mux, 0); /* its dialler has given up */
    }
    if (mux->expected_count > 0) {
        memcpy(path, mux->expected[0].path, sizeof(path));
        drop_expected_locked(mux, 0);
    } else if (!mux->client) {
        memcpy(path, mux->main_path, sizeof(path));
    }
    gp_mutex_unlock(&mux->lock);
    /* Connecting to a unix socket does not wait: it succeeds at once or not at all. */
    if (path[0] != '\0') {
        gp__socket_connect(&fd, "unix", path, gp__now(), NULL, NULL);
    }
    return fd;
}

/* ---- Ids ------------------------------------------------------------------------------------- */

static gp__grpc_target *
find_target_locked(gp_grpc_mux *mux, uint32_t id)
{
    gp__grpc_target *target = gp_list_first_entry(&mux->targets, gp__grpc_target, link);

    while (target != NULL && target->id != id) {
        target = gp_list_next_entry(&mux->targets, target, gp__grpc_target, link);
    }
    return target;
}

/* The place of |id| among the ids that are not accepted any more; NULL if it is not there. */
static uint32_t *
find_forgotten_locked(gp_grpc_mux *mux, uint32_t id)
{
    for (size_t i = 0; id != 0 && i < GP__GRPC_MUX_FORGOTTEN; i++) {
        if (mux->forgotten[i] == id) {
            return &mux->forgotten[i];
        }
    }
    return NULL;
}

void
gp__grpc_mux_requested(gp_grpc_mux *mux, uint32_t id, uint32_t serial)
{
    const gp__accept_request request = {id, serial};
    gp__grpc_target *target;

    gp_mutex_lock(&mux->lock);
    target = find_target_locked(mux, id);
    mux->early_until = 0; /* a new request means that the other side has given up the one before */
    if (target != NULL) {
        expect_stream_locked(mux, request, target);
    } else if (find_forgotten_locked(mux, id) != NULL) {
        /*
         * Without an answer the other side would wait, and with it all dials that come after this
         * one.
         */
        gp__grpc_mux_queue_message_locked(
            mux, (gp__grpc_mux_message){request, "it is not accepted any more"});
    } else {
        mux->early_request = request;
        mux->early_until = gp_deadline_in(early_ms);
    }
    gp_mutex_unlock(&mux->lock);
    gp__grpc_mux_send_messages(mux);
}

int
gp__grpc_mux_accept(gp_grpc_mux *mux, uint32_t id, const char *path, gp_error *err)
{
    gp__grpc_target *target = gp__calloc(1, sizeof(*target));
    char reason[GP__GRPC_MUX_REASON];
    bool ended;

    if (target == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for connection %u", (unsigned)id);
    }
    target->id = id;
    snprintf(target->path, sizeof(target->path), "%s", path);
    gp_mutex_lock(&mux->lock);
    ended = mux->closed || mux->over;
    gp__grpc_mux_reason_locked(mux, reason);
    if (!ended) {
        uint32_t *before = find_forgotten_locked(mux, id);

        if (before != NULL) {
            *before = 0;
        }
        gp_list_prepend(&mux->targets, &target->link);
        if (mux->early_request.id == id && gp__now() < mux->early_until) {
            mux->early_until = 0;
            expect_stream_locked(mux, mux->early_request, target);
        }
    }
    gp_mutex_unlock(&mux->lock);
    if (ended) {
        gp__free(target);
        return gp_error_set(err, GP_EBROKER,
                            "connection %u cannot be accepted: the connection has ended%s",
                            (unsigned)id, reason);
    }
    gp__grpc_mux_send_messages(mux);
    return 0;
}

/*
 * A stream that is expected for |id| is still taken, so that the order is kept; it cannot be
 * connected, as nothing listens.
 */
void
gp__grpc_mux_forget(gp_grpc_mux *mux, uint32_t id)
{
    gp__grpc_target *target;

    gp_mutex_lock(&mux->lock);
    target = find_target_locked(mux, id);
    if (target != NULL) {
        gp_link_remove(&target->link);
        gp__free(target);
        mux->forgotten[mux->forgotten_at] = id;
        mux->forgotten_at = (mux->forgotten_at + 1) % GP__GRPC_MUX_FORGOTTEN;
    }
    gp_mutex_unlock(&mux->lock);
}

void
gp__grpc_mux_accept_close(gp_grpc_mux *mux)
{
    gp__grpc_target *target;

    gp_mutex_lock(&mux->lock);
    while ((target = gp_list_first_entry(&mux->targets, gp__grpc_target, link)) != NULL) {
        gp_link_remove(&target->link);
        gp__free(target);
    }
    gp_mutex_unlock(&mux->lock);
}
