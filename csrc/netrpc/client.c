#include "netrpc/client.h"

#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "netrpc/framing.h"
#include "netrpc/seq_table.h"

/* With more bytes than these stored, since the server does not read, calls are not sent. */
enum { STORED_MOST = 256 * 1024 };

/* How much of a server's text the message has; the detail has all of it. */
enum { SHOWN_MOST = 64 * 1024 };

/*
 *              the stream takes it             answered, or the stream ends
 *   (QUEUED) ----------------------> (SENT) -------------------------------> (OVER)
 *       |                              |                                       ^
 *       '------------------------------'------- cancelled, timed out ----------'
 */
typedef enum call_state { QUEUED, SENT, OVER } call_state;

/* One call. All but |refs| is guarded by the transport's lock, and does not change once OVER. */
struct gp_netrpc_pending {
    gp_netrpc_client *client; /* shared: ref; of gp_netrpc_call(), borrowed */
    atomic_int refs;
    call_state state;
    gp_link link;            /* QUEUED: in the client's |queued| */
    gp__seq_entry entry;     /* SENT: in the client's |sent| */
    gp_bytes method;         /* borrowed from the caller, or follows this struct */
    gp_gob_output *args;     /* QUEUED: borrowed from the caller or, if |done| is set, owned */
    gp__transport_gate gate; /* open: OVER */
    gp_gob_message reply;    /* owned; OVER and successful */
    gp_error error;          /* OVER and not successful */
    gp_then *done;           /* NULL: gp_netrpc_call() */
    void *ctx;               /* for |done| */
    gp__task report;         /* calls |done|, and then drops a reference */
    int waiters;             /* threads in gp_netrpc_pending_wait() */
};

/* All below |owns_transport| is guarded by the transport's lock. */
struct gp_netrpc_client {
    atomic_int refs;
    gp__transport *transport;     /* shared: ref */
    bool owns_transport;          /* closing us closes it */
    gp__transport_stream *stream; /* owned; NULL: released */
    gp__netrpc_framing framing;
    gp_error why;       /* why it is over; code 0: it is not */
    gp_list queued;     /* QUEUED calls, oldest first */
    gp__seq_table sent; /* SENT calls */
    uint64_t next_seq;
    /* The head that was read last, and whose reply is to come. */
    bool has_head;
    uint64_t head_seq;
    gp_error head_error; /* GP_ESERVER; code 0: none */
};

#define SHUT_DOWN "connection is shut down" /* Go's text, which users match on */

/* ---- The end of calls ------------------------------------------------------------------------ */

static void finish_call_locked(gp_netrpc_client *client, gp_netrpc_pending *call)
    GP_REQUIRES(&client->transport->lock);
static void drop_call_locked(gp_netrpc_client *client, gp_netrpc_pending *call)
    GP_REQUIRES(&client->transport->lock);
static void end_client_locked(gp_netrpc_client *client, const gp_error *why)
    GP_REQUIRES(&client->transport->lock);

/* For gp__transport_defer_locked(). */
static void
report_call(gp__task *task)
{
    gp_netrpc_pending *call = gp_container_of(task, gp_netrpc_pending, report);

    call->done(call->ctx);
    gp_netrpc_pending_unref(call);
}

/*
 * |call|, which is in no list, has its reply or its error. If it was started without waiting, the
 * reference of the client goes on to report_call().
 */
static void
finish_call_locked(gp_netrpc_client *client, gp_netrpc_pending *call)
{
    call->state = OVER;
    gp__transport_gate_open_locked(client->transport, &call->gate);
    if (call->done != NULL) {
        if (call->waiters == 0) {
            gp__transport_urgent_locked(client->transport, -1);
        }
        call->report.run = report_call;
        gp__transport_defer_locked(client->transport, &call->report);
    }
}

/* Take |call|, which is not OVER, out of the list that it is in: its answer is not wanted. */
static void
drop_call_locked(gp_netrpc_client *client, gp_netrpc_pending *call)
{
    if (call->state == QUEUED) {
        gp_link_remove(&call->link);
    } else {
        gp__seq_table_remove(&client->sent, call->entry.seq);
    }
    call->state = OVER;
}

/* |err| may be NULL. */
static void
copy_error(gp_error *err, const gp_error *from)
{
    gp_error_set(err, from->code, "%s", gp_error_message(from));
    if (from->detail != NULL) {
        gp_error_set_detail(err, from->detail, from->detail_len);
    }
}

/*
 * End the stream, and all calls with "connection is shut down" and the reason: with GP_ETLS if
 * there is no TLS, which the reason tells, and otherwise with GP_ECLOSED. |why| may be NULL.
 */
