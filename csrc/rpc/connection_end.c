#include "rpc/connection.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/fork.h"
#include "base/text.h"
#include "rpc/grpc_library.h"

/* ---- Why a connection is missing ---- */

/* How often to check whether the process has ended, and how many times. */
enum { CHECK_MS = 5, MOST_CHECKS = 200 };

void
gp__channel_explain(gp_channel *channel, const gp__carrier *carrier, gp__process *process)
{
    if (carrier != NULL) {
        channel->connection->carrier = *carrier;
    }
    channel->connection->process = process != NULL ? gp__process_ref(process) : NULL;
}

/* Append |why| to |details|, unless memory is short. */
static void
append_reason(grpc_slice *details, const char *why)
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
    const gp__connection *connection = channel->connection;
    gp_error why = GP_ERROR_INIT;
    char end[96];
    char text[128];

    if (connection->carrier.ctx != NULL) {
        connection->carrier.why(connection->carrier.ctx, &why);
    }
    if (why.code == 0 && connection->direct != NULL && gp__direct_ended(connection->direct)) {
        gp_error_set(&why, GP_ECLOSED, "the connection to %s has ended, and is not made again",
                     gp__direct_name(connection->direct));
    }
    if (why.code != 0) {
        append_reason(details, gp_error_message(&why));
    }
    if (connection->process != NULL && gp__process_gone(connection->process)) {
        snprintf(
            text, sizeof(text), "the plugin %s",
            gp__process_describe_exit(gp__process_status(connection->process), end, sizeof(end)));
        append_reason(details, text);
    }
    gp_error_release(&why);
}

/*
 * Called by the timer, on the reactor's thread: if the process has ended, or has been checked too
 * often, continue the calls that wait for the reason.
 */
static void
check_process(void *ctx)
{
    gp__connection *connection = ctx;
    gp_list known;
    gp_link *link;

    gp_list_init(&known);
    gp_mutex_lock(&connection->lock);
    if (++connection->checks >= MOST_CHECKS || gp__process_gone(connection->process)) {
        while ((link = gp_list_pop(&connection->reason_waiters)) != NULL) {
            gp_list_append(&known, link);
        }
        gp__reactor_remove(connection->timer); /* on its own thread: this was its last call */
        connection->timer = NULL;
    }
    gp_mutex_unlock(&connection->lock);
    while ((link = gp_list_pop(&known)) != NULL) { /* the last one may free |connection| */
        gp__reason_waiter *waiter = gp_container_of(link, gp__reason_waiter, link);

        waiter->on_known(waiter);
    }
}

bool
gp__channel_await_reason(gp_channel *channel, gp__reason_waiter *waiter)
{
    gp__connection *connection = channel->connection;
    bool queued;

    if (connection->process == NULL ||
        gp__process_inspect(connection->process) != GP__PROCESS_DYING) {
        return false;
    }
    gp_mutex_lock(&connection->lock);
    if (connection->timer == NULL) {
        connection->checks = 0;
        gp__reactor_every(&connection->timer, CHECK_MS, check_process, connection, NULL);
    }
    queued = connection->timer != NULL;
    if (queued) {
        gp_list_append(&connection->reason_waiters, &waiter->link);
    }
    gp_mutex_unlock(&connection->lock);
    return queued;
}

/* ---- Retiring ---- */

void
gp__channel_mark_ended(gp_channel *channel)
{
    atomic_store(&channel->connection->ended, true);
}

static bool all_closed_locked(gp__connection *connection) GP_REQUIRES(&connection->lock);

/* Whether the connection has views, and all of them are closed or disconnected. */
static bool
all_closed_locked(gp__connection *connection)
{
    gp_channel *view = gp_list_first_entry(&connection->views, gp_channel, link);
    bool closed = view != NULL;

    for (; view != NULL; view = gp_list_next_entry(&connection->views, view, gp_channel, link)) {
        gp_mutex_lock(&view->lock);
        closed = closed && (view->closed || view->disconnected);
        gp_mutex_unlock(&view->lock);
    }
    return closed;
}

static bool in_use_locked(gp__connection *connection) GP_REQUIRES(&connection->lock);

/* Whether a view uses gRPC's channel. */
static bool
in_use_locked(gp__connection *connection)
{
    for (gp_channel *view = gp_list_first_entry(&connection->views, gp_channel, link); view != NULL;
         view = gp_list_next_entry(&connection->views, view, gp_channel, link)) {
        if (atomic_load(&view->users) > 0) {
            return true;
        }
    }
    return false;
}

static void close_views_locked(gp__connection *connection) GP_REQUIRES(&connection->lock);

static void
close_views_locked(gp__connection *connection)
{
    for (gp_channel *view = gp_list_first_entry(&connection->views, gp_channel, link); view != NULL;
         view = gp_list_next_entry(&connection->views, view, gp_channel, link)) {
        gp_mutex_lock(&view->lock);
        view->closed = true;
        gp_mutex_unlock(&view->lock);
    }
}

/*
 * Free gRPC's channel if no view needs it any more. Returns whether only calls that still exist
 * have prevented it.
 */
static bool
retire_connection(gp__connection *connection)
{
    grpc_channel *channel = NULL;
    bool used = false;

    gp_mutex_lock(&connection->lock);
    if (!connection->retired &&
        (atomic_load(&connection->ended) || all_closed_locked(connection))) {
        channel = atomic_exchange(&connection->channel, NULL);
    }
    if (channel != NULL && in_use_locked(connection)) {
        atomic_store(&connection->channel, channel);
        channel = NULL;
        used = true;
    }
    if (channel != NULL) {
        connection->retired = true;
        close_views_locked(connection);
    }
    gp_mutex_unlock(&connection->lock);
    if (channel != NULL) {
        gp__direct_free(connection->direct);
        connection->direct = NULL;
        grpc_channel_destroy(channel);
        gp__grpc_drop(GP__FORK_CONNECTION);
    }
    return used;
}

bool
gp__channels_retire(void)
{
    gp__connection *connection = gp__connection_next(NULL);
    bool used = false;

    while (connection != NULL) {
        gp__connection *next;

        used = retire_connection(connection) || used;
        next = gp__connection_next(connection);
        gp__connection_unref(connection);
        connection = next;
    }
    return used;
}
