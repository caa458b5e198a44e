#include "rpc/channel.h"

#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "gp/container.h"
#include "os/fd.h"
#include "rpc/args.h"
#include "rpc/connection.h"
#include "rpc/convert.h"
#include "rpc/credentials.h"

/* Make a view of |connection|. Takes over the caller's reference to it, also on failure. */
static int
make_view(gp_channel **out, gp__connection *connection, gp_error *err)
{
    gp_channel *channel = gp__calloc(1, sizeof(*channel));

    if (channel == NULL) {
        gp__connection_unref(connection);
        return gp_error_set(err, GP_ENOMEM, "out of memory for a channel");
    }
    gp_mutex_init(&channel->lock);
    atomic_init(&channel->refs, 1);
    channel->connection = connection;
    gp_list_init(&channel->calls);
    gp_mutex_lock(&connection->lock);
    gp_mutex_lock(&channel->lock);
    channel->closed = connection->retired;
    gp_mutex_unlock(&channel->lock);
    gp_list_prepend(&connection->views, &channel->link);
    gp_mutex_unlock(&connection->lock);
    *out = channel;
    return 0;
}

int
gp_channel_open(gp_channel **out, const char *target, const gp_channel_options *options,
                gp_error *err)
{
    static const gp_channel_options defaults = {0};
    gp__connection *made = NULL;
    int rc;

    if (gp_runtime_init() < 0) {
        return gp_error_set(err, GP_EOS, "cannot install the fork guard");
    }
    rc = gp__connection_open(&made, target, options != NULL ? options : &defaults, err);
    return rc < 0 ? rc : make_view(out, made, err);
}

int
gp__channel_open_over(gp_channel **out, int fd, const char *name, const char *authority,
                      const gp_channel_args *args, gp_error *err)
{
    gp_channel_options options = {.args = NULL};
    gp__connection *made = NULL;
    int rc;

    options.args = gp__channel_args_items(args, &options.args_count);

    if (gp_runtime_init() < 0) {
        gp__fd_close(&fd);
        return gp_error_set(err, GP_EOS, "cannot install the fork guard");
    }
    rc = gp__connection_open_over(&made, fd, name, authority, &options, err);
    return rc < 0 ? rc : make_view(out, made, err);
}

int
gp_channel_open_tls(gp_channel **out, const char *target, const gp_tls *tls,
                    const gp_channel_args *args, gp_error *err)
{
    gp_channel_options options = {.args = NULL};
    gp_channel_credentials *credentials;
    gp_channel_arg *items;
    size_t count;
    int rc;

    options.args = gp__channel_args_items(args, &count);
    options.args_count = count;
    if (tls == NULL) {
        return gp_channel_open(out, target, &options, err);
    }
    items = gp__calloc(count + 1, sizeof(*items));
    if (items == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for channel arguments");
    }
    items[0] =
        (gp_channel_arg){.key = "grpc.ssl_target_name_override", .string = gp_tls_server_name(tls)};
    if (count > 0) {
        memcpy(items + 1, options.args, count * sizeof(*items));
    }
    rc = gp_channel_credentials_tls(&credentials, tls, err);
    if (rc == 0) {
        options.args = items;
        options.args_count = count + 1;
        options.credentials = credentials;
        rc = gp_channel_open(out, target, &options, err);
        gp_channel_credentials_free(credentials);
    }
    gp__free(items);
    return rc;
}

const char *
gp__channel_peer(const gp_channel *channel)
{
    const gp__direct *direct = channel->connection->direct;

    return direct != NULL ? gp__direct_name(direct) : NULL;
}

void
gp__channel_keep(gp_channel *channel, int *fd)
{
    channel->connection->kept = *fd;
    *fd = -1;
}

/* ---- Views ---- */

int
gp_channel_view(gp_channel **out, gp_channel *channel, gp_error *err)
{
    atomic_fetch_add(&channel->connection->refs, 1);
    return make_view(out, channel->connection, err);
}

gp_channel *
gp_channel_ref(gp_channel *channel)
{
    atomic_fetch_add(&channel->refs, 1);
    return channel;
}

void
gp_channel_unref(gp_channel *channel)
{
    if (channel == NULL || gp_runtime_forked() || atomic_fetch_sub(&channel->refs, 1) != 1) {
        return;
    }
    gp_mutex_lock(&channel->connection->lock);
    gp_link_remove(&channel->link);
    gp_mutex_unlock(&channel->connection->lock);
    gp__connection_unref(channel->connection);
    gp_mutex_release(&channel->lock);
    gp__free(channel);
}

