#include "plugin/client.h"

#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "gp/lock.h"
#include "os/process/diagnosis.h"
#include "plugin/delivery.h"
#include "plugin/instance.h"
#include "plugin/registry.h"

/* How long to wait for a runner that is starting a process which is to be killed. */
static const int64_t runner_ms = 5000;

/*
 *      NEW --> STARTING --> RUNNING --> KILLING --> OVER
 *       |          '----------------------------> FAILED
 *       '---- killed before start ----------------> OVER
 */
typedef enum client_state { NEW, STARTING, RUNNING, KILLING, OVER, FAILED } client_state;

struct gp_client {
    atomic_int refs;          /* the user's, and one for each thread in gp_client_kill_all() */
    unsigned generation;      /* gp_runtime_generation() of the process that made the client */
    char *name;               /* owned: begins every message */
    gp__options options;      /* owned */
    gp__registry_entry entry; /* registered from the start until the plugin has ended */

    /*
     * Owned. Used without the lock, by one thread at a time: by |worker| while STARTING or KILLING,
     * and by the thread with the last reference. From RUNNING on, any thread may use its session.
     */
    gp__instance instance;

    /*
     * Guards the fields below. It is not held while the worker starts or kills the plugin, during
     * callbacks, or together with the registry's lock.
     */
    gp_mutex lock;
    gp_cond changed; /* signalled when |state| changes */
    client_state state GP_GUARDED_BY(&lock);
    pthread_t worker GP_GUARDED_BY(&lock); /* the thread that is starting or killing the plugin */
    bool kill_wanted GP_GUARDED_BY(&lock); /* gp_client_kill() was called */
    bool kill_is_due GP_GUARDED_BY(&lock); /* gp_client_kill() was called by |worker| */
    gp__process *process GP_GUARDED_BY(&lock); /* shared: ref; NULL: none, or unknown */
    gp_error failure GP_GUARDED_BY(&lock);     /* why the start failed, once FAILED */
};

/* Whether this process is a forked child, and the client belongs to its parent. */
static bool
belongs_to_parent(const gp_client *client)
{
    return gp_runtime_forked() || client->generation != gp_runtime_generation();
}

/* ---- Making and freeing ---------------------------------------------------------------------- */

static int
discard_log(void *ctx, const gp_log_batch *batch)
{
    (void)ctx;
    (void)batch;
    return GP_ERROR + 1;
}

/* The plugin's name: see gp_client_options. Owned by the caller. */
static char *
make_name(const gp_client_options *options)
{
    const char *program = options->argv != NULL ? options->argv[0] : NULL;
    const char *slash;

    if (options->name != NULL) {
        return gp__strdup(options->name);
    }
    if (options->reattach_network != NULL) {
        return gp__strdup(options->reattach_address);
    }
    slash = strrchr(program, '/');
    return gp__strdup(slash != NULL && slash[1] != '\0' ? slash + 1 : program);
}

/* The client owns the sinks and the runner from here on; if this fails, they have been released. */
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
    if (options->log.deliver == NULL) {
        client->options.view.log = (gp_log_sink){.deliver = discard_log, .level = GP_ERROR + 1};
    }
    gp_cond_init(&client->changed);
    gp_mutex_init(&client->lock);
    atomic_init(&client->refs, 1);
    client->generation = gp_runtime_generation();
    gp__instance_init(&client->instance, &client->options);
    return 0;

fail_name:
    gp__options_release(&client->options);
    return rc;
}

int
gp_client_new(gp_client **out, const gp_client_options *options, gp_error *err)
{
    gp_client *client;
    int rc = gp_runtime_init();

    if (rc < 0) {
        gp_error_set(err, rc, "the fork guard could not be installed");
        goto fail_runtime;
    }
    if (gp_runtime_forked()) {
        rc = gp_runtime_refuse_fork(err);
        goto fail_runtime;
    }
    client = gp__calloc(1, sizeof(*client));
    if (client == NULL) {
        rc = gp_error_set(err, GP_ENOMEM, "out of memory for a plugin client");
        goto fail_runtime;
    }
    rc = client_init(client, options, err);
    if (rc < 0) {
        gp__free(client);
        return rc;
    }
    *out = client;
    return 0;

fail_runtime:
    gp__options_discard(options);
    return rc;
}

gp_client *
gp__client_ref(gp_client *client)
{
    atomic_fetch_add(&client->refs, 1);
    return client;
}

