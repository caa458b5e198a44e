#include "netrpc/mux_broker.h"

#include <stdatomic.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "netrpc/client.h"
#include "netrpc/netrpc_file.h"
#include "netrpc/server.h"
#include "os/reactor.h"

enum {
    ID = 4,              /* bytes of an id */
    MOST_INCOMING = 256, /* streams that wait to be accepted; of more, the oldest is dropped */
    CHECK_MS = 250,      /* how often to check what has waited too long */
};

/*
 * A stream that the other side has opened.
 *
 *      (its id has not come) --> known --> accepted: freed
 *                  '---------------'-----> too old, or ended: freed
 */
typedef struct incoming {
    gp_link link;                 /* in |broker->incoming| */
    gp_mux_broker *broker;        /* borrowed: contains this */
    gp__transport_stream *stream; /* owned */
    bool known;                   /* |id| has come */
    uint32_t id;
    int64_t deadline;
} incoming;

/* What accepts an id. Its own fields follow. */
typedef struct acceptor {
    gp_link link; /* in |broker->acceptors| */
    uint32_t id;
    int64_t deadline;
    /* |stream|, now the acceptor's, has been dialled; NULL: it will not be. Called once. */
    void (*done_locked)(struct acceptor *self, gp__transport_stream *stream);
} acceptor;

struct gp_mux_broker {
    atomic_int refs;
    atomic_uint last_id;
    gp__transport *transport; /* shared: ref */

    /* Guarded by the transport's lock. */
    bool closed;
    gp_list incoming; /* oldest first */
    size_t incoming_count;
    gp_list acceptors;
    gp_list servings; /* gp_mux_serving: with a reference; those whose servers run */
    gp__watch *timer; /* owned; enabled while something waits. NULL: not made yet */
};

struct gp_mux_serving {
    acceptor acceptor;
    atomic_int refs; /* the user's, and one until the id is neither accepted nor served any more */
    gp_mux_broker *broker;        /* shared: ref */
    gp_netrpc_services *services; /* shared: ref */
    gp_netrpc_server_options options;
    gp_gob_limits limits; /* of |options| */
    gp__task end;         /* drops the reference that it has to itself */

    /* Guarded by the transport's lock. */
    gp_link link;             /* in |broker->servings| */
    gp_netrpc_server *server; /* shared: ref; NULL: not dialled */
};

/* ---- Making and freeing ---------------------------------------------------------------------- */

int
gp__mux_broker_new(gp_mux_broker **out, gp__transport *transport, gp_error *err)
{
    gp_mux_broker *broker = gp__calloc(1, sizeof(*broker));

    if (broker == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for the broker");
    }
    atomic_init(&broker->refs, 1);
    atomic_init(&broker->last_id, 0);
    broker->transport = gp__transport_ref(transport);
    gp_list_init(&broker->incoming);
    gp_list_init(&broker->acceptors);
    gp_list_init(&broker->servings);
    *out = broker;
    return 0;
}

gp_mux_broker *
gp_mux_broker_ref(gp_mux_broker *broker)
{
    atomic_fetch_add(&broker->refs, 1);
    return broker;
}

void
gp_mux_broker_unref(gp_mux_broker *broker)
{
    if (broker != NULL && atomic_fetch_sub(&broker->refs, 1) == 1 && !gp_runtime_forked()) {
        gp__reactor_remove(broker->timer);
        gp__transport_unref(broker->transport);
        gp__free(broker);
    }
}

uint32_t
gp_mux_broker_next_id(gp_mux_broker *broker)
{
    unsigned last = atomic_load(&broker->last_id);

    do {
        if (last == UINT32_MAX) {
            return 0;
        }
    } while (!atomic_compare_exchange_weak(&broker->last_id, &last, last + 1));
    return last + 1;
}

