/*
 * Layer: plugin. Connecting a gRPC channel with TLS, and finding out why it cannot be connected:
 * gRPC only says that it failed, so the handshake is done a second time by tls/probe.h.
 */
#ifndef GP_PLUGIN_SECURE_H
#define GP_PLUGIN_SECURE_H

#include <stdint.h>

#include "gp/channel.h"
#include "gp/runtime.h"
#include "gp/tls.h"
#include "os/process/process.h"

/* Everything is borrowed. */
typedef struct gp__secure_spec {
    gp_channel *channel;
    gp_tls *tls;
    const char *network;  /* of the channel: "unix" or "tcp" */
    const char *address;  /* of the channel: the socket's path, or host:port */
    gp__process *process; /* the plugin's; NULL: unknown */
    int64_t deadline;
} gp__secure_spec;

/*
 * Wait until the channel is connected, or it is known why TLS has failed.
 *
 * Returns: 0, GP_ETLS, GP_EEXITED (the plugin died meanwhile), GP_ENOMEM, GP_EOS or GP_EUSER.
 */
int gp__secure_connect(const gp__secure_spec *spec, const gp_interrupt *interrupt, gp_error *err);

#endif
