#include "plugin/client.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"
#include "base/thread.h"
#include "os/share.h"
#include "os/socket.h"
#include "os/tmpdir.h"
#include "plugin/sockets.h"
#include "rpc/channel.h"
#include "services/broker.h"
#include "services/grpc_mux.h"
#include "services/health.h"

/* How long a process that has begun to exit may take until it counts as alive all the same... */
static const int64_t dying_ms = 1000;
/* ... and one of which nobody knows whether it has. */
static const int64_t unsure_ms = 50;
/* How long a plugin that has just said where it listens may take to let its host connect. */
static const int64_t connect_ms = 10000;
/* How long to look whether anybody listens, where nothing but the address is known. */
static const int64_t probe_ms = 50;

static const char service_name[] = "plugin";

/* What the name of a plugin's socket takes after the directory that its own one is made in. */
enum { ROOM = sizeof("plugin-dirXXXXXX/plugin") - 1 + GP__RANDOM_NAME };

/* Whether this process is a forked child, and the client its parent's. */
static bool
is_parents(const gp_client *client)
{
    return gp_runtime_forked() || client->generation != gp_runtime_generation();
}

bool
gp__client_launched(const gp_client *client)
{
    return client->options.view.reattach_network == NULL;
}

/* ---- Making and freeing ---------------------------------------------------------------------- */

static int
discard(void *ctx, const gp_log_batch *batch)
{
    (void)ctx;
    (void)batch;
    return GP_ERROR + 1;
}

static char *
make_name(const gp_client_options *options)
{
    const char *program = options->argv != NULL ? options->argv[0] : NULL;
    const char *slash;

    if (options->reattach_network != NULL) {
        return gp__strdup(options->reattach_address);
    }
    slash = strrchr(program, '/');
    return gp__strdup(slash != NULL && slash[1] != '\0' ? slash + 1 : program);
}

static int
client_init(gp_client *client, const gp_client_options *options, gp_error *err)
{
    int rc = gp__options_init(&client->options, options, err);

    if (rc < 0) {
        return rc;
    }
    client->name = make_name(options);
    if (client->name == NULL) {
        rc = gp_error_set(err, GP_ENOMEM, "out of memory for a plugin client");
        goto fail_name;
    }
    gp_cond_init(&client->changed);
    gp_mutex_init(&client->lock);
    atomic_init(&client->refs, 1);
    atomic_init(&client->told, options->exit.exited == NULL);
    client->launch = (gp__launch){.image = GP__SEALED_INIT, .out_fd = -1};
    client->owns_log = true;
    client->owns_output = true;
    client->owns_runner = options->runner.start != NULL;
    client->tls = options->tls != NULL ? gp_tls_ref(options->tls) : NULL;
    if (options->log.deliver == NULL) {
        client->options.view.log = (gp_log_sink){.deliver = discard, .level = GP_ERROR + 1};
    }
    return 0;

fail_name:
    gp__options_release(&client->options);
    return rc;
}

static void
release_log(const gp_log_sink *log)
{
    if (log->release != NULL) {
        log->release(log->ctx);
    }
}

static void
release_output(const gp_output_sink *output)
{
    if (output->release != NULL) {
        output->release(output->ctx);
    }
}

static void
release_exit(const gp_exit_sink *exit)
{
    if (exit->exited != NULL && exit->release != NULL) {
        exit->release(exit->ctx);
    }
}

static void
release_runner(const gp_runner *runner)
{
    if (runner->start != NULL) {
        runner->release(runner->ctx);
    }
}

int
gp_client_new(gp_client **out, const gp_client_options *options, gp_error *err)
{
    gp_client *client = NULL;
    int rc = gp_runtime_init();

    if (rc < 0) {
        gp_error_set(err, rc, "the fork guard could not be installed");
    } else if (gp_runtime_forked()) {
        rc = gp_runtime_refuse_fork(err);
    } else if ((client = gp__calloc(1, sizeof(*client))) == NULL) {
        rc = gp_error_set(err, GP_ENOMEM, "out of memory for a plugin client");
    } else {
        rc = client_init(client, options, err);
    }
    if (rc == 0) {
        client->generation = gp_runtime_generation();
    }
    if (rc < 0) {
        release_log(&options->log);
        release_output(&options->output);
        release_exit(&options->exit);
        release_runner(&options->runner);
        gp__free(client);
        return rc;
    }
    *out = client;
    return 0;
}

