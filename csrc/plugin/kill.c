#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "os/reactor.h"
#include "os/share.h"
#include "plugin/client.h"
#include "plugin/delivery.h"
#include "plugin/sockets.h"
#include "rpc/channel.h"
#include "services/broker.h"
#include "services/controller.h"
#include "services/grpc_mux.h"

/* How long SIGKILL may take; only a process that hangs inside the kernel takes longer. */
static const int64_t dying_ms = 10000;
/* How long the sinks may take for what the plugin wrote last. */
static const int64_t flush_ms = 5000;

/* How long a runner may take to start what is to be killed; what it starts later is killed then. */
static const int64_t runner_ms = 5000;

/* gRPC's code for a plugin that has no controller service: waiting would be in vain. */
enum { UNIMPLEMENTED = 12 };

/* Ask the plugin to exit. Returns 0 if it may do so, GP_EUSER, or another code: it won't. */
static int
ask(gp_client *client, int64_t patience_ms, const gp_interrupt *interrupt)
{
    gp_error err = GP_ERROR_INIT;
    int rc = GP_ECLOSED;

    if (client->channel != NULL && patience_ms > 0) {
        rc = gp__controller_shutdown(client->channel, patience_ms, interrupt, &err);
        if (rc == GP_ERPC && err.number != UNIMPLEMENTED) {
            rc = 0; /* it took too long, or the connection is gone; the process may be ending */
        }
    }
    gp_error_release(&err);
    return rc;
}

/*
 * Wait for the rest of what the plugin prints: its stream ends with its server. Half of the
 * patience, so that a plugin whose server waits for us to go away still has time to end, and no
 * longer than until |deadline|, since one that is suspended has used it all up when asked. 0 or
 * GP_EUSER.
 */
static int
await_output(gp_client *client, int64_t patience_ms, int64_t deadline,
             const gp_interrupt *interrupt)
{
    int64_t half = gp_deadline_in(patience_ms / 2);
    int rc = 0;

    if (client->output != NULL && patience_ms > 0) {
        rc = gp__output_await_end(client->output, half < deadline ? half : deadline, interrupt);
    }
    return rc == GP_EUSER ? rc : 0;
}

/* Have what the plugin wrote last delivered. 0 or GP_EUSER. */
static int
flush(gp_client *client, const gp_interrupt *interrupt)
{
    int64_t deadline = gp_deadline_in(flush_ms);
    int rc = 0;

    if (client->launch.mirror != NULL) {
        rc = gp__mirror_flush(client->launch.mirror, deadline, interrupt);
    }
    if (client->output != NULL && rc != GP_EUSER) {
        rc = gp__output_flush(client->output, deadline, interrupt);
    }
    return rc == GP_EUSER ? rc : 0;
}

/* Make sure that the process is gone, by |deadline| if |gracefully|, else now. 0 or GP_EUSER. */
static int
put_down(gp__process *process, bool gracefully, int64_t deadline, const gp_interrupt *interrupt)
{
    int rc = gracefully ? gp__process_wait(process, deadline, interrupt) : GP_ETIMEOUT;

    if (!gp__process_gone(process) || gp__process_has_group(process)) {
        gp__process_kill(process);
        gp__process_wait(process, gp_deadline_in(dying_ms), NULL);
    }
    return rc == GP_EUSER ? rc : 0;
}

/* On the reactor's thread: its time is up, whatever the thread that ends it is waiting for. */
static void
time_is_up(void *process)
{
    if (!gp__process_gone(process)) {
        gp__process_kill(process);
    }
}

/*
 * Remove what the dead plugin has left of its sockets. A multiplexed one that was killed leaves a
 * private directory behind, which it does not tell of if it listens on TCP.
 */
static void
remove_left(gp_client *client)
{
    const gp_client_options *options = &client->options.view;
    gp__leftover left;

    gp__sockets_left(&left, options, client->process);
    if (strcmp(client->endpoint.view.network, "unix") == 0) {
        gp__leftover_remove(&left, client->endpoint.address);
    }
    if (client->broker != NULL) {
        gp__broker_remove_sockets(client->broker, &left);
    }
    if (options->multiplex && gp__client_launched(client)) {
        gp__leftover_sweep(&left);
    }
    gp__leftover_release(&left);
}

void
gp__client_remove_sockets(gp_client *client)
{
    if (client->socket_dir != NULL) {
        gp__share_remove(client->socket_dir);
        gp__free(client->socket_dir);
        client->socket_dir = NULL;
    }
}

int
gp__client_end(gp_client *client, int64_t patience_ms, const gp_interrupt *interrupt)
{
    const gp_client_options *options = &client->options.view;
    bool test = !gp__client_launched(client) && options->reattach_test;
    gp__process *process = client->process;
    int64_t deadline = gp_deadline_in(patience_ms);
    gp__watch *limit = NULL;
    int rc = 0;

    if (client->mux != NULL) {
        gp__grpc_mux_on_why(client->mux, NULL, NULL); /* the log is about to be closed */
    }
    if (!test && process != NULL && patience_ms > 0) {
        gp__process_remember_group(process);
    }
    if (!test && process != NULL) {
        /* What follows asks things of gRPC, which has to come to an end when the process does. */
        gp__reactor_every(&limit, patience_ms > 0 ? patience_ms : 1, time_is_up, process, NULL);
    }
    if (!test && (process == NULL || !gp__process_gone(process))) {
        rc = ask(client, patience_ms, interrupt);
    }
    if (!test && rc == 0) {
        rc = await_output(client, patience_ms, deadline, interrupt);
    }
    if (client->broker != NULL) {
        gp_broker_close(client->broker);
    }
    if (client->channel != NULL) {
        gp_channel_close(client->channel);
        gp__channel_over(client->channel);
    }
    if (!test && process != NULL) {
        if (put_down(process, rc == 0 && patience_ms > 0, deadline, interrupt) < 0) {
            rc = GP_EUSER;
        }
    }
    gp__reactor_remove(limit);
    if (client->launch.mirror != NULL) {
        gp__launch_finish(&client->launch);
    }
    if (rc != GP_EUSER && patience_ms > 0) {
        rc = flush(client, interrupt);
    }
    gp__mirror_close(client->launch.mirror);
    client->launch.mirror = NULL;
    gp__output_close(client->output);
    client->output = NULL;
    gp_grpc_mux_close(client->mux);
    if (process != NULL && (gp__process_gone(process) || !gp__client_launched(client))) {
        gp__process_unwatch(process); /* a child that hangs in the kernel is left to the reactor */
    }
    if (process != NULL && gp__process_gone(process)) {
        remove_left(client);
        gp__client_remove_sockets(client);
    }
    return rc == GP_EUSER ? rc : 0;
}

