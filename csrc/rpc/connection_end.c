#include "rpc/connection.h"

#include "base/alloc.h"
#include "base/fork.h"
#include "base/thread.h"
#include "rpc/grpc_library.h"

/* ---- Why a connection is missing ---- */

/*
 * How often to check what has become of a process, and how many times: of one that has begun to
 * exit, of one that runs although its connection has ended, and of one that has ended and whose
 * stderr has not been read to its end (a child of it may keep the pipe open).
 */
enum { CHECK_MS = 5, CHECKS_DYING = 400, CHECKS_RUNNING = 200, CHECKS_STDERR = 20 };

void
gp__channel_explain(gp_channel *channel, const gp__carrier *carrier, gp__process *process)
{
    if (carrier != NULL) {
        channel->connection->carrier = *carrier;
    }
    channel->connection->process = process != NULL ? gp__process_ref(process) : NULL;
}

/* Replace |details| by |text|, which is freed; NULL: memory was short, and they stay. */
static void
replace_details(grpc_slice *details, char *text)
{
    if (text != NULL) {
        grpc_slice_unref(*details);
        *details = grpc_slice_from_copied_string(text);
    }
    gp__free(text);
}

#define TEXT(details) \
    (int)GRPC_SLICE_LENGTH(*(details)), (const char *)GRPC_SLICE_START_PTR(*(details))

bool
gp__channel_add_reason(const gp_channel *channel, grpc_slice *details)
{
    const gp__connection *connection = channel->connection;
    gp_error why = GP_ERROR_INIT;
    char *end = NULL;

    if (connection->carrier.ctx != NULL) {
        connection->carrier.why(connection->carrier.ctx, &why);
    }
    if (why.code == 0 && connection->direct != NULL && gp__direct_ended(connection->direct)) {
        gp_error_set(&why, GP_ECLOSED, "the connection to %s has ended, and is not made again",
                     gp__direct_name(connection->direct));
    }
    if (why.code != 0) {
        replace_details(details, gp__format("%.*s: %s", TEXT(details), gp_error_message(&why)));
    }
    gp_error_release(&why);
    if (connection->process != NULL) {
        end = gp__process_describe_end(connection->process);
    }
    if (end != NULL) {
        replace_details(details, gp__format("%s (%.*s)", end, TEXT(details)));
    }
    gp__free(end);
    return end != NULL;
}

gp__process *
gp__channel_process(const gp_channel *channel)
{
    return channel->connection->process;
}

/* ---- Waiting for the reason ---- */

/* gRPC's state of the connection. */
static grpc_connectivity_state
state_of(gp__connection *connection)
{
    grpc_channel *channel = atomic_load(&connection->channel);

    return channel != NULL ? grpc_channel_check_connectivity_state(channel, 0)
                           : GRPC_CHANNEL_SHUTDOWN;
}

static bool is_known_locked(gp__connection *connection) GP_REQUIRES(&connection->lock);

/* Whether there is nothing to wait for any more. Called for each check, with it counted. */
static bool
is_known_locked(gp__connection *connection)
{
    if (gp__process_gone(connection->process)) {
        if (connection->checks_left > CHECKS_STDERR) {
            connection->checks_left = CHECKS_STDERR;
        }
        connection->told = connection->checks_left <= 0 ||
                           gp__tail_is_whole(gp__process_tail(connection->process));
        return connection->told;
    }
    connection->survived = connection->survived || connection->checks_left <= 0;
    return connection->checks_left <= 0;
}

static void take_known_locked(gp__connection *connection, gp_list *known)
    GP_REQUIRES(&connection->lock);

/* Move the calls that need not wait any longer to |known|. */
static void
take_known_locked(gp__connection *connection, gp_list *known)
{
    bool all = is_known_locked(connection);
    int64_t now = gp__now();
    gp_link *link;
    gp_list left;

    gp_list_init(&left);
    while ((link = gp_list_pop(&connection->reason_waiters)) != NULL) {
        bool late = gp_container_of(link, gp__reason_waiter, link)->deadline <= now;

        gp_list_append(all || late ? known : &left, link);
    }
    gp_list_move(&connection->reason_waiters, &left);
}

/* Called by the timer, on the reactor's thread: continue the calls that have waited enough. */
static void
check_process(void *ctx)
{
    gp__connection *connection = ctx;
    gp_list known;
    gp_link *link;

    gp_list_init(&known);
    gp_mutex_lock(&connection->lock);
    connection->checks_left--;
    take_known_locked(connection, &known);
    if (gp_list_is_empty(&connection->reason_waiters)) {
        gp__reactor_remove(connection->timer); /* on its own thread: this was its last call */
        connection->timer = NULL;
    }
    gp_mutex_unlock(&connection->lock);
    while ((link = gp_list_pop(&known)) != NULL) { /* the last one may free |connection| */
        gp__reason_waiter *waiter = gp_container_of(link, gp__reason_waiter, link);

        waiter->on_known(waiter);
    }
}

/* Whether this side has ended the calls of the view. */
static bool
is_disconnected(gp_channel *channel)
{
    bool disconnected;

    gp_mutex_lock(&channel->lock);
    disconnected = channel->disconnected;
    gp_mutex_unlock(&channel->lock);
    return disconnected;
}

/* How many checks of the process are worth while; 0: none. */
static int
count_checks(gp_channel *channel, bool broken)
{
    gp__connection *connection = channel->connection;

    switch (gp__process_inspect(connection->process)) {
    case GP__PROCESS_GONE:
        return !gp__tail_is_whole(gp__process_tail(connection->process)) ? CHECKS_STDERR : 0;
    case GP__PROCESS_DYING:
        return CHECKS_DYING;
    default:
        return !is_disconnected(channel) && (broken || state_of(connection) != GRPC_CHANNEL_READY)
                   ? CHECKS_RUNNING
                   : 0;
    }
}

bool
gp__channel_await_reason(gp_channel *channel, gp__reason_waiter *waiter, bool broken)
{
    gp__connection *connection = channel->connection;
    bool queued = false;
    int checks = connection->process != NULL ? count_checks(channel, broken) : 0;

    gp_mutex_lock(&connection->lock);
    if (checks == CHECKS_STDERR ? connection->told
                                : checks == CHECKS_RUNNING && connection->survived) {
        checks = 0; /* that was waited for before */
    }
    if (checks > 0 && connection->timer == NULL) {
        connection->checks_left = 0;
        gp__reactor_every(&connection->timer, CHECK_MS, check_process, connection, NULL);
    }
    if (checks > 0 && connection->timer != NULL) {
        if (connection->checks_left < checks) {
            connection->checks_left = checks;
        }
        gp_list_append(&connection->reason_waiters, &waiter->link);
        queued = true;
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