gp_client *
gp__client_ref(gp_client *client)
{
    atomic_fetch_add(&client->refs, 1);
    return client;
}

void
gp__client_unref(gp_client *client)
{
    if (atomic_fetch_sub(&client->refs, 1) != 1) {
        return;
    }
    if (client->state == GP__CLIENT_RUNNING) {
        gp__client_abandon(client);
    }
    gp__launch_release(&client->launch); /* its process is the client's */
    if (!gp__client_launched(client)) {
        gp__process_unref(client->process);
    }
    if (client->owns_runner) {
        release_runner(&client->options.view.runner);
    }
    if (!atomic_load(&client->told)) {
        release_exit(&client->options.view.exit);
    }
    gp_broker_unref(client->broker);
    gp_grpc_mux_unref(client->mux);
    gp__output_close(client->output);
    gp_channel_unref(client->channel);
    gp__free(client->socket_dir);
    gp_tls_unref(client->tls);
    if (client->owns_log) {
        release_log(&client->options.view.log);
    }
    if (client->owns_output) {
        release_output(&client->options.view.output);
    }
    gp_error_release(&client->failure);
    gp__endpoint_release(&client->endpoint);
    gp_cond_release(&client->changed);
    gp_mutex_release(&client->lock);
    gp__free(client->name);
    gp__options_release(&client->options);
    gp__free(client);
}

void
gp_client_free(gp_client *client)
{
    if (client != NULL && !is_parents(client)) {
        gp__registry_remove(client);
        gp__client_unref(client);
    }
}

/* ---- Starting -------------------------------------------------------------------------------- */

/* Make the process known to whoever kills the client, unless that has happened already. */
static void
publish_process(gp_client *client, gp__process *process)
{
    bool late;

    gp_mutex_lock(&client->lock);
    client->process = process;
    late = client->kill_wanted && gp__client_launched(client);
    gp_mutex_unlock(&client->lock);
    if (late) {
        gp__process_kill(process);
    }
}

/*
 * The plugin is given a directory for its sockets if the user asks for that, or if none would fit
 * into the one that it would take by itself: plugins in Go, say, do not know what to do then.
 */
static int
make_socket_dir(gp_client *client, gp_error *err)
{
    const gp_client_options *options = &client->options.view;
    const char *base = options->unix_socket_dir;
    int rc;

    if (base == NULL && (options->runner.start != NULL || gp__sockets_fit(options))) {
        return 0;
    }
    if (base == NULL || gp__socket_misfit(base, ROOM) != NULL) {
        base = GP__SHORT_TMPDIR;
    }
    rc = gp__share_directory(&client->socket_dir, base, options->unix_socket_group, err);
    return gp__as_start_error(rc, err);
}

static int
launch(gp_client *client, const gp_interrupt *interrupt, gp_error *err)
{
    const gp_client_options *options = &client->options.view;
    gp__client_interrupt both = {client, interrupt};
    const gp_interrupt stop = gp__client_interrupt_of(&both);
    int rc = options->auto_mtls ? gp_tls_new_automatic(&client->tls, NULL, err) : 0;

    rc = rc == 0 ? make_socket_dir(client, err) : rc;
    if (rc < 0) {
        return rc;
    }
    client->owns_runner = false;
    rc = gp__launch_spawn(&client->launch, options, client->tls, client->socket_dir, &stop, err);
    if (rc < 0) {
        return rc == GP_EUSER && gp__client_kill_wanted(client)
                   ? gp_error_set(err, GP_ECLOSED, "it was killed while it started")
                   : rc;
    }
    client->owns_log = false;
    publish_process(client, client->launch.process);
    return gp__launch_handshake(&client->launch, &client->endpoint, interrupt, err);
}

static int
join(gp_client *client, const gp_interrupt *interrupt, gp_error *err)
{
    gp__process *process;
    int rc = gp__client_reattach(client, &client->endpoint, &process, interrupt, err);

    if (rc == 0 && process != NULL) {
        publish_process(client, process);
    }
    return rc;
}

/* On the reactor's thread, with the mux's lock held. */
static void
log_why(void *ctx, const char *why)
{
    gp_client *client = ctx;
    char *message = gp__format("the connection to the plugin has ended: %s", why);

    if (message != NULL) {
        gp__mirror_add(client->launch.mirror, message);
    }
    gp__free(message);
}

