#include "netrpc/client.h"

#include "os/socket.h"
#include "tls/tls_stream.h"

/* A client's stream between its opening and gp__netrpc_client_new_locked(), which replaces this. */
static const gp__transport_stream_ops no_ops;

/* Put TLS over |*stream| and wait for the handshake. If that fails, |*stream| is closed. */
static int
secure_stream(gp__stream **stream, gp_tls *tls, int64_t deadline, const gp_interrupt *interrupt,
              gp_error *err)
{
    const gp__tls_stream_options options = {.server = false};
    int rc = gp__tls_stream_new(stream, *stream, tls, &options, err);

    if (rc < 0) {
        return rc;
    }
    while ((rc = gp__tls_stream_handshake(*stream, err)) == GP__WOULD_BLOCK) {
        rc = gp__stream_await(*stream, GP__STREAM_READ, deadline, interrupt);
        if (rc < 0) {
            gp_error_set(err, rc,
                         rc == GP_ETIMEOUT ? "no TLS connection was made in time"
                                           : "connecting was interrupted");
            break;
        }
    }
    if (rc < 0) {
        gp__stream_close(*stream);
    }
    return rc;
}

static int
open_stream(gp__stream **out, const char *network, const char *address, gp_tls *tls,
            int64_t deadline, const gp_interrupt *interrupt, gp_error *err)
{
    int fd;
    int rc = gp__socket_reach(&fd, network, address, deadline, interrupt, err);

    if (rc < 0 || (rc = gp__stream_socket_new(out, fd, err)) < 0) {
        return rc;
    }
    return tls != NULL ? secure_stream(out, tls, deadline, interrupt, err) : 0;
}

int
gp_netrpc_connect(gp_netrpc_client **out, const char *network, const char *address, gp_tls *tls,
                  const gp_gob_limits *limits, int64_t deadline, const gp_interrupt *interrupt,
                  gp_error *err)
{
    const gp__transport_options options = {.raw = true};
    gp__transport_stream *stream;
    gp__transport *transport;
    gp__stream *below;
    int rc;

    if (gp_runtime_forked()) {
        return gp_runtime_refuse_fork(err);
    }
    rc = open_stream(&below, network, address, tls, deadline, interrupt, err);
    if (rc < 0 || (rc = gp__transport_open(&transport, below, &options, err)) < 0) {
        return rc;
    }
    gp_mutex_lock(&transport->lock);
    rc = gp__transport_stream_open_locked(&stream, transport, &no_ops, NULL, err);
    if (rc == 0) {
        rc = gp__netrpc_client_new_locked(out, stream, true, limits, err);
    }
    gp_mutex_unlock(&transport->lock);
    gp__transport_unref(transport); /* the client has its own reference */
    return rc;
}
