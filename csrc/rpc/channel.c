#include "rpc/channel.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fork.h"
#include "base/text.h"
#include "base/thread.h"
#include "os/fd.h"
#include "os/reactor.h"
#include "rpc/args.h"
#include "rpc/convert.h"
#include "rpc/credentials.h"
#include "rpc/crew.h"
#include "rpc/direct.h"
#include "rpc/metadata_size.h"
#include "rpc/runtime.h"

/* The connection below one or more channels. */
typedef struct connection {
    atomic_int refs;
    _Atomic(grpc_channel *) channel; /* owned; NULL: retired */
    gp__direct *direct;   /* owned: it is over a socket of ours; NULL: gRPC connects it */
    gp__poller *poller;   /* borrowed: lives as long as the process */
    gp_mux *mux;          /* shared: ref; NULL: a connection of its own */
    gp__process *process; /* shared: ref; at the other end. NULL: nobody knows */
    int kept;             /* owned: what the target refers to; -1: nothing */
    bool secure;
    size_t unpack_limit;     /* for gp__unpack() */
    atomic_bool over;        /* the other side will not be reached any more */
    bool retired;            /* gRPC's channel is gone before its views */
    gp__remains remains;     /* once nobody refers to it */
    struct connection *prev; /* in the list of all */
    struct connection *next;
    pthread_mutex_t lock;   /* guards what follows; comes before that of views */
    gp_channel *views;      /* borrowed: they take themselves off */
    gp__inquiry *inquiries; /* borrowed: each with a reference of its call */
    gp__watch *clock;       /* owned; while there are inquiries */
    int looks;              /* of the clock's, since the first of them */
} connection;

/* A view of a connection: closing it ends its own calls and nobody else's. */
struct gp_channel {
    atomic_int refs;
    atomic_int users; /* of gRPC's channel: calls that exist, and whoever asks for its state */
    connection *connection; /* shared: ref */
    gp_channel *next_view;  /* of the same connection; under its lock */
    pthread_mutex_t lock;   /* guards what follows */
    gp__call_link calls;    /* head of a ring of running calls */
    bool closed;
};

static void reset(void);

static struct {
    pthread_mutex_t lock; /* guards the list; comes before a connection's */
    connection *first;    /* borrowed: connections take themselves off */
    gp_fork_part part;
} all = {.lock = PTHREAD_MUTEX_INITIALIZER, .part = {.reset = reset}};

enum { MOST_OWN_ARGS = 12 };

/* What a channel begins with, and what the user's arguments win over. */
typedef struct own_args {
    gp_channel_arg items[MOST_OWN_ARGS];
    size_t count;
    char *agent; /* owned */
} own_args;

static void
add_integer(own_args *own, const char *key, int value)
{
    own->items[own->count++] = (gp_channel_arg){.key = key, .integer = value};
}

static void
add_string(own_args *own, const char *key, const char *value)
{
    own->items[own->count++] = (gp_channel_arg){.key = key, .string = value};
}

/*
 * Between a host and its plugin there is no proxy, no load balancer and no second backend: no
 * retries (5 to 8 us a call), no proxy from the environment, no connection shared behind our back, no
 * statistics for channelz, which nothing of ours can show.
 * Messages are as large as gRPC can carry, as go-plugin has it.
 */
static void
add_plugins_args(own_args *own)
{
    add_integer(own, "grpc.enable_retries", 0);
    add_integer(own, "grpc.enable_http_proxy", 0);
    add_integer(own, "grpc.use_local_subchannel_pool", 1);
    add_integer(own, "grpc.enable_channelz", 0);
    add_integer(own, "grpc.max_receive_message_length", INT_MAX);
    add_integer(own, "grpc.max_send_message_length", INT_MAX);
}

/*
 * Of any channel: as much metadata as error details need, and a user agent that says how much. |authority|
 * may be NULL. Returns 0 or GP_ENOMEM.
 */
static int
merge_args(grpc_channel_args *out, own_args *own, const gp_channel_options *options,
           const char *authority)
{
    static const char agent_key[] = "grpc.primary_user_agent";
    const gp_channel_arg *more = options->args;
    size_t count = options->args_count;
    int size = gp__arg_integer(more, count, "grpc.max_metadata_size", GP__METADATA_SIZE);
    gp_arg_object *quota = gp__process_quota();
    gp_channel_arg *items;
    int rc;

    /* Newer cores refuse at random what is between the two. */
    add_integer(own, "grpc.max_metadata_size", size);
    add_integer(own, "grpc.absolute_max_metadata_size", size);
    add_integer(own, "grpc.per_message_decompression", 0); /* we do, see unpack.h */
    if (quota != NULL) {
        own->items[own->count++] = (gp_channel_arg){.key = "grpc.resource_quota", .object = quota};
    }
    if (authority != NULL) {
        add_string(own, "grpc.default_authority", authority);
    }
    own->agent = gp__user_agent(gp__arg_string(more, count, agent_key),
                                options->agent != NULL ? options->agent : "grpc-python", size);
    /* Besides the user's, of which it has become a part. */
    items = gp__malloc((count + 1) * sizeof(*items));
    if (own->agent == NULL || items == NULL) {
        gp__free(items);
        return GP_ENOMEM;
    }
    if (count > 0) {
        memcpy(items, more, count * sizeof(*items));
    }
    items[count] = (gp_channel_arg){.key = agent_key, .string = own->agent};
    rc = gp__args_merge(out, own->items, own->count, items, count + 1);
    gp__free(items);
    return rc;
}

