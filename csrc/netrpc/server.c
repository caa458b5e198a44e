#include "netrpc/server.h"

#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "netrpc/framing.h"
#include "netrpc/services.h"
#include "netrpc/workers.h"

enum {
    DEFAULT_WORKERS = 1000,
    /*
     * Beyond any of these, no more is read: requests that are not answered, bytes of their
     * arguments, and bytes of answers that the client does not read. In the last case no handler is
     * started, either.
     */
    REQUESTS_MOST = 64 * 1024,
    BYTES_MOST = 16 * 1024 * 1024,
    STORED_MOST = 1024 * 1024,
};

/*
 * Freed when it is answered and its handler has returned. All but |server|, |method| and |args| is
 * guarded by the transport's lock.
 */
struct gp_netrpc_request {
    gp__worker_task task;
    gp_link link;              /* in the server's |waiting| */
    gp_netrpc_server *server;  /* shared: ref */
    gp__netrpc_method *method; /* borrowed from the server's services */
    uint64_t seq;
    gp_gob_message args; /* owned */
    bool answered;       /* or dropped */
    bool with_worker;    /* it is in the workers' queue, or its handler runs on a worker */
};

/* All from |stream| to |head_name_len| is guarded by the transport's lock. */
struct gp_netrpc_server {
    atomic_int refs;
    gp__transport *transport;     /* shared: ref */
    gp_netrpc_services *services; /* shared: ref */
    gp__netrpc_framing framing;
    /* A hint: answers are stored that the client does not read. Written with the lock held. */
    atomic_bool congested;
    gp__transport_stream *stream; /* owned; NULL: it has ended */
    gp__worker_queue queue;       /* requests for workers */
    gp_list waiting;              /* requests that are held back, oldest first */
    size_t unanswered;            /* requests */
    size_t bytes;                 /* of their arguments */
    bool held;                    /* nothing is read: see REQUESTS_MOST */
    bool draining;                /* the client sends no more requests */
    bool finished;                /* see is_idle_locked() */
    gp_cond changed;              /* |finished| is set */
    /* The head that was read last, and whose argument is to come. */
    bool has_head;
    uint64_t head_seq;
    gp__netrpc_method *head_method; /* NULL: it does not exist */
    char *head_name;                /* owned; only if there is no such method */
    size_t head_name_len;
    gp__task report;      /* calls |on_finished|, and drops the reference until then */
    gp_then *on_finished; /* NULL: none */
    void *on_finished_ctx;
};

/* ---- The end of requests and of the stream --------------------------------------------------- */

static bool is_idle_locked(gp_netrpc_server *server) GP_REQUIRES(&server->transport->lock);
static void note_idle_locked(gp_netrpc_server *server) GP_REQUIRES(&server->transport->lock);
static void drop_request_locked(gp_netrpc_server *server, gp_netrpc_request *request)
    GP_REQUIRES(&server->transport->lock);
static void end_server_locked(gp_netrpc_server *server, const gp_error *why)
    GP_REQUIRES(&server->transport->lock);

/* Whether the stream has ended, all requests are answered, and no handler runs. */
static bool
is_idle_locked(gp_netrpc_server *server)
{
    return server->stream == NULL && server->unanswered == 0 &&
           gp__worker_queue_count_locked(server->transport, &server->queue) == 0;
}

/* For gp__transport_defer_locked(). */
static void
report_finished(gp__task *task)
{
    gp_netrpc_server *server = gp_container_of(task, gp_netrpc_server, report);
    gp_then *then = server->on_finished;
    void *ctx = server->on_finished_ctx;

    gp_netrpc_server_unref(server); /* first, so that what it serves may be gone by then */
    if (then != NULL) {
        then(ctx);
    }
}

/* Called when what is_idle_locked() looks at has changed. */
static void
note_idle_locked(gp_netrpc_server *server)
{
    if (!server->finished && is_idle_locked(server)) {
        server->finished = true;
        gp_cond_broadcast(&server->changed);
        server->report.run = report_finished;
        gp__transport_defer_locked(server->transport, &server->report);
    }
}