static void cancel_calls_locked(gp_channel *channel, void (*cancel)(gp_link *link))
    GP_REQUIRES(&channel->lock);

/* gRPC ends the calls later: each removes itself from the list once the lock is free again. */
static void
cancel_calls_locked(gp_channel *channel, void (*cancel)(gp_link *link))
{
    for (gp_link *link = gp_list_first(&channel->calls); link != NULL;
         link = gp_list_next(&channel->calls, link)) {
        cancel(link);
    }
}

void
gp_channel_close(gp_channel *channel)
{
    if (gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&channel->lock);
    channel->closed = true;
    cancel_calls_locked(channel, gp__call_cancel_closed);
    gp_mutex_unlock(&channel->lock);
}

void
gp_channel_disconnect(gp_channel *channel)
{
    if (gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&channel->lock);
    if (!channel->closed && !channel->disconnected) {
        channel->disconnected = true;
        cancel_calls_locked(channel, gp__call_cancel_disconnected);
    }
    gp_mutex_unlock(&channel->lock);
}

void
gp_channel_cancel_others(gp_channel *channel)
{
    gp__connection *connection = channel->connection;

    gp_mutex_lock(&connection->lock);
    for (gp_channel *view = gp_list_first_entry(&connection->views, gp_channel, link); view != NULL;
         view = gp_list_next_entry(&connection->views, view, gp_channel, link)) {
        if (view != channel) {
            gp_mutex_lock(&view->lock);
            cancel_calls_locked(view, gp__call_cancel_closed);
            gp_mutex_unlock(&view->lock);
        }
    }
    gp_mutex_unlock(&connection->lock);
}

grpc_channel *
gp__channel_use(gp_channel *channel)
{
    /*
     * retire_connection() writes |channel| and then reads |users|: whichever of the two comes
     * second sees what the other has written.
     */
    atomic_fetch_add(&channel->users, 1);
    return atomic_load(&channel->connection->channel);
}

void
gp__channel_unuse(gp_channel *channel)
{
    atomic_fetch_sub(&channel->users, 1);
}

bool
gp_channel_secure(const gp_channel *channel)
{
    return channel->connection->secure;
}

size_t
gp__channel_unpack_limit(const gp_channel *channel)
{
    return channel->connection->unpack_limit;
}

gp__poller *
gp__channel_poller(const gp_channel *channel)
{
    return channel->connection->poller;
}

int
gp__channel_add_call(gp_channel *channel, gp_link *link, gp_error *err)
{
    bool closed;

    gp_mutex_lock(&channel->lock);
    closed = channel->closed;
    if (!closed) {
        gp_list_append(&channel->calls, link);
    }
    if (!closed && channel->disconnected) {
        gp__call_cancel_disconnected(link);
    }
    gp_mutex_unlock(&channel->lock);
    return closed ? gp_error_set(err, GP_ECLOSED, "the channel is closed") : 0;
}

void
gp__channel_remove_call(gp_channel *channel, gp_link *link)
{
    gp_mutex_lock(&channel->lock);
    gp_link_remove(link);
    gp_mutex_unlock(&channel->lock);
}

static int
direct_state(const gp__direct *direct)
{
    return gp__direct_ended(direct) ? GP_SHUTDOWN : GP_READY;
}

int
gp_channel_state(gp_channel *channel, bool connect)
{
    grpc_channel *grpc;
    bool ended;
    int state;

    if (gp_runtime_forked()) {
        return GP_SHUTDOWN;
    }
    gp_mutex_lock(&channel->lock);
    ended = channel->closed || channel->disconnected;
    gp_mutex_unlock(&channel->lock);
    if (ended) {
        return GP_SHUTDOWN;
    }
    grpc = gp__channel_use(channel);
    if (grpc == NULL) {
        state = GP_SHUTDOWN;
    } else if (channel->connection->direct != NULL) {
        state = direct_state(channel->connection->direct);
    } else {
        state = (int)grpc_channel_check_connectivity_state(grpc, connect);
    }
    gp__channel_unuse(channel);
    return state;
}

/*
 * A watch of the state for which a thread waits. If that thread gives up, the watch outlives the
 * wait.
 */
typedef struct state_wait {
    gp__event event;
    gp__gate gate;       /* open when the watch is complete */
    atomic_int refs;     /* of the waiting thread and of the watch */
    gp_channel *channel; /* shared: ref */
} state_wait;

static void
state_wait_unref(state_wait *wait)
{
    if (atomic_fetch_sub(&wait->refs, 1) == 1) {
        gp_channel_unref(wait->channel);
        gp__free(wait);
    }
}

