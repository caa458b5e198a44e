#include "services/stdio_call.h"

#include "base/alloc.h"
#include "gen/grpc_stdio.pb-c.h"
#include "gp/stdio.h"

#define STREAM "/plugin.GRPCStdio/StreamStdio"

int
gp__stdio_open(gp_call **out, gp_channel *channel, gp_error *err)
{
    gp_call_options options = {.method = {STREAM, sizeof(STREAM) - 1},
                               .timeout_ns = -1,
                               .compression = GP_COMPRESS_DEFAULT};
    gp_bytes empty = {"", 0}; /* google.protobuf.Empty */

    return gp_call_start_stream(out, channel, &options, &empty, err);
}

int
gp__stdio_read(gp__stdio_piece *out, const gp_message *message)
{
    size_t len = gp_message_size(message);
    unsigned char *bytes = gp__malloc(len);
    Plugin__StdioData *data;
    int rc = 0;

    if (bytes == NULL) {
        return GP_ENOMEM;
    }
    gp_message_copy(message, bytes);
    data = plugin__stdio_data__unpack(NULL, len, bytes);
    gp__free(bytes);
    if (data == NULL) {
        return GP_EINVAL;
    }
    switch (data->channel) {
    case PLUGIN__STDIO_DATA__CHANNEL__STDOUT:
        out->channel = GP_STDOUT;
        break;
    case PLUGIN__STDIO_DATA__CHANNEL__STDERR:
        out->channel = GP_STDERR;
        break;
    default:
        rc = GP_EINVAL;
    }
    out->bytes = (gp_bytes){data->data.data, data->data.len};
    out->message = data;
    if (rc < 0) {
        gp__stdio_piece_release(out);
    }
    return rc;
}

void
gp__stdio_piece_release(gp__stdio_piece *piece)
{
    plugin__stdio_data__free_unpacked(piece->message, NULL);
    piece->message = NULL;
}