bool
gp_mux_broker_connected(gp_mux_broker *broker)
{
    bool connected;

    if (gp_runtime_forked()) {
        return false;
    }
    gp_mutex_lock(&broker->transport->lock);
    connected = !broker->closed && gp__transport_why_locked(broker->transport) == NULL;
    gp_mutex_unlock(&broker->transport->lock);
    return connected;
}

static void
write_id(unsigned char out[ID], uint32_t id)
{
    for (int i = 0; i < ID; i++) {
        out[i] = (unsigned char)(id >> (8 * i));
    }
}

static uint32_t
read_id(const unsigned char bytes[ID])
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

static int refuse_closed_locked(gp_mux_broker *broker, uint32_t id, const char *what, gp_error *err)
    GP_REQUIRES(&broker->transport->lock);

/* GP_EBROKER if the connection has ended; else 0. |what| is "dialled" or "accepted". */
static int
refuse_closed_locked(gp_mux_broker *broker, uint32_t id, const char *what, gp_error *err)
{
    const gp_error *why = gp__transport_why_locked(broker->transport);

    if (!broker->closed && why == NULL) {
        return 0;
    }
    return gp_error_set(err, GP_EBROKER, "connection %u cannot be %s: %s", (unsigned)id, what,
                        why != NULL ? gp_error_message(why) : "the broker is closed");
}

/* ---- What waits ------------------------------------------------------------------------------ */

static void drop_incoming_locked(gp_mux_broker *broker, incoming *one)
    GP_REQUIRES(&broker->transport->lock);
static void check_ages(void *ctx);

static void
drop_incoming_locked(gp_mux_broker *broker, incoming *one)
{
    gp_link_remove(&one->link);
    broker->incoming_count--;
    gp__transport_stream_release_locked(one->stream);
    gp__free(one);
}

static void watch_ages_locked(gp_mux_broker *broker) GP_REQUIRES(&broker->transport->lock);

/* Have the timer run while something waits. */
static void
watch_ages_locked(gp_mux_broker *broker)
{
    bool wanted = !gp_list_is_empty(&broker->incoming) || !gp_list_is_empty(&broker->acceptors);

    if (broker->timer != NULL) {
        gp__reactor_enable(broker->timer, wanted);
    } else if (wanted) {
        /* Without a timer, for want of memory, the next event checks the ages. */
        gp__reactor_every(&broker->timer, CHECK_MS, check_ages, broker, NULL);
    }
}

static void drop_old_locked(gp_mux_broker *broker, int64_t now)
    GP_REQUIRES(&broker->transport->lock);

static void
drop_old_locked(gp_mux_broker *broker, int64_t now)
{
    incoming *one = gp_list_first_entry(&broker->incoming, incoming, link);
    acceptor *waiting = gp_list_first_entry(&broker->acceptors, acceptor, link);

    while (one != NULL) {
        incoming *next = gp_list_next_entry(&broker->incoming, one, incoming, link);

        if (now >= one->deadline) {
            drop_incoming_locked(broker, one);
        }
        one = next;
    }
    while (waiting != NULL) {
        acceptor *next = gp_list_next_entry(&broker->acceptors, waiting, acceptor, link);

        if (now >= waiting->deadline) {
            gp_link_remove(&waiting->link);
            waiting->done_locked(waiting, NULL);
        }
        waiting = next;
    }
    watch_ages_locked(broker);
}

/* On the reactor's thread. */
static void
check_ages(void *ctx)
{
    gp_mux_broker *broker = ctx;

    gp_mutex_lock(&broker->transport->lock);
    drop_old_locked(broker, gp__now());
    gp__transport_flush_locked(broker->transport);
    gp_mutex_unlock(&broker->transport->lock);
    gp__transport_run_deferred(broker->transport);
}

/* ---- Accepting ------------------------------------------------------------------------------- */

static void accept_stream_locked(gp_mux_broker *broker, incoming *one, acceptor *by)
    GP_REQUIRES(&broker->transport->lock);

