#include "rpc/connection.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/fork.h"
#include "base/text.h"
#include "rpc/runtime.h"

/* ---- Why there is no connection -------------------------------------------------------------- */

/* How often to look whether the process has ended, and for how long. */
enum { LOOK_MS = 5, MOST_LOOKS = 200 };

void
gp__channel_explain(gp_channel *channel, const gp__carrier *carrier, gp__process *process)
{
    if (carrier != NULL) {
        channel->connection->carrier = *carrier;
    }
    channel->connection->process = process != NULL ? gp__process_ref(process) : NULL;
}

static void
append(grpc_slice *details, const char *why)
{
    char *text = gp__format("%.*s: %s", (int)GRPC_SLICE_LENGTH(*details),
                            (const char *)GRPC_SLICE_START_PTR(*details), why);

    if (text != NULL) {
        grpc_slice_unref(*details);
        *details = grpc_slice_from_copied_string(text);
    }
    gp__free(text);
}

void
gp__channel_add_reason(const gp_channel *channel, grpc_slice *details)
{
    const gp__connection *shared = channel->connection;
    gp_error why = GP_ERROR_INIT;
    char fate[96];
    char text[128];

    if (shared->carrier.ctx != NULL) {
        shared->carrier.why(shared->carrier.ctx, &why);
    }
    if (why.code == 0 && shared->direct != NULL && gp__direct_over(shared->direct)) {
        gp_error_set(&why, GP_ECLOSED, "the connection to %s has ended, and is not made again",
                     gp__direct_name(shared->direct));
    }
    if (why.code != 0) {
        append(details, gp_error_message(&why));
    }
    if (shared->process != NULL && gp__process_gone(shared->process)) {
        snprintf(text, sizeof(text), "the plugin %s",
                 gp__process_fate(gp__process_status(shared->process), fate, sizeof(fate)));
        append(details, text);
    }
    gp_error_release(&why);
}

/* On the reactor's thread. */
static void
look(void *ctx)
{
    gp__connection *shared = ctx;
    gp__inquiry *told = NULL;

    gp_mutex_lock(&shared->lock);
    if (++shared->looks >= MOST_LOOKS || gp__process_gone(shared->process)) {
        told = shared->inquiries;
        shared->inquiries = NULL;
        gp__reactor_remove(shared->clock); /* this is its last time */
        shared->clock = NULL;
    }
    gp_mutex_unlock(&shared->lock);
    while (told != NULL) {
        gp__inquiry *next = told->next;

        told->told(told); /* the last one may be the end of |shared| */
        told = next;
    }
}

bool
gp__channel_inquire(gp_channel *channel, gp__inquiry *inquiry)
{
    gp__connection *shared = channel->connection;
    bool later;

    if (shared->process == NULL || gp__process_inspect(shared->process) != GP__PROCESS_DYING) {
        return false;
    }
    gp_mutex_lock(&shared->lock);
    if (shared->clock == NULL) {
        shared->looks = 0;
        gp__reactor_every(&shared->clock, LOOK_MS, look, shared, NULL);
    }
    later = shared->clock != NULL;
    if (later) {
        inquiry->next = shared->inquiries;
        shared->inquiries = inquiry;
    }
    gp_mutex_unlock(&shared->lock);
    return later;
}
/* ---- What is over ---- */

void
gp__channel_over(gp_channel *channel)
{
    atomic_store(&channel->connection->over, true);
}

static bool
all_closed(gp__connection *shared)
{
    bool closed = shared->views != NULL;

    for (gp_channel *view = shared->views; view != NULL; view = view->next_view) {
        gp_mutex_lock(&view->lock);
        closed = closed && view->closed;
        gp_mutex_unlock(&view->lock);
    }
    return closed;
}

static bool
in_use(const gp__connection *shared)
{
    for (const gp_channel *view = shared->views; view != NULL; view = view->next_view) {
        if (atomic_load(&view->users) > 0) {
            return true;
        }
    }
    return false;
}

/*
 * Let go of gRPC's channel if no view needs it any more. Returns whether there are calls that still
 * do.
 */
static bool
retire(gp__connection *shared)
{
    grpc_channel *channel = NULL;
    bool called = false;

    gp_mutex_lock(&shared->lock);
    if (!shared->retired && (atomic_load(&shared->over) || all_closed(shared))) {
        channel = atomic_exchange(&shared->channel, NULL);
    }
    if (channel != NULL && in_use(shared)) {
        atomic_store(&shared->channel, channel);
        channel = NULL;
        called = true;
    }
    if (channel != NULL) {
        shared->retired = true;
        for (gp_channel *view = shared->views; view != NULL; view = view->next_view) {
            gp_mutex_lock(&view->lock);
            view->closed = true;
            gp_mutex_unlock(&view->lock);
        }
    }
    gp_mutex_unlock(&shared->lock);
    if (channel != NULL) {
        gp__direct_free(shared->direct);
        shared->direct = NULL;
        grpc_channel_destroy(channel);
        gp__grpc_drop(GP__FORK_CONNECTION);
    }
    return called;
}

bool
gp__channels_retire(void)
{
    gp__connection *shared = gp__connection_next(NULL);
    bool left = false;

    while (shared != NULL) {
        gp__connection *next;

        left = retire(shared) || left;
        next = gp__connection_next(shared);
        gp__connection_unref(shared);
        shared = next;
    }
    return left;
}
