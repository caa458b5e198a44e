/*
 * Layer: tls. Why no secure connection comes about. gRPC knows no more than that it does not, and
 * tries again: so once it has failed, the handshake is done a second time, by us, to see.
 */
#ifndef GP_TLS_PROBE_H
#define GP_TLS_PROBE_H

#include <stdint.h>

#include "gp/error.h"
#include "gp/runtime.h"
#include "gp/tls.h"

/*
 * As a client with |tls|, connect over |fd| (a non-blocking socket, borrowed) up to the server's
 * first byte of HTTP/2: only then has a server of TLS 1.3 had its say about the client's
 * certificate.
 *
 * Returns: 0 (nothing is wrong), GP_ETLS with the reason, GP_ENOMEM or GP_EUSER. Blocks until
 * |deadline| at most.
 */
int gp__tls_probe(const gp_tls *tls, int fd, int64_t deadline, const gp_interrupt *interrupt,
                  gp_error *err);

#endif
