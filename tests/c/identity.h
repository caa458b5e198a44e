/*
 * Certificates for the C tests, on P-256.
 */
#ifndef GP_TESTS_IDENTITY_H
#define GP_TESTS_IDENTITY_H

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "gp/credentials.h"

typedef struct identity {
    EVP_PKEY *key;
    X509 *certificate;
    char *key_pem;
    char *certificate_pem;
} identity;

/* One for localhost, named |name| and valid now, by |issuer|; NULL: an authority of its own. */
identity identity_issue(const char *name, const identity *issuer);

/* The same for |host|, valid from |from| to |until| seconds from now. */
identity identity_issue_for(const char *name, const identity *issuer, const char *host, long from,
                            long until);

void identity_release(identity *of);

gp_key_pair identity_pair(const identity *of);

#endif
