#include "rpc/server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fork.h"
#include "base/thread.h"
#include "gp/lock.h"
#include "os/fd.h"
#include "os/path.h"
#include "os/reactor.h"
#include "os/share.h"
#include "rpc/args.h"
#include "rpc/convert.h"
#include "rpc/credentials.h"
#include "rpc/metadata_size.h"
#include "rpc/runtime.h"
#include "rpc/worker_pool.h"

/* How long its connections may take to close once their calls have been cancelled. */
static const int64_t closing_ms = 1000;

/* Calls that gRPC may announce before we have asked for the next ones: absorbs bursts. */
enum { SLOTS = 8 };

static void reset(void);

static struct {
    gp_mutex lock;    /* guards the list; comes before the poller's */
    gp_server *first; /* borrowed: servers take themselves off */
    gp_fork_part part;
} all = {.lock = GP_MUTEX_INIT, .part = {.reset = reset}};

/* ---- Making and configuring ---- */

static grpc_server *
make_grpc_server(const gp_server_options *options)
{
    const int metadata_size = gp__arg_integer(options->args, options->args_count,
                                              "grpc.max_metadata_size", GP__METADATA_SIZE);
    gp_arg_object *quota = gp__process_quota();
    const gp_channel_arg own[] = {
        {.key = "grpc.resource_quota", .object = quota}, /* or none, see below */
        {.key = "grpc.max_metadata_size", .integer = metadata_size},
        /* Newer cores refuse at random what is between the two. */
        {.key = "grpc.absolute_max_metadata_size", .integer = metadata_size},
        {.key = "grpc.per_message_decompression", .integer = 0}, /* we do, see unpack.h */
        /* From here on for plugins. */
        {.key = "grpc.max_receive_message_length", .integer = INT_MAX},
        {.key = "grpc.max_send_message_length", .integer = INT_MAX},
        /* Two plugins must never end up on one TCP port. */
        {.key = "grpc.so_reuseport", .integer = 0},
        /*
         * Nothing of ours can show its statistics, which cost each call several looks at the clock.
         */
        {.key = "grpc.enable_channelz", .integer = 0},
    };
    enum { OF_ANY = 4, OF_PLUGINS = sizeof(own) / sizeof(own[0]) };
    const size_t none = quota == NULL;
    grpc_channel_args args;
    grpc_server *server;

    if (gp__args_merge(&args, own + none, (options->general ? OF_ANY : OF_PLUGINS) - none,
                       options->args, options->args_count) < 0) {
        return NULL;
    }
    server = grpc_server_create(&args, NULL);
    gp__free(args.args);
    return server;
}

/* An author who sets the limit of a server is taken to set that of its clients, too. */
static size_t
clients_metadata(const gp_server_options *options)
{
    int given = gp__arg_integer(options->args, options->args_count, "grpc.max_metadata_size", 0);

    return given > GP__METADATA_SIZE_CORE ? (size_t)given : GP__METADATA_SIZE_CORE;
}

static void
free_memory(gp_server *server)
{
    gp_cond_release(&server->changed);
    gp__fd_close(&server->stop_pipe[0]);
    gp__fd_close(&server->stop_pipe[1]);
    while (server->methods != NULL) {
        struct method_block *added = server->methods;

        server->methods = added->next;
        for (size_t i = 0; i < added->count; i++) {
            if (added->methods[i].release != NULL) {
                added->methods[i].release(added->methods[i].ctx);
            }
        }
        gp__free(added->block);
        gp__free(added);
    }
    gp__free(server);
}

gp_server *
gp__server_ref(gp_server *server)
{
    atomic_fetch_add(&server->refs, 1);
    return server;
}

static void
enlist(gp_server *server)
{
    gp_runtime_on_fork(&all.part);
    gp_mutex_lock(&all.lock);
    server->next_server = all.first;
    if (server->next_server != NULL) {
        server->next_server->prev_server = server;
    }
    all.first = server;
    gp_mutex_unlock(&all.lock);
}

static void
unlist(gp_server *server)
{
    gp_mutex_lock(&all.lock);
    if (server->prev_server != NULL) {
        server->prev_server->next_server = server->next_server;
    } else if (all.first == server) {
        all.first = server->next_server;
    }
    if (server->next_server != NULL) {
        server->next_server->prev_server = server->prev_server;
    }
    server->prev_server = server->next_server = NULL;
    gp_mutex_unlock(&all.lock);
}

