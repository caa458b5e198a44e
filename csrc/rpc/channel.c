#include "rpc/channel.h"

#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "os/fd.h"
#include "rpc/args.h"
#include "rpc/connection.h"
#include "rpc/convert.h"
#include "rpc/credentials.h"

/* Takes the reference to |shared| over, also on failure. */
static int
make_view(gp_channel **out, gp__connection *shared, gp_error *err)
{
    gp_channel *channel = gp__calloc(1, sizeof(*channel));

    if (channel == NULL) {
        gp__connection_unref(shared);
        return gp_error_set(err, GP_ENOMEM, "channel");
    }
    gp_mutex_init(&channel->lock);
    atomic_init(&channel->refs, 1);
    channel->connection = shared;
    channel->calls.next = channel->calls.prev = &channel->calls;
    gp_mutex_lock(&shared->lock);
    channel->closed = shared->retired;
    channel->next_view = shared->views;
    shared->views = channel;
    gp_mutex_unlock(&shared->lock);
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
        return gp_error_set(err, GP_ENOMEM, "channel arguments");
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
/* ---- Views ----------------------------------------------------------------------------------- */

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
    gp_channel **link;

    if (channel == NULL || gp_runtime_forked() || atomic_fetch_sub(&channel->refs, 1) != 1) {
        return;
    }
    gp_mutex_lock(&channel->connection->lock);
    for (link = &channel->connection->views; *link != channel; link = &(*link)->next_view) {
    }
    *link = channel->next_view;
    gp_mutex_unlock(&channel->connection->lock);
    gp__connection_unref(channel->connection);
    gp_mutex_release(&channel->lock);
    gp__free(channel);
}

/* Lock held. */
static void
cancel_calls(gp_channel *channel)
{
    /* Cancelling only schedules: no call leaves the ring before the lock is free again. */
    for (gp__call_link *link = channel->calls.next; link != &channel->calls; link = link->next) {
        gp__call_cancel_link(link);
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
    cancel_calls(channel);
    gp_mutex_unlock(&channel->lock);
}

void
gp_channel_cancel_others(gp_channel *channel)
{
    gp__connection *shared = channel->connection;

    gp_mutex_lock(&shared->lock);
    for (gp_channel *view = shared->views; view != NULL; view = view->next_view) {
        if (view != channel) {
            gp_mutex_lock(&view->lock);
            cancel_calls(view);
            gp_mutex_unlock(&view->lock);
        }
    }
    gp_mutex_unlock(&shared->lock);
}

grpc_channel *
gp__channel_use(gp_channel *channel)
{
    /* In this order, which retire() has the other way round: one of the two sees the other. */
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
gp__channel_enter(gp_channel *channel, gp__call_link *link, gp_error *err)
{
    bool closed;

    gp_mutex_lock(&channel->lock);
    closed = channel->closed;
    if (!closed) {
        link->next = &channel->calls;
        link->prev = channel->calls.prev;
        link->prev->next = link;
        link->next->prev = link;
    }
    gp_mutex_unlock(&channel->lock);
    return closed ? gp_error_set(err, GP_ECLOSED, "the channel is closed") : 0;
}

void
gp__channel_leave(gp_channel *channel, gp__call_link *link)
{
    gp_mutex_lock(&channel->lock);
    link->prev->next = link->next;
    link->next->prev = link->prev;
    gp_mutex_unlock(&channel->lock);
}

static int
direct_state(const gp__direct *direct)
{
    return gp__direct_over(direct) ? GP_SHUTDOWN : GP_READY;
}

int
gp_channel_state(gp_channel *channel, bool connect)
{
    grpc_channel *grpc;
    bool closed;
    int state;

    if (gp_runtime_forked()) {
        return GP_SHUTDOWN;
    }
    gp_mutex_lock(&channel->lock);
    closed = channel->closed;
    gp_mutex_unlock(&channel->lock);
    if (closed) {
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

/* A watch outlives a waiter that gave up: whoever comes last frees it. */
typedef struct watch {
    gp__event event;
    gp__gate gate;
    atomic_int refs;
    gp_channel *channel; /* shared: ref */
} watch;

static void
watch_unref(watch *watched)
{
    if (atomic_fetch_sub(&watched->refs, 1) == 1) {
        gp_channel_unref(watched->channel);
        gp__free(watched);
    }
}

static void
watch_complete(gp__event *event, bool ok)
{
    watch *watched = (watch *)event;

    (void)ok;
    gp__gate_open(gp__channel_poller(watched->channel), &watched->gate);
    watch_unref(watched);
}

static int
wait_state(gp_channel *channel, grpc_channel *grpc, int last, int64_t timeout_ms,
           const gp_interrupt *interrupt)
{
    int64_t deadline = gp_deadline_in(timeout_ms);
    int state = gp_channel_state(channel, false);
    gp__poller *poller;
    watch *watched;
    int rc;

    if (state != last || state == GP_SHUTDOWN) {
        return state;
    }
    if (channel->connection->direct != NULL) {
        rc = gp__direct_wait(channel->connection->direct, deadline, interrupt);
        return rc < 0 ? rc : GP_SHUTDOWN;
    }
    watched = gp__calloc(1, sizeof(*watched));
    if (watched == NULL) {
        return GP_ENOMEM;
    }
    poller = gp__channel_poller(channel);
    watched->event.complete = watch_complete;
    atomic_init(&watched->refs, 2);
    watched->channel = gp_channel_ref(channel);
    gp__hand_over(&watched->event);
    grpc_channel_watch_connectivity_state(grpc, (grpc_connectivity_state)last,
                                          gp__timespec_from_deadline(deadline), poller->queue,
                                          &watched->event);
    /* gRPC ends the watch at the same deadline, so that the wait itself needs none. */
    rc = gp__poller_wait(poller, &watched->gate, GP__FOREVER, interrupt);
    watch_unref(watched);
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
 * A watch without a waiter. It holds no reference to the connection, whose end it would delay: gRPC
 * completes a watch when its channel goes.
 */
typedef struct notice {
    gp__event event;
    gp__poller *poller; /* borrowed: lives as long as the process */
    void (*then)(void *ctx);
    void *ctx;
} notice;

static void
notice_complete(gp__event *event, bool ok)
{
    notice *notified = (notice *)event;

    (void)ok;
    gp__poller_urgent_drop(notified->poller);
    notified->then(notified->ctx);
    gp__free(notified);
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
    notice *notified;

    if (channel->connection->direct != NULL) {
        return watch_direct(channel->connection->direct, last, timeout_ms, then, ctx);
    }
    notified = gp__calloc(1, sizeof(*notified));
    if (notified == NULL) {
        return GP_ENOMEM;
    }
    notified->event.complete = notice_complete;
    notified->poller = gp__channel_poller(channel);
    notified->then = then;
    notified->ctx = ctx;
    gp__poller_urgent_add(notified->poller);
    gp__hand_over(&notified->event);
    grpc_channel_watch_connectivity_state(grpc, (grpc_connectivity_state)last,
                                          gp__timespec_from_deadline(gp_deadline_in(timeout_ms)),
                                          notified->poller->queue, &notified->event);
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
