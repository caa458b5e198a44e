#include "plugin/session_grpc.h"

#include <stdatomic.h>

#include "gp/grpc_status.h"
#include "gp/handshake.h"
#include "plugin/secure.h"
#include "plugin/stdio_stream.h"
#include "rpc/channel.h"
#include "services/broker.h"
#include "services/controller.h"
#include "services/grpc_mux.h"
#include "services/health.h"

/* How long a plugin may take to accept a connection after its handshake. */
static const int64_t connect_ms = 10000;

/* The health service's name for the plugin as a whole. */
static const char service_name[] = "plugin";

typedef struct grpc_session {
    gp__session base;
    gp_grpc_mux *mux;        /* shared: ref; NULL: connections are separate */
    gp_channel *channel;     /* shared: ref */
    gp__stdio_stream *stdio; /* owned: the plugin's output; NULL once closed */
    gp_broker *broker;       /* shared: ref */
} grpc_session;

static grpc_session *
as_grpc(gp__session *session)
{
    return (grpc_session *)session; /* |base| is its first member */
}

/* ---- Opening --------------------------------------------------------------------------------- */

/* Remove the directories that killed hosts have left, once per process. */
static void
remove_dead_hosts_directories(const gp_client_options *options)
{
    static atomic_flag done = ATOMIC_FLAG_INIT;

    if (!atomic_flag_test_and_set(&done)) {
        gp__grpc_mux_sweep(options->unix_socket_dir);
    }
}

static int
open_mux(grpc_session *session, const gp__session_spec *spec, const gp_interrupt *interrupt,
         gp_error *err)
{
    const gp_client_options *options = spec->options;
    int rc;

    remove_dead_hosts_directories(options);
    rc = gp_grpc_mux_new(&session->mux, options->unix_socket_dir, err);
    if (rc < 0) {
        return rc;
    }
    gp__grpc_mux_on_failure(session->mux, spec->ended, spec->ctx);
    return gp_grpc_mux_connect(session->mux, spec->endpoint->network, spec->endpoint->address,
                               connect_ms, interrupt, err);
}

static int
open_channel(grpc_session *session, const gp__session_spec *spec, const gp_interrupt *interrupt,
             gp_error *err)
{
    const char *target =
        session->mux != NULL ? gp_grpc_mux_target(session->mux) : spec->endpoint->target;
    int rc =
        gp_channel_open_tls(&session->channel, target, spec->tls, spec->options->channel_args, err);

    if (rc < 0) {
        return rc;
    }
    gp__grpc_mux_explain(session->mux, session->channel, spec->process);
    if (spec->tls != NULL) {
        /*
         * A multiplexed plugin accepts one connection, which has been made: a connection to the
         * mux's own path is one more stream of it.
         */
        const gp__secure_spec secure = {
            .channel = session->channel,
            .tls = spec->tls,
            .network = session->mux != NULL ? "unix" : spec->endpoint->network,
            .address =
                session->mux != NULL ? gp_grpc_mux_path(session->mux) : spec->endpoint->address,
            .process = spec->process,
            .deadline = spec->deadline,
        };

        rc = gp__secure_connect(&secure, interrupt, err);
    }
    return rc;
}

static int
open_broker(grpc_session *session, const gp__session_spec *spec, gp_error *err)
{
    const gp_client_options *options = spec->options;
    int rc = gp__broker_open(&session->broker, session->channel, spec->tls, session->mux,
                             spec->process, options->directory, err);

    if (rc == 0) {
        gp_broker_use_args(session->broker, options->channel_args);
    }
    return rc;
}

static int
open_session(gp__session *self, const gp__session_spec *spec, const gp_interrupt *interrupt,
             gp_error *err)
{
    grpc_session *session = as_grpc(self);
    int rc = spec->options->multiplex ? open_mux(session, spec, interrupt, err) : 0;

    rc = rc == 0 ? open_channel(session, spec, interrupt, err) : rc;
    if (rc == 0) {
        rc = gp__stdio_stream_open(&session->stdio, session->channel, spec->output, err);
    }
    return rc == 0 ? open_broker(session, spec, err) : rc;
}

/* ---- Using ----------------------------------------------------------------------------------- */

static int
ping_plugin(gp__session *self, int64_t timeout_ms, const gp_interrupt *interrupt, gp_error *err)
{
    return gp__health_check(as_grpc(self)->channel, service_name, timeout_ms, interrupt, err);
}

static gp_channel *
channel_of(gp__session *self)
{
    return as_grpc(self)->channel;
}

static gp_broker *
broker_of(gp__session *self)
{
    return as_grpc(self)->broker;
}

static void
cancel_calls(gp__session *self)
{
    if (as_grpc(self)->channel != NULL) {
        gp_channel_cancel_others(as_grpc(self)->channel); /* users have other views of it */
    }
}

static bool
is_connected(gp__session *self)
{
    return gp_channel_state(as_grpc(self)->channel, false) == GP_READY;
}

/* ---- Ending ---------------------------------------------------------------------------------- */

static int
shut_down(gp__session *self, int64_t timeout_ms, const gp_interrupt *interrupt)
{
    grpc_session *session = as_grpc(self);
    gp_error err = GP_ERROR_INIT;
    int rc = GP_ECLOSED;

    if (session->channel != NULL) {
        rc = gp__controller_shutdown(session->channel, timeout_ms, interrupt, &err);
    }
    if (rc == GP_ERPC && err.number != GP_GRPC_UNIMPLEMENTED) {
        rc = 0; /* the call timed out or lost the connection: the process may be exiting */
    }
    gp_error_release(&err);
    return rc;
}

static int
await_output(gp__session *self, int64_t deadline, const gp_interrupt *interrupt)
{
    gp__stdio_stream *stream = as_grpc(self)->stdio;

    return stream != NULL ? gp__stdio_stream_await_end(stream, deadline, interrupt) : 0;
}

static void
disconnect_session(gp__session *self)
{
    grpc_session *session = as_grpc(self);

    if (session->mux != NULL) {
        gp__grpc_mux_on_failure(session->mux, NULL, NULL);
    }
    if (session->broker != NULL) {
        gp_broker_close(session->broker);
    }
    if (session->channel != NULL) {
        gp_channel_close(session->channel);
        gp__channel_mark_ended(session->channel);
    }
}

static void
close_session(gp__session *self, const gp__leftover *left)
{
    grpc_session *session = as_grpc(self);

    gp__stdio_stream_close(session->stdio);
    session->stdio = NULL;
    gp_grpc_mux_close(session->mux);
    if (left != NULL && session->broker != NULL) {
        gp__broker_remove_sockets(session->broker, left);
    }
}

static void
release_session(gp__session *self)
{
    grpc_session *session = as_grpc(self);

    gp_broker_unref(session->broker);
    gp_grpc_mux_unref(session->mux);
    gp__stdio_stream_close(session->stdio);
    gp_channel_unref(session->channel);
}

const gp__protocol gp__protocol_grpc = {
    .name = "grpc",
    .bit = GP_PROTOCOL_GRPC,
    .size = sizeof(grpc_session),
    .open = open_session,
    .ping = ping_plugin,
    .channel = channel_of,
    .broker = broker_of,
    .cancel_calls = cancel_calls,
    .is_connected = is_connected,
    .shutdown = shut_down,
    .await_output = await_output,
    .disconnect = disconnect_session,
    .close = close_session,
    .release = release_session,
};