static void
free_server(gp__task *task)
{
    gp_server *server = gp_container_of(task, gp_server, deferred_free);

    unlist(server);
    if (server->grpc != NULL) {
        grpc_server_destroy(server->grpc);
        gp__grpc_drop(GP__FORK_SERVER);
        gp__fork_drop(GP__FORK_ENDING);
    }
    if (server->handler.release != NULL) {
        server->handler.release(server->handler_ctx);
    }
    free_memory(server);
}

/* It may be the polling thread that lets go, which must not wait for the handler's owner. */
void
gp__server_unref(gp_server *server)
{
    if (atomic_fetch_sub(&server->refs, 1) == 1) {
        if (server->grpc == NULL) { /* there may be neither gRPC nor threads any more */
            free_server(&server->deferred_free);
            return;
        }
        server->deferred_free.run = free_server;
        gp__pool_defer(&server->deferred_free);
    }
}

/* It has stopped, if that was not so before. */
static void
set_stopped(gp_server *server)
{
    bool first;
    int watched;

    gp_mutex_lock(&gp__engine_lock);
    first = !server->stopped;
    server->stopped = true;
    server->poller->servers -= server->serving;
    server->serving = false;
    gp__server_settle(server);
    gp_cond_broadcast(&server->changed);
    watched = server->stop_pipe[1];
    gp_mutex_unlock(&gp__engine_lock);
    while (first && watched >= 0 && write(watched, "", 1) < 0 && errno == EINTR) {
    }
    if (first && server->on_stopped != NULL) {
        server->on_stopped(server->on_stopped_ctx);
    }
}

static void
shutdown_complete(gp__event *event, bool ok)
{
    gp_server *server = (gp_server *)((char *)event - offsetof(gp_server, shutdown));
    gp__watch *limit;

    (void)ok;
    set_stopped(server);
    gp_mutex_lock(&gp__engine_lock);
    limit = server->limit;
    server->limit = NULL;
    gp_mutex_unlock(&gp__engine_lock);
    gp__reactor_remove(limit);
    gp__server_unref(server);
}

/*
 * On the reactor's thread, which holds no reference: shutdown_complete() has the watch removed
 * first.
 */
static void
time_is_up(void *server)
{
    set_stopped(server);
}

/*
 * All calls have been cancelled, and the connections are told to close. gRPC does not close one
 * while it writes to it, which takes for ever when the other side does not read: the server stops
 * without those. They are freed when the other side reads on or goes away.
 */
static void
limit_stop(gp_server *server)
{
    bool wanted;

    gp_mutex_lock(&gp__engine_lock);
    wanted = server->started && !server->stopped && server->limit == NULL;
    /* With the lock held, which is before the reactor's: its owner takes it off under the lock. */
    if (wanted) {
        gp__reactor_every(&server->limit, closing_ms, time_is_up, server, NULL);
    }
    gp_mutex_unlock(&gp__engine_lock);
}

int
gp_server_new(gp_server **out, const gp_server_options *options, gp_error *err)
{
    gp__poller *poller;
    gp_server *server;
    int rc;

    if (gp_runtime_init() < 0) {
        return gp_error_set(err, GP_EOS, "cannot install the fork guard");
    }
    if ((rc = gp__grpc_use(GP__FORK_SERVER, err)) < 0) {
        return rc;
    }
    server = gp__calloc(1, sizeof(*server));
    if (server == NULL) {
        rc = gp_error_set(err, GP_ENOMEM, "server");
        goto fail;
    }
    gp_cond_init(&server->changed);
    if ((rc = gp__pool_poller(&poller, err)) < 0) {
        goto fail_changed;
    }
    server->poller = poller;
    server->stop_pipe[0] = server->stop_pipe[1] = -1;
    if ((server->grpc = make_grpc_server(options)) == NULL) {
        rc = gp_error_set(err, GP_ENOMEM, "server");
        goto fail_changed;
    }
    grpc_server_register_completion_queue(server->grpc, server->poller->queue, NULL);
    atomic_init(&server->refs, 1);
    server->handler = options->handler;
    server->handler_ctx = options->handler_ctx;
    server->max_workers = options->max_workers > 0 ? options->max_workers : 1;
    server->max_concurrent = options->max_concurrent > 0 ? options->max_concurrent : INT_MAX;
    server->general = options->general;
    server->client_metadata = clients_metadata(options);
    server->unpack_limit = gp__unpack_limit(options->args, options->args_count,
                                            options->general ? GP__MESSAGE_LENGTH : INT_MAX);
    server->jobs_end = &server->jobs;
    server->shutdown.complete = shutdown_complete;
    server->cancel_at = GP__FOREVER;
    enlist(server);
    *out = server;
    return 0;

fail_changed:
    gp_cond_release(&server->changed);
fail:
    gp__free(server);
    gp__grpc_drop(GP__FORK_SERVER);
    return rc;
}

