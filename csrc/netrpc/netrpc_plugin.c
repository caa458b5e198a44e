#include "gp/netrpc_plugin.h"

#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "gp/container.h"
#include "gp/list.h"
#include "netrpc/acceptor.h"
#include "netrpc/control.h"
#include "netrpc/mux_broker.h"
#include "netrpc/server.h"
#include "netrpc/stdio_consumer.h"
#include "os/reactor.h"
#include "os/stdio_state.h"

enum {
    CHECK_MS = 5,     /* how often to check whether handlers still run, while ENDING */
    OUTPUT_MS = 1000, /* how long hosts have to read what was printed */
    OUTPUTS = 2,      /* streams for what is printed */
};

typedef enum plugin_phase { IDLE, SERVING, ENDING, FLUSHING, STOPPED } plugin_phase;

struct gp_netrpc_plugin {
    atomic_int refs; /* the owner's, and one for each connection */
    gp_netrpc_plugin_options options;

    gp_mutex lock; /* taken before the locks of transports and of |options.stdio| */
    gp_cond changed;
    plugin_phase phase GP_GUARDED_BY(&lock);
    gp__acceptor *acceptor GP_GUARDED_BY(&lock); /* owned; NULL: it does not listen */
    gp_list connections GP_GUARDED_BY(&lock);    /* those that are not over, with a reference */
    int64_t deadline GP_GUARDED_BY(&lock); /* ENDING: how long handlers are waited for, at most */
    gp__watch *timer GP_GUARDED_BY(&lock); /* owned; NULL: handlers have not been waited for */
    gp_then *then GP_GUARDED_BY(&lock);    /* called when STOPPED; NULL: none */
    void *then_ctx GP_GUARDED_BY(&lock);
};

/*
 * A host. References are those of the list, of the transport (until |over| has run), of each server
 * on the control stream (until its services are released), and of the consumer of the output.
 */
typedef struct connection {
    atomic_int refs;
    gp_link link;                 /* in |plugin->connections| */
    gp_netrpc_plugin *plugin;     /* shared: ref */
    gp__transport *transport;     /* shared: ref */
    gp_mux_broker *broker;        /* shared: ref */
    gp_netrpc_services *services; /* owned reference: of the control stream; NULL: handed over */
    gp__task add_output;          /* deferred when all of |output| are there */
    gp__task over;                /* deferred when the transport is over */
    gp_netrpc_request *quit;      /* to be answered; guarded by the plugin's lock. NULL: none */

    /* Guarded by the transport's lock. */
    int opened;                            /* streams that the host has opened */
    gp_netrpc_server *control;             /* shared: ref; NULL: not opened yet */
    gp__transport_stream *output[OUTPUTS]; /* owned: until |add_output| runs */
} connection;

struct gp_dispense {
    connection *connection; /* shared: ref */
    gp_netrpc_request *request;
    gp_bytes name; /* borrowed from |request| */
};

/* ---- References ------------------------------------------------------------------------------ */

static void
plugin_unref(gp_netrpc_plugin *plugin)
{
    if (atomic_fetch_sub(&plugin->refs, 1) != 1) {
        return;
    }
    if (plugin->options.release != NULL) {
        plugin->options.release(plugin->options.ctx);
    }
    gp_stdio_unref(plugin->options.stdio);
    gp_tls_unref(plugin->options.tls);
    gp_cond_release(&plugin->changed);
    gp_mutex_release(&plugin->lock);
    gp__free(plugin);
}

static connection *
connection_ref(connection *self)
{
    atomic_fetch_add(&self->refs, 1);
    return self;
}

static void
connection_unref(void *ctx)
{
    connection *self = ctx;

    if (atomic_fetch_sub(&self->refs, 1) != 1) {
        return;
    }
    gp_netrpc_server_unref(self->control);
    gp_netrpc_services_unref(self->services);
    gp_mux_broker_unref(self->broker);
    gp__transport_unref(self->transport);
    plugin_unref(self->plugin);
    gp__free(self);
}

/* ---- The services of the control stream ------------------------------------------------------ */

static void
answer_ping(void *ctx, void *data, gp_netrpc_request *request)
{
    (void)ctx;
    (void)data;
    gp__control_reply_nothing(request);
}

/*
 * Answered when the server has stopped: by then the host has got what was printed. Go's hosts close
 * the streams of the output once they have the answer.
 */
