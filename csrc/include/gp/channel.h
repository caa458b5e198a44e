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

/* What a channel argument points to: an object of gRPC's. Shared by reference. */
typedef struct gp_arg_object gp_arg_object;

/*
 * For "grpc.resource_quota": how much memory the connections that have it may take together for
 * what they receive, in bytes. Returns: 0, GP_ENOMEM, GP_EOS or GP_EFORKED.
 */
int gp_memory_quota_new(gp_arg_object **out, size_t bytes, gp_error *err);

/*
 * For "grpc.ssl_session_cache": TLS sessions to be resumed, by server, at most |capacity| of them.
 * Returns: 0, GP_ENOMEM, GP_EOS or GP_EFORKED.
 */
int gp_session_cache_new(gp_arg_object **out, size_t capacity, gp_error *err);

gp_arg_object *gp_arg_object_ref(gp_arg_object *object);
void gp_arg_object_unref(gp_arg_object *object);

/* One gRPC channel argument. Exactly one of the values is used. All is borrowed. */
typedef struct gp_channel_arg {
    const char *key;
    const char *string;    /* NULL: one of the others counts */
    int integer;           /* unless there is one of the next two */
    gp_arg_object *object; /* a pointer, to one of ours; or NULL */
    void *address;         /* a pointer of the user's, which has to outlive the channel */
    bool is_address;       /* ... is what counts */
} gp_channel_arg;

/* Copies of channel arguments, which never change. Shared by reference. */
typedef struct gp_channel_args gp_channel_args;

/* Returns: 0 or GP_ENOMEM. */
int gp_channel_args_new(gp_channel_args **out, const gp_channel_arg *args, size_t count,
                        gp_error *err);
gp_channel_args *gp_channel_args_ref(gp_channel_args *args);
void gp_channel_args_unref(gp_channel_args *args);

typedef struct gp_channel_options {
    const gp_channel_arg *args; /* added to ours, and winning over them */
    size_t args_count;
    const char *agent; /* how the user agent begins, before gRPC's version; NULL: "grpc-python" */
    const gp_channel_credentials *credentials; /* borrowed; NULL: no TLS */
    /*
     * Begin with gRPC's own arguments, for servers that are no plugins: retries, proxies, shared
     * connections and its limit on the size of messages.
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
 * The same as |tls| says; NULL: no TLS. |args| may be NULL, too. Returns also GP_ETLS, as
 * gp_channel_credentials_tls().
 */
int gp_channel_open_tls(gp_channel **out, const char *target, const gp_tls *tls,
                        const gp_channel_args *args, gp_error *err);

/*
 * A second view of the same connection: closing either ends its own calls only.
 * Returns: 0 or GP_ENOMEM.
 */
int gp_channel_view(gp_channel **out, gp_channel *channel, gp_error *err);

gp_channel *gp_channel_ref(gp_channel *channel);
void gp_channel_unref(gp_channel *channel);

/* Whether it has credentials, so that calls may have theirs. */
bool gp_channel_secure(const gp_channel *channel);

/* Cancel every call and refuse new ones. Idempotent. Threads: any. */
void gp_channel_close(gp_channel *channel);

/* Cancel the calls of the connection's other views, which stay open. Threads: any. */
void gp_channel_cancel_others(gp_channel *channel);

/* The connectivity state now; |connect| leaves GP_IDLE. */
int gp_channel_state(gp_channel *channel, bool connect);

/*
 * Wait until the state is another than |last|, which is then returned.
 *
 * Returns: a state, or GP_ETIMEOUT, GP_EUSER, GP_ECLOSED. Blocks.
 */
int gp_channel_wait_state(gp_channel *channel, int last, int64_t timeout_ms,
                          const gp_interrupt *interrupt);

/*
 * Have |then| called once, on a thread of the library's or on this one, when the state is or may be
 * another than |last|: at a change, when the connection goes, or after |timeout_ms|. It must not
 * block.
 *
 * Returns: 0, GP_ENOMEM, GP_EOS or GP_EFORKED.
 */
int gp_channel_watch_state(gp_channel *channel, int last, int64_t timeout_ms,
                           void (*then)(void *ctx), void *ctx);

#endif
