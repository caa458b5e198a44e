/*
 * Layer: netrpc. The plugin's side of its output over net/rpc: a consumer of a gp_stdio
 * (os/stdio.c) that writes to two streams of a connection, one for standard output and one for
 * standard error.
 */
#ifndef GP_NETRPC_STDIO_CONSUMER_H
#define GP_NETRPC_STDIO_CONSUMER_H

#include "gp/stdio.h"
#include "netrpc/transport.h"

/*
 * Send what |stdio| reads over |streams|, standard output and standard error, which are taken over,
 * also when this fails. The consumer frees itself when the output has ended, which shuts the
 * streams down, or when one of them ends before. Then |ended|(|ctx|) is called, with no lock held;
 * it must not block. References are taken of |stdio| and |transport|.
 *
 * Returns 0, or GP_ENOMEM; then |ended| is not called.
 */
int gp__stdio_consumer_add(gp_stdio *stdio, gp__transport *transport,
                           gp__transport_stream *streams[2], void (*ended)(void *ctx), void *ctx,
                           gp_error *err) GP_EXCLUDES(&transport->lock);

#endif
