#include "plugin/session_netrpc.h"

#include "base/thread.h"
#include "gp/handshake.h"
#include "netrpc/client.h"
#include "netrpc/control.h"
#include "netrpc/mux_broker.h"
#include "netrpc/transport.h"
#include "os/socket.h"
#include "plugin/early_exit.h"
#include "plugin/output_streams.h"
#include "tls/tls_failure.h"
#include "tls/tls_stream.h"

/* How long the last bytes to the plugin, of a request or of the end, may take. */
static const int64_t linger_ms = 100;

typedef struct netrpc_session {
    gp__session base;
    gp__transport *transport;   /* shared: ref; NULL: not connected yet, as what follows */
    gp_mux_broker *broker;      /* shared: ref; written with the transport's lock held */
    gp_netrpc_client *control;  /* shared: ref */
    gp__output_streams *output; /* owned */

    /* Those of the gp__session_spec. Guarded by the transport's lock. NULL: not to be called. */
    void (*ended)(void *ctx, const char *why);
    void *ctx;
} netrpc_session;

static netrpc_session *
as_netrpc(gp__session *session)
{
    return (netrpc_session *)session; /* |base| is its first member */
}

/* ---- Opening --------------------------------------------------------------------------------- */

/* For gp__transport_options. Called with the transport's lock held. */
GP_NO_THREAD_SAFETY_ANALYSIS static void
take_stream(void *ctx, gp__transport_stream *stream)
{
    netrpc_session *session = as_netrpc(ctx);

    if (session->broker != NULL) {
        gp__mux_broker_take_stream_locked(session->broker, stream);
    } else { /* this side has not opened its streams yet */
        gp__transport_stream_release_locked(stream);
    }
}

/* For gp__transport_options. Called with the transport's lock held. */
GP_NO_THREAD_SAFETY_ANALYSIS static void
connection_over(void *ctx, const gp_error *why)
{
    netrpc_session *session = as_netrpc(ctx);

    if (session->broker != NULL) {
        gp__mux_broker_end_locked(session->broker);
    }
    if (session->ended != NULL && why->code != GP_ECLOSED) {
        session->ended(session->ctx, gp_error_message(why));
    }
}

/* Connect to where the plugin listens. |*out| has TLS if the plugin has. */
static int
open_stream(gp__stream **out, const gp__session_spec *spec, const gp_interrupt *interrupt,
            gp_error *err)
{
    static const gp__tls_stream_options as_client = {.server = false};
    int fd;
    int rc = gp__socket_reach(&fd, spec->endpoint->network, spec->endpoint->address, spec->deadline,
                              interrupt, err);

    if (rc == GP_EUSER) {
        return gp_error_set(err, rc, "the start was interrupted");
    }
    if (rc < 0) {
        bool joined = spec->options->reattach_network != NULL;

        gp_error_prefix(err, "cannot connect to the plugin");
        rc = joined ? GP_EREATTACH : GP_ESTART;
        if (err != NULL) {
            err->code = rc;
        }
        return rc;
    }
    rc = gp__stream_socket_new(out, fd, err);
    if (rc == 0 && spec->tls != NULL) {
        rc = gp__tls_stream_new(out, *out, spec->tls, &as_client, err);
    }
    return rc;
}

static int open_streams_locked(netrpc_session *session, const gp__session_spec *spec, gp_error *err)
    GP_REQUIRES(&session->transport->lock);

/* Make the broker, and the streams in the order that go-plugin expects: control, stdout, stderr. */
static int
open_streams_locked(netrpc_session *session, const gp__session_spec *spec, gp_error *err)
{
    gp__transport_stream *stream;
    int rc = gp__mux_broker_new(&session->broker, session->transport, err);

    if (rc == 0) {
        rc = gp__transport_stream_open_locked(&stream, session->transport, NULL, NULL, err);
    }
    if (rc == 0) {
        gp_mutex_assert_held(&stream->transport->lock);
        rc = gp__netrpc_client_new_locked(&session->control, stream, false, NULL, err);
    }
    if (rc == 0) {
        rc =
            gp__output_streams_open_locked(&session->output, session->transport, spec->output, err);
    }
    gp__transport_flush_locked(session->transport);
    return rc;
}

/*
 * With TLS, wait for an answer: only what comes from the plugin shows that it accepts the
 * connection. Returns: 0, GP_ETLS or GP_EUSER.
 */
static int
await_tls(netrpc_session *session, const gp__session_spec *spec, const gp_interrupt *interrupt,
          gp_error *err)
{
    int rc = gp__control_ping(session->control, spec->deadline, interrupt, err);

    switch (rc) {
    case GP_ESERVER: /* it answers, if not as expected */
        gp_error_release(err);
        return 0;
    case GP_ETIMEOUT:
        return gp__tls_fault(err, GP_TLS_TIMEOUT,
                             "the plugin took the connection, and did not answer the TLS "
                             "handshake");
    case GP_ECLOSED:
        return gp__tls_fault(err, GP_TLS_CLOSED,
                             "the plugin ended the connection before it sent anything");
    case GP_EUSER:
        return gp_error_set(err, rc, "the start was interrupted");
    default:
        return rc;
    }
}

