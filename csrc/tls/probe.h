/*
 * Layer: tls. Why a secure connection cannot be made. gRPC knows only that it cannot, and tries
 * again: so once it has failed, we do the handshake a second time ourselves, to find out.
 */
#ifndef GP_TLS_PROBE_H
#define GP_TLS_PROBE_H

#include <stdint.h>

#include "gp/error.h"
#include "gp/runtime.h"
#include "gp/tls.h"

/*
 * As a client with |tls|, connect over |fd| up to the server's first byte of HTTP/2: only then has
 * a server of TLS 1.3 decided about the client's certificate. |fd| is a non-blocking socket, which
 * is closed in any case.
 *
 * Returns: 0 (nothing is wrong), GP_ETLS with the reason, GP_ENOMEM or GP_EUSER. Blocks until
 * |deadline| at most.
 */
int gp__tls_probe(gp_tls *tls, int fd, int64_t deadline, const gp_interrupt *interrupt,
                  gp_error *err);

#endif
