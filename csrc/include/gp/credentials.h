/*
 * Layer: public. TLS for channels and servers, credentials of single calls, and the identity of the
 * peer.
 *
 * Keys and certificates are PEM texts, which are copied. Credentials are owned by the caller, who
 * may free them as soon as they have been passed to a channel, server or call, which keeps its own
 * reference. Threads: any. In a forked child the constructors return GP_EFORKED, and the functions
 * that free do nothing.
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

/* A private key; and its certificate, followed by the intermediate certificates. */
typedef struct gp_key_pair {
    const char *private_key;
    const char *certificate_chain;
} gp_key_pair;

/* ---- Credentials of channels ---- */

/*
 * TLS. |roots| are the authorities that may have issued the server's certificate; NULL: those of
 * the system, or of the file that GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names. |pair| is the client's
 * own key and certificate; NULL: none.
 *
 * The server's certificate must be valid for the target's host name, or for the name in the channel
 * argument "grpc.ssl_target_name_override" if there is one.
 *
 * Returns: 0, GP_EINVAL (something is not PEM, or does not match), GP_ENOMEM or GP_EFORKED.
 */
int gp_channel_credentials_ssl(gp_channel_credentials **out, const char *roots,
                               const gp_key_pair *pair, gp_error *err);

/*
 * TLS as |tls| says. The server's name that |tls| has is not included: it is to be passed as the
 * channel argument above. Returns: 0, GP_ETLS (the peer's certificate of AutoMTLS is not known
 * yet), GP_ENOMEM or GP_EFORKED.
 */
int gp_channel_credentials_tls(gp_channel_credentials **out, const gp_tls *tls, gp_error *err);

/*
 * Combine |channel| with |call|, whose metadata each call sends. Returns: 0, GP_ENOMEM or
 * GP_EFORKED.
 */
int gp_channel_credentials_compose(gp_channel_credentials **out,
                                   const gp_channel_credentials *channel,
                                   const gp_call_credentials *call, gp_error *err);

void gp_channel_credentials_free(gp_channel_credentials *credentials);

/* ---- Credentials of servers ---- */

/*
 * TLS with |count| pairs, at least one. With |require_client|, clients need a certificate that one
 * of |roots| has issued. Without it, clients are not asked for a certificate; |roots|, which may be
 * NULL, are checked to be PEM and not used.
 *
 * Returns: 0, GP_EINVAL, GP_ENOMEM or GP_EFORKED.
 */
int gp_server_credentials_ssl(gp_server_credentials **out, const gp_key_pair *pairs, size_t count,
                              const char *roots, bool require_client, gp_error *err);

/*
 * TLS as |tls| says, which must have a certificate. If it has roots, clients need a certificate
 * that one of them has issued; otherwise clients are not asked for one. Returns: 0, GP_EINVAL (no
 * certificate), GP_ETLS (as above), GP_ENOMEM or GP_EFORKED.
 */
int gp_server_credentials_tls(gp_server_credentials **out, const gp_tls *tls, gp_error *err);

void gp_server_credentials_free(gp_server_credentials *credentials);

/* ---- Credentials of calls: metadata that are sent over TLS only ---- */

/*
 * Send "authorization: Bearer |token|". Returns: 0, GP_EINVAL (a header cannot hold the token),
 * GP_ENOMEM, GP_EFORKED.
 */
int gp_call_credentials_token(gp_call_credentials **out, const char *token, gp_error *err);

/* Send the metadata of both. Returns: 0, GP_ENOMEM or GP_EFORKED. */
int gp_call_credentials_compose(gp_call_credentials **out, const gp_call_credentials *first,
                                const gp_call_credentials *second, gp_error *err);

/* A call's request for metadata. The call waits until gp_auth_request_answer() is called, once. */
typedef struct gp_auth_request gp_auth_request;

typedef struct gp_auth_plugin {
    /*
     * A call needs metadata. gp_auth_request_answer() has to be called later, or on another thread.
     * Runs on gRPC's threads, and must not block. If it returns false, the call fails, and
     * |request| is freed.
     */
    bool (*ask)(void *ctx, gp_auth_request *request);
    /* No more requests follow. Runs on any thread, with any locks held; must not block. */
    void (*release)(void *ctx);
    void *ctx;
} gp_auth_plugin;

/*
 * Send the metadata that |plugin| answers with. On success |plugin->ctx| is owned by the
 * credentials, until |release| is called. Returns: 0, GP_ENOMEM or GP_EFORKED.
 */
int gp_call_credentials_plugin(gp_call_credentials **out, const gp_auth_plugin *plugin,
                               gp_error *err);

/* "https://host/package.Service" and "Method" of the call. */
const char *gp_auth_request_service_url(const gp_auth_request *request);
const char *gp_auth_request_method(const gp_auth_request *request);

/*
 * Continue the call with |metadata|. If |failure| is not NULL, the call fails for that reason
 * instead. Frees |request|. Must not be called from within |ask|.
 */
void gp_auth_request_answer(gp_auth_request *request, gp_metadata metadata, const char *failure);

void gp_call_credentials_free(gp_call_credentials *credentials);

/* ---- Authentication contexts ---- */

/*
 * What TLS says about the peer of a connection: copies of gRPC's properties. Owned by the caller.
 */
typedef struct gp_auth_context {
    gp_metadata properties; /* in gRPC's order; keys may repeat, values may be any bytes */
    /* The key of the properties that identify the peer; NULL: the peer is not authenticated. */
    const char *identity_key;
} gp_auth_context;

void gp_auth_context_free(gp_auth_context *context);

#endif