static void
answer_quit(void *ctx, void *data, gp_netrpc_request *request)
{
    connection *self = ctx;
    gp_netrpc_plugin *plugin = self->plugin;
    bool kept;

    (void)data;
    gp_mutex_lock(&plugin->lock);
    kept = self->quit == NULL && plugin->phase != STOPPED;
    if (kept) {
        self->quit = request;
    }
    gp_mutex_unlock(&plugin->lock);
    if (!kept) {
        gp__control_reply_nothing(request);
    }
    gp_netrpc_plugin_stop(plugin, plugin->options.quit_grace_ms);
}

/* On a worker. */
static void
answer_dispense(void *ctx, void *data, gp_netrpc_request *request)
{
    connection *self = ctx;
    gp_dispense *dispense = gp__calloc(1, sizeof(*dispense));
    gp_error err = GP_ERROR_INIT;
    int rc = dispense != NULL ? 0 : gp_error_set(&err, GP_ENOMEM, "out of memory");

    (void)data;
    if (rc == 0) {
        rc = gp__control_read_name(request, &dispense->name, &err);
    }
    if (rc < 0) {
        gp_netrpc_request_fail(request,
                               (gp_bytes){gp_error_message(&err), strlen(gp_error_message(&err))});
        gp__free(dispense);
    } else {
        dispense->connection = connection_ref(self);
        dispense->request = request;
        self->plugin->options.dispense(self->plugin->options.ctx, dispense);
    }
    gp_error_release(&err);
}

static const gp_netrpc_method control_methods[] = {
    {.name = "Ping", .handle = answer_ping, .quick = true},
    {.name = "Quit", .handle = answer_quit, .quick = true},
};
static const gp_netrpc_method dispenser_methods[] = {
    {.name = "Dispense", .handle = answer_dispense},
};
static const gp_netrpc_service services[] = {
    {"Control", control_methods, sizeof(control_methods) / sizeof(control_methods[0])},
    {"Dispenser", dispenser_methods, sizeof(dispenser_methods) / sizeof(dispenser_methods[0])},
};

gp_bytes
gp_dispense_name(const gp_dispense *dispense)
{
    return dispense->name;
}

gp_mux_broker *
gp_dispense_broker(const gp_dispense *dispense)
{
    return dispense->connection->broker;
}

void
gp_dispense_reply(gp_dispense *dispense, uint32_t id)
{
    gp__control_reply_id(dispense->request, id);
    connection_unref(dispense->connection);
    gp__free(dispense);
}

void
gp_dispense_fail(gp_dispense *dispense, gp_bytes text)
{
    gp_netrpc_request_fail(dispense->request, text);
    connection_unref(dispense->connection);
    gp__free(dispense);
}

/* ---- Connections ----------------------------------------------------------------------------- */

/* Called when the output has ended, or the host has closed its streams. */
static void
output_ended(void *ctx)
{
    connection_unref(ctx);
}

/* A deferred task. The connection has another reference, for output_ended(). */
static void
add_output(gp__task *task)
{
    connection *self = gp_container_of(task, connection, add_output);
    gp__transport_stream *streams[OUTPUTS];

    gp_mutex_lock(&self->transport->lock);
    memcpy(streams, self->output, sizeof(streams));
    memset(self->output, 0, sizeof(self->output));
    gp_mutex_unlock(&self->transport->lock);
    if (streams[0] == NULL || /* released by end_connection() */
        gp__stdio_consumer_add(self->plugin->options.stdio, self->transport, streams, output_ended,
                               self, NULL) < 0) {
        connection_unref(self);
    }
}

/* For gp__transport_options.accept. Called with the transport's lock held. */
GP_NO_THREAD_SAFETY_ANALYSIS static void
take_stream(void *ctx, gp__transport_stream *stream)
{
    connection *self = ctx;
    int number = self->opened;

    if (number > OUTPUTS) {
        gp__mux_broker_take_stream_locked(self->broker, stream);
        return;
    }
    self->opened++;
    if (number == 0) {
        /* If memory is short, the host finds the stream closed. */
        gp__netrpc_server_open_locked(&self->control, stream, self->services, NULL, NULL, NULL,
                                      NULL);
        gp_netrpc_services_unref(self->services); /* which had a reference to the connection */
        self->services = NULL;
        return;
    }
    gp__transport_stream_use_locked(stream, NULL, NULL);
    self->output[number - 1] = stream;
    if (number == OUTPUTS) {
        connection_ref(self);
        self->add_output.run = add_output;
        gp__transport_defer_locked(self->transport, &self->add_output);
    }
}

