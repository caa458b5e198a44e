#include "tls/probe.h"

#include "tls/tls_failure.h"
#include "tls/tls_stream.h"

/* The beginning of a connection of HTTP/2: the client's preface and an empty SETTINGS frame. */
static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";

typedef struct probe {
    gp__stream *stream; /* owned; TLS over the socket */
    int64_t deadline;
    const gp_interrupt *interrupt;
} probe;

/* ---- The steps; each returns as gp__stream_read() -------------------------------------------- */

static ptrdiff_t
shake_hands(gp__stream *stream, gp_error *err)
{
    return gp__tls_stream_handshake(stream, err);
}

static ptrdiff_t
send_preface(gp__stream *stream, gp_error *err)
{
    return gp__stream_write(stream, preface, sizeof(preface) - 1, err);
}

static ptrdiff_t
receive_byte(gp__stream *stream, gp_error *err)
{
    char byte;
    ptrdiff_t got = gp__stream_read(stream, &byte, 1, err);

    return got != 0 ? got
                    : gp__tls_fault(err, GP_TLS_CLOSED,
                                    "the plugin ended the connection before it sent anything");
}

/* Repeat |step| until it succeeds. Returns 0 or a GP_E* code. */
static int
repeat(const probe *self, ptrdiff_t (*step)(gp__stream *stream, gp_error *err), unsigned wanted,
       gp_error *err)
{
    ptrdiff_t done;

    while ((done = step(self->stream, err)) == GP__WOULD_BLOCK) {
        int rc = gp__stream_await(self->stream, wanted, self->deadline, self->interrupt);

        if (rc == GP_ETIMEOUT) {
            return gp__tls_fault(
                err, GP_TLS_TIMEOUT,
                "the plugin took the connection, and did not answer the TLS handshake");
        }
        if (rc < 0) {
            return gp_error_set(err, rc, "connecting was interrupted");
        }
    }
    return done < 0 ? (int)done : 0;
}

static int
check_protocol(const probe *self, gp_error *err)
{
    return gp__tls_stream_agreed(self->stream)
               ? 0
               : gp__tls_fault(err, GP_TLS_PROTOCOL,
                               "the plugin's TLS does not offer HTTP/2, which gRPC needs: its "
                               "configuration lacks the protocol h2 (ALPN)");
}

int
gp__tls_probe(gp_tls *tls, int fd, int64_t deadline, const gp_interrupt *interrupt, gp_error *err)
{
    const gp__tls_stream_options options = {.protocol = "h2"};
    probe self = {.deadline = deadline, .interrupt = interrupt};
    gp__stream *below;
    int rc;

    if ((rc = gp__stream_socket_new(&below, fd, err)) < 0 ||
        (rc = gp__tls_stream_new(&self.stream, below, tls, &options, err)) < 0) {
        return rc;
    }
    if ((rc = repeat(&self, shake_hands, GP__STREAM_READ, err)) == 0 &&
        (rc = check_protocol(&self, err)) == 0 &&
        (rc = repeat(&self, send_preface, GP__STREAM_WRITE, err)) == 0) {
        rc = repeat(&self, receive_byte, GP__STREAM_READ, err);
    }
    gp__stream_close(self.stream);
    return rc;
}
