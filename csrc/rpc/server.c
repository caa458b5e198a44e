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
#include "rpc/credentials.h"
#include "rpc/engine.h"
#include "rpc/grpc_library.h"
#include "rpc/metadata_size.h"
#include "rpc/worker_pool.h"

/* How long a server's connections may take to close once their calls have been cancelled. */
static const int64_t closing_ms = 1000;

static void reset_after_fork(void);

static gp__ref_list all = GP__REF_LIST_INIT(all);
static gp_fork_part part = {.reset = reset_after_fork};

/* ---- Making and configuring ---- */

static grpc_server *
make_grpc_server(const gp_server_options *options)
{
    const int metadata_size = gp__arg_integer(options->args, options->args_count,
                                              "grpc.max_metadata_size", GP__METADATA_SIZE);
    gp_arg_object *quota = gp__process_quota();
    const gp_channel_arg own[] = {
        {.key = "grpc.resource_quota", .object = quota}, /* left out if it is NULL */
        {.key = "grpc.max_metadata_size", .integer = metadata_size},
        /* Newer versions of gRPC refuse at random metadata whose size is between the two limits. */
        {.key = "grpc.absolute_max_metadata_size", .integer = metadata_size},
        {.key = "grpc.per_message_decompression", .integer = 0}, /* see unpack.h */
        /* The rest is for plugins. -1: no limit, and so no filter that checks it. */
        {.key = "grpc.max_receive_message_length", .integer = -1},
        {.key = "grpc.max_send_message_length", .integer = -1},
        /* Two plugins must never end up on one TCP port. */
        {.key = "grpc.so_reuseport", .integer = 0},
        /*
         * Nothing in this library shows channelz's statistics, which cost each call several looks
         * at the clock.
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

static gp_server *
server_of(gp__call_owner *owner)
{
    return gp_container_of(owner, gp_server, dispatch.owner);
}

static void
free_server(gp__task *task) GP_NO_THREAD_SAFETY_ANALYSIS /* no reference is left */
{
    gp_server *server = gp_container_of(task, gp_server, deferred_free);

    gp__ref_list_remove(&all, &server->link);
    if (server->grpc != NULL) {
        grpc_server_destroy(server->grpc);
        gp__grpc_drop(GP__FORK_SERVER);
        gp__fork_drop(GP__FORK_ENDING);
    }
    gp__dispatch_release(&server->dispatch);
    gp__fd_close(&server->stop_pipe[0]);
    gp__fd_close(&server->stop_pipe[1]);
    gp__free(server);
}

/* The polling thread may have dropped the last reference; it must not wait for |release|. */
static void
defer_free(gp__call_owner *owner)
{
    gp_server *server = server_of(owner);

    if (server->grpc == NULL) { /* gRPC and the workers may be gone */
        free_server(&server->deferred_free);
    } else {
        gp__pool_defer(&server->deferred_free);
    }
}

static void
server_ref(gp_server *server)
{
    gp__call_owner_ref(&server->dispatch.owner);
}

static void
server_unref(gp_server *server)
{
    gp__call_owner_unref(&server->dispatch.owner);
}

static void shutdown_complete(gp__event *event, bool ok);

/* Initialize a new server, which no other thread uses yet. */
static void
init_server(gp_server *server, const gp_server_options *options,
            gp__poller *poller) GP_NO_THREAD_SAFETY_ANALYSIS
{
    gp__dispatch_init(&server->dispatch, options, poller, server->grpc, defer_free);
    server->deferred_free.run = free_server;
    server->general = options->general;
    server->shutdown.complete = shutdown_complete;
    server->stop_pipe[0] = server->stop_pipe[1] = -1;
    server->cancel_at = GP__FOREVER;
    gp_runtime_on_fork(&part);
    gp__ref_list_add(&all, &server->link, &server->dispatch.owner.refs);
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
    if ((rc = gp__engine_start(&poller, err)) < 0) {
        goto fail_grpc;
    }
    server = gp__calloc(1, sizeof(*server));
    if (server == NULL) {
        rc = gp_error_set(err, GP_ENOMEM, "out of memory for a server");
        goto fail_grpc;
    }
    server->grpc = make_grpc_server(options);
    if (server->grpc == NULL) {
        rc = gp_error_set(err, GP_ENOMEM, "out of memory for a server");
        goto fail_server;
    }
    grpc_server_register_completion_queue(server->grpc, poller->queue, NULL);
    init_server(server, options, poller);
    *out = server;
    return 0;

fail_server:
    gp__free(server);
fail_grpc:
    gp__grpc_drop(GP__FORK_SERVER);
    return rc;
}

int
gp__server_add_methods(gp_server *server, const gp__method *methods, size_t count, void *block,
                       gp_error *err)
{
    return gp__dispatch_add_methods(&server->dispatch, methods, count, block, err);
}

int
gp_server_listen(gp_server *server, const char *address, int *bound_port, gp_error *err)
{
    return gp_server_listen_secure(server, address, NULL, bound_port, err);
}

/* Returns the port, or 0 if gRPC cannot listen. */
static int
add_listening_port(gp_server *server, const char *address, const gp_server_credentials *given)
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
 * Let only the owner of a plugin's socket connect to it: a process that can connect can call.
 * |escaped| is the socket's path, escaped for a URI.
 */
static int
protect_socket(const char *escaped, gp_error *err)
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
    int port = server->grpc != NULL ? add_listening_port(server, address, credentials) : 0;

    if (port == 0) {
        return gp_error_set(err, GP_EOS,
                            "cannot listen on %s: is the address in use, or the "
                            "directory missing or not writable?",
                            address);
    }
    if (!server->general && strncmp(address, "unix:", 5) == 0) {
        int rc = protect_socket(address + 5, err);

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
    gp__dispatch *dispatch = &server->dispatch;
    bool again;
    int rc;

    gp_mutex_lock(&gp__engine_lock);
    again = server->started || dispatch->stopping;
    server->started = true;
    gp_mutex_unlock(&gp__engine_lock);
    if (again) {
        return gp_error_set(err, GP_EINVAL, "the server has been started or stopped already");
    }
    grpc_server_start(server->grpc);
    if (gp__dispatch_request_calls(dispatch) < 0) {
        rc = gp_error_set(err, GP_ENOMEM, "out of memory for a server");
    } else {
        rc = gp__pool_start(true, err);
    }
    gp_mutex_lock(&gp__engine_lock);
    server->started = rc == 0;
    if (rc == 0 && !dispatch->stopped) {
        server->serving = true;
        gp__poller_add_server_locked(dispatch->owner.poller);
    }
    gp_mutex_unlock(&gp__engine_lock);
    return rc;
}

/*
 * Record that the server has stopped, or that gRPC takes too long to stop it. May be called twice.
 */
static void
set_stopped(gp_server *server)
{
    bool first;
    int watched;

    gp_mutex_lock(&gp__engine_lock);
    if (server->serving) {
        server->serving = false;
        gp__poller_remove_server_locked(server->dispatch.owner.poller);
    }
    first = gp__dispatch_set_stopped_locked(&server->dispatch);
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
    gp_server *server = gp_container_of(event, gp_server, shutdown);
    gp__watch *timer;

    (void)ok;
    set_stopped(server);
    gp_mutex_lock(&gp__engine_lock);
    timer = server->close_timer;
    server->close_timer = NULL;
    gp_mutex_unlock(&gp__engine_lock);
    gp__reactor_remove(timer);
    server_unref(server);
}

/*
 * Called on the reactor's thread. It needs no reference to the server: shutdown_complete() removes
 * the timer before it drops its own reference.
 */
static void
closing_took_too_long(void *server)
{
    set_stopped(server);
}

/*
 * To be called after all calls have been cancelled: limit the time that the connections have to
 * close. gRPC does not close a connection while it writes to it, which takes for ever when the
 * client does not read. The server stops without such connections, which are freed when the client
 * reads again or goes away.
 */
static void
limit_closing(gp_server *server)
{
    gp_mutex_lock(&gp__engine_lock);
    if (server->started && !server->dispatch.stopped && server->close_timer == NULL) {
        /* With the lock held, so that shutdown_complete() finds the timer. */
        gp__reactor_every(&server->close_timer, closing_ms, closing_took_too_long, server, NULL);
    }
    gp_mutex_unlock(&gp__engine_lock);
}

/*
 * The grace thread: cancels the calls that still run when their grace period is over. It exists
 * while a stop with a grace period is under way.
 */
static void *
run_grace(void *arg)
{
    gp_server *server = arg;

    gp_mutex_lock(&gp__engine_lock);
    while (!server->dispatch.stopped && gp__now() < server->cancel_at) {
        gp_cond_wait_until(&server->dispatch.changed, &gp__engine_lock, server->cancel_at);
    }
    gp_mutex_unlock(&gp__engine_lock);
    grpc_server_cancel_all_calls(server->grpc);
    limit_closing(server);
    server_unref(server);
    return NULL;
}

/* Returns whether there is a grace thread. */
static bool
ensure_grace_thread_locked(gp_server *server) GP_REQUIRES(&gp__engine_lock)
{
    pthread_t thread;

    if (server->has_grace_thread) {
        return true;
    }
    server_ref(server); /* the thread's */
    if (gp__thread_start(&thread, "gp-grace", run_grace, server, NULL) < 0) {
        server_unref(server); /* the caller has another reference */
        return false;
    }
    pthread_detach(thread);
    server->has_grace_thread = true;
    return true;
}

/* Have gRPC take no more calls, and complete |shutdown| when none is left. */
static void
begin_shutdown(gp_server *server)
{
    gp__dispatch *dispatch = &server->dispatch;

    gp__dispatch_end_endless(dispatch);
    server_ref(server); /* until the shutdown is complete */
    gp__hand_over(&server->shutdown);
    grpc_server_shutdown_and_notify(server->grpc, dispatch->owner.poller->queue, &server->shutdown);
    gp_mutex_lock(&gp__engine_lock);
    gp__dispatch_advance_stop_locked(dispatch);
    gp_mutex_unlock(&gp__engine_lock);
    gp__pool_start(true, NULL); /* the server may never have been started */
}

void
gp_server_stop(gp_server *server, int64_t grace_ms)
{
    gp__dispatch *dispatch = &server->dispatch;
    int64_t cancel_at = gp_deadline_in(grace_ms);
    bool has_grace = grace_ms != 0 && cancel_at != GP__FOREVER;
    bool first;

    if (gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&gp__engine_lock);
    if (server->grpc == NULL) {
        gp_mutex_unlock(&gp__engine_lock);
        return; /* it has stopped and been retired */
    }
    server_ref(server); /* so that it is not retired meanwhile */
    first = gp__dispatch_set_stopping_locked(dispatch);
    if (cancel_at < server->cancel_at) {
        server->cancel_at = cancel_at;
        gp_cond_broadcast(&dispatch->changed);
    }
    if (has_grace && !dispatch->stopped) {
        has_grace = ensure_grace_thread_locked(server);
    }
    gp_mutex_unlock(&gp__engine_lock);
    if (first) {
        begin_shutdown(server);
    }
    if (grace_ms >= 0 && !has_grace) {
        grpc_server_cancel_all_calls(server->grpc);
        limit_closing(server);
    }
    server_unref(server);
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
    stopping = server->dispatch.stopping;
    gp_mutex_unlock(&gp__engine_lock);
    return stopping;
}

/* Returns a descriptor that becomes readable when the server has stopped; -1 if there is none. */
static int
open_stop_pipe(gp_server *server)
{
    int fd;

    gp_mutex_lock(&gp__engine_lock);
    if (!server->dispatch.stopped && server->stop_pipe[0] < 0 &&
        pipe2(server->stop_pipe, O_CLOEXEC) < 0) {
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
    stopped = server->dispatch.stopped;
    gp_mutex_unlock(&gp__engine_lock);
    return stopped;
}

int
gp_server_wait(gp_server *server, int64_t timeout_ms, const gp_interrupt *interrupt)
{
    /*
     * A signal ends poll(), unless it comes just before poll() begins, or to another thread. That
     * is seldom, since the kernel prefers the main thread, and is why the wait is sliced. The
     * slices are long, as an idle plugin should not wake more often than needed.
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
    watched.fd = open_stop_pipe(server);
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

static bool
has_work_locked(const gp_server *server) GP_REQUIRES(&gp__engine_lock)
{
    return server->started && !gp__dispatch_is_done_locked(&server->dispatch);
}

int
gp_server_join(gp_server *server, int64_t timeout_ms, const gp_interrupt *interrupt)
{
    int64_t deadline = gp_deadline_in(timeout_ms);
    int rc = 0;

    gp_mutex_lock(&gp__engine_lock);
    while (has_work_locked(server) && rc != GP_EUSER && gp__now() < deadline) {
        rc = gp__cond_wait_interruptible(&server->dispatch.changed, &gp__engine_lock, deadline,
                                         interrupt);
    }
    rc = rc == GP_EUSER ? rc : has_work_locked(server) ? GP_ETIMEOUT : 0;
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
    server_unref(server);
}

/* ---- Before a fork, and after ---- */

/*
 * Free gRPC's part of |server| if the server has stopped, and only this thread and the application
 * have a reference to it. Returns whether it has stopped but there are other references.
 */
static bool
retire_server(gp_server *server)
{
    grpc_server *grpc = NULL;
    bool released = false;
    bool done;
    bool alone;

    gp_mutex_lock(&gp__engine_lock);
    done = server->grpc != NULL && server->dispatch.stopping &&
           gp__dispatch_is_done_locked(&server->dispatch);
    alone = atomic_load(&server->dispatch.owner.refs) == 2;
    if (done && alone) {
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
    return done && !alone;
}

bool
gp__servers_retire(void)
{
    gp__ref_link *link = gp__ref_list_next(&all, NULL);
    bool left = false;

    while (link != NULL) {
        gp_server *server = gp_container_of(link, gp_server, link);

        left = retire_server(server) || left;
        link = gp__ref_list_next(&all, link);
        server_unref(server);
    }
    return left;
}

/* In a forked child: its servers have all been retired, or cannot be used. */
static void
reset_after_fork(void)
{
    gp__ref_list_reset(&all);
}