/* A deferred task: the transport is over. */
static void
end_connection(gp__task *task)
{
    connection *self = gp_container_of(task, connection, over);
    gp_netrpc_plugin *plugin = self->plugin;
    gp_netrpc_services *unused;
    gp_netrpc_server *control;
    gp_netrpc_request *quit;
    bool listed;

    gp_mutex_lock(&plugin->lock);
    listed = gp_link_is_linked(&self->link);
    gp_link_remove(&self->link);
    quit = self->quit;
    self->quit = NULL;
    gp_mutex_unlock(&plugin->lock);
    gp_mutex_lock(&self->transport->lock);
    for (int i = 0; i < OUTPUTS; i++) {
        gp__transport_stream_release_locked(self->output[i]);
        self->output[i] = NULL;
    }
    unused = self->services;
    self->services = NULL;
    control = self->control;
    self->control = NULL;
    gp_mutex_unlock(&self->transport->lock);
    if (quit != NULL) {
        gp__control_reply_nothing(quit);
    }
    gp_netrpc_services_unref(unused);
    gp_netrpc_server_unref(control);
    if (listed) {
        connection_unref(self);
    }
    connection_unref(self); /* the transport's */
}

/* For gp__transport_options.over. Called with the transport's lock held. */
GP_NO_THREAD_SAFETY_ANALYSIS static void
transport_over(void *ctx, const gp_error *why)
{
    connection *self = ctx;

    (void)why;
    gp__mux_broker_end_locked(self->broker);
    self->over.run = end_connection;
    gp__transport_defer_locked(self->transport, &self->over);
}

/* Returns NULL if memory is short; |stream| is closed then. */
static connection *
open_connection(gp_netrpc_plugin *plugin, gp__stream *stream)
{
    connection *self = gp__calloc(1, sizeof(*self));
    const gp__transport_options options = {
        .accept = take_stream, .over = transport_over, .ctx = self};

    if (self == NULL) {
        gp__stream_close(stream);
        return NULL;
    }
    atomic_init(&self->refs, 2); /* the transport's and the caller's */
    self->plugin = plugin;
    if (gp__transport_open(&self->transport, stream, &options, NULL) < 0) {
        gp__free(self);
        return NULL;
    }
    /*
     * The transport is not dispatched before the caller, which is on the reactor's thread, returns.
     */
    if (gp__mux_broker_new(&self->broker, self->transport, NULL) < 0) {
        goto fail_broker;
    }
    if (gp_netrpc_services_new(&self->services, services, sizeof(services) / sizeof(services[0]),
                               self, connection_unref, NULL) < 0) {
        goto fail_services;
    }
    connection_ref(self); /* of the services */
    atomic_fetch_add(&plugin->refs, 1);
    return self;

fail_services:
    gp_mux_broker_unref(self->broker);
fail_broker:
    gp__transport_unref(self->transport);
    gp__free(self);
    return NULL;
}

/* For gp__acceptor_options. On the reactor's thread. */
static void
accept_connection(void *ctx, gp__stream *stream)
{
    gp_netrpc_plugin *plugin = ctx;
    connection *self = open_connection(plugin, stream);
    bool serving;

    if (self == NULL) {
        return;
    }
    gp_mutex_lock(&plugin->lock);
    serving = plugin->phase == SERVING;
    if (serving) {
        gp_list_append(&plugin->connections, &self->link);
    }
    gp_mutex_unlock(&plugin->lock);
    if (!serving) {
        gp__transport_close(self->transport, NULL, 0);
        connection_unref(self);
    }
}

/* ---- The end --------------------------------------------------------------------------------- */

static size_t count_unanswered_locked(gp_netrpc_plugin *plugin) GP_REQUIRES(&plugin->lock);
static connection *next_quitting_locked(gp_netrpc_plugin *plugin) GP_REQUIRES(&plugin->lock);

/* Requests for which a handler has not answered yet. */
static size_t
count_unanswered_locked(gp_netrpc_plugin *plugin)
{
    connection *self = gp_list_first_entry(&plugin->connections, connection, link);
    size_t count = 0;

    for (; self != NULL; self = gp_list_next_entry(&plugin->connections, self, connection, link)) {
        gp_mutex_lock(&self->transport->lock);
        count += gp__mux_broker_unanswered_locked(self->broker);
        if (self->control != NULL) {
            count += gp__netrpc_server_unanswered_locked(self->control) - (self->quit != NULL);
        }
        gp_mutex_unlock(&self->transport->lock);
    }
    return count;
}

