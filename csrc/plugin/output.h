/*
 * Layer: plugin. What a plugin prints after its handshake, on its way to the host's sink.
 *
 *      session --add--> pending pieces --swap--> sink
 *         (any thread, which never waits)   (the delivery thread)
 *
 * When more than about 1 MiB waits for the sink, the source has to stop reading the plugin's
 * output: flow control then blocks that plugin alone. A callback resumes the reading.
 *
 * Shared by reference. |lock| is taken before the lock of the delivery queue, and never held during
 * a callback.
 */
#ifndef GP_PLUGIN_OUTPUT_H
#define GP_PLUGIN_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gp/runtime.h"
#include "gp/stdio.h"

typedef struct gp__output gp__output;

/* Make an output. On success it owns the sink. Returns: 0, GP_ENOMEM, GP_EOS or GP_EFORKED. */
int gp__output_new(gp__output **out, const gp_output_sink *sink, gp_error *err);

gp__output *gp__output_ref(gp__output *output);

/* Pieces that were added are still delivered; then the sink is released. NULL is fine. */
void gp__output_unref(gp__output *output);

/*
 * Have |resume| called on the delivery thread, with no lock held, whenever there is room again
 * after gp__output_add() has returned false. |ctx| must live until then. To be called once, before
 * the first gp__output_add().
 */
void gp__output_set_source(gp__output *output, void (*resume)(void *ctx), void *ctx);

/* Whether there is a sink. If not, nothing need be added. */
bool gp__output_is_wanted(const gp__output *output);

/*
 * Add a piece that the plugin has printed to |channel|, GP_STDOUT or GP_STDERR. It is dropped if
 * memory is short, or the delivery thread has ended. One thread at a time. Never blocks.
 *
 * Returns whether there is room for more; if not, |resume| will be called.
 */
bool gp__output_add(gp__output *output, int channel, const char *bytes, size_t len);

/*
 * Wait until everything added so far has been delivered. On the delivery thread, which can't wait
 * for itself, it returns at once. Returns: 0, GP_ETIMEOUT or GP_EUSER.
 */
int gp__output_flush(gp__output *output, int64_t deadline, const gp_interrupt *interrupt);

#endif