/* Once per process: hosts that were killed have left their directories behind. */
static void
tidy_up_after_others(const gp_client *client)
{
    static atomic_flag done = ATOMIC_FLAG_INIT;

    if (!atomic_flag_test_and_set(&done)) {
        gp__grpc_mux_sweep(client->options.view.unix_socket_dir);
    }
}

/*
 * Make the channel, with TLS up to the connection, take what the plugin prints from now on, and
 * what it announces.
 */
static int
open_channel(gp_client *client, const gp_interrupt *interrupt, gp_error *err)
{
    const gp_endpoint *where = &client->endpoint.view;
    int rc = 0;

    if (client->options.view.multiplex) {
        tidy_up_after_others(client);
    }
    if (client->options.view.multiplex &&
        (rc = gp__as_start_error(
             gp_grpc_mux_new(&client->mux, client->options.view.unix_socket_dir, err), err)) == 0) {
        gp__grpc_mux_on_why(client->mux, log_why, client);
        rc = gp_grpc_mux_connect(client->mux, where->network, where->address, connect_ms, interrupt,
                                 err);
    }
    if (rc == 0) {
        rc = gp_channel_open_tls(
            &client->channel, client->mux != NULL ? gp_grpc_mux_target(client->mux) : where->target,
            client->tls, client->options.view.channel_args, err);
    }
    if (rc == 0) {
        gp__grpc_mux_explain(client->mux, client->channel, client->process);
    }
    if (rc == 0 && client->tls != NULL) {
        rc = gp__client_secure(client, interrupt, err);
    }
    if (rc == 0) {
        rc = gp__output_open(&client->output, client->channel, &client->options.view.output, err);
        client->owns_output = rc < 0;
    }
    if (rc == 0) {
        rc = gp__broker_open(&client->broker, client->channel, client->tls, client->mux,
                             client->process, client->options.view.directory, err);
    }
    if (rc == 0) {
        gp_broker_use_args(client->broker, client->options.view.channel_args);
    }
    return rc;
}

void
gp__client_tell_exit(void *ctx)
{
    gp_client *client = ctx;
    const gp_exit_sink *exit = &client->options.view.exit;

    if (!atomic_exchange(&client->told, true)) {
        exit->exited(exit->ctx, gp__process_status(client->process));
    }
}

/*
 * The start has succeeded: from now on the process's end is news. One that is over comes at once.
 */
static int
watch_exit(gp_client *client, gp_error *err)
{
    if (client->process == NULL || client->options.view.exit.exited == NULL) {
        return 0;
    }
    gp__process_unwatch(client->process);
    return gp__process_watch(client->process, gp__client_tell_exit, client, err);
}

/* The one attempt that there is. On failure nothing is left running. */
static int
attempt(gp_client *client, const gp_interrupt *interrupt, gp_error *err)
{
    bool launched = gp__client_launched(client);
    int rc = launched ? launch(client, interrupt, err) : join(client, interrupt, err);

    if (rc < 0) {
        return rc;
    }
    if (strcmp(client->endpoint.view.protocol, "grpc") == 0) {
        rc = open_channel(client, interrupt, err);
    }
    if (rc == 0) {
        rc = watch_exit(client, err);
    }
    if (rc < 0 && launched) {
        gp__client_end(client, 0, NULL);
    } else if (rc < 0) {
        gp__client_abandon(client);
    }
    return rc;
}

/* "kv-plugin: " before the message. */
static void
add_name(const gp_client *client, gp_error *err)
{
    char *message = gp__format("%s: %s", client->name, gp_error_message(err));

    if (message != NULL) {
        gp__free(err->message);
        err->message = message;
    }
}

static int
copy_failure(const gp_error *from, gp_error *to)
{
    gp_error_set(to, from->code, "%s", gp_error_message(from));
    if (to != NULL) {
        to->number = from->number;
        if (from->detail != NULL) {
            gp_error_set_detail(to, from->detail, from->detail_len);
        }
    }
    return from->code;
}