static connection *
next_quitting_locked(gp_netrpc_plugin *plugin)
{
    connection *self = gp_list_first_entry(&plugin->connections, connection, link);

    while (self != NULL && self->quit == NULL) {
        self = gp_list_next_entry(&plugin->connections, self, connection, link);
    }
    return self;
}

/* Hosts have got what was printed, or do not read it. For gp__stdio_on_ended(). */
static void
finish_stop(void *ctx)
{
    gp_netrpc_plugin *plugin = ctx;
    connection *self;
    gp_then *then;
    void *then_ctx;

    gp_mutex_lock(&plugin->lock);
    while ((self = next_quitting_locked(plugin)) != NULL) {
        gp_netrpc_request *quit = self->quit;

        self->quit = NULL;
        gp_mutex_unlock(&plugin->lock);
        gp__control_reply_nothing(quit);
        gp_mutex_lock(&plugin->lock);
    }
    plugin->phase = STOPPED;
    then = plugin->then;
    then_ctx = plugin->then_ctx;
    plugin->then = NULL;
    gp_cond_broadcast(&plugin->changed);
    gp_mutex_unlock(&plugin->lock);
    if (then != NULL) {
        then(then_ctx);
    }
    plugin_unref(plugin);
}

/* For the timer, and once when ENDING begins. */
static void
check_handlers(void *ctx)
{
    gp_netrpc_plugin *plugin = ctx;
    gp__watch *timer = NULL;
    bool ends;

    gp_mutex_lock(&plugin->lock);
    ends = plugin->phase == ENDING;
    if (ends && gp__now() < plugin->deadline && count_unanswered_locked(plugin) > 0) {
        ends = plugin->timer == NULL &&
               gp__reactor_every(&plugin->timer, CHECK_MS, check_handlers, plugin, NULL) < 0;
    }
    if (ends) {
        plugin->phase = FLUSHING;
        timer = plugin->timer;
        plugin->timer = NULL;
        atomic_fetch_add(&plugin->refs, 1); /* of finish_stop() */
    }
    gp_mutex_unlock(&plugin->lock);
    gp__reactor_remove(timer);
    if (ends) {
        gp__stdio_on_ended(plugin->options.stdio, finish_stop, plugin);
        gp_stdio_finish(plugin->options.stdio, OUTPUT_MS);
    }
}

void
gp_netrpc_plugin_stop(gp_netrpc_plugin *plugin, int64_t grace_ms)
{
    int64_t deadline = gp_deadline_in(grace_ms);
    gp__acceptor *acceptor;

    if (gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&plugin->lock);
    if (plugin->phase < ENDING) {
        plugin->phase = ENDING;
        plugin->deadline = deadline;
    } else if (deadline < plugin->deadline) {
        plugin->deadline = deadline;
    }
    acceptor = plugin->acceptor;
    plugin->acceptor = NULL;
    gp_mutex_unlock(&plugin->lock);
    gp__acceptor_close(acceptor);
    check_handlers(plugin);
}

int
gp_netrpc_plugin_wait(gp_netrpc_plugin *plugin, int64_t timeout_ms, const gp_interrupt *interrupt)
{
    int64_t deadline = gp_deadline_in(timeout_ms);
    int rc = 0;

    if (gp_runtime_forked()) {
        return GP_ETIMEOUT;
    }
    gp_mutex_lock(&plugin->lock);
    while (rc == 0 && plugin->phase != STOPPED) {
        rc = gp__cond_wait_interruptible(&plugin->changed, &plugin->lock, deadline, interrupt);
    }
    gp_mutex_unlock(&plugin->lock);
    return rc;
}

void
gp_netrpc_plugin_on_stopped(gp_netrpc_plugin *plugin, gp_then *then, void *ctx)
{
    gp_mutex_lock(&plugin->lock);
    plugin->then = then;
    plugin->then_ctx = ctx;
    gp_mutex_unlock(&plugin->lock);
}

bool
gp_netrpc_plugin_stopping(gp_netrpc_plugin *plugin)
{
    bool stopping;

    if (gp_runtime_forked()) {
        return true;
    }
    gp_mutex_lock(&plugin->lock);
    stopping = plugin->phase >= ENDING;
    gp_mutex_unlock(&plugin->lock);
    return stopping;
}

