#include "services/stdio.h"

#define STREAM "/plugin.GRPCStdio/StreamStdio"

/* Each message asks for the next. */
static void
discard(void *ctx, gp_message *message)
{
    gp_call *call = ctx;

    while (message != NULL) {
        gp_message_free(message);
        if (gp_call_receive_then(call, &message, discard, call) == 0) {
            return;
        }
    }
}

int
gp__stdio_drain(gp_call **out, gp_channel *channel, gp_error *err)
{
    gp_call_options options = {.method = {STREAM, sizeof(STREAM) - 1},
                               .timeout_ns = -1,
                               .compression = GP_COMPRESS_DEFAULT};
    gp_bytes empty = {"", 0}; /* google.protobuf.Empty */
    int rc = gp_call_start_stream(out, channel, &options, &empty, err);

    if (rc == 0) {
        gp_message *none;

        gp_call_receive_then(*out, &none, discard, *out);
    }
    return rc;
}
