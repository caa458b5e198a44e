#include "rpc/server.h"

#include <errno.h>
#include <fcntl.h>
#include <grpc/grpc_security.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "rpc/convert.h"
#include "rpc/runtime.h"

/* Calls that gRPC may announce before we have asked for the next ones: absorbs bursts. */
enum { SLOTS = 8, OWN_ARGS = 3 };

struct gp_server {
    atomic_int refs;    /* the owner's, one for each call and worker, one for the grace thread */
    atomic_int batches; /* on the queue, arrivals included */
    grpc_server *grpc;  /* owned */
    gp_server_handler handler;
    void *handler_ctx; /* owned: handler.release */
    int max_workers;
    int max_concurrent;
    struct method_block {
        const gp__method *methods;
        size_t count;
        void *block; /* owned */
        struct method_block *next;
    } *methods;       /* owned */
    int stop_pipe[2]; /* readable at the far end once stopped, for waits that signals interrupt */
    gp__event shutdown;

    gp__poller poller; /* its lock guards everything below */
    gp_server_call *jobs;
    gp_server_call **jobs_end;
    gp_server_call *endless; /* each with a reference */
    gp_server_call *over;    /* whose on_over is due; each with a reference */
    pthread_cond_t idle;     /* workers without a part to play */
    int idle_count;
    pthread_cond_t changed; /* for joining and for the grace thread */
    int threads;
    int running;      /* workers inside the handler */
    int active;       /* calls that the handler is not done with */
    bool has_standby; /* a worker is in gp__poller_watch() */
    bool started;
    bool stopping;
    bool hung_up; /* the connections have been closed */
    bool stopped; /* gRPC says that no call is left */
    bool has_grace_thread;
    int64_t cancel_at;
};

/* The server in whose seat this thread sits and whose jobs it will look for when it leaves. */
static _Thread_local gp_server *turning;

static void *run_worker(void *arg);

/* ---- Making and configuring ---- */

static grpc_server *
make_grpc_server(const gp_server_options *options)
{
    static const gp_channel_arg own[OWN_ARGS] = {
        {"grpc.max_receive_message_length", NULL, INT_MAX},
        {"grpc.max_send_message_length", NULL, INT_MAX},
        /* Two plugins must never end up on one TCP port. */
        {"grpc.so_reuseport", NULL, 0},
    };
    grpc_channel_args args;
    grpc_server *server;

    args.args = gp__make_args(own, OWN_ARGS, options->args, options->args_count);
    if (args.args == NULL) {
        return NULL;
    }
    args.num_args = OWN_ARGS + options->args_count;
    server = grpc_server_create(&args, NULL);
    gp__free(args.args);
    return server;
}