static int
connect_session(netrpc_session *session, const gp__session_spec *spec,
                const gp_interrupt *interrupt, gp_error *err)
{
    const gp__transport_options options = {
        .client = true, .accept = take_stream, .over = connection_over, .ctx = session};
    gp__stream *stream;
    int rc = open_stream(&stream, spec, interrupt, err);

    if (rc < 0) {
        return rc;
    }
    session->ended = spec->ended;
    session->ctx = spec->ctx;
    rc = gp__transport_open(&session->transport, stream, &options, err);
    if (rc < 0) {
        return rc;
    }
    gp_mutex_lock(&session->transport->lock);
    rc = open_streams_locked(session, spec, err);
    gp_mutex_unlock(&session->transport->lock);
    gp__transport_run_deferred(session->transport);
    return rc == 0 && spec->tls != NULL ? await_tls(session, spec, interrupt, err) : rc;
}

static int
open_session(gp__session *self, const gp__session_spec *spec, const gp_interrupt *interrupt,
             gp_error *err)
{
    int rc = connect_session(as_netrpc(self), spec, interrupt, err);

    return rc < 0 && rc != GP_EUSER ? gp__early_exit(rc, spec->process, err) : rc;
}

/* ---- Using ----------------------------------------------------------------------------------- */

static int
ping_plugin(gp__session *self, int64_t timeout_ms, const gp_interrupt *interrupt, gp_error *err)
{
    int rc = gp__control_ping(as_netrpc(self)->control, gp_deadline_in(timeout_ms), interrupt, err);

    if (rc == GP_ECLOSED || rc == GP_ESERVER || rc == GP_ETIMEOUT || rc == GP_ETLS) {
        rc = GP_ERPC;
        if (err != NULL) {
            err->code = rc;
        }
    }
    return rc;
}

static gp_mux_broker *
mux_broker_of(gp__session *self)
{
    return as_netrpc(self)->broker;
}

static int
dispense(gp__session *self, const char *name, const gp_gob_limits *limits, int64_t deadline,
         const gp_interrupt *interrupt, gp_netrpc_client **out, gp_error *err)
{
    netrpc_session *session = as_netrpc(self);
    uint32_t id;
    int rc = gp__control_dispense(session->control, name, deadline, interrupt, &id, err);

    return rc == 0 ? gp_mux_broker_dial(session->broker, id, limits,
                                        gp_deadline_in(GP_MUX_BROKER_MS), interrupt, out, err)
                   : rc;
}

/* Go's handlers cannot be cancelled: calls end with the connection. */
static void
cancel_calls(gp__session *self)
{
    (void)self;
}

static bool
is_connected(gp__session *self)
{
    return gp_mux_broker_connected(as_netrpc(self)->broker);
}

/* ---- Ending ---------------------------------------------------------------------------------- */

static int
shut_down(gp__session *self, int64_t timeout_ms, const gp_interrupt *interrupt)
{
    netrpc_session *session = as_netrpc(self);
    int rc = GP_ECLOSED;

    if (session->control != NULL) {
        rc = gp__control_quit(session->control, gp_deadline_in(timeout_ms), interrupt, NULL);
        if (rc == GP_ECLOSED || rc == GP_ETIMEOUT) {
            rc = 0; /* the connection is lost, or the plugin slow: the process may be exiting */
        }
    }
    return rc;
}

static int
await_output(gp__session *self, int64_t deadline, const gp_interrupt *interrupt)
{
    gp__output_streams *output = as_netrpc(self)->output;

    return output != NULL ? gp__output_streams_await_end(output, deadline, interrupt) : 0;
}

/* Close in go-plugin's order: control, the output, the connection. */
static void
disconnect_session(gp__session *self)
{
    netrpc_session *session = as_netrpc(self);

    if (session->transport == NULL) {
        return;
    }
    gp_mutex_lock(&session->transport->lock);
    session->ended = NULL;
    gp_mutex_unlock(&session->transport->lock);
    if (session->control != NULL) {
        gp_netrpc_client_close(session->control);
    }
    gp__output_streams_close(session->output);
    if (session->broker != NULL) {
        gp__mux_broker_close(session->broker);
    }
    gp__transport_close(session->transport, NULL, linger_ms);
}

static void
close_session(gp__session *self, const gp__leftover *left)
{
    (void)left; /* it makes no sockets but the connection's */
    disconnect_session(self);
}

static void
release_session(gp__session *self)
{
    netrpc_session *session = as_netrpc(self);

    disconnect_session(self);
    gp_netrpc_client_unref(session->control);
    gp__output_streams_free(session->output);
    gp_mux_broker_unref(session->broker);
    gp__transport_unref(session->transport);
}

const gp__protocol gp__protocol_netrpc = {
    .name = "netrpc",
    .bit = GP_PROTOCOL_NETRPC,
    .size = sizeof(netrpc_session),
    .open = open_session,
    .ping = ping_plugin,
    .mux_broker = mux_broker_of,
    .dispense = dispense,
    .cancel_calls = cancel_calls,
    .is_connected = is_connected,
    .shutdown = shut_down,
    .await_output = await_output,
    .disconnect = disconnect_session,
    .close = close_session,
    .release = release_session,
};
