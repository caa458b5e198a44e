#include "gp/tls.h"

#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "tls/cert.h"
#include "tls/pem.h"

static const char default_name[] = "localhost";

enum { LONGEST_NAME = 255 }; /* that TLS can carry */

struct gp_tls {
    atomic_int refs;
    gp__cert_pair own; /* owned; all NULL: none */
    char *roots;       /* owned; NULL: the system's */
    char *server_name; /* owned */
};

static int
out_of_memory(gp_error *err)
{
    return gp_error_set(err, GP_ENOMEM, "out of memory for the configuration of TLS");
}

/* Copy |text|; NULL stays NULL. */
static int
copy(char **out, const char *text)
{
    *out = text != NULL ? gp__strdup(text) : NULL;
    return text == NULL || *out != NULL ? 0 : GP_ENOMEM;
}

static int
check(const gp_tls_options *options, gp_error *err)
{
    if (options->server_name != NULL && strlen(options->server_name) > LONGEST_NAME) {
        return gp_error_set(err, GP_EINVAL,
                            "the server name has %zu characters; the name of a host has at most %d",
                            strlen(options->server_name), LONGEST_NAME);
    }
    if ((options->certificate == NULL) != (options->private_key == NULL)) {
        return gp_error_set(err, GP_EINVAL,
                            "certificate and private key go together: there is no %s",
                            options->certificate == NULL ? "certificate" : "private key");
    }
    if (options->certificate != NULL) {
        int rc = gp__pem_check_pair(options->private_key, options->certificate, "the", err);

        if (rc < 0) {
            return rc;
        }
    }
    return options->roots == NULL
               ? 0
               : gp__pem_check_certificates(options->roots, "the root certificates", err);
}

/* Make a gp_tls of options that have been checked. */
static int
make(gp_tls **out, const gp_tls_options *options, gp_error *err)
{
    const char *name = options->server_name != NULL ? options->server_name : default_name;
    gp_tls *tls = gp__calloc(1, sizeof(*tls));

    if (tls == NULL) {
        return out_of_memory(err);
    }
    atomic_init(&tls->refs, 1);
    if (copy(&tls->roots, options->roots) < 0 ||
        copy(&tls->own.certificate, options->certificate) < 0 ||
        copy(&tls->own.private_key, options->private_key) < 0 ||
        copy(&tls->server_name, name) < 0) {
        gp_tls_unref(tls);
        return out_of_memory(err);
    }
    *out = tls;
    return 0;
}

int
gp_tls_new(gp_tls **out, const gp_tls_options *options, gp_error *err)
{
    gp_tls_options plain = *options;
    gp__cert_pair decrypted = {NULL, NULL, NULL}; /* the key alone, to be wiped */
    int rc = 0;

    if (options->private_key != NULL && options->password != NULL) {
        rc = gp__pem_decrypt_key(&decrypted.private_key, options->private_key, options->password,
                                 err);
        plain.private_key = decrypted.private_key;
    }
    if (rc == 0 && (rc = check(&plain, err)) == 0) {
        rc = make(out, &plain, err);
    }
    gp__cert_release(&decrypted);
    return rc;
}

int
gp_tls_new_automatic(gp_tls **out, const char *peer, gp_error *err)
{
    gp_tls *tls;
    int rc;

    if (peer != NULL) {
        rc = gp__pem_check_certificates(peer, "the host's certificate for AutoMTLS", err);
        if (rc == GP_EINVAL && err != NULL) {
            err->code = GP_ETLS;
        }
        if (rc < 0) {
            return rc == GP_EINVAL ? GP_ETLS : rc;
        }
    }
    tls = gp__calloc(1, sizeof(*tls));
    if (tls == NULL) {
        return out_of_memory(err);
    }
    atomic_init(&tls->refs, 1);
    if (copy(&tls->roots, peer) < 0 || copy(&tls->server_name, default_name) < 0) {
        rc = out_of_memory(err);
    } else {
        rc = gp__cert_make(&tls->own, err);
    }
    if (rc < 0) {
        gp_tls_unref(tls);
        return rc;
    }
    *out = tls;
    return 0;
}

int
gp_tls_trust_field(gp_tls *tls, const char *field, size_t len, gp_error *err)
{
    char *roots;
    int rc = gp__cert_from_field(&roots, field, len, err);

    if (rc == 0) {
        gp__free(tls->roots);
        tls->roots = roots;
    }
    return rc;
}

gp_tls *
gp_tls_ref(gp_tls *tls)
{
    atomic_fetch_add(&tls->refs, 1);
    return tls;
}

void
gp_tls_unref(gp_tls *tls)
{
    if (tls != NULL && atomic_fetch_sub(&tls->refs, 1) == 1) {
        gp__cert_release(&tls->own);
        gp__free(tls->roots);
        gp__free(tls->server_name);
        gp__free(tls);
    }
}

const char *
gp_tls_roots(const gp_tls *tls)
{
    return tls->roots;
}

const char *
gp_tls_certificate(const gp_tls *tls)
{
    return tls->own.certificate;
}

const char *
gp_tls_private_key(const gp_tls *tls)
{
    return tls->own.private_key;
}

const char *
gp_tls_server_name(const gp_tls *tls)
{
    return tls->server_name;
}

const char *
gp_tls_field(const gp_tls *tls)
{
    return tls->own.field;
}