/* Answer with the id, and hand the stream over. Neither |one| nor |by| is in a list afterwards. */
static void
accept_stream_locked(gp_mux_broker *broker, incoming *one, acceptor *by)
{
    gp__transport_stream *stream = one->stream;
    unsigned char answer[ID];

    gp_link_remove(&one->link);
    broker->incoming_count--;
    gp__free(one);
    gp_link_remove(&by->link);
    write_id(answer, by->id);
    gp__transport_stream_use_locked(stream, NULL, NULL);
    /* If it cannot be sent, the stream has ended, which its next user is told. */
    gp__transport_stream_send_locked(stream, answer, ID, NULL);
    by->done_locked(by, stream);
    watch_ages_locked(broker);
}

GP_NO_THREAD_SAFETY_ANALYSIS static size_t
receive_id(void *ctx, const unsigned char *bytes, size_t len)
{
    incoming *one = ctx;
    gp_mux_broker *broker = one->broker;
    acceptor *by = gp_list_first_entry(&broker->acceptors, acceptor, link);

    if (one->known || len < ID) {
        return 0;
    }
    one->known = true;
    one->id = read_id(bytes);
    while (by != NULL && by->id != one->id) {
        by = gp_list_next_entry(&broker->acceptors, by, acceptor, link);
    }
    if (by != NULL) {
        accept_stream_locked(broker, one, by);
    } else {
        one->deadline = gp_deadline_in(GP_MUX_BROKER_MS);
    }
    return ID;
}

GP_NO_THREAD_SAFETY_ANALYSIS static void
incoming_ended(void *ctx, const gp_error *why)
{
    incoming *one = ctx;
    gp_mux_broker *broker = one->broker;

    (void)why;
    drop_incoming_locked(broker, one);
    watch_ages_locked(broker);
}

static const gp__transport_stream_ops incoming_ops = {
    .received = receive_id,
    .ended = incoming_ended,
};

GP_NO_THREAD_SAFETY_ANALYSIS void
gp__mux_broker_take_stream_locked(gp_mux_broker *broker, gp__transport_stream *stream)
{
    incoming *one = broker->closed ? NULL : gp__calloc(1, sizeof(*one));

    if (one == NULL) {
        gp__transport_stream_release_locked(stream);
        return;
    }
    if (broker->incoming_count >= MOST_INCOMING) {
        drop_incoming_locked(broker, gp_list_first_entry(&broker->incoming, incoming, link));
    }
    one->broker = broker;
    one->stream = stream;
    one->deadline = gp_deadline_in(GP_MUX_BROKER_MS);
    gp_list_append(&broker->incoming, &one->link);
    broker->incoming_count++;
    watch_ages_locked(broker);
    gp__transport_stream_use_locked(stream, &incoming_ops, one);
}

static int add_acceptor_locked(gp_mux_broker *broker, acceptor *self, gp_error *err)
    GP_REQUIRES(&broker->transport->lock);

/*
 * Have |self| accept its id. |done_locked| may be called before this returns. Returns 0, or
 * GP_EBROKER; then it is not called.
 */
static int
add_acceptor_locked(gp_mux_broker *broker, acceptor *self, gp_error *err)
{
    acceptor *other = gp_list_first_entry(&broker->acceptors, acceptor, link);
    incoming *one = gp_list_first_entry(&broker->incoming, incoming, link);
    int rc = refuse_closed_locked(broker, self->id, "accepted", err);

    if (rc < 0) {
        return rc;
    }
    while (other != NULL && other->id != self->id) {
        other = gp_list_next_entry(&broker->acceptors, other, acceptor, link);
    }
    if (other != NULL) {
        return gp_error_set(err, GP_EBROKER,
                            "connection %u is being accepted already; take a new id",
                            (unsigned)self->id);
    }
    gp_list_append(&broker->acceptors, &self->link);
    while (one != NULL && !(one->known && one->id == self->id)) {
        one = gp_list_next_entry(&broker->incoming, one, incoming, link);
    }
    if (one != NULL) {
        accept_stream_locked(broker, one, self);
    } else {
        watch_ages_locked(broker);
    }
    return 0;
}