/* With the lock held. What later callers are told; an interrupt was meant for one caller only. */
static void
record_failure(gp_client *client, int rc, const gp_error *failure)
{
    if (rc == GP_EUSER) {
        gp_error_set(&client->failure, GP_ECLOSED, "%s: its start was interrupted", client->name);
    } else {
        copy_failure(failure, &client->failure);
    }
}

static int
start_once(gp_client *client, const gp_interrupt *interrupt, gp_error *err)
{
    gp_error failure = GP_ERROR_INIT;
    bool given_up;
    int rc;

    gp__registry_add(client);
    rc = attempt(client, interrupt, &failure);
    if (rc < 0) {
        gp__registry_remove(client);
        gp__client_remove_sockets(client); /* the process is gone, if there was one */
    }
    gp_mutex_lock(&client->lock);
    if (rc < 0) {
        if (client->kill_wanted && rc != GP_EUSER) {
            rc = GP_ECLOSED;
            gp_error_set(&failure, rc, "it was killed while it started");
        }
        if (rc == GP_EOS) { /* no descriptor to be had: for callers one more reason why it failed */
            rc = failure.code = GP_ESTART;
        }
        add_name(client, &failure);
        record_failure(client, rc, &failure);
        copy_failure(&failure, err);
    }
    client->state = rc == 0 ? GP__CLIENT_RUNNING : GP__CLIENT_FAILED;
    given_up = client->given_up;
    gp_cond_broadcast(&client->changed);
    gp_mutex_unlock(&client->lock);
    gp_error_release(&failure);
    if (rc == 0 && given_up) { /* too late for the start to notice */
        gp_client_kill(client, interrupt);
        rc = gp_error_set(err, GP_ECLOSED, "%s: it was killed while it started", client->name);
    }
    return rc;
}

int
gp_client_start(gp_client *client, const gp_interrupt *interrupt, gp_error *err)
{
    int rc = 0;

    if (is_parents(client)) {
        return gp_runtime_refuse_fork(err);
    }
    gp_mutex_lock(&client->lock);
    if (client->state == GP__CLIENT_STARTING && gp__client_is_at_work(client)) {
        gp_mutex_unlock(&client->lock);
        return gp_error_set(err, GP_ECLOSED, "%s: this thread is about to start it already",
                            client->name);
    }
    while (rc == 0 && client->state == GP__CLIENT_STARTING) {
        rc = gp__cond_wait_interruptible(&client->changed, &client->lock, GP__FOREVER, interrupt);
    }
    if (rc < 0) {
        gp_error_set(err, rc, "%s: waiting for its start was interrupted", client->name);
    } else if (client->state == GP__CLIENT_NEW) {
        client->state = GP__CLIENT_STARTING;
        client->worker = pthread_self();
        gp_mutex_unlock(&client->lock);
        return start_once(client, interrupt, err);
    } else if (client->state == GP__CLIENT_FAILED) {
        rc = copy_failure(&client->failure, err);
    } else if (client->state != GP__CLIENT_RUNNING) {
        rc = gp_error_set(err, GP_ECLOSED, "%s: it was killed; a client starts only once",
                          client->name);
    }
    gp_mutex_unlock(&client->lock);
    return rc;
}

/* ---- Asking ---------------------------------------------------------------------------------- */

/* In a forked child the lock may be held for ever: there every client looks unstarted. */
static gp__client_state
state_of(gp_client *client)
{
    gp__client_state state;

    if (is_parents(client)) {
        return GP__CLIENT_NEW;
    }
    gp_mutex_lock(&client->lock);
    state = client->state;
    gp_mutex_unlock(&client->lock);
    return state;
}

/* Whether the start has succeeded at some time. */
static bool
was_started(gp__client_state state)
{
    return state == GP__CLIENT_RUNNING || state == GP__CLIENT_KILLING || state == GP__CLIENT_OVER;
}

gp__process *
gp__client_process(gp_client *client)
{
    gp__process *process;

    if (is_parents(client)) {
        return NULL;
    }
    gp_mutex_lock(&client->lock);
    process = client->process != NULL ? gp__process_ref(client->process) : NULL;
    gp_mutex_unlock(&client->lock);
    return process;
}

const gp_endpoint *
gp_client_endpoint(gp_client *client)
{
    bool known = was_started(state_of(client)) && client->endpoint.address != NULL;

    return known ? &client->endpoint.view : NULL;
}

gp_channel *
gp_client_channel(gp_client *client)
{
    return was_started(state_of(client)) ? client->channel : NULL;
}

