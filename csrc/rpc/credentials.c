#include "rpc/credentials.h"

#include <string.h>

#include "base/alloc.h"
#include "base/handover.h"
#include "gp/runtime.h"
#include "rpc/convert.h"
#include "rpc/grpc_library.h"
#include "rpc/grpc_symbols.h"
#include "tls/pem.h"

struct gp_channel_credentials {
    grpc_channel_credentials *grpc; /* owned */
};

struct gp_server_credentials {
    grpc_server_credentials *grpc; /* owned */
};

struct gp_call_credentials {
    grpc_call_credentials *grpc; /* owned */
};

grpc_channel_credentials *
gp__channel_credentials(const gp_channel_credentials *credentials)
{
    return credentials->grpc;
}

grpc_server_credentials *
gp__server_credentials(const gp_server_credentials *credentials)
{
    return credentials->grpc;
}

grpc_call_credentials *
gp__call_credentials(const gp_call_credentials *credentials)
{
    return credentials->grpc;
}

/*
 * Allocate one of the structs above, all of which are one pointer, and start gRPC. Returns: 0,
 * GP_ENOMEM, GP_EOS or GP_EFORKED.
 */
static int
new_credentials(void **out, gp_error *err)
{
    int rc;

    if (gp_runtime_init() < 0) {
        return gp_error_set(err, GP_EOS, "cannot install the fork guard");
    }
    if ((rc = gp__grpc_use(GP__FORK_CREDENTIALS, err)) < 0) {
        return rc;
    }
    *out = gp__calloc(1, sizeof(void *));
    if (*out == NULL) {
        gp__grpc_drop(GP__FORK_CREDENTIALS);
        return gp_error_set(err, GP_ENOMEM, "out of memory for credentials");
    }
    return 0;
}

/* Free what new_credentials() has made. The caller has released gRPC's object inside. */
static void
free_credentials(void *made)
{
    gp__free(made);
    gp__grpc_drop(GP__FORK_CREDENTIALS);
}

/* The same for objects inside that gRPC needs OpenSSL for. */
static int
new_ssl_credentials(void **out, gp_error *err)
{
    int rc = new_credentials(out, err);

    if (rc == 0 && (rc = gp__grpc_load_openssl(err)) < 0) {
        free_credentials(*out);
    }
    return rc;
}

/* ---- Credentials of channels ---- */

static int
check_pair(const gp_key_pair *pair, const char *whose, gp_error *err)
{
    if (pair->private_key == NULL || pair->certificate_chain == NULL) {
        return gp_error_set(err, GP_EINVAL,
                            "%s private key and certificate chain go together: one is missing",
                            whose);
    }
    return gp__pem_check_pair(pair->private_key, pair->certificate_chain, whose, err);
}

/* The texts have been checked. */
static int
make_channel_ssl(gp_channel_credentials **out, const char *roots, const gp_key_pair *pair,
                 gp_error *err)
{
    grpc_ssl_pem_key_cert_pair grpc_pair;
    void *made;
    int rc = new_ssl_credentials(&made, err);

    if (rc < 0) {
        return rc;
    }
    if (pair != NULL) {
        grpc_pair = (grpc_ssl_pem_key_cert_pair){pair->private_key, pair->certificate_chain};
    }
    *out = made;
    (*out)->grpc =
        grpc_ssl_credentials_create_ex(roots, pair != NULL ? &grpc_pair : NULL, NULL, NULL);
    return 0;
}

int
gp_channel_credentials_ssl(gp_channel_credentials **out, const char *roots, const gp_key_pair *pair,
                           gp_error *err)
{
    int rc;

    if ((roots != NULL &&
         (rc = gp__pem_check_certificates(roots, "the root certificates", err)) < 0) ||
        (pair != NULL && (rc = check_pair(pair, "the client's", err)) < 0)) {
        return rc;
    }
    return make_channel_ssl(out, roots, pair, err);
}

/*
 * Check that AutoMTLS has a certificate to trust: without one, it would trust all authorities of
 * the system.
 */
static int
check_trust(const gp_tls *tls, gp_error *err)
{
    return gp_tls_field(tls) != NULL && gp_tls_roots(tls) == NULL
               ? gp_error_set(err, GP_ETLS, "the other side's certificate is not known yet")
               : 0;
}

int
gp_channel_credentials_tls(gp_channel_credentials **out, const gp_tls *tls, gp_error *err)
{
    const gp_key_pair pair = {gp_tls_private_key(tls), gp_tls_certificate(tls)};
    int rc = check_trust(tls, err);

    return rc < 0 ? rc
                  : make_channel_ssl(out, gp_tls_roots(tls),
                                     pair.private_key != NULL ? &pair : NULL, err);
}

int
gp_channel_credentials_compose(gp_channel_credentials **out, const gp_channel_credentials *channel,
                               const gp_call_credentials *call, gp_error *err)
{
    void *made;
    int rc = new_credentials(&made, err);

    if (rc == 0) {
        *out = made;
        (*out)->grpc = grpc_composite_channel_credentials_create(channel->grpc, call->grpc, NULL);
    }
    return rc;
}

