/*
 * Layer: public. A connection to one gRPC server.
 */
#ifndef GP_CHANNEL_H
#define GP_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "gp/credentials.h"
#include "gp/error.h"
#include "gp/runtime.h"
#include "gp/tls.h"

typedef struct gp_channel gp_channel;

/* An object of gRPC's that a channel argument may point to. Shared by reference. */
typedef struct gp_arg_object gp_arg_object;

/*
 * Make a "grpc.resource_quota": the connections that share it may together use |bytes| of memory
 * for what they receive. Returns: 0, GP_ENOMEM, GP_EOS or GP_EFORKED.
 */
int gp_memory_quota_new(gp_arg_object **out, size_t bytes, gp_error *err);

/*
 * Make a "grpc.ssl_session_cache": at most |capacity| TLS sessions, which connections to the same
 * server resume. Returns: 0, GP_ENOMEM, GP_EOS or GP_EFORKED.
 */
int gp_session_cache_new(gp_arg_object **out, size_t capacity, gp_error *err);

gp_arg_object *gp_arg_object_ref(gp_arg_object *object);
void gp_arg_object_unref(gp_arg_object *object);

/*
 * One gRPC channel argument. Its value is |string| if that is not NULL, otherwise |object| if that
 * is not NULL, otherwise |address| if |is_address|, otherwise |integer|. All are borrowed.
 */
typedef struct gp_channel_arg {
    const char *key;
    const char *string;
    int integer;
    gp_arg_object *object;
    void *address; /* must stay valid for longer than the channel exists */
    bool is_address;
} gp_channel_arg;

/* Immutable copies of channel arguments. Shared by reference. */
typedef struct gp_channel_args gp_channel_args;

/* Returns: 0 or GP_ENOMEM. */
int gp_channel_args_new(gp_channel_args **out, const gp_channel_arg *args, size_t count,
                        gp_error *err);
gp_channel_args *gp_channel_args_ref(gp_channel_args *args);
void gp_channel_args_unref(gp_channel_args *args);

typedef struct gp_channel_options {
    const gp_channel_arg *args; /* override the library's */
    size_t args_count;
    const char *agent; /* the user agent up to gRPC's version; NULL: "grpc-python" */
    const gp_channel_credentials *credentials; /* borrowed; NULL: no TLS */
    /*
     * The server need not be a plugin: use gRPC's defaults for retries, proxies, shared connections
     * and the size of messages.
     */
    bool general;
} gp_channel_options;

/* As gRPC's connectivity states. */
enum { GP_IDLE, GP_CONNECTING, GP_READY, GP_TRANSIENT_FAILURE, GP_SHUTDOWN };

/*
 * Make a channel to |target| ("unix:/path", "host:port", "dns:///host:port" or another of gRPC's
 * schemes). Connects at the first call.
 *
 * Returns: 0, or GP_EINVAL, GP_ENOMEM, GP_EFORKED. Threads: any.
 */
int gp_channel_open(gp_channel **out, const char *target, const gp_channel_options *options,
                    gp_error *err);

/*
 * Make a channel with TLS as |tls| says, or without TLS if it is NULL. |args| may be NULL. Returns
 * as gp_channel_open(), or GP_ETLS as gp_channel_credentials_tls().
 */
int gp_channel_open_tls(gp_channel **out, const char *target, const gp_tls *tls,
                        const gp_channel_args *args, gp_error *err);

/*
 * Make another view of the same connection: closing a view ends only the calls made on that view.
 * Returns: 0 or GP_ENOMEM.
 */
int gp_channel_view(gp_channel **out, gp_channel *channel, gp_error *err);

gp_channel *gp_channel_ref(gp_channel *channel);
void gp_channel_unref(gp_channel *channel);

/* Whether the channel has credentials, so that calls may have credentials too. */
bool gp_channel_secure(const gp_channel *channel);

/* Cancel every call and refuse new ones. Idempotent. Threads: any. */
void gp_channel_close(gp_channel *channel);

/*
 * Treat the connection as ended, unless the channel is closed: calls in progress and later ones end
 * with UNAVAILABLE and what is known about the peer's end. The state is GP_SHUTDOWN. Idempotent.
 * Threads: any.
 */
void gp_channel_disconnect(gp_channel *channel);

/* Cancel the calls made on the connection's other views. The views stay open. Threads: any. */
void gp_channel_cancel_others(gp_channel *channel);

/* The connectivity state. With |connect|, a channel that is GP_IDLE begins to connect. */
int gp_channel_state(gp_channel *channel, bool connect);

/*
 * Wait until the state is not |last|, and return it. GP_SHUTDOWN is final, and returned at once.
 * Blocks.
 *
 * Returns: a state, or GP_ETIMEOUT, GP_EUSER or GP_ENOMEM.
 */
int gp_channel_wait_state(gp_channel *channel, int last, int64_t timeout_ms,
                          const gp_interrupt *interrupt);

/*
 * Have |then| called once: as soon as the state is not |last|, when the connection is freed, or
 * after |timeout_ms|. |then| runs on one of the library's threads or on this one, and must not
 * block.
 *
 * Returns: 0, GP_ENOMEM, GP_EOS or GP_EFORKED; |then| is not called unless this is 0.
 */
int gp_channel_watch_state(gp_channel *channel, int last, int64_t timeout_ms,
                           void (*then)(void *ctx), void *ctx);

#endif