int
gp__server_add_methods(gp_server *server, const gp__method *methods, size_t count, void *block,
                       gp_error *err)
{
    struct method_block *added = gp__malloc(sizeof(*added));

    if (added == NULL) {
        gp__free(block);
        return gp_error_set(err, GP_ENOMEM, "methods");
    }
    *added = (struct method_block){methods, count, block, server->methods};
    server->methods = added;
    return 0;
}

int
gp_server_listen(gp_server *server, const char *address, int *bound_port, gp_error *err)
{
    return gp_server_listen_secure(server, address, NULL, bound_port, err);
}

/* The port, or 0. */
static int
add_port(gp_server *server, const char *address, const gp_server_credentials *given)
{
    grpc_server_credentials *insecure;
    int port;

    if (given != NULL) {
        return grpc_server_add_http2_port(server->grpc, address, gp__server_credentials(given));
    }
    insecure = grpc_insecure_server_credentials_create();
    port = grpc_server_add_http2_port(server->grpc, address, insecure);
    grpc_server_credentials_release(insecure);
    return port;
}

/*
 * A process that may connect may call: a plugin's socket is its owner's alone. |escaped| is its
 * path.
 */
static int
protect(const char *escaped, gp_error *err)
{
    char *path = gp__path_unescape(escaped);
    int rc = path != NULL ? gp__share_socket(path, NULL, err)
                          : gp_error_set(err, GP_ENOMEM, "out of memory for a socket's path");

    gp__free(path);
    return rc;
}

int
gp_server_listen_secure(gp_server *server, const char *address,
                        const gp_server_credentials *credentials, int *bound_port, gp_error *err)
{
    int port = server->grpc != NULL ? add_port(server, address, credentials) : 0;

    if (port == 0) {
        return gp_error_set(err, GP_EOS,
                            "cannot listen on %s: is the address in use, or the "
                            "directory missing or not writable?",
                            address);
    }
    if (!server->general && strncmp(address, "unix:", 5) == 0) {
        int rc = protect(address + 5, err);

        if (rc < 0) {
            return rc;
        }
    }
    if (bound_port != NULL) {
        *bound_port = port;
    }
    return 0;
}

/* ---- Start and stop ---- */

int
gp_server_start(gp_server *server, gp_error *err)
{
    bool again;
    int rc = 0;

    gp_mutex_lock(&gp__engine_lock);
    again = server->started || server->stopping;
    server->started = true;
    gp_mutex_unlock(&gp__engine_lock);
    if (again) {
        return gp_error_set(err, GP_EINVAL, "the server has been started or stopped already");
    }
    grpc_server_start(server->grpc);
    for (int i = 0; i < SLOTS; i++) {
        gp__server_request_call(server);
    }
    /* Slots that are missing come back with calls that go, of which there would be none. */
    if (atomic_load(&server->missing) == SLOTS) {
        rc = gp_error_set(err, GP_ENOMEM, "server");
    } else {
        rc = gp__pool_start(true, err);
    }
    gp_mutex_lock(&gp__engine_lock);
    server->started = rc == 0;
    server->serving = rc == 0 && !server->stopped;
    server->poller->servers += server->serving;
    gp_mutex_unlock(&gp__engine_lock);
    return rc;
}

/*
 * Cancels what still runs when its grace is over. Only there while a stop with grace is under way.
 */
static void *
run_grace(void *arg)
{
    gp_server *server = arg;

    gp_mutex_lock(&gp__engine_lock);
    while (!server->stopped && gp__now() < server->cancel_at) {
        gp_cond_wait_until(&server->changed, &gp__engine_lock, server->cancel_at);
    }
    gp_mutex_unlock(&gp__engine_lock);
    grpc_server_cancel_all_calls(server->grpc);
    limit_stop(server);
    gp__server_unref(server);
    return NULL;
}

/*
 * Close the connections once no call is left on them: a client that keeps its connection open while
 * it waits for us to be gone must not keep us. Lock held, but not meanwhile.
 */