/* Not with the lock held, since this may free the server. */
static void
free_request(gp_netrpc_request *request)
{
    gp_gob_message_release(&request->args);
    gp_netrpc_server_unref(request->server);
    gp__free(request);
}

/* Free a request that has no handler. The server has another reference until it is finished. */
static void
drop_request_locked(gp_netrpc_server *server, gp_netrpc_request *request)
{
    server->unanswered--;
    server->bytes -= request->args.len;
    free_request(request);
}

/*
 * End the stream. Requests without a handler are dropped. If |why| is NULL, what has been written
 * is sent first. Otherwise the stream is of no use any more, and neither is a connection that
 * carries nothing else.
 */
static void
end_server_locked(gp_netrpc_server *server, const gp_error *why)
{
    gp__worker_task *task;
    gp_netrpc_request *request;

    if (why == NULL) {
        gp__transport_stream_shutdown_locked(server->stream);
    }
    gp__transport_stream_release_locked(server->stream);
    server->stream = NULL;
    while ((task = gp__worker_queue_take_back_locked(server->transport, &server->queue)) != NULL) {
        drop_request_locked(server, gp_container_of(task, gp_netrpc_request, task));
    }
    while ((request = gp_list_first_entry(&server->waiting, gp_netrpc_request, link)) != NULL) {
        gp_link_remove(&request->link);
        drop_request_locked(server, request);
    }
    if (why != NULL && server->transport->options.raw) {
        gp__transport_end_locked(server->transport, why);
    }
    note_idle_locked(server);
}

/* ---- Running handlers ------------------------------------------------------------------------ */

static bool is_congested_locked(gp_netrpc_server *server) GP_REQUIRES(&server->transport->lock);
static void start_request_locked(gp_netrpc_server *server, gp_netrpc_request *request)
    GP_REQUIRES(&server->transport->lock);
static void start_waiting_locked(gp_netrpc_server *server) GP_REQUIRES(&server->transport->lock);
static bool hold_back_locked(gp_netrpc_server *server, gp_netrpc_request *request)
    GP_REQUIRES(&server->transport->lock);

static bool
is_congested_locked(gp_netrpc_server *server)
{
    return gp__transport_stream_stored_locked(server->stream) >= STORED_MOST;
}

static void
call_handler(gp_netrpc_request *request)
{
    const gp__netrpc_method *method = request->method;

    method->handle(request->server->services->ctx, method->data, request);
}

/* For gp__transport_defer_locked(). */
static void
run_quick(gp__task *task)
{
    call_handler(gp_container_of(task, gp_netrpc_request, task.task));
}

/*
 * Give a request whose turn has come on a worker back to |waiting|, if the client does not read its
 * answers. Returns whether that is so.
 */
static bool
hold_back_locked(gp_netrpc_server *server, gp_netrpc_request *request)
{
    if (server->stream == NULL || !is_congested_locked(server)) {
        return false;
    }
    request->with_worker = false;
    gp_list_prepend(&server->waiting, &request->link);
    gp__worker_queue_end_task_locked(server->transport, &server->queue);
    return true;
}

/* On a worker. */
static void
run_on_worker(gp__task *task)
{
    gp_netrpc_request *request = gp_container_of(task, gp_netrpc_request, task.task);
    gp_netrpc_server *server = request->server;
    bool held_back;
    bool answered;
    bool finished;

    if (atomic_load_explicit(&server->congested, memory_order_relaxed)) {
        gp_mutex_lock(&server->transport->lock);
        held_back = hold_back_locked(server, request);
        gp_mutex_unlock(&server->transport->lock);
        if (held_back) {
            return;
        }
    }
    call_handler(request);
    gp_mutex_lock(&server->transport->lock);
    gp__worker_queue_end_task_locked(server->transport, &server->queue);
    request->with_worker = false;
    answered = request->answered;
    note_idle_locked(server);
    finished = server->finished;
    gp_mutex_unlock(&server->transport->lock);
    if (finished) {
        gp__transport_run_deferred(server->transport);
    }
    if (answered) {
        free_request(request);
    }
}

