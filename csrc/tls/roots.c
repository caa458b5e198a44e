#include "tls/roots.h"

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

/*
 * OpenSSL knows only the places of the distribution that it was compiled on, which may not be the
 * one that it runs on when it is a part of this package.
 */
static const char *const bundles[] = {
    "/etc/ssl/certs/ca-certificates.crt",                /* Debian, Arch, Alpine */
    "/etc/pki/tls/certs/ca-bundle.crt",                  /* Fedora */
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", /* Fedora, from 43 on */
    "/etc/ssl/ca-bundle.pem",                            /* openSUSE */
    "/etc/ssl/cert.pem",                                 /* Alpine */
};

static bool
has_places_of_its_own(void)
{
    return getenv(X509_get_default_cert_file_env()) != NULL ||
           getenv(X509_get_default_cert_dir_env()) != NULL ||
           access(X509_get_default_cert_file(), R_OK) == 0 ||
           access(X509_get_default_cert_dir(), R_OK) == 0;
}

bool
gp__tls_trust_system(SSL_CTX *context)
{
    if (SSL_CTX_set_default_verify_paths(context) != 1) {
        return false;
    }
    if (has_places_of_its_own()) {
        return true;
    }
    for (size_t i = 0; i < sizeof(bundles) / sizeof(bundles[0]); i++) {
        if (access(bundles[i], R_OK) == 0) {
            return SSL_CTX_load_verify_file(context, bundles[i]) == 1;
        }
    }
    return true;
}