static void
end_client_locked(gp_netrpc_client *client, const gp_error *why)
{
    gp_netrpc_pending *call;
    gp__seq_entry *entry;

    if (why != NULL) {
        gp_error_set(&client->why, why->code == GP_ETLS ? GP_ETLS : GP_ECLOSED, SHUT_DOWN ": %s",
                     gp_error_message(why));
        gp_error_set_detail(&client->why, why->detail, why->detail_len);
    } else {
        gp_error_set(&client->why, GP_ECLOSED, SHUT_DOWN);
    }
    gp__transport_stream_release_locked(client->stream);
    client->stream = NULL;
    if (why != NULL && client->transport->options.raw) { /* nothing else uses the connection */
        gp__transport_end_locked(client->transport, &client->why);
    }
    while ((entry = gp__seq_table_take(&client->sent)) != NULL) {
        call = gp_container_of(entry, gp_netrpc_pending, entry);
        copy_error(&call->error, &client->why);
        finish_call_locked(client, call);
    }
    while ((call = gp_list_first_entry(&client->queued, gp_netrpc_pending, link)) != NULL) {
        gp_link_remove(&call->link);
        copy_error(&call->error, &client->why);
        finish_call_locked(client, call);
    }
}

/* ---- Sending --------------------------------------------------------------------------------- */

static int send_call_locked(gp_netrpc_client *client, gp_netrpc_pending *call, gp_error *err)
    GP_REQUIRES(&client->transport->lock);
static void send_queued_locked(gp_netrpc_client *client) GP_REQUIRES(&client->transport->lock);
static int start_call_locked(gp_netrpc_client *client, gp_netrpc_pending *call, gp_error *err)
    GP_REQUIRES(&client->transport->lock);

/*
 * Write the request of |call|, which is in no list, and put it into the table. Returns: 0,
 * GP_ECLOSED or GP_ENOMEM. In the last case the client has ended.
 */
static int
send_call_locked(gp_netrpc_client *client, gp_netrpc_pending *call, gp_error *err)
{
    const gp__netrpc_request_head head = {{call->method.data, call->method.len}, client->next_seq};
    int rc;

    rc = gp__netrpc_framing_send_request_locked(&client->framing, client->stream, &head, call->args,
                                                err);
    if (rc == GP_ECLOSED) {
        return gp_error_prefix(err, SHUT_DOWN);
    }
    if (rc < 0) {
        end_client_locked(client, err);
        return rc;
    }
    call->entry.seq = client->next_seq++;
    call->state = SENT;
    gp__seq_table_add(&client->sent, &call->entry);
    return 0;
}

/* Send calls that had to wait since the server did not read. */
static void
send_queued_locked(gp_netrpc_client *client)
{
    gp_netrpc_pending *call;

    while (client->stream != NULL &&
           gp__transport_stream_stored_locked(client->stream) < STORED_MOST &&
           (call = gp_list_first_entry(&client->queued, gp_netrpc_pending, link)) != NULL) {
        gp_link_remove(&call->link);
        if (send_call_locked(client, call, &call->error) < 0) {
            finish_call_locked(client, call);
        } else if (call->done != NULL) {
            gp_gob_output_free(call->args);
            call->args = NULL;
        }
    }
}

/*
 * Send the request of |call|, or queue it while the server does not read. Returns: 0 or, with
 * nothing done, GP_ECLOSED, GP_ETLS or GP_ENOMEM.
 */
static int
start_call_locked(gp_netrpc_client *client, gp_netrpc_pending *call, gp_error *err)
{
    int rc;

    if (client->stream == NULL) {
        copy_error(err, &client->why);
        return client->why.code;
    }
    if (!gp_list_is_empty(&client->queued) ||
        gp__transport_stream_stored_locked(client->stream) >= STORED_MOST) {
        call->state = QUEUED;
        gp_list_append(&client->queued, &call->link);
        return 0;
    }
    rc = send_call_locked(client, call, err);
    if (rc == 0) {
        gp__transport_flush_locked(client->transport);
    }
    return rc;
}

/* ---- Receiving ------------------------------------------------------------------------------- */

static int take_message_locked(gp_netrpc_client *client, gp_gob_message *message, gp_error *err)
    GP_REQUIRES(&client->transport->lock);
static int take_head_locked(gp_netrpc_client *client, const gp_gob_message *message, gp_error *err)
    GP_REQUIRES(&client->transport->lock);
static void take_reply_locked(gp_netrpc_client *client, gp_gob_message *message)
    GP_REQUIRES(&client->transport->lock);

