/*
 * Layer: public. How one side of a connection proves its identity, and which identities of the
 * other side it trusts. The same object makes the credentials of channels and of servers, since
 * brokered connections go both ways.
 *
 * Shared by reference. Threads: any. It does not change, but for gp_tls_trust_field(), which has to
 * be called before it is shared. It is stored nowhere but in memory, and its key is wiped at the
 * end.
 */
#ifndef GP_TLS_H
#define GP_TLS_H

#include <stddef.h>

#include "gp/error.h"

typedef struct gp_tls gp_tls;

/* What is wrong with a connection, the detail of a GP_ETLS. */
#define GP_TLS_EXPIRED "expired"
#define GP_TLS_NOT_YET_VALID "not yet valid"
#define GP_TLS_UNKNOWN_AUTHORITY "unknown authority"
#define GP_TLS_NAME_MISMATCH "name mismatch"
#define GP_TLS_INVALID "invalid certificate"
#define GP_TLS_NO_CERTIFICATE "no certificate"
#define GP_TLS_PLAINTEXT "plaintext"
#define GP_TLS_REFUSED "refused"
#define GP_TLS_CLOSED "closed"
#define GP_TLS_TIMEOUT "timeout"
#define GP_TLS_PROTOCOL "protocol"
#define GP_TLS_CONFIGURATION "configuration"

/* All PEM, all copied. */
typedef struct gp_tls_options {
    const char *roots;       /* authorities that sign the other side's; NULL: the system's */
    const char *certificate; /* our own, followed by intermediate ones; NULL: none */
    const char *private_key; /* of that certificate */
    const char *password;    /* if that is encrypted, else NULL */
    const char *server_name; /* what a server's certificate has to be valid for; NULL: localhost */
} gp_tls_options;

/* Returns: 0, GP_EINVAL (something is not PEM, or does not match) or GP_ENOMEM. */
int gp_tls_new(gp_tls **out, const gp_tls_options *options, gp_error *err);

/*
 * AutoMTLS: a pair of a P-521 key and a self-signed certificate for localhost, made on the spot.
 * The only root is the other side's certificate: |peer| (PEM), or what gp_tls_trust_field() is
 * given later.
 *
 * Returns: 0, GP_ETLS (|peer| is no certificate, or none can be made) or GP_ENOMEM.
 */
int gp_tls_new_automatic(gp_tls **out, const char *peer, gp_error *err);

/*
 * Trust the certificate in field 6 of a plugin's handshake line, base64 of its DER without padding,
 * and no other. Returns: 0, GP_ETLS or GP_ENOMEM.
 */
int gp_tls_trust_field(gp_tls *tls, const char *field, size_t len, gp_error *err);

gp_tls *gp_tls_ref(gp_tls *tls);
void gp_tls_unref(gp_tls *tls);

/* Borrowed, as long as |tls| lives; NULL for what was not given. */
const char *gp_tls_roots(const gp_tls *tls);
const char *gp_tls_certificate(const gp_tls *tls);
const char *gp_tls_private_key(const gp_tls *tls);
const char *gp_tls_server_name(const gp_tls *tls); /* never NULL */

/* Its own certificate for field 6; only of an automatic one. */
const char *gp_tls_field(const gp_tls *tls);

#endif
