/*
 * Layer: public. TLS for channels and servers, credentials of single calls, and who the peer is.
 *
 * Keys and certificates are PEM texts, which are copied. Credentials are owned by the caller, who
 * may free them as soon as they have been handed to a channel, server or call: these keep what they
 * need. Threads: any. In a forked child nothing is made, and nothing is freed.
 */
#ifndef GP_CREDENTIALS_H
#define GP_CREDENTIALS_H

#include <stdbool.h>
#include <stddef.h>

#include "gp/error.h"
#include "gp/message.h"
#include "gp/tls.h"

typedef struct gp_channel_credentials gp_channel_credentials;
typedef struct gp_server_credentials gp_server_credentials;
typedef struct gp_call_credentials gp_call_credentials;

/* A private key, and its certificate followed by the intermediate certificates. */
typedef struct gp_key_pair {
    const char *private_key;
    const char *certificate_chain;
} gp_key_pair;

/* ---- Credentials of channels ---- */

/*
 * TLS. |roots| are the authorities that may have issued the server's certificate; NULL: those of
 * the system, or of the file that GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names. |pair| is the client's
 * own; NULL: none.
 *
 * The server's certificate must be valid for the target's host name, or for what the channel
 * argument "grpc.ssl_target_name_override" says instead.
 *
 * Returns: 0, GP_EINVAL (something is not PEM, or does not match), GP_ENOMEM or GP_EFORKED.
 */
int gp_channel_credentials_ssl(gp_channel_credentials **out, const char *roots,
                               const gp_key_pair *pair, gp_error *err);

/*
 * TLS as |tls| says, but for the server's name, which goes into the channel argument. Returns: 0,
 * GP_ETLS (the peer's certificate of AutoMTLS is not known yet), GP_ENOMEM or GP_EFORKED.
 */
int gp_channel_credentials_tls(gp_channel_credentials **out, const gp_tls *tls, gp_error *err);

/* |channel| with |call|'s credentials for each call. Returns: 0, GP_ENOMEM or GP_EFORKED. */
int gp_channel_credentials_compose(gp_channel_credentials **out,
                                   const gp_channel_credentials *channel,
                                   const gp_call_credentials *call, gp_error *err);

void gp_channel_credentials_free(gp_channel_credentials *credentials);

/* ---- Credentials of servers ---- */

/*
 * TLS with |count| pairs, at least one. With |require_client|, clients need a certificate that one
 * of |roots| has issued. Without it, they are not asked for a certificate, and |roots|, which may be
 * NULL, is only checked.
 *
 * Returns: 0, GP_EINVAL, GP_ENOMEM or GP_EFORKED.
 */
int gp_server_credentials_ssl(gp_server_credentials **out, const gp_key_pair *pairs, size_t count,
                              const char *roots, bool require_client, gp_error *err);

/*
 * TLS as |tls| says, which has to have a certificate. With roots, clients need a certificate that
 * one of them has issued; without, they are not asked for one.
 * Returns: 0, GP_EINVAL (no certificate), GP_ETLS (as above), GP_ENOMEM or GP_EFORKED.
 */
int gp_server_credentials_tls(gp_server_credentials **out, const gp_tls *tls, gp_error *err);

void gp_server_credentials_free(gp_server_credentials *credentials);

/* ---- Credentials of calls: metadata that are sent over TLS only ---- */

/*
 * "authorization: Bearer |token|". Returns: 0, GP_EINVAL (no text for a header), GP_ENOMEM,
 * GP_EFORKED.
 */
int gp_call_credentials_token(gp_call_credentials **out, const char *token, gp_error *err);

/* The metadata of both. Returns: 0, GP_ENOMEM or GP_EFORKED. */
int gp_call_credentials_compose(gp_call_credentials **out, const gp_call_credentials *first,
                                const gp_call_credentials *second, gp_error *err);

/* A call that waits for its metadata. gp_auth_request_answer() has to be called once for it. */
typedef struct gp_auth_request gp_auth_request;

typedef struct gp_auth_plugin {
    /*
     * A call needs metadata: have gp_auth_request_answer() called, on another thread or later.
     * Runs on gRPC's threads, and must not block. If it returns false, the call fails.
     */
    bool (*ask)(void *ctx, gp_auth_request *request);
    /* No more requests follow. Runs on any thread, with any locks held; must not block. */
    void (*release)(void *ctx);
    void *ctx;
} gp_auth_plugin;

/*
 * The metadata that |plugin| answers with. Owns |plugin->ctx| once it has succeeded.
 * Returns: 0, GP_ENOMEM or GP_EFORKED.
 */
int gp_call_credentials_plugin(gp_call_credentials **out, const gp_auth_plugin *plugin,
                               gp_error *err);

/* "https://host/package.Service" and "Method" of the call. */
const char *gp_auth_request_service_url(const gp_auth_request *request);
const char *gp_auth_request_method(const gp_auth_request *request);

/*
 * Continue the call with |metadata|; or have it fail for the reason |failure|, if that is not NULL.
 * Frees |request|. Must not be called from within |ask|.
 */
void gp_auth_request_answer(gp_auth_request *request, gp_metadata metadata, const char *failure);

void gp_call_credentials_free(gp_call_credentials *credentials);

/* ---- Authentication contexts ---- */

/* Copies of the properties of a connection. */
typedef struct gp_auth_context {
    gp_metadata properties;   /* in gRPC's order; keys may repeat, values may be any bytes */
    const char *identity_key; /* the key of those that identify the peer; NULL: not authenticated */
} gp_auth_context;

void gp_auth_context_free(gp_auth_context *context);

#endif
