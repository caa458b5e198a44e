/*
 * Layer: plugin. The two streams of a net/rpc connection by which a plugin sends what it prints,
 * into the host's gp__output. They are read until they end, by callbacks that never wait.
 */
#ifndef GP_PLUGIN_OUTPUT_STREAMS_H
#define GP_PLUGIN_OUTPUT_STREAMS_H

#include "netrpc/transport.h"
#include "plugin/output.h"

typedef struct gp__output_streams gp__output_streams;

/*
 * Open the streams, standard output first, as the source of |output|. References are taken of
 * |output| and |transport|.
 *
 * Returns: 0, GP_ECLOSED or GP_ENOMEM.
 */
int gp__output_streams_open_locked(gp__output_streams **out, gp__transport *transport,
                                   gp__output *output, gp_error *err) GP_REQUIRES(&transport->lock);

/*
 * Wait until the plugin has ended both, and all that came has been added to the output. Returns at
 * once if there is no sink, or on the delivery thread. Returns: 0, GP_ETIMEOUT or GP_EUSER.
 */
int gp__output_streams_await_end(gp__output_streams *streams, int64_t deadline,
                                 const gp_interrupt *interrupt);

/* Close the streams. What has come is dropped unless it was added. NULL is fine. */
void gp__output_streams_close(gp__output_streams *streams);

/* Close and free. NULL is fine. */
void gp__output_streams_free(gp__output_streams *streams);

#endif