static void
hang_up_if_idle(gp_server *server)
{
    if (server->stopping && !server->hung_up && server->active == 0 && server->overs == 0 &&
        atomic_load(&server->batches) == 0) {
        server->hung_up = true;
        gp_mutex_unlock(&gp__engine_lock);
        grpc_server_cancel_all_calls(server->grpc);
        gp_mutex_lock(&gp__engine_lock);
    }
}

/* Whether nothing of it is left to do, ever. Lock held. */
static bool
all_done(const gp_server *server)
{
    return server->stopped && server->active == 0 && server->overs == 0 &&
           atomic_load(&server->batches) == 0;
}

/* Tell the methods in C once no handler runs. Lock held, but not meanwhile. */
static void
tell_idle(gp_server *server)
{
    /* Once it has stopped, handlers that go on have nobody left to answer. */
    if (!server->stopping || server->told_idle || (server->active > 0 && !server->stopped)) {
        return;
    }
    server->told_idle = true;
    gp_mutex_unlock(&gp__engine_lock);
    for (const struct method_block *added = server->methods; added != NULL; added = added->next) {
        for (size_t i = 0; i < added->count; i++) {
            if (added->methods[i].on_idle != NULL) {
                added->methods[i].on_idle(added->methods[i].ctx);
            }
        }
    }
    gp_mutex_lock(&gp__engine_lock);
}

void
gp__server_settle(gp_server *server)
{
    if (server->stopping) {
        tell_idle(server);
        hang_up_if_idle(server);
        gp_cond_broadcast(&server->changed);
    }
}

void
gp_server_stop(gp_server *server, int64_t grace_ms)
{
    int64_t cancel_at = gp_deadline_in(grace_ms);
    bool first;
    bool patient = grace_ms != 0 && cancel_at != GP__FOREVER;
    pthread_t thread;

    if (gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&gp__engine_lock);
    if (server->grpc == NULL) {
        gp_mutex_unlock(&gp__engine_lock);
        return; /* nothing has been left of it for long */
    }
    gp__server_ref(server); /* it is not retired meanwhile */
    first = !server->stopping;
    server->stopping = true;
    if (cancel_at < server->cancel_at) {
        server->cancel_at = cancel_at;
        gp_cond_broadcast(&server->changed);
    }
    if (patient && !server->has_grace_thread && !server->stopped) {
        atomic_fetch_add(&server->refs, 1);
        server->has_grace_thread =
            gp__thread_start(&thread, "gp-grace", run_grace, server, NULL) == 0;
        if (server->has_grace_thread) {
            pthread_detach(thread);
        } else {
            atomic_fetch_sub(&server->refs, 1);
            patient = false;
        }
    }
    gp_mutex_unlock(&gp__engine_lock);
    if (first) {
        gp__server_end_endless(server);
        gp__server_ref(server); /* until the shutdown is complete */
        gp__hand_over(&server->shutdown);
        grpc_server_shutdown_and_notify(server->grpc, server->poller->queue, &server->shutdown);
        gp_mutex_lock(&gp__engine_lock);
        gp__server_settle(server);
        gp_mutex_unlock(&gp__engine_lock);
        gp__pool_start(true, NULL); /* it may never have started */
    }
    if (grace_ms >= 0 && !patient) {
        grpc_server_cancel_all_calls(server->grpc);
        limit_stop(server);
    }
    gp__server_unref(server);
}

void
gp_server_on_stopped(gp_server *server, void (*then)(void *ctx), void *ctx)
{
    server->on_stopped = then;
    server->on_stopped_ctx = ctx;
}

bool
gp_server_stopping(gp_server *server)
{
    bool stopping;

    gp_mutex_lock(&gp__engine_lock);
    stopping = server->stopping;
    gp_mutex_unlock(&gp__engine_lock);
    return stopping;
}

/* What becomes readable when the server stops, for waits that signals interrupt; or -1. */
static int
watch_stop(gp_server *server)
{
    int fd;

    gp_mutex_lock(&gp__engine_lock);
    if (!server->stopped && server->stop_pipe[0] < 0 && pipe2(server->stop_pipe, O_CLOEXEC) < 0) {
        server->stop_pipe[0] = server->stop_pipe[1] = -1;
    }
    fd = server->stop_pipe[0];
    gp_mutex_unlock(&gp__engine_lock);
    return fd;
}