/* ---- Waiting for a dialler ------------------------------------------------------------------- */

typedef struct waiting_thread {
    acceptor acceptor;
    gp_mux_broker *broker; /* borrowed */
    gp__transport_gate gate;
    gp__transport_stream *stream; /* owned; NULL: it has not been dialled */
} waiting_thread;

GP_NO_THREAD_SAFETY_ANALYSIS static void
wake_thread_locked(acceptor *self, gp__transport_stream *stream)
{
    waiting_thread *thread = gp_container_of(self, waiting_thread, acceptor);

    thread->stream = stream;
    gp__transport_gate_open_locked(thread->broker->transport, &thread->gate);
}

static int await_dialler_locked(gp_mux_broker *broker, waiting_thread *thread, int64_t deadline,
                                const gp_interrupt *interrupt, gp_error *err)
    GP_REQUIRES(&broker->transport->lock);

/* Returns: 0 with |thread->stream|, GP_EBROKER or GP_EUSER. */
static int
await_dialler_locked(gp_mux_broker *broker, waiting_thread *thread, int64_t deadline,
                     const gp_interrupt *interrupt, gp_error *err)
{
    unsigned id = thread->acceptor.id;
    int rc = add_acceptor_locked(broker, &thread->acceptor, err);

    if (rc < 0) {
        return rc;
    }
    gp__transport_flush_locked(broker->transport);
    rc = gp__transport_wait_locked(broker->transport, &thread->gate, deadline, interrupt);
    gp_link_remove(&thread->acceptor.link);
    watch_ages_locked(broker);
    if (thread->stream != NULL) {
        return 0;
    }
    if (rc == GP_EUSER) {
        return gp_error_set(err, rc, "waiting for connection %u was interrupted", id);
    }
    rc = refuse_closed_locked(broker, id, "accepted", err);
    return rc < 0 ? rc
                  : gp_error_set(err, GP_EBROKER,
                                 "connection %u was not dialled by the other side in time", id);
}

int
gp_mux_broker_accept_file(gp_mux_broker *broker, uint32_t id, int64_t deadline,
                          const gp_interrupt *interrupt, gp_netrpc_file **out, gp_error *err)
{
    waiting_thread *thread;
    int rc;

    if (gp_runtime_forked()) {
        return gp_runtime_refuse_fork(err);
    }
    thread = gp__calloc(1, sizeof(*thread));
    if (thread == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for connection %u", (unsigned)id);
    }
    thread->broker = broker;
    thread->acceptor =
        (acceptor){.id = id, .deadline = INT64_MAX, .done_locked = wake_thread_locked};
    gp_mutex_lock(&broker->transport->lock);
    rc = await_dialler_locked(broker, thread, deadline, interrupt, err);
    if (rc == 0) {
        rc = gp__netrpc_file_new_locked(out, thread->stream, err);
    }
    gp_mutex_unlock(&broker->transport->lock);
    gp__transport_run_deferred(broker->transport);
    gp__free(thread);
    return rc;
}

/* ---- Serving --------------------------------------------------------------------------------- */

static void
serving_unref(gp_mux_serving *serving)
{
    if (atomic_fetch_sub(&serving->refs, 1) == 1) {
        gp_netrpc_server_unref(serving->server);
        gp_netrpc_services_unref(serving->services);
        gp_mux_broker_unref(serving->broker);
        gp__free(serving);
    }
}

void
gp_mux_serving_unref(gp_mux_serving *serving)
{
    if (serving != NULL && !gp_runtime_forked()) {
        serving_unref(serving);
    }
}

/* The server's stream has ended. As a deferred task, with no lock held. */
static void
serving_ended(void *ctx)
{
    gp_mux_serving *serving = ctx;
    gp__transport *transport = serving->broker->transport;

    gp_mutex_lock(&transport->lock);
    gp_link_remove(&serving->link);
    gp_mutex_unlock(&transport->lock);
    serving_unref(serving);
}

