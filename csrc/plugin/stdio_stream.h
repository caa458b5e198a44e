/*
 * Layer: plugin. The gRPC stream by which a plugin sends what it prints (protocol: "Stdio sync"),
 * into the host's gp__output. It is read until it ends, by callbacks that never wait.
 */
#ifndef GP_PLUGIN_STDIO_STREAM_H
#define GP_PLUGIN_STDIO_STREAM_H

#include "gp/channel.h"
#include "plugin/output.h"

typedef struct gp__stdio_stream gp__stdio_stream;

/*
 * Open the stream, as the source of |output|, of which a reference is taken. Never blocks.
 *
 * Returns: 0, GP_ENOMEM, GP_ECLOSED or GP_EFORKED.
 */
int gp__stdio_stream_open(gp__stdio_stream **out, gp_channel *channel, gp__output *output,
                          gp_error *err);

/*
 * Wait until the plugin has ended the stream. Returns at once if there is no sink, or on the
 * delivery thread. Returns: 0, GP_ETIMEOUT or GP_EUSER.
 */
int gp__stdio_stream_await_end(gp__stdio_stream *stream, int64_t deadline,
                               const gp_interrupt *interrupt);

/* End the stream and free it, once its last callback has returned. NULL is fine. */
void gp__stdio_stream_close(gp__stdio_stream *stream);

#endif
