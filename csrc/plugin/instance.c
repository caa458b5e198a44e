#include "plugin/instance.h"

#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "os/reactor.h"
#include "os/socket_dir.h"
#include "os/tmpdir.h"
#include "plugin/reattach.h"
#include "plugin/sockets.h"

/* How long a plugin that was joined may take until it is connected with TLS. */
static const int64_t joined_ms = 10000;
/* How long SIGKILL may take; only a process that hangs inside the kernel takes longer. */
static const int64_t killed_ms = 10000;
/* How long the sinks may need for the last of the plugin's output. */
static const int64_t flush_ms = 5000;
/* How long to wait for a process that has begun to exit, before it counts as alive all the same. */
static const int64_t exiting_ms = 1000;
/* How long to wait where it is unknown whether the process has begun to exit. */
static const int64_t unknown_ms = 50;
/* How long to wait for the last of a dead process's stderr: a child of it may keep that open. */
static const int64_t stderr_ms = 100;
/* How long to check whether anything listens, if only the address is known. */
static const int64_t probe_ms = 50;

/* The length of the path of a plugin's socket after the base directory. */
enum { ROOM = sizeof("plugin-dirXXXXXX/plugin") - 1 + GP__RANDOM_NAME };

void
gp__instance_init(gp__instance *instance, gp__options *options)
{
    *instance = (gp__instance){
        .options = options,
        .tls = options->view.tls != NULL ? gp_tls_ref(options->view.tls) : NULL,
        .launch = {.image = GP__SEALED_INIT, .out_fd = -1},
    };
}

void
gp__instance_release(gp__instance *instance)
{
    gp__launch_release(&instance->launch);
    gp__process_unref(instance->process);
    if (atomic_load(&instance->exit_is_reported)) {
        gp__options_hand_over(instance->options, GP__OPTIONS_EXIT);
    }
    gp__session_free(instance->session);
    gp__output_unref(instance->output);
    gp__endpoint_release(&instance->endpoint);
    gp__free(instance->socket_dir);
    gp_tls_unref(instance->tls);
}

bool
gp__instance_is_launched(const gp__instance *instance)
{
    return instance->options->view.reattach_network == NULL;
}

bool
gp__instance_is_to_be_killed(const gp__instance *instance)
{
    return gp__instance_is_launched(instance) || !instance->options->view.reattach_test;
}

/* ---- Launching ------------------------------------------------------------------------------- */

/*
 * The plugin is given a directory for its sockets if the user asks for one, or if the paths would
 * be too long in the directory that it would choose: plugins in Go, for instance, fail then.
 */
static int
make_socket_dir(gp__instance *instance, gp_error *err)
{
    const gp_client_options *options = &instance->options->view;
    const char *base = options->unix_socket_dir;

    if (base == NULL && (options->runner.start != NULL || gp__sockets_fit(options))) {
        return 0;
    }
    if (base == NULL || gp__socket_misfit(base, ROOM) != NULL) {
        base = GP__SHORT_TMPDIR;
    }
    return gp__socket_dir_make(&instance->socket_dir, base, options->unix_socket_group, err);
}

static void
remove_socket_dir(gp__instance *instance)
{
    if (instance->socket_dir != NULL) {
        gp__socket_dir_remove(instance->socket_dir);
        gp__free(instance->socket_dir);
        instance->socket_dir = NULL;
    }
}

static int
launch_process(gp__instance *instance, const gp_interrupt *interrupt, gp_error *err)
{
    const gp_client_options *options = &instance->options->view;
    int rc = options->auto_mtls ? gp_tls_new_automatic(&instance->tls, NULL, err) : 0;

    if (rc < 0 || (rc = make_socket_dir(instance, err)) < 0) {
        return rc;
    }
    gp__options_hand_over(instance->options, GP__OPTIONS_RUNNER);
    rc = gp__launch_spawn(&instance->launch, options, instance->tls, instance->socket_dir,
                          interrupt, err);
    if (rc < 0) {
        remove_socket_dir(instance);
        return rc;
    }
    gp__options_hand_over(instance->options, GP__OPTIONS_LOG);
    instance->process = gp__process_ref(instance->launch.process);
    return 0;
}

int
gp__instance_find(gp__instance *instance, const gp_interrupt *interrupt, gp_error *err)
{
    return gp__instance_is_launched(instance)
               ? launch_process(instance, interrupt, err)
               : gp__reattach(&instance->options->view, &instance->endpoint, &instance->process,
                              &instance->found, interrupt, err);
}

/* ---- Connecting ------------------------------------------------------------------------------ */

/* On the reactor's thread. */
static void
log_end_of_connection(void *ctx, const char *why)
{
    gp__instance *instance = ctx;
    char *message = atomic_load(&instance->ending)
                        ? NULL
                        : gp__format("the connection to the plugin has ended: %s", why);

    if (message != NULL) {
        gp__mirror_add(instance->launch.mirror, message);
    }
    gp__free(message);
}

