#include <string.h>

#include "base/thread.h"
#include "os/socket.h"
#include "plugin/client.h"
#include "plugin/delivery.h"
#include "services/controller.h"

/* What a plugin has for exiting by itself, from the Shutdown call on; as with go-plugin. */
static const int64_t patience = 2000;
/* How long SIGKILL may take; only a process that hangs inside the kernel takes longer. */
static const int64_t dying_ms = 10000;
/* How long the sink may take for what the plugin wrote last. */
static const int64_t flush_ms = 5000;

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

/* Make sure that the process is gone, by |deadline| if |gracefully|, else now. 0 or GP_EUSER. */
static int
put_down(gp__process *process, bool gracefully, int64_t deadline, const gp_interrupt *interrupt)
{
    int rc = gracefully ? gp__process_wait(process, deadline, interrupt) : GP_ETIMEOUT;

    if (!gp__process_gone(process)) {
        gp__process_kill(process);
        gp__process_wait(process, gp__deadline_in(dying_ms), NULL);
    }
    return rc == GP_EUSER ? rc : 0;
}

int
gp__client_end(gp_client *client, int64_t patience_ms, const gp_interrupt *interrupt)
{
    const gp_client_options *options = &client->options.view;
    bool test = !gp__client_launched(client) && options->reattach_test;
    gp__process *process = client->process;
    int64_t deadline = gp__deadline_in(patience_ms);
    int rc = 0;

    if (!test && (process == NULL || !gp__process_gone(process))) {
        rc = ask(client, patience_ms, interrupt);
    }
    if (client->channel != NULL) {
        gp_channel_close(client->channel);
    }
    if (!test && process != NULL) {
        if (put_down(process, rc == 0 && patience_ms > 0, deadline, interrupt) < 0) {
            rc = GP_EUSER;
        }
    }
    if (client->launch.mirror != NULL) {
        gp__launch_finish(&client->launch);
        if (rc != GP_EUSER && patience_ms > 0) {
            rc = gp__mirror_flush(client->launch.mirror, gp__deadline_in(flush_ms), interrupt);
        }
        gp__mirror_close(client->launch.mirror);
        client->launch.mirror = NULL;
    }
    if (process != NULL && gp__process_gone(process)) {
        gp__process_unwatch(process); /* one that hangs in the kernel is left to the reactor */
        if (strcmp(client->endpoint.view.network, "unix") == 0) {
            gp__socket_remove_stale(client->endpoint.address);
        }
    }
    return rc == GP_EUSER ? rc : 0;
}

void
gp__client_abandon(gp_client *client)
{
    if (gp__client_launched(client)) {
        gp__client_end(client, 0, NULL);
        return;
    }
    if (client->channel != NULL) {
        gp_channel_close(client->channel);
    }
    if (client->process != NULL) {
        gp__process_unwatch(client->process);
    }
}

/* Wait, with the lock held, while the state is |state|. 0 or GP_EUSER; then it may still be. */
static int
wait_while(gp_client *client, gp__client_state state, const gp_interrupt *interrupt)
{
    int rc = 0;

    while (rc == 0 && client->state == state) {
        rc = gp__cond_wait_interruptible(&client->changed, &client->lock, GP__FOREVER, interrupt);
    }
    return rc;
}

/*
 * Wait until another thread has brought the client out of |state|; on an interrupt kill at once what
 * that thread may be waiting for. With the lock held. Returns 0 or GP_EUSER.
 */
static int
join(gp_client *client, gp__client_state state, const gp_interrupt *interrupt)
{
    int rc = wait_while(client, state, interrupt);

    if (rc < 0) {
        bool test = !gp__client_launched(client) && client->options.view.reattach_test;

        if (client->process != NULL && !test) {
            gp__process_kill(client->process);
        }
        wait_while(client, state, NULL);
    }
    return rc;
}

int
gp_client_kill(gp_client *client, const gp_interrupt *interrupt)
{
    int rc = 0;

    if (gp_runtime_forked()) {
        return GP_EFORKED;
    }
    pthread_mutex_lock(&client->lock);
    client->kill_wanted = true;
    if (client->state == GP__CLIENT_NEW) {
        client->state = GP__CLIENT_OVER;
    }
    if (client->state == GP__CLIENT_STARTING) {
        /* The thread that starts it finds the process dead, or sees |kill_wanted|. */
        if (client->process != NULL && gp__client_launched(client)) {
            gp__process_kill(client->process);
        }
        rc = join(client, GP__CLIENT_STARTING, interrupt);
    }
    if (client->state == GP__CLIENT_RUNNING) {
        int ended;

        client->state = GP__CLIENT_KILLING;
        pthread_mutex_unlock(&client->lock);
        ended = gp__client_end(client, rc == 0 ? patience : 0, interrupt);
        rc = rc == 0 ? ended : rc;
        gp__registry_remove(client);
        pthread_mutex_lock(&client->lock);
        client->state = GP__CLIENT_OVER;
        pthread_cond_broadcast(&client->changed);
    } else if (client->state == GP__CLIENT_KILLING && !gp__delivery_current()) {
        /* (Whoever kills may be waiting for the delivery thread, which can't wait for him then.) */
        rc = join(client, GP__CLIENT_KILLING, interrupt);
    }
    pthread_mutex_unlock(&client->lock);
    return rc;
}