gp_broker *
gp_client_broker(gp_client *client)
{
    return was_started(state_of(client)) ? client->broker : NULL;
}

/* The plugin's own end explains a failed call better than gRPC does. */
static void
add_fate(gp_client *client, gp_error *err)
{
    gp__process *process = gp__client_process(client);
    char fate[96];

    if (err != NULL && process != NULL && gp_client_exited(client)) {
        gp__process_fate(gp__process_status(process), fate, sizeof(fate));
        /* A call that was refused for want of a connection says so by itself. */
        if (strstr(gp_error_message(err), fate) == NULL) {
            char *message = gp__format("the plugin %s (%s)", fate, gp_error_message(err));

            if (message != NULL) {
                gp__free(err->message);
                err->message = message;
            }
        }
    }
    gp__process_unref(process);
}

int
gp_client_ping(gp_client *client, int64_t timeout_ms, const gp_interrupt *interrupt, gp_error *err)
{
    gp__client_state state;
    int rc;

    if (is_parents(client)) {
        return gp_runtime_refuse_fork(err);
    }
    state = state_of(client);
    if (state != GP__CLIENT_RUNNING) {
        return gp_error_set(err, GP_ECLOSED, "%s: it %s", client->name,
                            was_started(state) ? "was killed" : "has not been started");
    }
    if (client->channel == NULL) {
        return gp_error_set(err, GP_ERPC, "%s: it speaks net/rpc, which has no health service",
                            client->name);
    }
    rc = gp__health_check(client->channel, service_name, timeout_ms, interrupt, err);
    if (rc == GP_ERPC) {
        add_fate(client, err);
    }
    return rc;
}

/* Without a pid all there is to see is whether anybody listens. */
static bool
listener_gone(gp_client *client)
{
    const gp_endpoint *endpoint = &client->endpoint.view;
    /* What was connected to: a name may take longer to look up, or be another host's by now. */
    const char *address = client->found.peer[0] != '\0' ? client->found.peer : endpoint->address;

    return gp__socket_probe(endpoint->network, address, NULL, gp_deadline_in(probe_ms), NULL,
                            NULL) == GP_EREATTACH;
}

/*
 * A dying process closes its connections some moments before it can be waited for, and a call that
 * failed in between makes callers ask. One that has begun to exit gets the time to finish; where
 * nobody can tell, so does one whose connection is not known to be good, but less of it.
 */
static bool
process_gone(gp_client *client, gp__process *process)
{
    switch (gp__process_inspect(process)) {
    case GP__PROCESS_GONE:
        return true;
    case GP__PROCESS_WELL:
        return false;
    case GP__PROCESS_DYING:
        return gp__process_wait(process, gp_deadline_in(dying_ms), NULL) == 0;
    default:
        return (client->channel == NULL || gp_channel_state(client->channel, false) != GP_READY) &&
               gp__process_wait(process, gp_deadline_in(unsure_ms), NULL) == 0;
    }
}

bool
gp_client_exited(gp_client *client)
{
    gp__client_state state;
    gp__process *process;
    bool exited;

    if (is_parents(client)) {
        return true; /* as far as this process is concerned */
    }
    state = state_of(client);
    process = gp__client_process(client);
    if (state == GP__CLIENT_OVER) {
        exited = client->endpoint.address != NULL; /* was it ever started? */
    } else if (process != NULL) {
        exited = process_gone(client, process);
    } else {
        exited = state == GP__CLIENT_RUNNING && listener_gone(client);
    }
    gp__process_unref(process);
    return exited;
}

int
gp_client_exit_status(gp_client *client)
{
    gp__process *process = gp__client_process(client);
    int status = process != NULL ? gp__process_status(process) : GP_STATUS_UNKNOWN;

    gp__process_unref(process);
    return status;
}

int
gp_client_pid(gp_client *client)
{
    gp__process *process = gp__client_process(client);
    int pid = process != NULL ? gp__process_pid(process) : -1;

    gp__process_unref(process);
    return pid;
}

unsigned long long
gp_client_start_time(gp_client *client)
{
    gp__process *process = gp__client_process(client);
    unsigned long long start_time = process != NULL ? gp__process_start_time(process) : 0;

    gp__process_unref(process);
    return start_time;
}
