/*
 * Layer: services. The host's side of GRPCStdio: the one stream of what a plugin prints.
 */
#ifndef GP_SERVICES_STDIO_CALL_H
#define GP_SERVICES_STDIO_CALL_H

#include "gp/call.h"

/*
 * Open the stream. A plugin without the service ends the call at once, which is fine.
 *
 * Returns: 0 with |out| set (give it back with gp_call_unref(), which ends the stream), or
 * GP_ENOMEM, GP_ECLOSED, GP_EFORKED. Never blocks.
 */
int gp__stdio_open(gp_call **out, gp_channel *channel, gp_error *err);

/* A piece of output. */
typedef struct gp__stdio_piece {
    int channel; /* GP_STDOUT or GP_STDERR */
    gp_bytes bytes;
    void *message; /* owned: what |bytes| are part of */
} gp__stdio_piece;

/* Read a message, which stays the caller's. Returns: 0, GP_EINVAL if it is no output, GP_ENOMEM. */
int gp__stdio_read(gp__stdio_piece *out, const gp_message *message);
void gp__stdio_piece_release(gp__stdio_piece *piece);

#endif
