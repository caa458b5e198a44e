/*
 * Layer: services. The host's side of GRPCStdio: the stream of a plugin's output.
 */
#ifndef GP_SERVICES_STDIO_CALL_H
#define GP_SERVICES_STDIO_CALL_H

#include "gp/call.h"

/*
 * Open the stream. If the plugin does not have the service, the call ends at once.
 *
 * Returns: 0 with |*out| set, the caller's (gp_call_unref() ends the stream), or GP_ENOMEM,
 * GP_ECLOSED, GP_EFORKED. Never blocks.
 */
int gp__stdio_open(gp_call **out, gp_channel *channel, gp_error *err);

/* A piece of output. */
typedef struct gp__stdio_piece {
    int channel; /* GP_STDOUT or GP_STDERR */
    gp_bytes bytes;
    void *message; /* owned: what |bytes| are part of */
} gp__stdio_piece;

/*
 * Parse a message, which stays the caller's. Returns: 0, GP_EINVAL (it is no output) or GP_ENOMEM.
 */
int gp__stdio_read(gp__stdio_piece *out, const gp_message *message);
void gp__stdio_piece_release(gp__stdio_piece *piece);

#endif
