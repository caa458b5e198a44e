/*
 * Layer: netrpc. A listening socket whose connections are handed over as streams (os/stream.h), by
 * the reactor.
 *
 * Threads: any, unless a comment says otherwise.
 */
#ifndef GP_NETRPC_ACCEPTOR_H
#define GP_NETRPC_ACCEPTOR_H

#include <stdbool.h>

#include "gp/error.h"
#include "gp/tls.h"
#include "os/stream.h"

typedef struct gp__acceptor gp__acceptor;

typedef struct gp__acceptor_options {
    const char *network; /* "unix" or "tcp" */
    const char *address; /* a path, or host:port; the port may be 0 */
    gp_tls *tls;         /* a reference is taken; NULL: none */
    /*
     * A connection has come. The stream is the callback's. Called on the reactor's thread, with no
     * lock held; it must not block.
     */
    void (*accepted)(void *ctx, gp__stream *stream);
    void *ctx; /* borrowed: until gp__acceptor_close() has returned */
} gp__acceptor_options;

/*
 * Listen. Connections wait until gp__acceptor_start(). Only this user may connect to a unix socket.
 * |*port| (|port| may be NULL) is the port of TCP.
 *
 * Returns: 0, GP_EINVAL (TLS without a certificate), GP_ENOMEM, GP_EOS or GP_EFORKED.
 */
int gp__acceptor_open(gp__acceptor **out, const gp__acceptor_options *options, int *port,
                      gp_error *err);

/* Accept connections from now on. Returns 0, GP_ENOMEM, GP_EOS or GP_EFORKED. */
int gp__acceptor_start(gp__acceptor *acceptor, gp_error *err);

/*
 * Stop listening and free the acceptor. Waits for a callback that runs, unless the callback itself
 * calls this; so it must not be called with a lock that the callback takes. NULL is fine.
 */
void gp__acceptor_close(gp__acceptor *acceptor);

#endif