static grpc_channel *
make_grpc_channel(const char *target, const gp_channel_credentials *given,
                  const grpc_channel_args *args)
{
    grpc_channel_credentials *insecure;
    grpc_channel *channel;

    if (given != NULL) {
        return grpc_channel_create(target, gp__channel_credentials(given), args);
    }
    insecure = grpc_insecure_credentials_create();
    channel = grpc_channel_create(target, insecure, args);
    grpc_channel_credentials_release(insecure);
    return channel;
}

static int
make_connection(connection **out, gp_error *err)
{
    connection *made = gp__calloc(1, sizeof(*made));
    int rc;

    if (made == NULL || pthread_mutex_init(&made->lock, NULL) != 0) {
        gp__free(made);
        return gp_error_set(err, GP_ENOMEM, "channel");
    }
    atomic_init(&made->refs, 1);
    made->kept = -1;
    if ((rc = gp__grpc_use(GP__FORK_CONNECTION, err)) < 0) {
        goto fail;
    }
    /* Even while nobody calls, somebody must notice what comes in: a GOAWAY, the end. */
    if ((rc = gp__crew_poller(&made->poller, err)) < 0 || (rc = gp__crew_start(false, err)) < 0) {
        gp__grpc_drop(GP__FORK_CONNECTION);
        goto fail;
    }
    gp_runtime_on_fork(&all.part);
    pthread_mutex_lock(&all.lock);
    made->next = all.first;
    if (made->next != NULL) {
        made->next->prev = made;
    }
    all.first = made;
    pthread_mutex_unlock(&all.lock);
    *out = made;
    return 0;

fail:
    pthread_mutex_destroy(&made->lock);
    gp__free(made);
    return rc;
}

static void
unlist(connection *shared)
{
    pthread_mutex_lock(&all.lock);
    if (shared->prev != NULL) {
        shared->prev->next = shared->next;
    } else if (all.first == shared) {
        all.first = shared->next;
    }
    if (shared->next != NULL) {
        shared->next->prev = shared->prev;
    }
    shared->prev = shared->next = NULL;
    pthread_mutex_unlock(&all.lock);
}

static void
free_connection(gp__remains *remains)
{
    connection *shared = (connection *)((char *)remains - offsetof(connection, remains));
    grpc_channel *channel = atomic_load(&shared->channel);

    unlist(shared);
    if (channel != NULL) {
        grpc_channel_destroy(channel);
    }
    if (!shared->retired) {
        gp__grpc_drop(GP__FORK_CONNECTION);
        gp__fork_drop(GP__FORK_ENDING);
    }
    gp_mux_unref(shared->mux);
    gp__process_unref(shared->process);
    gp__reactor_remove(shared->clock);
    gp__fd_close(&shared->kept);
    pthread_mutex_destroy(&shared->lock);
    gp__free(shared);
}

/* Hanging up takes as long as a call. A handler that has called its caller back need not wait for it. */
static void
connection_unref(connection *shared)
{
    gp__poller *poller = shared->poller;

    if (atomic_fetch_sub(&shared->refs, 1) == 1) {
        if (shared->retired) { /* there may be neither gRPC nor threads any more */
            free_connection(&shared->remains);
            return;
        }
        gp__fork_add(GP__FORK_ENDING);
        gp__direct_free(shared->direct);
        shared->remains.free = free_connection;
        pthread_mutex_lock(&poller->lock);
        gp__crew_add_remains(&shared->remains);
        pthread_mutex_unlock(&poller->lock);
    }
}