static void
state_wait_complete(gp__event *event, bool ok)
{
    state_wait *wait = gp_container_of(event, state_wait, event);

    (void)ok;
    gp__gate_open(gp__channel_poller(wait->channel), &wait->gate);
    state_wait_unref(wait);
}

static int
wait_state(gp_channel *channel, grpc_channel *grpc, int last, int64_t timeout_ms,
           const gp_interrupt *interrupt)
{
    int64_t deadline = gp_deadline_in(timeout_ms);
    int state = gp_channel_state(channel, false);
    gp__poller *poller;
    state_wait *wait;
    int rc;

    if (state != last || state == GP_SHUTDOWN) {
        return state;
    }
    if (channel->connection->direct != NULL) {
        rc = gp__direct_wait(channel->connection->direct, deadline, interrupt);
        return rc < 0 ? rc : GP_SHUTDOWN;
    }
    wait = gp__calloc(1, sizeof(*wait));
    if (wait == NULL) {
        return GP_ENOMEM;
    }
    poller = gp__channel_poller(channel);
    wait->event.complete = state_wait_complete;
    atomic_init(&wait->refs, 2);
    wait->channel = gp_channel_ref(channel);
    gp__hand_over(&wait->event);
    grpc_channel_watch_connectivity_state(grpc, (grpc_connectivity_state)last,
                                          gp__timespec_from_deadline(deadline), poller->queue,
                                          &wait->event);
    /* gRPC ends the watch at the deadline, so that the wait itself needs none. */
    rc = gp__poller_wait(poller, &wait->gate, GP__FOREVER, interrupt);
    state_wait_unref(wait);
    if (rc < 0) {
        return rc;
    }
    state = gp_channel_state(channel, false);
    return state != last ? state : GP_ETIMEOUT;
}

int
gp_channel_wait_state(gp_channel *channel, int last, int64_t timeout_ms,
                      const gp_interrupt *interrupt)
{
    grpc_channel *grpc = gp__channel_use(channel);
    int rc = grpc == NULL ? GP_SHUTDOWN : wait_state(channel, grpc, last, timeout_ms, interrupt);

    gp__channel_unuse(channel);
    return rc;
}

/*
 * A watch of the state with a callback. It holds no reference to the connection, which would keep
 * the connection from being freed: gRPC completes the watch when its channel is destroyed.
 */
typedef struct state_callback {
    gp__event event;
    gp__poller *poller; /* borrowed: lives as long as the process */
    void (*then)(void *ctx);
    void *ctx;
} state_callback;

static void
state_callback_complete(gp__event *event, bool ok)
{
    state_callback *callback = gp_container_of(event, state_callback, event);

    (void)ok;
    gp__poller_urgent_drop(callback->poller);
    callback->then(callback->ctx);
    gp__free(callback);
}

static int
watch_direct(gp__direct *direct, int last, int64_t timeout_ms, void (*then)(void *ctx), void *ctx)
{
    if (direct_state(direct) != last) {
        then(ctx);
        return 0;
    }
    return gp__direct_then(direct, last == GP_READY, timeout_ms, then, ctx);
}

static int
watch_state(gp_channel *channel, grpc_channel *grpc, int last, int64_t timeout_ms,
            void (*then)(void *ctx), void *ctx)
{
    state_callback *callback;

    if (channel->connection->direct != NULL) {
        return watch_direct(channel->connection->direct, last, timeout_ms, then, ctx);
    }
    callback = gp__calloc(1, sizeof(*callback));
    if (callback == NULL) {
        return GP_ENOMEM;
    }
    callback->event.complete = state_callback_complete;
    callback->poller = gp__channel_poller(channel);
    callback->then = then;
    callback->ctx = ctx;
    gp__poller_urgent_add(callback->poller);
    gp__hand_over(&callback->event);
    grpc_channel_watch_connectivity_state(grpc, (grpc_connectivity_state)last,
                                          gp__timespec_from_deadline(gp_deadline_in(timeout_ms)),
                                          callback->poller->queue, &callback->event);
    return 0;
}

int
gp_channel_watch_state(gp_channel *channel, int last, int64_t timeout_ms, void (*then)(void *ctx),
                       void *ctx)
{
    grpc_channel *grpc;
    int rc = 0;

    if (gp_runtime_forked()) {
        return GP_EFORKED;
    }
    grpc = gp__channel_use(channel);
    if (grpc != NULL) {
        rc = watch_state(channel, grpc, last, timeout_ms, then, ctx);
    } else {
        then(ctx);
    }
    gp__channel_unuse(channel);
    return rc;
}