/* Have the handler of |request|, which is in no list, called. */
static void
start_request_locked(gp_netrpc_server *server, gp_netrpc_request *request)
{
    if (request->method->quick) {
        request->task.task.run = run_quick;
        gp__transport_defer_locked(server->transport, &request->task.task);
    } else {
        request->with_worker = true;
        request->task.task.run = run_on_worker;
        request->task.slow = &request->method->slow;
        gp__worker_queue_add_locked(server->transport, &server->queue, &request->task);
    }
}

/* Start the requests that were held back, as far as the client reads the answers. */
static void
start_waiting_locked(gp_netrpc_server *server)
{
    gp_netrpc_request *request;

    while (server->stream != NULL && !is_congested_locked(server) &&
           (request = gp_list_first_entry(&server->waiting, gp_netrpc_request, link)) != NULL) {
        gp_link_remove(&request->link);
        start_request_locked(server, request);
    }
}

/* ---- Answers --------------------------------------------------------------------------------- */

static void send_answer_locked(gp_netrpc_server *server, const gp__netrpc_response_head *head,
                               gp_gob_output *reply) GP_REQUIRES(&server->transport->lock);
static void end_if_drained_locked(gp_netrpc_server *server) GP_REQUIRES(&server->transport->lock);
static bool is_full_locked(gp_netrpc_server *server) GP_REQUIRES(&server->transport->lock);
static void resume_reading_locked(gp_netrpc_server *server) GP_REQUIRES(&server->transport->lock);

/* |reply| is NULL if |head| has an error. Does nothing once the stream has ended. */
static void
send_answer_locked(gp_netrpc_server *server, const gp__netrpc_response_head *head,
                   gp_gob_output *reply)
{
    gp_error err = GP_ERROR_INIT;
    int rc;

    if (server->stream == NULL) {
        return;
    }
    rc = gp__netrpc_framing_send_response_locked(&server->framing, server->stream, head, reply,
                                                 &err);
    if (rc < 0 && rc != GP_ECLOSED) { /* a part of the answer may be missing */
        end_server_locked(server, &err);
    } else if (is_congested_locked(server)) {
        atomic_store_explicit(&server->congested, true, memory_order_relaxed);
    }
    gp_error_release(&err);
}

/* End the stream once the client sends no more requests and all are answered. */
static void
end_if_drained_locked(gp_netrpc_server *server)
{
    if (server->draining && server->unanswered == 0 && server->stream != NULL) {
        end_server_locked(server, NULL);
    }
}

static bool
is_full_locked(gp_netrpc_server *server)
{
    return server->unanswered >= REQUESTS_MOST || server->bytes >= BYTES_MOST ||
           is_congested_locked(server);
}

static void
resume_reading_locked(gp_netrpc_server *server)
{
    if (server->held && server->stream != NULL && !is_full_locked(server)) {
        server->held = false;
        gp__transport_stream_resume_locked(server->stream);
    }
}

static void
answer_request(gp_netrpc_request *request, gp_gob_output *reply, gp_bytes error)
{
    gp_netrpc_server *server = request->server;
    const gp__netrpc_response_head head = {
        {request->method->name, request->method->len}, request->seq, {error.data, error.len}};
    bool with_worker;

    if (gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&server->transport->lock);
    send_answer_locked(server, &head, reply);
    server->unanswered--;
    server->bytes -= request->args.len;
    request->answered = true;
    with_worker = request->with_worker;
    end_if_drained_locked(server);
    resume_reading_locked(server);
    note_idle_locked(server);
    gp__transport_flush_locked(server->transport);
    gp_mutex_unlock(&server->transport->lock);
    gp__transport_run_deferred(server->transport);
    if (!with_worker) {
        free_request(request);
    }
}

const gp_gob_message *
gp_netrpc_request_args(const gp_netrpc_request *request)
{
    return &request->args;
}

gp_gob_decoder *
gp_netrpc_request_decoder(const gp_netrpc_request *request)
{
    return request->server->framing.decoder;
}

void
gp_netrpc_request_reply(gp_netrpc_request *request, gp_gob_output *reply)
{
    answer_request(request, reply, (gp_bytes){NULL, 0});
}