static bool
has_stopped(gp_server *server)
{
    bool stopped;

    gp_mutex_lock(&gp__engine_lock);
    stopped = server->stopped;
    gp_mutex_unlock(&gp__engine_lock);
    return stopped;
}

int
gp_server_wait(gp_server *server, int64_t timeout_ms, const gp_interrupt *interrupt)
{
    /*
     * Signals end poll(). The slices cover one that comes just before it, or to another thread,
     * which is seldom: the kernel prefers the main thread. An idle plugin should not wake more
     * often than needed.
     */
    enum { SLICE_MS = 150, BLIND_SLICE_MS = 10 };
    struct pollfd watched = {.events = POLLIN};
    int64_t deadline = gp_deadline_in(timeout_ms);
    int64_t slice;

    if (has_stopped(server)) {
        return 0;
    }
    if (timeout_ms == 0) {
        return GP_ETIMEOUT;
    }
    watched.fd = watch_stop(server);
    slice = watched.fd >= 0 ? SLICE_MS : BLIND_SLICE_MS;
    for (;;) {
        int64_t left = deadline == GP__FOREVER ? slice : (deadline - gp__now()) / GP__MS + 1;
        int rc;

        poll(&watched, 1, (int)(left < 0 ? 0 : left < slice ? left : slice));
        if (has_stopped(server)) {
            return 0;
        }
        if ((rc = gp__interrupted(interrupt)) < 0) {
            return rc;
        }
        if (gp__now() >= deadline) {
            return GP_ETIMEOUT;
        }
    }
}

int
gp_server_join(gp_server *server, int64_t timeout_ms, const gp_interrupt *interrupt)
{
    int64_t deadline = gp_deadline_in(timeout_ms);
    int rc = 0;

    gp_mutex_lock(&gp__engine_lock);
    while (server->started && !all_done(server) && rc != GP_EUSER && gp__now() < deadline) {
        rc = gp__cond_wait_interruptible(&server->changed, &gp__engine_lock, deadline, interrupt);
    }
    rc = rc == GP_EUSER ? rc : server->started && !all_done(server) ? GP_ETIMEOUT : 0;
    gp_mutex_unlock(&gp__engine_lock);
    return rc;
}

void
gp_server_release(gp_server *server)
{
    if (server == NULL || gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&gp__engine_lock);
    server->released = server->grpc != NULL;
    if (server->released) {
        gp__fork_add(GP__FORK_ENDING);
    }
    gp_mutex_unlock(&gp__engine_lock);
    gp_server_stop(server, 0);
    gp__server_unref(server);
}

/* ---- What is over ---- */

/* The next server after |last|, or the first, with a reference; NULL: that was the last one. */
static gp_server *
next_server(gp_server *last)
{
    gp_server *next;

    gp_mutex_lock(&all.lock);
    next = last != NULL ? last->next_server : all.first;
    while (next != NULL) {
        int refs = atomic_load(&next->refs);

        while (refs > 0 && !atomic_compare_exchange_weak(&next->refs, &refs, refs + 1)) {
        }
        if (refs > 0) {
            break;
        }
        next = next->next_server;
    }
    gp_mutex_unlock(&all.lock);
    return next;
}

/*
 * With one reference that is the caller's, and one of the owner's if there are no others. Returns
 * whether it has stopped and there are others.
 */
static bool
retire(gp_server *server)
{
    grpc_server *grpc = NULL;
    bool released = false;
    bool stopped;
    bool alone;

    gp_mutex_lock(&gp__engine_lock);
    stopped = server->grpc != NULL && server->stopping && all_done(server);
    alone = atomic_load(&server->refs) == 2;
    if (stopped && alone) {
        grpc = server->grpc;
        server->grpc = NULL;
        released = server->released;
    }
    gp_mutex_unlock(&gp__engine_lock);
    if (grpc != NULL) {
        grpc_server_destroy(grpc);
        gp__grpc_drop(GP__FORK_SERVER);
        if (released) {
            gp__fork_drop(GP__FORK_ENDING);
        }
    }
    return stopped && !alone;
}

bool
gp__servers_retire(void)
{
    gp_server *server = next_server(NULL);
    bool left = false;

    while (server != NULL) {
        gp_server *next;

        left = retire(server) || left;
        next = next_server(server);
        gp__server_unref(server);
        server = next;
    }
    return left;
}

/* In a forked child: all of them have been retired, or it could not use them. */
static void
reset(void)
{
    gp_mutex_init(&all.lock);
}