static int
connect_to(connection **out, const char *target, const gp_channel_options *options, gp_error *err)
{
    own_args own = {.count = 0};
    grpc_channel_args args = {0, NULL};
    connection *made;
    int rc = make_connection(&made, err);

    if (rc < 0) {
        return rc;
    }
    if (!options->general) {
        add_plugins_args(&own);
    }
    rc = merge_args(&args, &own, options, NULL);
    if (rc == 0) {
        atomic_store(&made->channel, make_grpc_channel(target, options->credentials, &args));
        made->secure = options->credentials != NULL;
        made->unpack_limit = gp__unpack_limit(options->args, options->args_count,
                                              options->general ? GP__MESSAGE_LENGTH : INT_MAX);
    }
    gp__free(args.args);
    gp__free(own.agent);
    if (rc < 0) {
        connection_unref(made);
        return gp_error_set(err, rc, "channel arguments");
    }
    *out = made;
    return 0;
}

/* Takes |fd| over, also on failure. */
static int
connect_over(connection **out, int fd, const char *name, const char *authority,
             const gp_channel_options *options, gp_error *err)
{
    own_args own = {.count = 0};
    grpc_channel_args args = {0, NULL};
    grpc_channel *channel = NULL;
    connection *made = NULL;
    int rc = make_connection(&made, err);

    if (rc < 0) {
        gp__fd_close(&fd);
        return rc;
    }
    add_plugins_args(&own);
    if (merge_args(&args, &own, options, authority) < 0) {
        gp__fd_close(&fd);
        rc = gp_error_set(err, GP_ENOMEM, "channel arguments");
    } else {
        rc = gp__direct_open(&made->direct, &channel, fd, name, &args, err);
        atomic_store(&made->channel, channel);
        made->unpack_limit = gp__unpack_limit(options->args, options->args_count, INT_MAX);
    }
    gp__free(args.args);
    gp__free(own.agent);
    if (rc < 0) {
        connection_unref(made);
        return rc;
    }
    *out = made;
    return 0;
}

/* Takes the reference to |shared| over, also on failure. */
static int
make_view(gp_channel **out, connection *shared, gp_error *err)
{
    gp_channel *channel = gp__calloc(1, sizeof(*channel));

    if (channel == NULL || pthread_mutex_init(&channel->lock, NULL) != 0) {
        gp__free(channel);
        connection_unref(shared);
        return gp_error_set(err, GP_ENOMEM, "channel");
    }
    atomic_init(&channel->refs, 1);
    channel->connection = shared;
    channel->calls.next = channel->calls.prev = &channel->calls;
    pthread_mutex_lock(&shared->lock);
    channel->closed = shared->retired;
    channel->next_view = shared->views;
    shared->views = channel;
    pthread_mutex_unlock(&shared->lock);
    *out = channel;
    return 0;
}

int
gp_channel_open(gp_channel **out, const char *target, const gp_channel_options *options,
                gp_error *err)
{
    static const gp_channel_options defaults = {0};
    connection *made = NULL;
    int rc;

    if (gp_runtime_init() < 0) {
        return gp_error_set(err, GP_EOS, "cannot install the fork guard");
    }
    rc = connect_to(&made, target, options != NULL ? options : &defaults, err);
    return rc < 0 ? rc : make_view(out, made, err);
}