static client_state
state_of(gp_client *client)
{
    client_state state;

    gp_mutex_lock(&client->lock);
    state = client->state;
    gp_mutex_unlock(&client->lock);
    return state;
}

/* The last reference is gone, so no other thread uses the client. */
static void
client_destroy(gp_client *client) GP_NO_THREAD_SAFETY_ANALYSIS
{
    if (client->state == RUNNING) {
        gp__instance_abandon(&client->instance);
    }
    gp__instance_release(&client->instance);
    gp__process_unref(client->process);
    gp_error_release(&client->failure);
    gp_cond_release(&client->changed);
    gp_mutex_release(&client->lock);
    gp__free(client->name);
    gp__options_release(&client->options);
    gp__free(client);
}

void
gp__client_unref(gp_client *client)
{
    if (atomic_fetch_sub(&client->refs, 1) == 1) {
        client_destroy(client);
    }
}

void
gp_client_free(gp_client *client)
{
    if (client != NULL && !belongs_to_parent(client)) {
        gp__registry_remove(&client->entry);
        gp__client_unref(client);
    }
}

/* ---- Starting -------------------------------------------------------------------------------- */

/*
 * The interrupt of a start: ends its waits when the client is to be killed, or when the caller's
 * own interrupt says so.
 */
typedef struct start_interrupt {
    gp_client *client;
    const gp_interrupt *callers; /* borrowed: the caller's; NULL: none */
    bool killed;                 /* the last check found that the client is to be killed */
} start_interrupt;

static int
check_start(void *ctx)
{
    start_interrupt *self = ctx;

    gp_mutex_lock(&self->client->lock);
    self->killed = self->client->kill_wanted;
    gp_mutex_unlock(&self->client->lock);
    return self->killed ? 1 : gp__interrupted(self->callers);
}

/*
 * Let threads that kill the client find the process. If gp_client_kill() has been called before
 * this, kill the process now.
 */
static void
publish_process(gp_client *client)
{
    gp__process *process = client->instance.process;
    bool late;

    if (process == NULL) {
        return;
    }
    gp__process_set_name(process, client->name);
    gp_mutex_lock(&client->lock);
    client->process = gp__process_ref(process);
    late = client->kill_wanted && gp__instance_is_launched(&client->instance);
    gp_mutex_unlock(&client->lock);
    if (late) {
        gp__process_kill(process);
    }
}