void
gp_netrpc_request_fail(gp_netrpc_request *request, gp_bytes text)
{
    answer_request(request, NULL, text.len > 0 ? text : (gp_bytes){"error", 5});
}

/* ---- Receiving ------------------------------------------------------------------------------- */

static int take_head_locked(gp_netrpc_server *server, const gp_gob_message *message, gp_error *err)
    GP_REQUIRES(&server->transport->lock);
static int take_args_locked(gp_netrpc_server *server, gp_gob_message *message, gp_error *err)
    GP_REQUIRES(&server->transport->lock);
static int refuse_locked(gp_netrpc_server *server, gp_error *err)
    GP_REQUIRES(&server->transport->lock);

static int
take_head_locked(gp_netrpc_server *server, const gp_gob_message *message, gp_error *err)
{
    gp__netrpc_request_head head;
    int rc = gp__netrpc_framing_read_request(&server->framing, message, &head, err);

    if (rc < 0) {
        return rc;
    }
    server->head_method =
        gp__netrpc_services_find(server->services, (gp_bytes){head.method.data, head.method.len});
    if (server->head_method == NULL) {
        gp__free(server->head_name);
        server->head_name_len = head.method.len;
        server->head_name = gp__memdup(head.method.data, head.method.len);
        if (server->head_name == NULL) {
            return gp_error_set(err, GP_ENOMEM, "out of memory for a request");
        }
    }
    server->has_head = true;
    server->head_seq = head.seq;
    return 0;
}

/* Answer the request of the last head, for whose method there is no handler. */
static int
refuse_locked(gp_netrpc_server *server, gp_error *err)
{
    const gp_bytes name = {server->head_name, server->head_name_len};
    char *text = gp__netrpc_services_refusal(server->services, name);
    gp__netrpc_response_head head = {{name.data, name.len}, server->head_seq, {text, 0}};

    if (text == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for an answer");
    }
    head.error.len = strlen(text);
    send_answer_locked(server, &head, NULL);
    gp__free(text);
    return 0;
}

/* |message| is taken over. */
static int
take_args_locked(gp_netrpc_server *server, gp_gob_message *message, gp_error *err)
{
    gp_netrpc_request *request;

    server->has_head = false;
    if (server->head_method == NULL) {
        gp_gob_message_release(message);
        return refuse_locked(server, err);
    }
    request = gp__calloc(1, sizeof(*request));
    if (request == NULL) {
        gp_gob_message_release(message);
        return gp_error_set(err, GP_ENOMEM, "out of memory for a request");
    }
    request->server = gp_netrpc_server_ref(server);
    request->method = server->head_method;
    request->seq = server->head_seq;
    request->args = *message;
    server->unanswered++;
    server->bytes += message->len;
    if (gp_list_is_empty(&server->waiting) && !is_congested_locked(server)) {
        start_request_locked(server, request);
    } else {
        gp_list_append(&server->waiting, &request->link);
    }
    return 0;
}

/* For gp__transport_stream_ops. */
static size_t
receive_bytes(void *ctx, const unsigned char *bytes, size_t len)
{
    gp_netrpc_server *server = ctx;
    gp_gob_message message = GP_GOB_MESSAGE_INIT;
    gp_error err = GP_ERROR_INIT;
    int rc;

    gp_mutex_assert_held(&server->transport->lock);
    server->held = is_full_locked(server);
    if (server->held) {
        return 0;
    }
    rc = gp_gob_decoder_feed(server->framing.decoder, bytes, len, &err);
    while (rc == 0 && server->stream != NULL &&
           (rc = gp_gob_decoder_next(server->framing.decoder, &message, &err)) == 1) {
        if (server->has_head) {
            rc = take_args_locked(server, &message, &err);
        } else {
            rc = take_head_locked(server, &message, &err);
            gp_gob_message_release(&message);
        }
    }
    if (rc < 0 && server->stream != NULL) {
        gp_error_prefix(&err, "a request cannot be read");
        end_server_locked(server, &err);
    }
    gp_error_release(&err);
    return len;
}