static int
take_head_locked(gp_netrpc_client *client, const gp_gob_message *message, gp_error *err)
{
    gp__netrpc_response_head head;
    int rc = gp__netrpc_framing_read_response(&client->framing, message, &head, err);

    if (rc < 0) {
        return rc;
    }
    client->has_head = true;
    client->head_seq = head.seq;
    if (head.error.len > 0) {
        gp_error_set(&client->head_error, GP_ESERVER, "%.*s",
                     (int)(head.error.len < SHOWN_MOST ? head.error.len : SHOWN_MOST),
                     head.error.data);
        gp_error_set_detail(&client->head_error, head.error.data, head.error.len);
    }
    return 0;
}

/*
 * Give the call of the last head what has come for it. As in Go, an answer that no call waits for
 * is dropped: its call was given up, or there has never been one.
 */
static void
take_reply_locked(gp_netrpc_client *client, gp_gob_message *message)
{
    gp__seq_entry *entry = gp__seq_table_remove(&client->sent, client->head_seq);
    gp_netrpc_pending *call;

    client->has_head = false;
    if (entry == NULL) {
        gp_error_release(&client->head_error);
        gp_gob_message_release(message);
        return;
    }
    call = gp_container_of(entry, gp_netrpc_pending, entry);
    if (client->head_error.code != 0) {
        call->error = client->head_error;
        client->head_error = (gp_error)GP_ERROR_INIT;
        gp_gob_message_release(message);
    } else {
        call->reply = *message;
    }
    finish_call_locked(client, call);
}

/* |message| is taken over. Returns: 0, GP_EGOB or GP_ENOMEM. */
static int
take_message_locked(gp_netrpc_client *client, gp_gob_message *message, gp_error *err)
{
    int rc;

    if (client->has_head) {
        take_reply_locked(client, message);
        return 0;
    }
    rc = take_head_locked(client, message, err);
    gp_gob_message_release(message);
    return rc;
}

/* For gp__transport_stream_ops. */
static size_t
receive_bytes(void *ctx, const unsigned char *bytes, size_t len)
{
    gp_netrpc_client *client = ctx;
    gp_gob_message message = GP_GOB_MESSAGE_INIT;
    gp_error err = GP_ERROR_INIT;
    int rc;

    gp_mutex_assert_held(&client->transport->lock);
    rc = gp_gob_decoder_feed(client->framing.decoder, bytes, len, &err);
    while (rc == 0 && (rc = gp_gob_decoder_next(client->framing.decoder, &message, &err)) == 1) {
        rc = take_message_locked(client, &message, &err);
    }
    if (rc < 0) {
        gp_error_prefix(&err, "an answer cannot be read");
        end_client_locked(client, &err);
        gp_error_release(&err);
    }
    return len;
}

/* For gp__transport_stream_ops. */
static void
handle_end(void *ctx, const gp_error *why)
{
    gp_netrpc_client *client = ctx;
    gp_error err = GP_ERROR_INIT;

    gp_mutex_assert_held(&client->transport->lock);
    if (why->code == 0) {
        gp_error_set(&err, GP_ECLOSED, "the other side has ended it%s",
                     gp_gob_decoder_at_end(client->framing.decoder) && !client->has_head
                         ? ""
                         : " in the middle of an answer");
        why = &err;
    }
    end_client_locked(client, why);
    gp_error_release(&err);
}

/* For gp__transport_stream_ops. */
static void
handle_room(void *ctx)
{
    gp_netrpc_client *client = ctx;

    gp_mutex_assert_held(&client->transport->lock);
    send_queued_locked(client);
}

static const gp__transport_stream_ops stream_ops = {
    .received = receive_bytes,
    .ended = handle_end,
    .writable = handle_room,
};

/* ---- Clients --------------------------------------------------------------------------------- */

int
gp__netrpc_client_new_locked(gp_netrpc_client **out, gp__transport_stream *stream,
                             bool owns_transport, const gp_gob_limits *limits, gp_error *err)
{
    gp_netrpc_client *client = gp__calloc(1, sizeof(*client));

    if (client == NULL) {
        gp_error_set(err, GP_ENOMEM, "out of memory for a client");
        goto fail_client;
    }
    if (gp__seq_table_init(&client->sent, err) < 0) {
        goto fail_table;
    }
    if (gp__netrpc_framing_init(&client->framing, limits, err) < 0) {
        goto fail_framing;
    }
    atomic_init(&client->refs, 1);
    client->transport = gp__transport_ref(stream->transport);
    client->owns_transport = owns_transport;
    client->stream = stream;
    gp_list_init(&client->queued);
    *out = client;
    gp__transport_stream_use_locked(stream, &stream_ops, client);
    return 0;

fail_framing:
    gp__seq_table_release(&client->sent);
fail_table:
    gp__free(client);
fail_client:
    gp__transport_stream_release_locked(stream);
    return GP_ENOMEM;
}