/* A deferred task: the id is not accepted any more. */
static void
end_serving(gp__task *task)
{
    serving_unref(gp_container_of(task, gp_mux_serving, end));
}

/* Called with the transport's lock held, which the analysis does not know. */
GP_NO_THREAD_SAFETY_ANALYSIS static void
serve_stream_locked(acceptor *self, gp__transport_stream *stream)
{
    gp_mux_serving *serving = gp_container_of(self, gp_mux_serving, acceptor);
    gp_mux_broker *broker = serving->broker;

    if (stream != NULL &&
        gp__netrpc_server_open_locked(&serving->server, stream, serving->services,
                                      &serving->options, serving_ended, serving, NULL) == 0) {
        gp_list_append(&broker->servings, &serving->link);
    } else {
        serving->end.run = end_serving;
        gp__transport_defer_locked(broker->transport, &serving->end);
    }
}

int
gp_mux_broker_serve(gp_mux_broker *broker, uint32_t id, gp_netrpc_services *services,
                    const gp_netrpc_server_options *options, int64_t deadline, gp_mux_serving **out,
                    gp_error *err)
{
    gp_mux_serving *serving;
    int rc;

    if (gp_runtime_forked()) {
        return gp_runtime_refuse_fork(err);
    }
    serving = gp__calloc(1, sizeof(*serving));
    if (serving == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for connection %u", (unsigned)id);
    }
    atomic_init(&serving->refs, out != NULL ? 2 : 1);
    serving->acceptor =
        (acceptor){.id = id, .deadline = deadline, .done_locked = serve_stream_locked};
    serving->broker = gp_mux_broker_ref(broker);
    serving->services = gp_netrpc_services_ref(services);
    if (options != NULL) {
        serving->options = *options;
    }
    if (options != NULL && options->limits != NULL) {
        serving->limits = *options->limits;
        serving->options.limits = &serving->limits;
    }
    gp_mutex_lock(&broker->transport->lock);
    rc = add_acceptor_locked(broker, &serving->acceptor, err);
    gp__transport_flush_locked(broker->transport);
    gp_mutex_unlock(&broker->transport->lock);
    gp__transport_run_deferred(broker->transport);
    if (rc < 0) {
        atomic_store(&serving->refs, 1);
        serving_unref(serving);
    } else if (out != NULL) {
        *out = serving;
    }
    return rc;
}

static gp_netrpc_server *stop_serving_locked(gp_mux_serving *serving)
    GP_REQUIRES(&serving->broker->transport->lock);

/* Returns the server that the caller has to close and unref; NULL: there is none, or none yet. */
static gp_netrpc_server *
stop_serving_locked(gp_mux_serving *serving)
{
    if (gp_link_is_linked(&serving->acceptor.link)) {
        gp_link_remove(&serving->acceptor.link);
        serve_stream_locked(&serving->acceptor, NULL);
        watch_ages_locked(serving->broker);
    }
    return serving->server != NULL ? gp_netrpc_server_ref(serving->server) : NULL;
}

void
gp_mux_serving_stop(gp_mux_serving *serving)
{
    gp_netrpc_server *server;

    if (gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&serving->broker->transport->lock);
    server = stop_serving_locked(serving);
    gp_mutex_unlock(&serving->broker->transport->lock);
    gp__transport_run_deferred(serving->broker->transport);
    if (server != NULL) {
        gp_netrpc_server_close(server);
        gp_netrpc_server_unref(server);
    }
}

/* ---- Dialling -------------------------------------------------------------------------------- */

typedef struct dial {
    gp__transport *transport; /* borrowed */
    uint32_t id;
    gp__transport_gate gate;
    gp_error failure; /* code 0: none */
} dial;