void
gp_channel_credentials_free(gp_channel_credentials *credentials)
{
    if (credentials != NULL && !gp_runtime_forked()) {
        grpc_channel_credentials_release(credentials->grpc);
        free_credentials(credentials);
    }
}

/* ---- Credentials of servers ---- */

/* The texts have been checked. */
static int
make_server_ssl(gp_server_credentials **out, const gp_key_pair *pairs, size_t count,
                const char *roots, bool require_client, gp_error *err)
{
    grpc_ssl_pem_key_cert_pair *grpc_pairs;
    void *made;
    int rc = new_ssl_credentials(&made, err);

    if (rc < 0) {
        return rc;
    }
    grpc_pairs = gp__calloc(count, sizeof(*grpc_pairs));
    if (grpc_pairs == NULL) {
        free_credentials(made);
        return gp_error_set(err, GP_ENOMEM, "out of memory for credentials");
    }
    for (size_t i = 0; i < count; i++) {
        grpc_pairs[i].private_key = pairs[i].private_key;
        grpc_pairs[i].cert_chain = pairs[i].certificate_chain;
    }
    *out = made;
    (*out)->grpc = grpc_ssl_server_credentials_create_ex(
        roots, grpc_pairs, count,
        require_client ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                       : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
        NULL);
    gp__free(grpc_pairs);
    return 0;
}

int
gp_server_credentials_ssl(gp_server_credentials **out, const gp_key_pair *pairs, size_t count,
                          const char *roots, bool require_client, gp_error *err)
{
    int rc = 0;

    if (count == 0) {
        return gp_error_set(err, GP_EINVAL,
                            "a server needs at least one pair of private key and certificate "
                            "chain");
    }
    if (require_client && roots == NULL) {
        return gp_error_set(err, GP_EINVAL,
                            "client certificates can be required only with root certificates "
                            "that vouch for them");
    }
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = check_pair(&pairs[i], "the server's", err);
    }
    if (rc == 0 && roots != NULL) {
        rc = gp__pem_check_certificates(roots, "the root certificates", err);
    }
    return rc < 0 ? rc : make_server_ssl(out, pairs, count, roots, require_client, err);
}

int
gp_server_credentials_tls(gp_server_credentials **out, const gp_tls *tls, gp_error *err)
{
    const gp_key_pair pair = {gp_tls_private_key(tls), gp_tls_certificate(tls)};
    const char *roots = gp_tls_roots(tls);
    int rc = check_trust(tls, err);

    if (rc == 0 && pair.private_key == NULL) {
        rc = gp_error_set(err, GP_EINVAL, "a server needs a certificate and its private key");
    }
    return rc < 0 ? rc : make_server_ssl(out, &pair, 1, roots, roots != NULL, err);
}

void
gp_server_credentials_free(gp_server_credentials *credentials)
{
    if (credentials != NULL && !gp_runtime_forked()) {
        grpc_server_credentials_release(credentials->grpc);
        free_credentials(credentials);
    }
}

/* ---- Credentials of calls ---- */

int
gp_call_credentials_token(gp_call_credentials **out, const char *token, gp_error *err)
{
    void *made;
    int rc;

    if (!gp_metadata_value_valid((gp_bytes){token, strlen(token)})) {
        return gp_error_set(err, GP_EINVAL, "an access token must be printable ASCII");
    }
    if ((rc = new_credentials(&made, err)) == 0) {
        *out = made;
        (*out)->grpc = grpc_access_token_credentials_create(token, NULL);
    }
    return rc;
}

int
gp_call_credentials_compose(gp_call_credentials **out, const gp_call_credentials *first,
                            const gp_call_credentials *second, gp_error *err)
{
    void *made;
    int rc = new_credentials(&made, err);

    if (rc == 0) {
        *out = made;
        (*out)->grpc = grpc_composite_call_credentials_create(first->grpc, second->grpc, NULL);
    }
    return rc;
}

void
gp_call_credentials_free(gp_call_credentials *credentials)
{
    if (credentials != NULL && !gp_runtime_forked()) {
        grpc_call_credentials_release(credentials->grpc);
        free_credentials(credentials);
    }
}

/* ---- Credentials by a plugin ---- */

struct gp_auth_request {
    grpc_auth_metadata_context context; /* owned */
    grpc_credentials_plugin_metadata_cb answer;
    void *answer_data;
};

static int
plugin_get_metadata(void *state, grpc_auth_metadata_context context,
                    grpc_credentials_plugin_metadata_cb answer, void *answer_data,
                    grpc_metadata metadata[GRPC_METADATA_CREDENTIALS_PLUGIN_SYNC_MAX],
                    size_t *count, grpc_status_code *status, const char **failure)
{
    gp_auth_plugin *plugin = state;
    gp_auth_request *request = gp__calloc(1, sizeof(*request));

    (void)metadata;
    if (request != NULL) {
        grpc_auth_metadata_context_copy(&context, &request->context);
        request->answer = answer;
        request->answer_data = answer_data;
        if (plugin->ask(plugin->ctx, request)) {
            return 0;
        }
        grpc_auth_metadata_context_reset(&request->context);
        gp__free(request);
    }
    *count = 0;
    *status = GRPC_STATUS_UNAVAILABLE;
    *failure = gpr_strdup("the plugin of the call's credentials cannot be asked any more");
    return 1;
}