/* Try to start the plugin, which is done only once. On failure nothing is left running. */
static int
attempt_start(gp_client *client, const gp_interrupt *interrupt, gp_error *err)
{
    start_interrupt stop = {.client = client, .callers = interrupt};
    const gp_interrupt either = {.check = check_start, .ctx = &stop};
    int rc = gp__instance_find(&client->instance, &either, err);

    if (rc == 0) {
        publish_process(client);
        rc = gp__instance_connect(&client->instance, &either, err);
    }
    return rc == GP_EUSER && stop.killed ? GP_ECLOSED : rc;
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

static int record_failure_locked(gp_client *client, int rc, gp_error *failure, gp_error *err)
    GP_REQUIRES(&client->lock);

/*
 * The start has failed with |rc|: complete |failure|, and copy it to |err| for this caller, and to
 * the client for later callers.
 */
static int
record_failure_locked(gp_client *client, int rc, gp_error *failure, gp_error *err)
{
    if (client->kill_wanted && rc != GP_EUSER) {
        rc = gp_error_set(failure, GP_ECLOSED, "it was killed while it started");
    }
    rc = gp__as_start_error(rc, failure);
    gp_error_prefix(failure, "%s", client->name);
    copy_failure(failure, err);
    if (rc == GP_EUSER) { /* the interrupt was meant for this caller alone */
        gp_error_set(&client->failure, GP_ECLOSED, "%s: its start was interrupted", client->name);
    } else {
        copy_failure(failure, &client->failure);
    }
    client->state = FAILED;
    return rc;
}

/* Called by the worker, in the state STARTING. */
static int
start_client(gp_client *client, const gp_interrupt *interrupt, gp_error *err)
{
    gp_error failure = GP_ERROR_INIT;
    bool kill_is_due;
    int rc;

    gp__registry_add(&client->entry, client);
    rc = attempt_start(client, interrupt, &failure);
    if (rc < 0) {
        gp__registry_remove(&client->entry);
    }
    gp_mutex_lock(&client->lock);
    if (rc < 0) {
        rc = record_failure_locked(client, rc, &failure, err);
    } else {
        client->state = RUNNING;
    }
    kill_is_due = rc == 0 && client->kill_is_due; /* too late for the start to notice */
    gp_cond_broadcast(&client->changed);
    gp_mutex_unlock(&client->lock);
    gp_error_release(&failure);
    if (kill_is_due) {
        gp_client_kill(client, interrupt);
        rc = gp_error_set(err, GP_ECLOSED, "%s: it was killed while it started", client->name);
    }
    return rc;
}

static bool is_at_work_locked(const gp_client *client) GP_REQUIRES(&client->lock);

static bool
is_at_work_locked(const gp_client *client)
{
    return (client->state == STARTING || client->state == KILLING) &&
           pthread_equal(client->worker, pthread_self());
}

bool
gp__client_is_at_work(gp_client *client)
{
    bool at_work;

    gp_mutex_lock(&client->lock);
    at_work = is_at_work_locked(client);
    gp_mutex_unlock(&client->lock);
    return at_work;
}

int
gp_client_start(gp_client *client, const gp_interrupt *interrupt, gp_error *err)
{
    int rc = 0;

    if (belongs_to_parent(client)) {
        return gp_runtime_refuse_fork(err);
    }
    gp_mutex_lock(&client->lock);
    if (client->state == STARTING && is_at_work_locked(client)) {
        gp_mutex_unlock(&client->lock);
        return gp_error_set(err, GP_ECLOSED, "%s: this thread is starting it already",
                            client->name);
    }
    while (rc == 0 && client->state == STARTING) {
        rc = gp__cond_wait_interruptible(&client->changed, &client->lock, GP__FOREVER, interrupt);
    }
    if (rc < 0) {
        gp_error_set(err, rc, "%s: waiting for its start was interrupted", client->name);
    } else if (client->state == NEW) {
        client->state = STARTING;
        client->worker = pthread_self();
        gp_mutex_unlock(&client->lock);
        return start_client(client, interrupt, err);
    } else if (client->state == FAILED) {
        rc = copy_failure(&client->failure, err);
    } else if (client->state != RUNNING) {
        rc = gp_error_set(err, GP_ECLOSED, "%s: it was killed; a client starts only once",
                          client->name);
    }
    gp_mutex_unlock(&client->lock);
    return rc;
}

/* ---- Killing --------------------------------------------------------------------------------- */

static bool runner_is_starting_locked(const gp_client *client) GP_REQUIRES(&client->lock);

/*
 * Whether a runner is starting the process. Then there is no process to kill, and the runner may
 * take for ever.
 */
static bool
runner_is_starting_locked(const gp_client *client)
{
    return client->state == STARTING && client->process == NULL &&
           client->options.view.runner.start != NULL;
}

void
gp__client_forget_if_runner_starts(gp_client *client)
{
    bool starting;

    gp_mutex_lock(&client->lock);
    starting = runner_is_starting_locked(client);
    gp_mutex_unlock(&client->lock);
    if (starting) {
        gp__registry_remove(&client->entry);
    }
}

static int wait_while_locked(gp_client *client, client_state state, const gp_interrupt *interrupt)
    GP_REQUIRES(&client->lock);

/*
 * Wait while the state is |state|; but while a runner is starting the process, only for a limited
 * time, after which the state may still be |state|. Returns 0 or GP_EUSER.
 */
static int
wait_while_locked(gp_client *client, client_state state, const gp_interrupt *interrupt)
{
    int64_t runner_deadline = gp_deadline_in(runner_ms);
    int rc = 0;

    while (rc == 0 && client->state == state) {
        int64_t deadline = runner_is_starting_locked(client) ? runner_deadline : GP__FOREVER;

        if (gp__now() >= deadline) {
            return 0;
        }
        rc = gp__cond_wait_interruptible(&client->changed, &client->lock, deadline, interrupt);
        rc = rc == GP_ETIMEOUT ? 0 : rc;
    }
    return rc;
}

static void kill_process_locked(gp_client *client) GP_REQUIRES(&client->lock);

/* Kill the process. Releases and re-acquires the lock meanwhile, since this may block. */
static void
kill_process_locked(gp_client *client)
{
    gp__process *process = gp__process_ref(client->process);

    gp_mutex_unlock(&client->lock);
    gp__process_kill(process);
    gp__process_unref(process);
    gp_mutex_lock(&client->lock);
}

static int await_worker_locked(gp_client *client, client_state state, const gp_interrupt *interrupt)
    GP_REQUIRES(&client->lock);

/*
 * Wait until the worker, which is another thread, has left |state|. After an interrupt, kill the
 * process at once, since the worker may be waiting for its end. Returns 0 or GP_EUSER.
 */
static int
await_worker_locked(gp_client *client, client_state state, const gp_interrupt *interrupt)
{
    int rc = wait_while_locked(client, state, interrupt);

    if (rc < 0) {
        if (client->process != NULL && gp__instance_is_to_be_killed(&client->instance)) {
            kill_process_locked(client);
        }
        if (!runner_is_starting_locked(client)) {
            wait_while_locked(client, state, NULL);
        }
    }
    return rc;
}

/* Called by the worker, in the state KILLING. Returns 0 or GP_EUSER. */
static int
end_client(gp_client *client, int64_t patience_ms, const gp_interrupt *interrupt)
{
    gp__instance *instance = &client->instance;
    int rc = gp__instance_end(instance, patience_ms, interrupt);

    if (instance->process != NULL && gp__process_gone(instance->process)) {
        gp__instance_report_exit(instance);
    }
    gp__registry_remove(&client->entry);
    gp_mutex_lock(&client->lock);
    client->state = OVER;
    gp_cond_broadcast(&client->changed);
    gp_mutex_unlock(&client->lock);
    return rc;
}

static int interrupt_start_locked(gp_client *client, const gp_interrupt *interrupt)
    GP_REQUIRES(&client->lock);

/*
 * Called in the state STARTING: make the start fail, and wait for its end. The worker finds the
 * process dead, or its waits are interrupted because of |kill_wanted|; it may also just have
 * succeeded. Returns 0 or GP_EUSER.
 */
static int
interrupt_start_locked(gp_client *client, const gp_interrupt *interrupt)
{
    if (client->process != NULL && gp__instance_is_launched(&client->instance)) {
        kill_process_locked(client);
    }
    if (is_at_work_locked(client)) {
        client->kill_is_due = true;
        return 0;
    }
    return await_worker_locked(client, STARTING, interrupt);
}

int
gp_client_kill(gp_client *client, const gp_interrupt *interrupt)
{
    int rc = 0;

    if (belongs_to_parent(client)) {
        return GP_EFORKED;
    }
    gp_mutex_lock(&client->lock);
    client->kill_wanted = true;
    if (client->state == NEW) {
        client->state = OVER;
    }
    if (client->state == STARTING) {
        rc = interrupt_start_locked(client, interrupt);
    }
    if (client->state == RUNNING) {
        int ended;

        client->state = KILLING;
        client->worker = pthread_self();
        gp_mutex_unlock(&client->lock);
        ended = end_client(client, rc == 0 ? client->options.view.kill_timeout_ms : 0, interrupt);
        return rc == 0 ? ended : rc;
    }
    /* The worker may be waiting for the delivery thread, which must not wait for the worker. */
    if (client->state == KILLING && !gp__delivery_current() && !is_at_work_locked(client)) {
        rc = await_worker_locked(client, KILLING, interrupt);
    }
    gp_mutex_unlock(&client->lock);
    return rc;
}

bool
gp__client_is_killed_with_all(const gp_client *client, bool managed_only)
{
    const gp_client_options *options = &client->options.view;

    return options->managed ||
           (!managed_only && gp__instance_is_launched(&client->instance) && !options->detach);
}

/* ---- Asking ---------------------------------------------------------------------------------- */

/* Whether |state| comes after a start that has succeeded. */
static bool
is_started(const gp_client *client, client_state state)
{
    return state == RUNNING || state == KILLING ||
           (state == OVER && client->instance.session != NULL);
}

/*
 * Whether the start has succeeded. Takes no lock in a forked child, where it may be held for ever.
 */
static bool
was_started(gp_client *client)
{
    return !belongs_to_parent(client) && is_started(client, state_of(client));
}

/* The plugin's process, with a reference; NULL if there is none. */
static gp__process *
process_of(gp_client *client)
{
    gp__process *process;

    if (belongs_to_parent(client)) {
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
    return was_started(client) ? &client->instance.endpoint.view : NULL;
}

gp_channel *
gp_client_channel(gp_client *client)
{
    return was_started(client) ? gp__session_channel(client->instance.session) : NULL;
}

gp_broker *
gp_client_broker(gp_client *client)
{
    return was_started(client) ? gp__session_broker(client->instance.session) : NULL;
}

gp_mux_broker *
gp_client_mux_broker(gp_client *client)
{
    return was_started(client) ? gp__session_mux_broker(client->instance.session) : NULL;
}

void
gp__client_cancel_calls(gp_client *client)
{
    if (was_started(client)) {
        gp__session_cancel_calls(client->instance.session);
    }
}

/* If the plugin has exited, add that to |err|: it explains a failed call better than gRPC does. */
static void
add_exit(gp_client *client, const gp_interrupt *interrupt, gp_error *err)
{
    gp__process *process = process_of(client);
    char how[GP_EXIT_TEXT];

    if (err != NULL && process != NULL && gp_client_await_exit(client, interrupt)) {
        gp_client_describe_exit(client, how);
        /* If the call has failed for want of a connection, its message says so already. */
        if (strstr(gp_error_message(err), how) == NULL) {
            gp_error_prefix(err, "the plugin %s", how);
        }
    }
    gp__process_unref(process);
}

/* Returns: 0, GP_ECLOSED or GP_EFORKED. */
static int
require_running(gp_client *client, gp_error *err)
{
    client_state state;

    if (belongs_to_parent(client)) {
        return gp_runtime_refuse_fork(err);
    }
    state = state_of(client);
    if (state == RUNNING) {
        return 0;
    }
    return gp_error_set(err, GP_ECLOSED, "%s: it %s", client->name,
                        state == KILLING || state == OVER ? "was killed" : "has not been started");
}

int
gp_client_ping(gp_client *client, int64_t timeout_ms, const gp_interrupt *interrupt, gp_error *err)
{
    int rc = require_running(client, err);

    if (rc < 0) {
        return rc;
    }
    rc = gp__session_ping(client->instance.session, timeout_ms, interrupt, err);
    if (rc == GP_ERPC) {
        add_exit(client, interrupt, err);
    }
    return rc;
}

int
gp_client_dispense(gp_client *client, const char *name, const gp_gob_limits *limits,
                   int64_t deadline, const gp_interrupt *interrupt, gp_netrpc_client **out,
                   gp_error *err)
{
    int rc = require_running(client, err);

    if (rc < 0) {
        return rc;
    }
    rc =
        gp__session_dispense(client->instance.session, name, limits, deadline, interrupt, out, err);
    if (rc == GP_ECLOSED || rc == GP_EBROKER) {
        add_exit(client, interrupt, err);
    }
    return rc;
}

bool
gp_client_exited(gp_client *client)
{
    gp__instance *instance = &client->instance;
    gp__process *process;
    client_state state;
    bool exited;

    if (belongs_to_parent(client)) {
        return true; /* as far as this process is concerned */
    }
    state = state_of(client);
    process = process_of(client);
    if (state == OVER) {
        exited = is_started(client, state);
    } else if (process != NULL) {
        exited = gp__instance_is_gone(instance, process, is_started(client, state));
    } else {
        exited = state == RUNNING && gp__instance_is_deserted(instance);
    }
    gp__process_unref(process);
    return exited;
}

bool
gp_client_await_exit(gp_client *client, const gp_interrupt *interrupt)
{
    gp__process *process = process_of(client);
    bool exited;

    if (process != NULL && !belongs_to_parent(client) && state_of(client) == RUNNING) {
        exited = gp__instance_await_gone(&client->instance, process, interrupt);
    } else {
        exited = gp_client_exited(client);
    }
    gp__process_unref(process);
    return exited;
}

int
gp_client_exit_status(gp_client *client)
{
    gp__process *process = process_of(client);
    int status = process != NULL ? gp__process_status(process) : GP_STATUS_UNKNOWN;

    gp__process_unref(process);
    return status;
}

const char *
gp_client_describe_exit(gp_client *client, char out[GP_EXIT_TEXT])
{
    return gp__process_describe_exit(gp_client_exit_status(client), out, GP_EXIT_TEXT);
}

_Static_assert(GP_CLIENT_STDERR == GP__TAIL + 1, "the tail of stderr fits");

const char *
gp_client_stderr(gp_client *client, char out[GP_CLIENT_STDERR])
{
    gp__process *process = process_of(client);

    out[0] = '\0';
    if (process != NULL) {
        gp__tail_text(gp__process_tail(process), out);
    }
    gp__process_unref(process);
    return out;
}

int
gp_client_pid(gp_client *client)
{
    gp__process *process = process_of(client);
    int pid = process != NULL ? gp__process_pid(process) : -1;

    gp__process_unref(process);
    return pid;
}

unsigned long long
gp_client_start_time(gp_client *client)
{
    gp__process *process = process_of(client);
    unsigned long long start_time = process != NULL ? gp__process_start_time(process) : 0;

    gp__process_unref(process);
    return start_time;
}