void
gp__client_abandon(gp_client *client)
{
    bool launched = gp__client_launched(client);

    if (launched && !client->options.view.detach) {
        gp__client_end(client, 0, NULL);
        return;
    }
    if (client->broker != NULL) {
        gp_broker_close(client->broker);
    }
    if (client->channel != NULL) {
        gp_channel_close(client->channel);
        gp__channel_over(client->channel);
    }
    if (client->process != NULL && !launched) { /* a detached one is still ours to reap */
        gp__process_unwatch(client->process);
    }
}

/* With the lock held. There is no process to kill then, and nobody knows how long that takes. */
static bool
waits_for_runner(const gp_client *client)
{
    return client->state == GP__CLIENT_STARTING && client->process == NULL &&
           client->options.view.runner.start != NULL;
}

bool
gp__client_waits_for_runner(gp_client *client)
{
    bool waits;

    gp_mutex_lock(&client->lock);
    waits = waits_for_runner(client);
    gp_mutex_unlock(&client->lock);
    return waits;
}

/*
 * Wait, with the lock held, while the state is |state|; for the start of a runner's process not for
 * ever. 0 or GP_EUSER; it may still be that state.
 */
static int
wait_while(gp_client *client, gp__client_state state, const gp_interrupt *interrupt)
{
    int64_t patience_ends = gp_deadline_in(runner_ms);
    int rc = 0;

    while (rc == 0 && client->state == state) {
        int64_t deadline = waits_for_runner(client) ? patience_ends : GP__FOREVER;

        if (gp__now() >= deadline) {
            return 0;
        }
        rc = gp__cond_wait_interruptible(&client->changed, &client->lock, deadline, interrupt);
        rc = rc == GP_ETIMEOUT ? 0 : rc;
    }
    return rc;
}

/* Kill the process, without the client's lock, which is held before and after: it may block. */
static void
kill_unlocked(gp_client *client)
{
    gp__process *process = gp__process_ref(client->process);

    gp_mutex_unlock(&client->lock);
    gp__process_kill(process);
    gp__process_unref(process);
    gp_mutex_lock(&client->lock);
}

/*
 * Wait until another thread has brought the client out of |state|; on an interrupt kill at once
 * what that thread may be waiting for. With the lock held. Returns 0 or GP_EUSER.
 */
static int
join(gp_client *client, gp__client_state state, const gp_interrupt *interrupt)
{
    int rc = wait_while(client, state, interrupt);

    if (rc < 0) {
        bool test = !gp__client_launched(client) && client->options.view.reattach_test;

        if (client->process != NULL && !test) {
            kill_unlocked(client);
        }
        if (!waits_for_runner(client)) {
            wait_while(client, state, NULL);
        }
    }
    return rc;
}

bool
gp__client_is_at_work(const gp_client *client)
{
    return (client->state == GP__CLIENT_STARTING || client->state == GP__CLIENT_KILLING) &&
           pthread_equal(client->worker, pthread_self());
}

int
gp_client_kill(gp_client *client, const gp_interrupt *interrupt)
{
    int rc = 0;

    if (gp_runtime_forked() || client->generation != gp_runtime_generation()) {
        return GP_EFORKED;
    }
    gp_mutex_lock(&client->lock);
    client->kill_wanted = true;
    if (client->state == GP__CLIENT_NEW) {
        client->state = GP__CLIENT_OVER;
    }
    if (client->state == GP__CLIENT_STARTING) {
        /* The thread that starts it finds the process dead, or sees |kill_wanted|. */
        if (client->process != NULL && gp__client_launched(client)) {
            kill_unlocked(client);
        }
        if (gp__client_is_at_work(client)) {
            client->given_up = true;
        } else {
            rc = join(client, GP__CLIENT_STARTING, interrupt);
        }
    }
    if (client->state == GP__CLIENT_RUNNING) {
        int ended;

        client->state = GP__CLIENT_KILLING;
        client->worker = pthread_self();
        gp_mutex_unlock(&client->lock);
        ended =
            gp__client_end(client, rc == 0 ? client->options.view.kill_timeout_ms : 0, interrupt);
        rc = rc == 0 ? ended : rc;
        if (client->process != NULL && gp__process_gone(client->process)) {
            gp__client_tell_exit(client);
        }
        gp__registry_remove(client);
        gp_mutex_lock(&client->lock);
        client->state = GP__CLIENT_OVER;
        gp_cond_broadcast(&client->changed);
    } else if (client->state == GP__CLIENT_KILLING && !gp__delivery_current() &&
               !gp__client_is_at_work(client)) {
        /* (Whoever kills may be waiting for the delivery thread, which can't wait for him then.) */
        rc = join(client, GP__CLIENT_KILLING, interrupt);
    }
    gp_mutex_unlock(&client->lock);
    return rc;
}