int
gp__channel_open_over(gp_channel **out, int fd, const char *name, const char *authority,
                      const gp_channel_args *args, gp_error *err)
{
    gp_channel_options options = {.args = NULL};
    connection *made = NULL;
    int rc;

    options.args = gp__channel_args_items(args, &options.args_count);

    if (gp_runtime_init() < 0) {
        gp__fd_close(&fd);
        return gp_error_set(err, GP_EOS, "cannot install the fork guard");
    }
    rc = connect_over(&made, fd, name, authority, &options, err);
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

/* ---- Why there is no connection -------------------------------------------------------------- */

/* How often to look whether the process has ended, and for how long. */
enum { LOOK_MS = 5, MOST_LOOKS = 200 };

void
gp__channel_explain(gp_channel *channel, gp_mux *mux, gp__process *process)
{
    channel->connection->mux = mux != NULL ? gp_mux_ref(mux) : NULL;
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
    const connection *shared = channel->connection;
    gp_error why = GP_ERROR_INIT;
    char fate[96];
    char text[128];

    if (shared->mux != NULL) {
        gp_mux_why(shared->mux, &why);
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
    connection *shared = ctx;
    gp__inquiry *told = NULL;

    pthread_mutex_lock(&shared->lock);
    if (++shared->looks >= MOST_LOOKS || gp__process_gone(shared->process)) {
        told = shared->inquiries;
        shared->inquiries = NULL;
        gp__reactor_remove(shared->clock); /* this is its last time */
        shared->clock = NULL;
    }
    pthread_mutex_unlock(&shared->lock);
    while (told != NULL) {
        gp__inquiry *next = told->next;

        told->told(told); /* the last one may be the end of |shared| */
        told = next;
    }
}

bool
gp__channel_inquire(gp_channel *channel, gp__inquiry *inquiry)
{
    connection *shared = channel->connection;
    bool later;

    if (shared->process == NULL || gp__process_inspect(shared->process) != GP__PROCESS_DYING) {
        return false;
    }
    pthread_mutex_lock(&shared->lock);
    if (shared->clock == NULL) {
        shared->looks = 0;
        gp__reactor_every(&shared->clock, LOOK_MS, look, shared, NULL);
    }
    later = shared->clock != NULL;
    if (later) {
        inquiry->next = shared->inquiries;
        shared->inquiries = inquiry;
    }
    pthread_mutex_unlock(&shared->lock);
    return later;
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
    pthread_mutex_lock(&channel->connection->lock);
    for (link = &channel->connection->views; *link != channel; link = &(*link)->next_view) {
    }
    *link = channel->next_view;
    pthread_mutex_unlock(&channel->connection->lock);
    connection_unref(channel->connection);
    pthread_mutex_destroy(&channel->lock);
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
    pthread_mutex_lock(&channel->lock);
    channel->closed = true;
    cancel_calls(channel);
    pthread_mutex_unlock(&channel->lock);
}

void
gp_channel_cancel_others(gp_channel *channel)
{
    connection *shared = channel->connection;

    pthread_mutex_lock(&shared->lock);
    for (gp_channel *view = shared->views; view != NULL; view = view->next_view) {
        if (view != channel) {
            pthread_mutex_lock(&view->lock);
            cancel_calls(view);
            pthread_mutex_unlock(&view->lock);
        }
    }
    pthread_mutex_unlock(&shared->lock);
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

    pthread_mutex_lock(&channel->lock);
    closed = channel->closed;
    if (!closed) {
        link->next = &channel->calls;
        link->prev = channel->calls.prev;
        link->prev->next = link;
        link->next->prev = link;
    }
    pthread_mutex_unlock(&channel->lock);
    return closed ? gp_error_set(err, GP_ECLOSED, "the channel is closed") : 0;
}

void
gp__channel_leave(gp_channel *channel, gp__call_link *link)
{
    pthread_mutex_lock(&channel->lock);
    link->prev->next = link->next;
    link->next->prev = link->prev;
    pthread_mutex_unlock(&channel->lock);
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
    pthread_mutex_lock(&channel->lock);
    closed = channel->closed;
    pthread_mutex_unlock(&channel->lock);
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
    int64_t deadline = gp__deadline_in(timeout_ms);
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
                                          gp__timespec_from_deadline(gp__deadline_in(timeout_ms)),
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

/* ---- What is over ---- */

void
gp__channel_over(gp_channel *channel)
{
    atomic_store(&channel->connection->over, true);
}

static bool
all_closed(connection *shared)
{
    bool closed = shared->views != NULL;

    for (gp_channel *view = shared->views; view != NULL; view = view->next_view) {
        pthread_mutex_lock(&view->lock);
        closed = closed && view->closed;
        pthread_mutex_unlock(&view->lock);
    }
    return closed;
}

static bool
in_use(const connection *shared)
{
    for (const gp_channel *view = shared->views; view != NULL; view = view->next_view) {
        if (atomic_load(&view->users) > 0) {
            return true;
        }
    }
    return false;
}

/* Let go of gRPC's channel if no view needs it any more. Returns whether there are calls that still do. */
static bool
retire(connection *shared)
{
    grpc_channel *channel = NULL;
    bool called = false;

    pthread_mutex_lock(&shared->lock);
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
            pthread_mutex_lock(&view->lock);
            view->closed = true;
            pthread_mutex_unlock(&view->lock);
        }
    }
    pthread_mutex_unlock(&shared->lock);
    if (channel != NULL) {
        gp__direct_free(shared->direct);
        shared->direct = NULL;
        grpc_channel_destroy(channel);
        gp__grpc_drop(GP__FORK_CONNECTION);
    }
    return called;
}

/* The next connection after |last|, or the first, with a reference; NULL: that was the last one. */
static connection *
next_connection(connection *last)
{
    connection *next;

    pthread_mutex_lock(&all.lock);
    next = last != NULL ? last->next : all.first;
    while (next != NULL) {
        int refs = atomic_load(&next->refs);

        while (refs > 0 && !atomic_compare_exchange_weak(&next->refs, &refs, refs + 1)) {
        }
        if (refs > 0) {
            break;
        }
        next = next->next;
    }
    pthread_mutex_unlock(&all.lock);
    return next;
}

bool
gp__channels_retire(void)
{
    connection *shared = next_connection(NULL);
    bool left = false;

    while (shared != NULL) {
        connection *next;

        left = retire(shared) || left;
        next = next_connection(shared);
        connection_unref(shared);
        shared = next;
    }
    return left;
}

/* In a forked child: all of them have been retired, or it could not use them. */
static void
reset(void)
{
    pthread_mutex_init(&all.lock, NULL);
}