/* The connection of that number, with a reference; NULL: there are not so many. */
static connection *
find_connection(gp_netrpc_plugin *plugin, int number)
{
    connection *self;

    gp_mutex_lock(&plugin->lock);
    self = gp_list_first_entry(&plugin->connections, connection, link);
    for (; self != NULL && number > 0; number--) {
        self = gp_list_next_entry(&plugin->connections, self, connection, link);
    }
    if (self != NULL) {
        connection_ref(self);
    }
    gp_mutex_unlock(&plugin->lock);
    return self;
}

void
gp_netrpc_plugin_drain(gp_netrpc_plugin *plugin, int64_t timeout_ms)
{
    int64_t deadline = gp_deadline_in(timeout_ms);
    connection *self;

    for (int i = 0; !gp_runtime_forked() && (self = find_connection(plugin, i)) != NULL; i++) {
        int64_t left_ms = (deadline - gp__now()) / GP__MS;

        gp__transport_drain(self->transport, left_ms > 0 ? left_ms : 0);
        connection_unref(self);
    }
}

void
gp_netrpc_plugin_close(gp_netrpc_plugin *plugin, int64_t linger_ms)
{
    int64_t deadline = gp_deadline_in(linger_ms);
    connection *self;

    if (gp_runtime_forked()) {
        return;
    }
    gp_netrpc_plugin_stop(plugin, 0);
    gp_mutex_lock(&plugin->lock);
    while ((self = gp_list_first_entry(&plugin->connections, connection, link)) != NULL) {
        int64_t left_ms = (deadline - gp__now()) / GP__MS;

        gp_link_remove(&self->link); /* with the list's reference */
        gp_mutex_unlock(&plugin->lock);
        gp__transport_close(self->transport, NULL, left_ms > 0 ? left_ms : 0);
        connection_unref(self);
        gp_mutex_lock(&plugin->lock);
    }
    gp_mutex_unlock(&plugin->lock);
}

/* ---- Making ---------------------------------------------------------------------------------- */

int
gp_netrpc_plugin_new(gp_netrpc_plugin **out, const gp_netrpc_plugin_options *options, gp_error *err)
{
    gp_netrpc_plugin *plugin;

    if (gp_runtime_init() < 0) {
        return gp_error_set(err, GP_EOS, "cannot install the fork guard");
    }
    if (gp_runtime_forked()) {
        return gp_runtime_refuse_fork(err);
    }
    plugin = gp__calloc(1, sizeof(*plugin));
    if (plugin == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a server");
    }
    atomic_init(&plugin->refs, 1);
    plugin->options = *options;
    plugin->options.stdio = gp_stdio_ref(options->stdio);
    plugin->options.tls = options->tls != NULL ? gp_tls_ref(options->tls) : NULL;
    gp_mutex_init(&plugin->lock);
    gp_cond_init(&plugin->changed);
    gp_mutex_lock(&plugin->lock);
    gp_list_init(&plugin->connections);
    gp_mutex_unlock(&plugin->lock);
    *out = plugin;
    return 0;
}

int
gp_netrpc_plugin_listen(gp_netrpc_plugin *plugin, const char *network, const char *address,
                        int *port, gp_error *err)
{
    const gp__acceptor_options options = {
        .network = network,
        .address = address,
        .tls = plugin->options.tls,
        .accepted = accept_connection,
        .ctx = plugin,
    };
    gp__acceptor *acceptor;
    int rc = gp__acceptor_open(&acceptor, &options, port, err);

    if (rc == 0) {
        gp_mutex_lock(&plugin->lock);
        plugin->acceptor = acceptor;
        gp_mutex_unlock(&plugin->lock);
    }
    return rc;
}

int
gp_netrpc_plugin_start(gp_netrpc_plugin *plugin, gp_error *err)
{
    int rc;

    if (gp_runtime_forked()) {
        return gp_runtime_refuse_fork(err);
    }
    gp_mutex_lock(&plugin->lock);
    if (plugin->phase != IDLE || plugin->acceptor == NULL) {
        rc = gp_error_set(err, GP_EINVAL, "a server starts once, after it has begun to listen");
    } else {
        plugin->phase = SERVING;
        rc = gp__acceptor_start(plugin->acceptor, err);
    }
    gp_mutex_unlock(&plugin->lock);
    return rc;
}

void
gp_netrpc_plugin_release(gp_netrpc_plugin *plugin)
{
    if (plugin != NULL && !gp_runtime_forked()) {
        gp_netrpc_plugin_close(plugin, 0);
        plugin_unref(plugin);
    }
}