static int
open_output(gp__instance *instance, gp_error *err)
{
    int rc = gp__output_new(&instance->output, &instance->options->view.output, err);

    if (rc == 0) {
        gp__options_hand_over(instance->options, GP__OPTIONS_OUTPUT);
    }
    return rc;
}

static int
open_session(gp__instance *instance, const gp_interrupt *interrupt, gp_error *err)
{
    bool launched = gp__instance_is_launched(instance);
    const gp__session_spec spec = {
        .options = &instance->options->view,
        .endpoint = &instance->endpoint.view,
        .output = instance->output,
        .process = instance->process,
        .tls = instance->tls,
        .deadline = launched ? instance->launch.deadline : gp_deadline_in(joined_ms),
        .ended = launched ? log_end_of_connection : NULL,
        .ctx = instance,
    };
    int rc = gp__session_new(&instance->session, instance->endpoint.view.protocol, err);

    return rc == 0 ? gp__session_open(instance->session, &spec, interrupt, err) : rc;
}

void
gp__instance_report_exit(gp__instance *instance)
{
    const gp_exit_sink *exit = &instance->options->view.exit;

    if (exit->exited != NULL && !atomic_exchange(&instance->exit_is_reported, true)) {
        exit->exited(exit->ctx, gp__process_status(instance->process));
    }
}

/* On the reactor's thread. */
static void
process_ended(void *ctx)
{
    gp__instance_report_exit(ctx);
}

/* Have the end of the process reported to the exit sink; at once if it has ended already. */
static int
watch_exit(gp__instance *instance, gp_error *err)
{
    if (instance->process == NULL || instance->options->view.exit.exited == NULL) {
        return 0;
    }
    gp__process_unwatch(instance->process);
    return gp__process_watch(instance->process, process_ended, instance, err);
}

int
gp__instance_connect(gp__instance *instance, const gp_interrupt *interrupt, gp_error *err)
{
    int rc = 0;

    if (gp__instance_is_launched(instance)) {
        rc = gp__launch_handshake(&instance->launch, &instance->endpoint, interrupt, err);
        if (rc < 0) {
            remove_socket_dir(instance);
            return rc;
        }
    }
    rc = open_output(instance, err);
    rc = rc == 0 ? open_session(instance, interrupt, err) : rc;
    rc = rc == 0 ? watch_exit(instance, err) : rc;
    if (rc < 0 && gp__instance_is_launched(instance)) {
        gp__instance_end(instance, 0, NULL);
        remove_socket_dir(instance); /* even if the process hangs in the kernel */
    } else if (rc < 0) {
        gp__instance_abandon(instance);
    }
    return rc;
}

/* ---- Ending ---------------------------------------------------------------------------------- */

/*
 * Wait for the rest of the plugin's output: its stream ends with its server. This takes at most
 * half of the patience, so that a plugin whose server waits for the host to disconnect still has
 * time to exit. It also ends at |deadline|: a suspended plugin has used up its time when it was
 * asked to exit. Returns 0 or GP_EUSER.
 */
static int
await_output(gp__instance *instance, int64_t patience_ms, int64_t deadline,
             const gp_interrupt *interrupt)
{
    int64_t half = gp_deadline_in(patience_ms / 2);
    int rc = 0;

    if (patience_ms > 0) {
        rc = gp__session_await_output(instance->session, half < deadline ? half : deadline,
                                      interrupt);
    }
    return rc == GP_EUSER ? rc : 0;
}

/* Wait until the last of the plugin's output has been delivered. Returns 0 or GP_EUSER. */
static int
flush_sinks(gp__instance *instance, const gp_interrupt *interrupt)
{
    int64_t deadline = gp_deadline_in(flush_ms);
    int rc = 0;

    if (instance->launch.mirror != NULL) {
        rc = gp__mirror_flush(instance->launch.mirror, deadline, interrupt);
    }
    if (instance->output != NULL && rc != GP_EUSER) {
        rc = gp__output_flush(instance->output, deadline, interrupt);
    }
    return rc == GP_EUSER ? rc : 0;
}

/*
 * If |gracefully|, wait until |deadline| for the process to exit. Then kill it if it has not, or if
 * others of its group are left. Returns 0 or GP_EUSER.
 */
static int
end_process(gp__process *process, bool gracefully, int64_t deadline, const gp_interrupt *interrupt)
{
    int rc = gracefully ? gp__process_wait(process, deadline, interrupt) : GP_ETIMEOUT;

    if (!gp__process_gone(process) || gp__process_has_group(process)) {
        gp__process_kill(process);
        gp__process_wait(process, gp_deadline_in(killed_ms), NULL);
    }
    return rc == GP_EUSER ? rc : 0;
}

/*
 * Called on the reactor's thread, even while the thread that ends the plugin waits for something
 * else.
 */
static void
kill_when_time_is_up(void *process)
{
    if (!gp__process_gone(process)) {
        gp__process_kill(process);
    }
}

/*
 * Close the session and, if the plugin is dead, remove the sockets that it has left. A multiplexed
 * plugin that was killed also leaves a private directory, whose name is unknown if the plugin
 * listens on TCP.
 */
