#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "gp/netrpc.h"
#include "netrpc/acceptor.h"
#include "netrpc/server.h"

/* How long to wait in all for answers that are not sent yet when the listener is closed. */
enum { LINGER_MS = 1000 };

/* Order of locks: a connection's transport's, then the listener's. */
struct gp_netrpc_listener {
    atomic_int refs;              /* its owner's, and its connections' */
    gp_netrpc_services *services; /* shared: ref; NULL: closed. Used by the reactor until then */
    gp_netrpc_server_options options;
    gp_gob_limits limits; /* what |options.limits| points to, if it is not NULL */
    char *path;           /* owned; of a unix socket, else NULL */
    gp_mutex lock;
    gp_cond changed;                             /* |closed| was set, or a connection has gone */
    gp__acceptor *acceptor GP_GUARDED_BY(&lock); /* owned; NULL: closed */
    gp_list connections GP_GUARDED_BY(&lock);    /* of struct connection */
    bool closed GP_GUARDED_BY(&lock);
};

/* One connection. It is in the listener's list until it is over and its server is finished. */
typedef struct connection {
    gp_link link;                 /* in the listener's |connections| */
    gp_netrpc_listener *listener; /* shared: ref */
    gp__transport *transport;     /* shared: ref */
    gp_netrpc_server *server;     /* shared: ref */
    /* One until the connection is over, one until the server is finished, and others' meanwhile. */
    atomic_int refs;
    bool closing; /* guarded by the listener's lock: gp_netrpc_listener_close() has taken it */
    gp__task over;
} connection;

static void
unref_listener(gp_netrpc_listener *listener)
{
    if (atomic_fetch_sub_explicit(&listener->refs, 1, memory_order_acq_rel) == 1) {
        gp_netrpc_services_unref(listener->services);
        gp_mutex_release(&listener->lock);
        gp_cond_release(&listener->changed);
        gp__free(listener->path);
        gp__free(listener);
    }
}

/* ---- Connections ----------------------------------------------------------------------------- */