GP_NO_THREAD_SAFETY_ANALYSIS static size_t
receive_answer(void *ctx, const unsigned char *bytes, size_t len)
{
    dial *self = ctx;

    if (self->gate.open || len < ID) {
        return 0;
    }
    if (read_id(bytes) != self->id) {
        gp_error_set(&self->failure, GP_EBROKER,
                     "the other side has answered with the id %u (bad ack)",
                     (unsigned)read_id(bytes));
    }
    gp__transport_gate_open_locked(self->transport, &self->gate);
    return ID;
}

GP_NO_THREAD_SAFETY_ANALYSIS static void
answer_ended(void *ctx, const gp_error *why)
{
    dial *self = ctx;

    if (self->gate.open) {
        return; /* it has been answered: the stream's next user is told */
    }
    gp_error_set(&self->failure, GP_EBROKER, "%s",
                 gp__transport_why_locked(self->transport) != NULL
                     ? gp_error_message(why)
                     : "the other side does not accept it");
    gp__transport_gate_open_locked(self->transport, &self->gate);
}

static const gp__transport_stream_ops dial_ops = {
    .received = receive_answer,
    .ended = answer_ended,
};

static int await_answer_locked(gp_mux_broker *broker, dial *self, gp__transport_stream *stream,
                               int64_t deadline, const gp_interrupt *interrupt, gp_error *err)
    GP_REQUIRES(&broker->transport->lock);

static int
await_answer_locked(gp_mux_broker *broker, dial *self, gp__transport_stream *stream,
                    int64_t deadline, const gp_interrupt *interrupt, gp_error *err)
{
    unsigned char bytes[ID];
    int rc;

    write_id(bytes, self->id);
    rc = gp__transport_stream_send_locked(stream, bytes, ID, err);
    if (rc == 0) {
        gp__transport_flush_locked(broker->transport);
        rc = gp__transport_wait_locked(broker->transport, &self->gate, deadline, interrupt);
    }
    if (self->failure.code != 0) {
        return gp_error_set(err, GP_EBROKER, "%s", gp_error_message(&self->failure));
    }
    switch (rc) {
    case GP_ETIMEOUT:
        return gp_error_set(err, GP_EBROKER, "the other side has not accepted it in time");
    case GP_EUSER:
        return gp_error_set(err, rc, "dialling was interrupted");
    default:
        return rc;
    }
}

/* Dial |id|. Returns: 0 with |*out|, which is held; GP_EBROKER, GP_EUSER or GP_ENOMEM. */
static int
dial_stream(gp_mux_broker *broker, uint32_t id, int64_t deadline, const gp_interrupt *interrupt,
            gp__transport_stream **out, gp_error *err)
{
    gp__transport_stream *stream = NULL;
    dial *self = gp__calloc(1, sizeof(*self));
    int rc;

    if (self == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for connection %u", (unsigned)id);
    }
    self->transport = broker->transport;
    self->id = id;
    gp_mutex_lock(&broker->transport->lock);
    rc = refuse_closed_locked(broker, id, "dialled", err);
    if (rc == 0) {
        rc = gp__transport_stream_open_locked(&stream, broker->transport, &dial_ops, self, err);
        rc = rc == 0 ? await_answer_locked(broker, self, stream, deadline, interrupt, err) : rc;
        if (rc == GP_ECLOSED) { /* the connection is about to end, and |err| says why */
            rc = GP_EBROKER;
            if (err != NULL) {
                err->code = rc;
            }
        }
        if (rc < 0) {
            gp_error_prefix(err, "connection %u cannot be dialled", (unsigned)id);
        }
    }
    if (rc < 0) {
        gp__transport_stream_release_locked(stream);
        gp__transport_flush_locked(broker->transport);
    } else {
        gp__transport_stream_use_locked(stream, NULL, NULL);
        *out = stream;
    }
    gp_mutex_unlock(&broker->transport->lock);
    gp__transport_run_deferred(broker->transport);
    gp_error_release(&self->failure);
    gp__free(self);
    return rc;
}

