/*
 * Layer: tls. TLS over any stream of bytes, as client or as server: a stream itself (os/stream.h).
 * It opens no socket and reads no clock: encrypted bytes are taken from the stream below and given
 * to it.
 *
 * The handshake needs no call of its own: reading and flushing advance it, and data is taken when
 * it is done. gp__stream_shutdown() sends close_notify and leaves the stream below open. A
 * connection that ends without the other side's close_notify was cut, which is an error (GP_ETLS),
 * so that the caller does not take truncated data for all of it.
 *
 * Each connection is a new session: there are no tickets, and there is no renegotiation.
 */
#ifndef GP_TLS_TLS_STREAM_H
#define GP_TLS_TLS_STREAM_H

#include <stdbool.h>

#include "gp/error.h"
#include "gp/tls.h"
#include "os/stream.h"

typedef struct gp__tls_stream_options {
    bool server;          /* if |tls| has roots, its clients must show a certificate */
    const char *protocol; /* to choose by ALPN; NULL: ALPN is not used */
} gp__tls_stream_options;

/*
 * Set up TLS over |below|, which the new stream owns, also when this fails. A reference is taken of
 * |tls|. Nothing is sent yet.
 *
 * Returns: 0, GP_ETLS (OpenSSL does not accept the settings), GP_EINVAL (a server without a
 * certificate), GP_ELIBRARY or GP_ENOMEM.
 */
int gp__tls_stream_new(gp__stream **out, gp__stream *below, gp_tls *tls,
                       const gp__tls_stream_options *options, gp_error *err);

/*
 * Advance the handshake of a stream made here, for callers that need to know when it is done.
 *
 * Returns: 0 when it is, GP__WOULD_BLOCK, GP_ETLS with the reason, or GP_ENOMEM. With TLS 1.3, a
 * client's handshake is done before the server accepts its certificate: only data from the server
 * shows that it did.
 */
int gp__tls_stream_handshake(gp__stream *stream, gp_error *err);

/* Whether both sides have agreed on the protocol of the options. */
bool gp__tls_stream_agreed(const gp__stream *stream);

#endif