static void
free_memory(gp_server *server)
{
    pthread_cond_destroy(&server->changed);
    pthread_cond_destroy(&server->idle);
    close(server->stop_pipe[0]);
    close(server->stop_pipe[1]);
    while (server->methods != NULL) {
        struct method_block *added = server->methods;

        server->methods = added->next;
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

/* The last reference going means: no thread runs, no call lives. */
void
gp__server_unref(gp_server *server)
{
    if (atomic_fetch_sub(&server->refs, 1) != 1) {
        return;
    }
    grpc_server_destroy(server->grpc);
    gp__poller_release(&server->poller);
    if (server->handler.release != NULL) {
        server->handler.release(server->handler_ctx);
    }
    free_memory(server);
}

static void
shutdown_complete(gp__event *event, bool ok)
{
    gp_server *server = (gp_server *)((char *)event - offsetof(gp_server, shutdown));

    (void)ok;
    pthread_mutex_lock(&server->poller.lock);
    server->stopped = true;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->poller.lock);
    while (write(server->stop_pipe[1], "", 1) < 0 && errno == EINTR) {
    }
}

int
gp_server_new(gp_server **out, const gp_server_options *options, gp_error *err)
{
    gp_server *server;
    int rc;

    if (gp_runtime_init() < 0) {
        return gp_error_set(err, GP_EOS, "cannot install the fork guard");
    }
    if ((rc = gp__grpc_start(err)) < 0) {
        return rc;
    }
    server = gp__calloc(1, sizeof(*server));
    if (server == NULL) {
        return gp_error_set(err, GP_ENOMEM, "server");
    }
    if (pipe2(server->stop_pipe, O_CLOEXEC) < 0) {
        rc = gp_error_set_errno(err, errno, "pipe");
        goto fail_pipe;
    }
    if (gp__cond_init(&server->idle) < 0 || gp__cond_init(&server->changed) < 0 ||
        (rc = gp__poller_init(&server->poller, err)) < 0) {
        rc = gp_error_set(err, GP_ENOMEM, "server");
        goto fail_poller;
    }
    server->grpc = make_grpc_server(options);
    if (server->grpc == NULL) {
        rc = gp_error_set(err, GP_ENOMEM, "server");
        goto fail_server;
    }
    grpc_server_register_completion_queue(server->grpc, server->poller.queue, NULL);
    atomic_init(&server->refs, 1);
    server->handler = options->handler;
    server->handler_ctx = options->handler_ctx;
    server->max_workers = options->max_workers > 0 ? options->max_workers : 1;
    server->max_concurrent = options->max_concurrent > 0 ? options->max_concurrent : INT_MAX;
    server->jobs_end = &server->jobs;
    server->shutdown.complete = shutdown_complete;
    server->cancel_at = GP__FOREVER;
    *out = server;
    return 0;

fail_server:
    gp__poller_release(&server->poller);
fail_poller:
    close(server->stop_pipe[0]);
    close(server->stop_pipe[1]);
fail_pipe:
    gp__free(server);
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
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    int port = grpc_server_add_http2_port(server->grpc, address, credentials);

    grpc_server_credentials_release(credentials);
    if (port == 0) {
        return gp_error_set(err, GP_EOS,
                            "cannot listen on %s: is the address in use, or the "
                            "directory missing or not writable?",
                            address);
    }
    /* Whoever may connect may call: the socket is the owner's alone. */
    if (strncmp(address, "unix:", 5) == 0 && chmod(address + 5, 0600) < 0) {
        return gp_error_set_errno(err, errno, "chmod 0600 %s", address + 5);
    }
    if (bound_port != NULL) {
        *bound_port = port;
    }
    return 0;
}

gp__poller *
gp__server_poller(gp_server *server)
{
    return &server->poller;
}

/* ---- Calls come and go ---- */

/* Ask gRPC for one more call. */
static void
request_call(gp_server *server)
{
    gp_server_call *call;

    if (gp__server_call_new(&call, server) < 0) {
        return; /* fewer slots: the next call that goes brings one back */
    }
    gp__server_batch_started(server);
    if (grpc_server_request_call(server->grpc, &call->call, &call->details,
                                 &call->received_metadata, server->poller.queue,
                                 server->poller.queue, &call->arrive) != GRPC_CALL_OK) {
        gp__server_batch_ended(server);
        gp_server_call_unref(call);
    }
}

void
gp__server_batch_started(gp_server *server)
{
    atomic_fetch_add(&server->batches, 1);
}

void
gp__server_batch_ended(gp_server *server)
{
    atomic_fetch_sub(&server->batches, 1);
}

/* Lock held. */
static void
start_worker(gp_server *server)
{
    pthread_t thread;

    atomic_fetch_add(&server->refs, 1);
    server->threads++;
    if (gp__thread_start(&thread, "gp-worker", run_worker, server, NULL) < 0) {
        server->threads--;
        atomic_fetch_sub(&server->refs, 1);
        return;
    }
    pthread_detach(thread);
}

/* One worker more than handlers may run: the one that polls while all of them do. Lock held. */
static bool
may_start_worker(const gp_server *server)
{
    return server->threads <= server->max_workers;
}

/* Have some other worker than the one that is turning see to a new job. Lock held. */
static void
call_worker(gp_server *server)
{
    if (server->idle_count > 0) {
        pthread_cond_signal(&server->idle);
    } else if (server->has_standby) {
        gp__poller_wake_standby(&server->poller);
    } else if (may_start_worker(server)) {
        start_worker(server);
    }
}

/* Queue a call for the handler. Lock held. */
static void
queue_job(gp_server *server, gp_server_call *call)
{
    call->next_job = NULL;
    *server->jobs_end = call;
    server->jobs_end = &call->next_job;
    /* Otherwise this thread comes to it next, or else whoever is done first. */
    if (turning != server && server->running < server->max_workers) {
        call_worker(server);
    }
}

void
gp__server_queue_over(gp_server_call *call)
{
    gp_server *server = call->server;

    pthread_mutex_lock(&server->poller.lock);
    call->next_over = server->over;
    server->over = call;
    if (turning != server) {
        call_worker(server);
    }
    pthread_mutex_unlock(&server->poller.lock);
}

static const gp__method *
find_method(const gp_server *server, gp_bytes path)
{
    for (const struct method_block *added = server->methods; added != NULL; added = added->next) {
        for (size_t i = 0; i < added->count; i++) {
            const char *candidate = added->methods[i].path;

            if (strlen(candidate) == path.len && memcmp(candidate, path.data, path.len) == 0) {
                return &added->methods[i];
            }
        }
    }
    return NULL;
}

void
gp__server_call_arrived(gp_server_call *call, bool ok)
{
    gp_server *server = call->server;
    bool too_many;

    gp__server_batch_ended(server);
    if (!ok) {
        gp_server_call_unref(call);
        return;
    }
    request_call(server);
    call->method = find_method(server, gp_server_call_method(call));
    gp__server_call_begin(call);
    if (call->method != NULL) {
        return; /* answered when its message is there */
    }
    pthread_mutex_lock(&server->poller.lock);
    too_many = server->active >= server->max_concurrent;
    if (!too_many) {
        server->active++;
        queue_job(server, call);
    }
    pthread_mutex_unlock(&server->poller.lock);
    if (too_many) {
        static const char text[] = "Concurrent RPC limit exceeded!";

        gp_server_call_finish(call, GRPC_STATUS_RESOURCE_EXHAUSTED,
                              (gp_bytes){text, sizeof(text) - 1}, (gp_metadata){NULL, 0});
        gp_server_call_unref(call);
    }
}

/* End the endless calls: they would use up the grace that is meant for those with an end. */
static void
end_endless(gp_server *server)
{
    gp_server_call *call;

    pthread_mutex_lock(&server->poller.lock);
    call = server->endless;
    server->endless = NULL;
    pthread_mutex_unlock(&server->poller.lock);
    while (call != NULL) {
        gp_server_call *next = call->next_endless;

        gp_server_call_cancel(call, GRPC_STATUS_UNAVAILABLE, "the server is shutting down");
        gp_server_call_unref(call);
        call = next;
    }
}

/* An endless call is over: it need not be ended any more. */
static void
forget_endless(void *ctx)
{
    gp_server_call *call = ctx;
    gp_server *server = call->server;
    gp_server_call **link;
    bool found;

    pthread_mutex_lock(&server->poller.lock);
    for (link = &server->endless; *link != NULL && *link != call; link = &(*link)->next_endless) {
    }
    found = *link == call;
    if (found) {
        *link = call->next_endless;
    }
    pthread_mutex_unlock(&server->poller.lock);
    if (found) {
        gp_server_call_unref(call);
    }
}

/* Keep an endless call's reference until it is over or the server stops. */
static void
keep_endless(gp_server *server, gp_server_call *call)
{
    bool stopping;

    pthread_mutex_lock(&server->poller.lock);
    call->next_endless = server->endless;
    server->endless = call;
    stopping = server->stopping;
    pthread_mutex_unlock(&server->poller.lock);
    if (stopping) {
        end_endless(server);
    } else if (gp_server_call_on_over(call, forget_endless, call) < 0) {
        forget_endless(call);
    }
}

/* A service in C answers. */
static void
answer(gp_server *server, gp_server_call *call)
{
    call->method->answer(call->method->ctx, call, gp__message_from_buffer(call->incoming));
    if (call->method->endless) {
        keep_endless(server, call);
    } else {
        gp_server_call_unref(call);
    }
}

void
gp__server_call_readable(gp_server_call *call)
{
    gp_server *server = call->server;

    if (call->method != NULL) {
        answer(server, call);
        return;
    }
    pthread_mutex_lock(&server->poller.lock);
    if (call->phase == GP__CALL_EXPECTING) {
        queue_job(server, call);
    }
    pthread_mutex_unlock(&server->poller.lock);
}

/* ---- Workers ---- */

/* The next call for the handler, if one may run. Lock held. */
static gp_server_call *
next_job(gp_server *server)
{
    gp_server_call *call = server->jobs;

    if (call == NULL || server->running >= server->max_workers) {
        return NULL;
    }
    server->jobs = call->next_job;
    if (server->jobs == NULL) {
        server->jobs_end = &server->jobs;
    }
    return call;
}

static void
refuse_unknown(gp_server_call *call)
{
    static const char text[] = "Method not found!";

    gp_server_call_finish(call, GRPC_STATUS_UNIMPLEMENTED, (gp_bytes){text, sizeof(text) - 1},
                          (gp_metadata){NULL, 0});
}

/* Let the handler look at a new call. Returns whether it is to be run now. Lock not held. */
static bool
begin_call(gp_server *server, gp_server_call *call)
{
    int answer = server->handler.begin(server->handler_ctx, call, &call->data);
    bool run = true;

    if (answer < 0) {
        refuse_unknown(call);
        return false;
    }
    pthread_mutex_lock(&server->poller.lock);
    run = answer == 0 || gp__gate_is_open(&call->received);
    call->phase = run ? GP__CALL_RUNNING : GP__CALL_EXPECTING;
    pthread_mutex_unlock(&server->poller.lock);
    return run;
}

/* Somebody must look after the seat while this worker is busy. Lock held. */
static void
ensure_standby(gp_server *server)
{
    if (server->has_standby) {
        return;
    }
    if (server->idle_count > 0) {
        pthread_cond_signal(&server->idle);
    } else if (may_start_worker(server)) {
        start_worker(server);
    }
}

/* Lock held on entry and exit, not in between. */
static void
run_job(gp_server *server, gp_server_call *call)
{
    bool run;

    server->running++;
    ensure_standby(server);
    pthread_mutex_unlock(&server->poller.lock);
    run = call->phase == GP__CALL_ARRIVED ? begin_call(server, call) : true;
    if (run) {
        call->phase = GP__CALL_RUNNING;
        server->handler.run(server->handler_ctx, call, call->data);
    }
    pthread_mutex_lock(&server->poller.lock);
    server->running--;
    if (run || call->phase == GP__CALL_ARRIVED) {
        server->active--;
        pthread_mutex_unlock(&server->poller.lock);
        gp_server_call_unref(call);
        pthread_mutex_lock(&server->poller.lock);
    }
}

/* Tell that a call is over. No handler: it is never held up by those that run. As run_job(). */
static void
run_over(gp_server *server)
{
    gp_server_call *call = server->over;

    server->over = call->next_over;
    server->active++;
    ensure_standby(server);
    pthread_mutex_unlock(&server->poller.lock);
    call->on_over(call->on_over_ctx);
    gp_server_call_unref(call);
    pthread_mutex_lock(&server->poller.lock);
    server->active--;
}

/*
 * Close the connections once no call is left on them: a client that keeps its connection open while
 * it waits for us to be gone must not keep us. Lock held.
 */
static void
hang_up_if_idle(gp_server *server)
{
    if (server->stopping && !server->hung_up && server->active == 0 && server->over == NULL &&
        atomic_load(&server->batches) == 0) {
        server->hung_up = true;
        pthread_mutex_unlock(&server->poller.lock);
        grpc_server_cancel_all_calls(server->grpc);
        pthread_mutex_lock(&server->poller.lock);
    }
}

/* Whether the workers have nothing left to do, ever. Lock held. */
static bool
all_done(const gp_server *server)
{
    return server->stopped && server->active == 0 && server->over == NULL &&
           atomic_load(&server->batches) == 0;
}

/*
 * Until when a worker may sit in the queue. Once the server has stopped, the last handler to return
 * leaves no event behind that would tell it. Lock held.
 */
static int64_t
next_look(const gp_server *server)
{
    return server->stopped ? gp__now() + 10 * GP__MS : GP__FOREVER;
}

static void *
run_worker(void *arg)
{
    gp_server *server = arg;
    gp__poller *poller = &server->poller;
    bool claim;

    pthread_mutex_lock(&poller->lock);
    claim = server->threads == 1; /* the first one polls; a later one only fills in */
    while (!all_done(server)) {
        gp_server_call *call;

        hang_up_if_idle(server);
        if (server->over != NULL) {
            run_over(server);
            claim = true;
        } else if ((call = next_job(server)) != NULL) {
            run_job(server, call);
            claim = true;
        } else if (claim && !poller->taken) {
            turning = server;
            gp__poller_turn(poller, next_look(server));
            turning = NULL;
        } else if (!server->has_standby) {
            server->has_standby = true;
            claim = gp__poller_watch(poller);
            server->has_standby = false;
            if (claim) {
                ensure_standby(server);
            }
        } else {
            server->idle_count++;
            pthread_cond_wait(&server->idle, &poller->lock);
            server->idle_count--;
            claim = false;
        }
    }
    /* Pass the news on to those who sleep. */
    gp__poller_wake_standby(poller);
    pthread_cond_broadcast(&server->idle);
    pthread_mutex_unlock(&poller->lock);

    if (server->handler.thread_exit != NULL) {
        server->handler.thread_exit(server->handler_ctx);
    }
    pthread_mutex_lock(&poller->lock);
    server->threads--;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&poller->lock);
    gp__server_unref(server);
    return NULL;
}

