/* Layer: tls. The certificates of authorities that the system trusts. */
#ifndef GP_TLS_ROOTS_H
#define GP_TLS_ROOTS_H

#include <stdbool.h>

#include "tls/openssl_symbols.h"

/*
 * Have |context| trust what the system trusts: what SSL_CERT_FILE and SSL_CERT_DIR name, what is in
 * OpenSSL's own places, or the bundle of the distribution. Returns false if memory is short;
 * finding no certificates is not an error.
 */
bool gp__tls_trust_system(SSL_CTX *context);

#endif
