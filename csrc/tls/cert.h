/*
 * Layer: tls. The certificates of AutoMTLS: made for one launch, and read from a handshake line.
 */
#ifndef GP_TLS_CERT_H
#define GP_TLS_CERT_H

#include <stddef.h>

#include "gp/error.h"

/* All owned, zero-terminated. */
typedef struct gp__cert_pair {
    char *private_key; /* PEM */
    char *certificate; /* PEM */
    char *field;       /* base64 of the certificate's DER without padding */
} gp__cert_pair;

/*
 * Make a P-521 key and the certificate that go-plugin's peers expect with it.
 * Returns: 0, GP_ETLS, GP_ELIBRARY or GP_ENOMEM.
 */
int gp__cert_make(gp__cert_pair *out, gp_error *err);

/* Wipe and free. */
void gp__cert_release(gp__cert_pair *pair);

/*
 * Read field 6 of a handshake line. |*out| is the certificate as PEM, owned by the caller.
 * Returns: 0, GP_ETLS, GP_ELIBRARY or GP_ENOMEM.
 */
int gp__cert_from_field(char **out, const char *field, size_t len, gp_error *err);

#endif