/* ---- Start and stop ---- */

int
gp_server_start(gp_server *server, gp_error *err)
{
    bool failed;

    grpc_server_start(server->grpc);
    for (int i = 0; i < SLOTS; i++) {
        request_call(server);
    }
    pthread_mutex_lock(&server->poller.lock);
    server->started = true;
    start_worker(server);
    failed = server->threads == 0;
    pthread_mutex_unlock(&server->poller.lock);
    return failed ? gp_error_set(err, GP_EOS, "cannot start a thread for the server") : 0;
}

/* Cancels what still runs when its grace is over. Only there while a stop with grace is under way. */
static void *
run_grace(void *arg)
{
    gp_server *server = arg;

    pthread_mutex_lock(&server->poller.lock);
    while (!server->stopped && gp__now() < server->cancel_at) {
        gp__cond_wait_until(&server->changed, &server->poller.lock, server->cancel_at);
    }
    pthread_mutex_unlock(&server->poller.lock);
    grpc_server_cancel_all_calls(server->grpc);
    gp__server_unref(server);
    return NULL;
}

void
gp_server_stop(gp_server *server, int64_t grace_ms)
{
    int64_t cancel_at = gp__deadline_in(grace_ms);
    bool first;
    bool patient = grace_ms != 0 && cancel_at != GP__FOREVER;
    pthread_t thread;

    if (gp_runtime_forked()) {
        return;
    }
    pthread_mutex_lock(&server->poller.lock);
    first = !server->stopping;
    server->stopping = true;
    if (cancel_at < server->cancel_at) {
        server->cancel_at = cancel_at;
        pthread_cond_broadcast(&server->changed);
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
    pthread_mutex_unlock(&server->poller.lock);
    if (first) {
        end_endless(server);
        grpc_server_shutdown_and_notify(server->grpc, server->poller.queue, &server->shutdown);
    }
    if (grace_ms >= 0 && !patient) {
        grpc_server_cancel_all_calls(server->grpc);
    }
}

bool
gp_server_stopping(gp_server *server)
{
    bool stopping;

    pthread_mutex_lock(&server->poller.lock);
    stopping = server->stopping;
    pthread_mutex_unlock(&server->poller.lock);
    return stopping;
}

int
gp_server_wait(gp_server *server, int64_t timeout_ms, const gp_interrupt *interrupt)
{
    /* Signals end poll(), so that the slices only cover one that comes just before it. */
    enum { SLICE_MS = 1000 };
    struct pollfd watched = {.fd = server->stop_pipe[0], .events = POLLIN};
    int64_t deadline = gp__deadline_in(timeout_ms);

    for (;;) {
        int64_t left = deadline == GP__FOREVER ? SLICE_MS : (deadline - gp__now()) / GP__MS + 1;
        int ready = poll(&watched, 1, (int)(left < 0 ? 0 : left < SLICE_MS ? left : SLICE_MS));
        int rc;

        if (ready > 0) {
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
    int64_t deadline = gp__deadline_in(timeout_ms);
    int rc = 0;

    pthread_mutex_lock(&server->poller.lock);
    while (server->threads > 0 && rc != GP_EUSER && gp__now() < deadline) {
        rc = gp__cond_wait_interruptible(&server->changed, &server->poller.lock, deadline,
                                         interrupt);
    }
    rc = rc == GP_EUSER ? rc : server->threads > 0 ? GP_ETIMEOUT : 0;
    pthread_mutex_unlock(&server->poller.lock);
    return rc;
}

void
gp_server_release(gp_server *server)
{
    if (server == NULL || gp_runtime_forked()) {
        return;
    }
    gp_server_stop(server, 0);
    pthread_mutex_lock(&server->poller.lock);
    while (!server->started && !server->stopped) {
        /* No worker ever ran: take the shutdown event off the queue ourselves. */
        gp__poller_turn(&server->poller, GP__FOREVER);
    }
    pthread_mutex_unlock(&server->poller.lock);
    gp__server_unref(server);
}