/* For gp__transport_stream_ops. */
static void
handle_end(void *ctx, const gp_error *why)
{
    gp_netrpc_server *server = ctx;

    gp_mutex_assert_held(&server->transport->lock);
    if (why->code == 0) { /* the client may still read answers */
        server->draining = true;
        end_if_drained_locked(server);
    } else {
        end_server_locked(server, why);
    }
}

/* For gp__transport_stream_ops. */
static void
handle_room(void *ctx)
{
    gp_netrpc_server *server = ctx;

    gp_mutex_assert_held(&server->transport->lock);
    if (!is_congested_locked(server)) {
        atomic_store_explicit(&server->congested, false, memory_order_relaxed);
    }
    start_waiting_locked(server);
    resume_reading_locked(server);
}

static const gp__transport_stream_ops stream_ops = {
    .received = receive_bytes,
    .ended = handle_end,
    .writable = handle_room,
};

/* ---- Servers --------------------------------------------------------------------------------- */

int
gp__netrpc_server_open_locked(gp_netrpc_server **out, gp__transport_stream *stream,
                              gp_netrpc_services *services, const gp_netrpc_server_options *options,
                              gp_then *finished, void *ctx, gp_error *err)
{
    const int given = options != NULL ? options->max_workers : 0;
    gp_netrpc_server *server = gp__calloc(1, sizeof(*server));

    if (server == NULL) {
        gp_error_set(err, GP_ENOMEM, "out of memory for a server");
        goto fail_server;
    }
    if (gp__netrpc_framing_init(&server->framing, options != NULL ? options->limits : NULL, err) <
        0) {
        goto fail_framing;
    }
    atomic_init(&server->refs, 1 + (out != NULL)); /* one until it is finished, and the caller's */
    server->transport = gp__transport_ref(stream->transport);
    server->services = gp_netrpc_services_ref(services);
    server->stream = stream;
    gp__worker_queue_init(&server->queue, given > 0 ? given : DEFAULT_WORKERS);
    gp_list_init(&server->waiting);
    gp_cond_init(&server->changed);
    server->on_finished = finished;
    server->on_finished_ctx = ctx;
    if (out != NULL) {
        *out = server;
    }
    gp__transport_stream_use_locked(stream, &stream_ops, server);
    return 0;

fail_framing:
    gp__free(server);
fail_server:
    gp__transport_stream_release_locked(stream);
    return GP_ENOMEM;
}

gp_netrpc_server *
gp_netrpc_server_ref(gp_netrpc_server *server)
{
    atomic_fetch_add_explicit(&server->refs, 1, memory_order_relaxed);
    return server;
}

/* In a forked child, the server's memory is left as it is. */
void
gp_netrpc_server_unref(gp_netrpc_server *server)
{
    if (server == NULL || atomic_fetch_sub_explicit(&server->refs, 1, memory_order_acq_rel) != 1 ||
        gp_runtime_forked()) {
        return;
    }
    gp_cond_release(&server->changed);
    gp__netrpc_framing_release(&server->framing);
    gp__free(server->head_name);
    gp_netrpc_services_unref(server->services);
    gp__transport_unref(server->transport);
    gp__free(server);
}

size_t
gp__netrpc_server_unanswered_locked(gp_netrpc_server *server)
{
    return server->unanswered;
}

void
gp_netrpc_server_close(gp_netrpc_server *server)
{
    if (gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&server->transport->lock);
    if (server->stream != NULL) {
        end_server_locked(server, NULL);
        gp__transport_flush_locked(server->transport);
    }
    gp_mutex_unlock(&server->transport->lock);
    gp__transport_run_deferred(server->transport);
}

int
gp_netrpc_server_wait(gp_netrpc_server *server, int64_t deadline, const gp_interrupt *interrupt)
{
    int rc = 0;

    if (gp_runtime_forked()) {
        return GP_EFORKED;
    }
    gp_mutex_lock(&server->transport->lock);
    while (rc == 0 && !server->finished) {
        rc = gp__cond_wait_interruptible(&server->changed, &server->transport->lock, deadline,
                                         interrupt);
    }
    gp_mutex_unlock(&server->transport->lock);
    return rc;
}