gp_netrpc_client *
gp_netrpc_client_ref(gp_netrpc_client *client)
{
    atomic_fetch_add_explicit(&client->refs, 1, memory_order_relaxed);
    return client;
}

/*
 * In a forked child, the client's memory is left as it is: the parent's threads may have held it.
 */
void
gp_netrpc_client_unref(gp_netrpc_client *client)
{
    if (client == NULL || atomic_fetch_sub_explicit(&client->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    if (!gp_runtime_forked()) {
        gp_netrpc_client_close(client);
        gp_error_release(&client->why);
        gp_error_release(&client->head_error);
        gp__netrpc_framing_release(&client->framing);
        gp__transport_unref(client->transport);
        gp__seq_table_release(&client->sent);
        gp__free(client);
    }
}

void
gp_netrpc_client_close(gp_netrpc_client *client)
{
    bool closes;

    if (gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&client->transport->lock);
    closes = client->stream != NULL;
    if (closes) {
        gp__transport_stream_shutdown_locked(client->stream);
        end_client_locked(client, NULL);
        gp__transport_flush_locked(client->transport);
    }
    gp_mutex_unlock(&client->transport->lock);
    if (closes) {
        gp__transport_run_deferred(client->transport);
    }
    if (client->owns_transport) {
        gp__transport_close(client->transport, NULL, 0);
    }
}

bool
gp_netrpc_client_closed(gp_netrpc_client *client)
{
    bool closed;

    if (gp_runtime_forked()) {
        return true;
    }
    gp_mutex_lock(&client->transport->lock);
    closed = client->stream == NULL;
    gp_mutex_unlock(&client->transport->lock);
    return closed;
}

gp_gob_decoder *
gp_netrpc_client_decoder(const gp_netrpc_client *client)
{
    return client->framing.decoder;
}

/* ---- Calls that are waited for --------------------------------------------------------------- */

/* Hand |call->error| over to |err|, which may be NULL. Returns its code. */
static int
move_error(gp_netrpc_pending *call, gp_error *err)
{
    int code = call->error.code;

    if (err != NULL) {
        gp_error_release(err);
        *err = call->error;
        call->error = (gp_error)GP_ERROR_INIT;
    } else {
        gp_error_release(&call->error);
    }
    return code;
}

/* gp_netrpc_call() with |call|, which is zeroed. */
static int
run_call(gp_netrpc_client *client, gp_netrpc_pending *call, int64_t deadline,
         const gp_interrupt *interrupt, gp_error *err)
{
    int rc;

    call->client = client;
    gp_mutex_lock(&client->transport->lock);
    rc = start_call_locked(client, call, err);
    if (rc == 0) {
        rc = gp__transport_wait_locked(client->transport, &call->gate, deadline, interrupt);
        if (call->state != OVER) {
            drop_call_locked(client, call);
        } else {
            rc = 0;
        }
    }
    gp_mutex_unlock(&client->transport->lock);
    if (rc == GP_ETIMEOUT) {
        return gp_error_set(err, GP_ETIMEOUT, "%.*s was not answered in time",
                            (int)call->method.len, (const char *)call->method.data);
    }
    if (rc == GP_EUSER) {
        return gp_error_set(err, GP_EUSER, "%.*s was interrupted", (int)call->method.len,
                            (const char *)call->method.data);
    }
    return rc == 0 && call->error.code != 0 ? move_error(call, err) : rc;
}

int
gp_netrpc_call(gp_netrpc_client *client, gp_bytes method, gp_gob_output *args, int64_t deadline,
               const gp_interrupt *interrupt, gp_gob_message *reply, gp_error *err)
{
    gp_netrpc_pending on_stack = {.method = method, .args = args};
    gp_netrpc_pending *call = &on_stack;
    bool shares_stack = interrupt != NULL && interrupt->wait != NULL;
    int rc;

    if (gp_runtime_forked()) {
        return gp_runtime_refuse_fork(err);
    }
    if (shares_stack) { /* no other thread may know an address in it */
        call = gp__malloc(sizeof(*call));
        if (call == NULL) {
            return gp_error_set(err, GP_ENOMEM, "out of memory for a call");
        }
        *call = on_stack;
    }
    rc = run_call(client, call, deadline, interrupt, err);
    if (rc == 0) {
        *reply = call->reply;
    }
    if (shares_stack) {
        gp__free(call);
    }
    return rc;
}

/* ---- Calls that are not waited for ----------------------------------------------------------- */

/* |args| is taken over in any case. */
int
gp_netrpc_start(gp_netrpc_pending **out, gp_netrpc_client *client, gp_bytes method,
                gp_gob_output *args, gp_then *done, void *ctx, gp_error *err)
{
    gp_netrpc_pending *call = NULL;
    int rc;

    if (gp_runtime_forked()) {
        rc = gp_runtime_refuse_fork(err);
        goto fail_call;
    }
    call = gp__calloc(1, sizeof(*call) + method.len);
    if (call == NULL) {
        rc = gp_error_set(err, GP_ENOMEM, "out of memory for a call");
        goto fail_call;
    }
    memcpy(call + 1, method.data, method.len);
    call->client = client;
    call->method = (gp_bytes){call + 1, method.len};
    call->args = args;
    call->done = done;
    call->ctx = ctx;
    atomic_init(&call->refs, 2); /* the caller's, and one until |done| is called */
    gp_mutex_lock(&client->transport->lock);
    rc = start_call_locked(client, call, err);
    if (rc == 0) {
        *out = call; /* before |done| can be called */
        gp_netrpc_client_ref(client);
        gp__transport_urgent_locked(client->transport, 1);
        if (call->state == SENT) {
            call->args = NULL;
        } else {
            args = NULL; /* still needed */
        }
    }
    gp_mutex_unlock(&client->transport->lock);
    if (rc < 0) {
        goto fail_start;
    }
    gp_gob_output_free(args);
    return 0;

fail_start:
    gp__free(call);
fail_call:
    gp_gob_output_free(args);
    return rc;
}

gp_netrpc_pending *
gp_netrpc_pending_ref(gp_netrpc_pending *pending)
{
    atomic_fetch_add_explicit(&pending->refs, 1, memory_order_relaxed);
    return pending;
}

void
gp_netrpc_pending_unref(gp_netrpc_pending *pending)
{
    if (pending == NULL ||
        atomic_fetch_sub_explicit(&pending->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    gp_gob_output_free(pending->args);
    gp_gob_message_release(&pending->reply);
    gp_error_release(&pending->error);
    gp_netrpc_client_unref(pending->client);
    gp__free(pending);
}

int
gp_netrpc_pending_wait(gp_netrpc_pending *pending, int64_t deadline, const gp_interrupt *interrupt)
{
    gp_netrpc_client *client = pending->client;
    int rc = 0;

    if (gp_runtime_forked()) {
        return GP_EFORKED;
    }
    gp_mutex_lock(&client->transport->lock);
    if (pending->state != OVER) {
        if (pending->waiters++ == 0) {
            gp__transport_urgent_locked(client->transport, -1); /* this thread drives */
        }
        rc = gp__transport_wait_locked(client->transport, &pending->gate, deadline, interrupt);
        if (--pending->waiters == 0 && pending->state != OVER) {
            gp__transport_urgent_locked(client->transport, 1);
        }
        if (pending->state == OVER) {
            rc = 0;
        }
    }
    gp_mutex_unlock(&client->transport->lock);
    return rc;
}

bool
gp_netrpc_pending_over(gp_netrpc_pending *pending)
{
    gp_netrpc_client *client = pending->client;
    bool over;

    if (gp_runtime_forked()) {
        return false;
    }
    gp_mutex_lock(&client->transport->lock);
    over = pending->state == OVER;
    gp_mutex_unlock(&client->transport->lock);
    return over;
}

bool
gp_netrpc_pending_cancel(gp_netrpc_pending *pending)
{
    gp_netrpc_client *client = pending->client;
    bool cancels;

    if (gp_runtime_forked()) {
        return false;
    }
    gp_mutex_lock(&client->transport->lock);
    cancels = pending->state != OVER;
    if (cancels) {
        drop_call_locked(client, pending);
        gp_error_set(&pending->error, GP_EUSER, "the call was cancelled");
        gp__transport_gate_open_locked(client->transport, &pending->gate);
        if (pending->waiters == 0) {
            gp__transport_urgent_locked(client->transport, -1);
        }
    }
    gp_mutex_unlock(&client->transport->lock);
    if (cancels) {
        gp_netrpc_pending_unref(pending); /* |done| is not called */
    }
    return cancels;
}

int
gp_netrpc_pending_result(gp_netrpc_pending *pending, const gp_gob_message **reply, gp_error *err)
{
    if (pending->error.code != 0) {
        copy_error(err, &pending->error);
        return pending->error.code;
    }
    *reply = &pending->reply;
    return 0;
}
