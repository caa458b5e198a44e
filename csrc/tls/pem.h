/*
 * Layer: tls. PEM text, checked before gRPC gets it: gRPC itself would report nothing until the
 * first handshake fails, and then only in its log.
 */
#ifndef GP_TLS_PEM_H
#define GP_TLS_PEM_H

#include <stdbool.h>

#include "gp/error.h"

struct ssl_ctx_st;

/*
 * Whether |pem| holds one certificate or more, and no broken one. |what| names it in the message.
 * Returns: 0, GP_EINVAL or GP_ELIBRARY.
 */
int gp__pem_check_certificates(const char *pem, const char *what, gp_error *err);

/*
 * Whether |key| is an unencrypted private key and belongs to the first certificate of |chain|, and
 * both are strong enough for OpenSSL. |whose|, as "the client's", begins the message, which never
 * quotes the key. Returns: 0, GP_EINVAL, GP_ELIBRARY or GP_ENOMEM.
 */
int gp__pem_check_pair(const char *key, const char *chain, const char *whose, gp_error *err);

/* Have connections of |context| show the pair. False: OpenSSL has said why. */
bool gp__pem_use_pair(struct ssl_ctx_st *context, const char *key, const char *chain);

/*
 * |*out| is the private key |pem| without its encryption, to be wiped and freed by the caller. A
 * key that is not encrypted needs no |password|. Returns: 0, GP_EINVAL, GP_ELIBRARY or GP_ENOMEM.
 */
int gp__pem_decrypt_key(char **out, const char *pem, const char *password, gp_error *err);

#endif
