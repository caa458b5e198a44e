/*
 * Layer: plugin. What a host does with a plugin once it knows where the plugin listens, whichever
 * protocol they use. Each protocol is a gp__protocol in a file of its own (session_grpc.c,
 * session_netrpc.c), and session.c lists them.
 *
 *    new --> open --> (ping, channel, dispense, ...) --> shutdown --> disconnect --> close --> free
 *
 * Every step but the last one may be left out. A session that could not be opened is ended in the
 * same way. Threads: ping, what belongs to one protocol, cancel_calls and is_connected may be
 * called from any thread once the session is open; everything else from one thread at a time.
 */
#ifndef GP_PLUGIN_SESSION_H
#define GP_PLUGIN_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gp/broker.h"
#include "gp/channel.h"
#include "gp/client.h"
#include "gp/mux_broker.h"
#include "gp/netrpc.h"
#include "gp/runtime.h"
#include "os/leftover.h"
#include "os/process/process.h"
#include "plugin/output.h"

/* The arguments of gp__session_open(). Borrowed; everything but the output outlives the session. */
typedef struct gp__session_spec {
    const gp_client_options *options;
    const gp_endpoint *endpoint; /* where the plugin listens */
    gp__output *output;          /* for what the plugin prints; a reference is taken */
    gp__process *process;        /* NULL: unknown */
    gp_tls *tls;                 /* NULL: none */
    int64_t deadline;            /* for the first connection */

    /*
     * Called at most once, on the reactor's thread, when the connection has ended for a reason that
     * is worth a line in the log; may be NULL. It must not block or call the session, and is never
     * called after gp__session_disconnect() has returned.
     */
    void (*ended)(void *ctx, const char *why);
    void *ctx;
} gp__session_spec;

typedef struct gp__session gp__session;

/* One protocol. The functions are documented at their wrappers below. */
typedef struct gp__protocol {
    const char *name; /* as in handshake lines */
    unsigned bit;     /* GP_PROTOCOL_* */
    size_t size;      /* of its struct, which begins with a gp__session and starts as zeros */

    int (*open)(gp__session *session, const gp__session_spec *spec, const gp_interrupt *interrupt,
                gp_error *err);
    int (*ping)(gp__session *session, int64_t timeout_ms, const gp_interrupt *interrupt,
                gp_error *err);
    gp_channel *(*channel)(gp__session *session); /* NULL, as the next one, unless it is gRPC */
    gp_broker *(*broker)(gp__session *session);
    gp_mux_broker *(*mux_broker)(gp__session *session); /* NULL, as the next one, for gRPC */
    int (*dispense)(gp__session *session, const char *name, const gp_gob_limits *limits,
                    int64_t deadline, const gp_interrupt *interrupt, gp_netrpc_client **out,
                    gp_error *err);
    void (*cancel_calls)(gp__session *session);
    bool (*is_connected)(gp__session *session);
    int (*shutdown)(gp__session *session, int64_t timeout_ms, const gp_interrupt *interrupt);
    int (*await_output)(gp__session *session, int64_t deadline, const gp_interrupt *interrupt);
    void (*disconnect)(gp__session *session);
    void (*close)(gp__session *session, const gp__leftover *left);
    void (*release)(gp__session *session);
} gp__protocol;

struct gp__session {
    const gp__protocol *protocol;
};

/* Make a session for the protocol with that name. Returns: 0, GP_EINVAL (unknown) or GP_ENOMEM. */
int gp__session_new(gp__session **out, const char *protocol, gp_error *err);

/*
 * Connect to the plugin, and receive its output and announcements from now on. With TLS or net/rpc
 * the connection has been made when this returns; with gRPC alone, calls make it.
 *
 * Returns: 0, GP_ETLS, GP_EEXITED (the plugin died meanwhile), GP_EREATTACH, GP_ESTART (nothing
 * accepts connections), GP_ENOMEM, GP_EOS, GP_EFORKED or GP_EUSER.
 */
int gp__session_open(gp__session *session, const gp__session_spec *spec,
                     const gp_interrupt *interrupt, gp_error *err);

/*
 * Ask the plugin whether it is healthy. Returns: 0, GP_ERPC with the reason, GP_ECLOSED or
 * GP_EUSER.
 */
int gp__session_ping(gp__session *session, int64_t timeout_ms, const gp_interrupt *interrupt,
                     gp_error *err);

/* The channel for what is dispensed. Borrowed; stays until the session is freed. NULL: net/rpc. */
gp_channel *gp__session_channel(gp__session *session);

/*
 * The broker, which makes further connections. Borrowed; stays until the session is freed. One of
 * them is NULL: the first one is that of gRPC, the second one that of net/rpc.
 */
gp_broker *gp__session_broker(gp__session *session);
gp_mux_broker *gp__session_mux_broker(gp__session *session);

/* As gp_client_dispense(). */
int gp__session_dispense(gp__session *session, const char *name, const gp_gob_limits *limits,
                         int64_t deadline, const gp_interrupt *interrupt, gp_netrpc_client **out,
                         gp_error *err);

/* Cancel all calls that users have made. NULL is fine. */
void gp__session_cancel_calls(gp__session *session);

/* Whether the connection is known to be good. False for NULL. */
bool gp__session_is_connected(gp__session *session);

/*
 * Ask the plugin to exit.
 *
 * Returns: 0 (it may be about to exit), GP_EUSER, or another code (it will not exit). GP_ECLOSED
 * for NULL.
 */
int gp__session_shutdown(gp__session *session, int64_t timeout_ms, const gp_interrupt *interrupt);

/*
 * Wait until the plugin has reported that it prints nothing more. Returns at once for NULL, and if
 * there is no sink for the output. Returns: 0, GP_ETIMEOUT or GP_EUSER.
 */
int gp__session_await_output(gp__session *session, int64_t deadline, const gp_interrupt *interrupt);

/* Cancel all calls and refuse new ones, brokered connections included. NULL is fine. */
void gp__session_disconnect(gp__session *session);

/*
 * Close the connection, and remove what this process has made for it. |left| says which sockets of
 * a dead plugin may be removed: those of them that it has announced to the broker are removed.
 * NULL: none. Idempotent. A NULL session is fine.
 */
void gp__session_close(gp__session *session, const gp__leftover *left);

/* NULL is fine. */
void gp__session_free(gp__session *session);

#endif