/* Not with a lock held. */
static void
unref_connection(connection *self)
{
    gp_netrpc_listener *listener = self->listener;

    if (atomic_fetch_sub_explicit(&self->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    gp_netrpc_server_unref(self->server);
    gp__transport_unref(self->transport);
    gp_mutex_lock(&listener->lock);
    gp_link_remove(&self->link);
    gp_cond_broadcast(&listener->changed);
    gp_mutex_unlock(&listener->lock);
    gp__free(self);
    unref_listener(listener);
}

static void
handle_finished(void *ctx)
{
    unref_connection(ctx);
}

/* For gp__transport_defer_locked(). */
static void
handle_over_later(gp__task *task)
{
    unref_connection(gp_container_of(task, connection, over));
}

/* For gp__transport_options.over. Not analysed, since it is called with the lock held. */
GP_NO_THREAD_SAFETY_ANALYSIS static void
handle_over(void *ctx, const gp_error *why)
{
    connection *self = ctx;

    (void)why;
    self->over.run = handle_over_later;
    gp__transport_defer_locked(self->transport, &self->over);
}

static int open_server_locked(connection *self, gp_error *err) GP_REQUIRES(&self->transport->lock);

/* For the time between opening the stream and using it. */
static const gp__transport_stream_ops no_ops;

static int
open_server_locked(connection *self, gp_error *err)
{
    gp_netrpc_listener *listener = self->listener;
    gp__transport_stream *stream;
    int rc = gp__transport_stream_open_locked(&stream, self->transport, &no_ops, NULL, err);

    return rc < 0 ? rc
                  : gp__netrpc_server_open_locked(&self->server, stream, listener->services,
                                                  &listener->options, handle_finished, self, err);
}

/* Put |self| into the listener's list. Returns false if the listener is closed. */
static bool
add_connection(connection *self)
{
    gp_netrpc_listener *listener = self->listener;
    bool added;

    gp_mutex_lock(&listener->lock);
    added = !listener->closed;
    if (added) {
        gp_list_append(&listener->connections, &self->link);
    }
    gp_mutex_unlock(&listener->lock);
    return added;
}

/* For gp__acceptor_options. On the reactor's thread. If memory is short, the connection ends. */
static void
serve_connection(void *ctx, gp__stream *stream)
{
    gp_netrpc_listener *listener = ctx;
    connection *self = gp__calloc(1, sizeof(*self));
    const gp__transport_options options = {.raw = true, .over = handle_over, .ctx = self};
    int rc;

    if (self == NULL) {
        gp__stream_close(stream);
        return;
    }
    /* The first two are dropped by handle_over() and handle_finished(), the third one here. */
    atomic_init(&self->refs, 3);
    self->listener = listener;
    if (gp__transport_open(&self->transport, stream, &options, NULL) < 0) {
        gp__free(self);
        return;
    }
    atomic_fetch_add_explicit(&listener->refs, 1, memory_order_relaxed);
    gp_mutex_lock(&self->transport->lock);
    rc = open_server_locked(self, NULL);
    gp_mutex_unlock(&self->transport->lock);
    if (rc < 0) {
        unref_connection(self); /* there is no server to be finished */
    }
    if (rc < 0 || !add_connection(self)) {
        gp__transport_close(self->transport, NULL, 0);
    }
    gp__transport_run_deferred(self->transport);
    unref_connection(self);
}

/* ---- Listeners ------------------------------------------------------------------------------- */

int
gp_netrpc_listen(gp_netrpc_listener **out, const char *network, const char *address, gp_tls *tls,
                 gp_netrpc_services *services, const gp_netrpc_server_options *options, int *port,
                 gp_error *err)
{
    gp_netrpc_listener *listener = gp__calloc(1, sizeof(*listener));
    const gp__acceptor_options accepting = {.network = network,
                                            .address = address,
                                            .tls = tls,
                                            .accepted = serve_connection,
                                            .ctx = listener};
    bool is_unix = strcmp(network, "unix") == 0;
    gp__acceptor *acceptor;
    int rc;

    if (listener == NULL || (is_unix && (listener->path = gp__strdup(address)) == NULL)) {
        gp__free(listener);
        return gp_error_set(err, GP_ENOMEM, "out of memory for a listener");
    }
    rc = gp__acceptor_open(&acceptor, &accepting, port, err);
    if (rc < 0) {
        goto fail_open;
    }
    atomic_init(&listener->refs, 1);
    listener->services = gp_netrpc_services_ref(services);
    listener->options = *options;
    if (options->limits != NULL) {
        listener->limits = *options->limits;
        listener->options.limits = &listener->limits;
    }
    gp_mutex_init(&listener->lock);
    gp_cond_init(&listener->changed);
    gp_mutex_lock(&listener->lock);
    gp_list_init(&listener->connections);
    listener->acceptor = acceptor;
    gp_mutex_unlock(&listener->lock);
    rc = gp__acceptor_start(acceptor, err);
    if (rc < 0) {
        gp_netrpc_listener_free(listener);
        return rc;
    }
    *out = listener;
    return 0;

fail_open:
    gp__free(listener->path);
    gp__free(listener);
    return rc;
}

/* Take a reference, unless the last one has been dropped. */
static bool
try_ref_connection(connection *self)
{
    int refs = atomic_load(&self->refs);

    while (refs > 0 && !atomic_compare_exchange_weak(&self->refs, &refs, refs + 1)) {
    }
    return refs > 0;
}

/* A connection that has not been closed, with a reference; NULL: there is none. */
static connection *
take_connection(gp_netrpc_listener *listener)
{
    connection *found;

    gp_mutex_lock(&listener->lock);
    found = gp_list_first_entry(&listener->connections, connection, link);
    while (found != NULL && (found->closing || !try_ref_connection(found))) {
        found = gp_list_next_entry(&listener->connections, found, connection, link);
    }
    if (found != NULL) {
        found->closing = true;
    }
    gp_mutex_unlock(&listener->lock);
    return found;
}

void
gp_netrpc_listener_close(gp_netrpc_listener *listener)
{
    gp_netrpc_services *services;
    gp__acceptor *acceptor;
    connection *self;
    int64_t deadline;

    if (gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&listener->lock);
    acceptor = listener->acceptor;
    listener->acceptor = NULL;
    listener->closed = true;
    gp_mutex_unlock(&listener->lock);
    if (acceptor != NULL) {
        gp__acceptor_close(acceptor);
        if (listener->path != NULL) {
            unlink(listener->path);
        }
    }
    deadline = gp_deadline_in(LINGER_MS);
    while ((self = take_connection(listener)) != NULL) {
        int64_t left = (deadline - gp__now()) / GP__MS;

        gp_netrpc_server_close(self->server);
        gp__transport_close(self->transport, NULL, left > 0 ? left : 0);
        unref_connection(self);
    }
    gp_mutex_lock(&listener->lock);
    services = listener->services;
    listener->services = NULL;
    gp_cond_broadcast(&listener->changed);
    gp_mutex_unlock(&listener->lock);
    gp_netrpc_services_unref(services); /* now, since connections may keep the listener for long */
}

int
gp_netrpc_listener_wait(gp_netrpc_listener *listener, int64_t deadline,
                        const gp_interrupt *interrupt)
{
    int rc = 0;

    if (gp_runtime_forked()) {
        return GP_EFORKED;
    }
    gp_mutex_lock(&listener->lock);
    while (rc == 0 && !(listener->closed && gp_list_is_empty(&listener->connections))) {
        rc = gp__cond_wait_interruptible(&listener->changed, &listener->lock, deadline, interrupt);
    }
    gp_mutex_unlock(&listener->lock);
    return rc;
}

void
gp_netrpc_listener_free(gp_netrpc_listener *listener)
{
    if (listener != NULL && !gp_runtime_forked()) {
        gp_netrpc_listener_close(listener);
        unref_listener(listener);
    }
}