static void
close_session(gp__instance *instance)
{
    const gp_client_options *options = &instance->options->view;
    gp__leftover left;

    if (instance->process == NULL || !gp__process_gone(instance->process)) {
        gp__session_close(instance->session, NULL);
        return;
    }
    gp__sockets_left(&left, options, instance->process);
    if (strcmp(instance->endpoint.view.network, "unix") == 0) {
        gp__leftover_remove(&left, instance->endpoint.address);
    }
    gp__session_close(instance->session, &left);
    if (options->multiplex && gp__instance_is_launched(instance)) {
        gp__leftover_sweep(&left);
    }
    gp__leftover_release(&left);
    remove_socket_dir(instance);
}

int
gp__instance_end(gp__instance *instance, int64_t patience_ms, const gp_interrupt *interrupt)
{
    bool to_kill = gp__instance_is_to_be_killed(instance);
    gp__process *process = instance->process;
    int64_t deadline = gp_deadline_in(patience_ms);
    gp__watch *limit = NULL;
    int rc = 0;

    atomic_store(&instance->ending, true);
    if (to_kill && process != NULL && patience_ms > 0) {
        gp__process_remember_group(process);
    }
    if (to_kill && process != NULL) {
        /* The waits below depend on gRPC. All of them end when the process does. */
        gp__reactor_every(&limit, patience_ms > 0 ? patience_ms : 1, kill_when_time_is_up, process,
                          NULL);
    }
    if (to_kill && (process == NULL || !gp__process_gone(process))) {
        rc = patience_ms > 0 ? gp__session_shutdown(instance->session, patience_ms, interrupt)
                             : GP_ECLOSED;
    }
    if (to_kill && rc == 0) {
        rc = await_output(instance, patience_ms, deadline, interrupt);
    }
    gp__session_disconnect(instance->session);
    if (to_kill && process != NULL &&
        end_process(process, rc == 0 && patience_ms > 0, deadline, interrupt) < 0) {
        rc = GP_EUSER;
    }
    gp__reactor_remove(limit);
    if (instance->launch.mirror != NULL) {
        gp__launch_finish(&instance->launch);
    }
    if (rc != GP_EUSER && patience_ms > 0) {
        rc = flush_sinks(instance, interrupt);
    }
    gp__launch_close_log(&instance->launch);
    gp__output_unref(instance->output);
    instance->output = NULL;
    if (process != NULL && (gp__process_gone(process) || !gp__instance_is_launched(instance))) {
        /* A launched process that hangs in the kernel stays watched: the reactor reaps it later. */
        gp__process_unwatch(process);
    }
    close_session(instance);
    return rc == GP_EUSER ? rc : 0;
}

void
gp__instance_abandon(gp__instance *instance)
{
    bool launched = gp__instance_is_launched(instance);

    if (launched && !instance->options->view.detach) {
        gp__instance_end(instance, 0, NULL);
        return;
    }
    gp__session_disconnect(instance->session);
    if (instance->process != NULL && !launched) { /* a detached one is still to be reaped */
        gp__process_unwatch(instance->process);
    }
}

/* ---- Looking --------------------------------------------------------------------------------- */

/*
 * An exiting process closes its connections some moments before it can be waited for, and callers
 * ask when a call has failed in between. So this waits for a process that has begun to exit; and
 * for a shorter time if that is unknown and the connection is not known to be good.
 */
bool
gp__instance_is_gone(gp__instance *instance, gp__process *process, bool is_open)
{
    switch (gp__process_inspect(process)) {
    case GP__PROCESS_GONE:
        return true;
    case GP__PROCESS_RUNNING:
        return false;
    case GP__PROCESS_DYING:
        return gp__process_wait(process, gp_deadline_in(exiting_ms), NULL) == 0;
    default:
        return !(is_open && gp__session_is_connected(instance->session)) &&
               gp__process_wait(process, gp_deadline_in(unknown_ms), NULL) == 0;
    }
}

bool
gp__instance_await_gone(gp__instance *instance, gp__process *process, const gp_interrupt *interrupt)
{
    bool gone = gp__instance_is_gone(instance, process, true);

    if (!gone && !atomic_load(&instance->has_survived) &&
        !gp__session_is_connected(instance->session)) {
        gone = gp__process_wait(process, gp_deadline_in(exiting_ms), interrupt) == 0;
        atomic_store(&instance->has_survived, !gone);
    }
    if (gone) {
        gp__tail_await(gp__process_tail(process), gp_deadline_in(stderr_ms), interrupt);
    }
    return gone;
}

bool
gp__instance_is_deserted(const gp__instance *instance)
{
    const gp_endpoint *endpoint = &instance->endpoint.view;
    /*
     * Use the numeric address that was found: the name's address may have changed, and another
     * look-up may be slow.
     */
    const char *address =
        instance->found.peer[0] != '\0' ? instance->found.peer : endpoint->address;

    return gp__socket_probe(endpoint->network, address, NULL, gp_deadline_in(probe_ms), NULL,
                            NULL) == GP_EREATTACH;
}
