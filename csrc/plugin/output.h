/*
 * Layer: plugin. What a plugin prints after its handshake: from its one stream (protocol: "Stdio
 * sync") to the host's sink.
 *
 * The polling thread takes messages in and never waits; the delivery thread hands them on. While
 * more than about 1 MiB waits for the sink the stream is left alone: flow control then stops the
 * plugin, and nobody else.
 *
 * The owner uses it from one thread at a time. |lock| guards what polling and delivery share; it is
 * taken before that of the delivery queue, and never held during a callback.
 */
#ifndef GP_PLUGIN_OUTPUT_H
#define GP_PLUGIN_OUTPUT_H

#include <stdint.h>

#include "gp/channel.h"
#include "gp/runtime.h"
#include "gp/stdio.h"

typedef struct gp__output gp__output;

/*
 * Open the plugin's stream and read it for ever. On success the sink belongs to the output.
 *
 * Returns: 0, GP_ENOMEM, GP_EOS, GP_ECLOSED, GP_EFORKED. Never blocks.
 */
int gp__output_open(gp__output **out, gp_channel *channel, const gp_output_sink *sink,
                    gp_error *err);

/*
 * Wait until the plugin has said all that it had to say. At once if the sink goes nowhere, or on
 * the delivery thread. Returns: 0, GP_ETIMEOUT or GP_EUSER.
 */
int gp__output_await_end(gp__output *output, int64_t deadline, const gp_interrupt *interrupt);

/* Wait until everything read so far has been delivered; not on the delivery thread. As above. */
int gp__output_flush(gp__output *output, int64_t deadline, const gp_interrupt *interrupt);

/*
 * End the stream and let go. What was read is still delivered; then the sink is released. NULL is
 * fine.
 */
void gp__output_close(gp__output *output);

#endif