int
gp_mux_broker_dial(gp_mux_broker *broker, uint32_t id, const gp_gob_limits *limits,
                   int64_t deadline, const gp_interrupt *interrupt, gp_netrpc_client **out,
                   gp_error *err)
{
    gp__transport_stream *stream = NULL;
    int rc;

    if (gp_runtime_forked()) {
        return gp_runtime_refuse_fork(err);
    }
    rc = dial_stream(broker, id, deadline, interrupt, &stream, err);
    if (rc == 0) {
        gp_mutex_lock(&broker->transport->lock);
        gp_mutex_assert_held(&stream->transport->lock);
        rc = gp__netrpc_client_new_locked(out, stream, false, limits, err);
        gp_mutex_unlock(&broker->transport->lock);
    }
    return rc;
}

int
gp_mux_broker_dial_file(gp_mux_broker *broker, uint32_t id, int64_t deadline,
                        const gp_interrupt *interrupt, gp_netrpc_file **out, gp_error *err)
{
    gp__transport_stream *stream = NULL;
    int rc;

    if (gp_runtime_forked()) {
        return gp_runtime_refuse_fork(err);
    }
    rc = dial_stream(broker, id, deadline, interrupt, &stream, err);
    if (rc == 0) {
        gp_mutex_lock(&broker->transport->lock);
        rc = gp__netrpc_file_new_locked(out, stream, err);
        gp_mutex_unlock(&broker->transport->lock);
    }
    return rc;
}

/* ---- The end --------------------------------------------------------------------------------- */

static gp_mux_serving *pop_serving_locked(gp_mux_broker *broker)
    GP_REQUIRES(&broker->transport->lock);

/* One that runs, with a reference for the caller; NULL: there is none. */
static gp_mux_serving *
pop_serving_locked(gp_mux_broker *broker)
{
    gp_link *link = gp_list_pop(&broker->servings);
    gp_mux_serving *serving = link != NULL ? gp_container_of(link, gp_mux_serving, link) : NULL;

    if (serving != NULL) {
        atomic_fetch_add(&serving->refs, 1);
    }
    return serving;
}

size_t
gp__mux_broker_unanswered_locked(gp_mux_broker *broker)
{
    gp_mux_serving *serving = gp_list_first_entry(&broker->servings, gp_mux_serving, link);
    size_t count = 0;

    for (; serving != NULL;
         serving = gp_list_next_entry(&broker->servings, serving, gp_mux_serving, link)) {
        count += gp__netrpc_server_unanswered_locked(serving->server);
    }
    return count;
}

/* Its caller holds the transport's lock, which the analysis does not know. */
GP_NO_THREAD_SAFETY_ANALYSIS void
gp__mux_broker_end_locked(gp_mux_broker *broker)
{
    incoming *one;
    gp_link *link;

    broker->closed = true;
    while ((one = gp_list_first_entry(&broker->incoming, incoming, link)) != NULL) {
        drop_incoming_locked(broker, one);
    }
    while ((link = gp_list_pop(&broker->acceptors)) != NULL) {
        acceptor *waiting = gp_container_of(link, acceptor, link);

        waiting->done_locked(waiting, NULL);
    }
    watch_ages_locked(broker);
}

void
gp__mux_broker_close(gp_mux_broker *broker)
{
    gp_mux_serving *serving;

    gp_mutex_lock(&broker->transport->lock);
    gp__mux_broker_end_locked(broker);
    while ((serving = pop_serving_locked(broker)) != NULL) {
        gp_mutex_unlock(&broker->transport->lock);
        gp_mux_serving_stop(serving);
        serving_unref(serving);
        gp_mutex_lock(&broker->transport->lock);
    }
    gp__transport_flush_locked(broker->transport);
    gp_mutex_unlock(&broker->transport->lock);
    gp__transport_run_deferred(broker->transport);
}