static char *
plugin_debug_string(void *state)
{
    (void)state;
    return gpr_strdup("pygo_plugin");
}

static void
plugin_destroy(void *state)
{
    gp_auth_plugin *plugin = state;

    gp__take_back(plugin);
    plugin->release(plugin->ctx);
    gp__free(plugin);
}

int
gp_call_credentials_plugin(gp_call_credentials **out, const gp_auth_plugin *plugin, gp_error *err)
{
    gp_auth_plugin *copy;
    void *made;
    int rc = new_credentials(&made, err);

    if (rc < 0) {
        return rc;
    }
    copy = gp__malloc(sizeof(*copy));
    if (copy == NULL) {
        free_credentials(made);
        return gp_error_set(err, GP_ENOMEM, "out of memory for credentials");
    }
    *copy = *plugin;
    gp__hand_over(copy);
    *out = made;
    (*out)->grpc = grpc_metadata_credentials_create_from_plugin(
        (grpc_metadata_credentials_plugin){
            .get_metadata = plugin_get_metadata,
            .debug_string = plugin_debug_string,
            .destroy = plugin_destroy,
            .state = copy,
            .type = "pygo_plugin",
        },
        GRPC_PRIVACY_AND_INTEGRITY, NULL);
    return 0;
}

const char *
gp_auth_request_service_url(const gp_auth_request *request)
{
    return request->context.service_url;
}

const char *
gp_auth_request_method(const gp_auth_request *request)
{
    return request->context.method_name;
}

void
gp_auth_request_answer(gp_auth_request *request, gp_metadata metadata, const char *failure)
{
    grpc_metadata *items = NULL;

    if (gp_runtime_forked()) {
        return;
    }
    if (failure == NULL && gp__metadata_to_grpc(&items, metadata, 0) < 0) {
        failure = "out of memory";
    }
    if (failure == NULL) {
        request->answer(request->answer_data, items, metadata.count, GRPC_STATUS_OK, NULL);
    } else {
        request->answer(request->answer_data, NULL, 0, GRPC_STATUS_INTERNAL, failure);
    }
    gp__metadata_free(items, metadata.count);
    grpc_auth_metadata_context_reset(&request->context);
    gp__free(request);
}

/* ---- Authentication contexts ---- */

static gp_bytes
copy_bytes(const char *bytes, size_t len)
{
    return (gp_bytes){gp__memdup(bytes, len), len};
}

static int
copy_properties(gp_auth_context *out, gp_metadatum *items, size_t room,
                const grpc_auth_context *context)
{
    grpc_auth_property_iterator it = grpc_auth_context_property_iterator(context);
    const grpc_auth_property *property;

    out->properties.items = items;
    while (out->properties.count < room &&
           (property = grpc_auth_property_iterator_next(&it)) != NULL) {
        gp_metadatum *item = &items[out->properties.count++];

        item->key = copy_bytes(property->name, strlen(property->name));
        item->value = copy_bytes(property->value, property->value_length);
        if (item->key.data == NULL || item->value.data == NULL) {
            return GP_ENOMEM;
        }
    }
    return 0;
}

gp_auth_context *
gp__auth_context(grpc_call *call)
{
    gp_auth_context *made = gp__calloc(1, sizeof(*made));
    grpc_auth_context *context = grpc_call_auth_context(call);
    grpc_auth_property_iterator it;
    const char *key;
    gp_metadatum *items;
    size_t count = 0;

    if (made == NULL || context == NULL) {
        grpc_auth_context_release(context);
        return made;
    }
    it = grpc_auth_context_property_iterator(context);
    while (grpc_auth_property_iterator_next(&it) != NULL) {
        count++;
    }
    items = gp__calloc(count, sizeof(*items));
    if (items == NULL || copy_properties(made, items, count, context) < 0) {
        gp_auth_context_free(made);
        made = NULL;
    } else if ((key = grpc_auth_context_peer_identity_property_name(context)) != NULL) {
        made->identity_key = gp__strdup(key);
    }
    grpc_auth_context_release(context);
    return made;
}

void
gp_auth_context_free(gp_auth_context *context)
{
    if (context == NULL) {
        return;
    }
    for (size_t i = 0; i < context->properties.count; i++) {
        gp__free((void *)(uintptr_t)context->properties.items[i].key.data);
        gp__free((void *)(uintptr_t)context->properties.items[i].value.data);
    }
    gp__free((void *)(uintptr_t)context->properties.items);
    gp__free((void *)(uintptr_t)context->identity_key);
    gp__free(context);
}
