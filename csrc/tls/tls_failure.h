/*
 * Layer: tls. Why a connection with TLS has failed, as a message for the user. The reason is found
 * in one of several places: OpenSSL's queue of errors, its check of the certificate, the other
 * side's alert, or the state of the connection.
 */
#ifndef GP_TLS_TLS_FAILURE_H
#define GP_TLS_TLS_FAILURE_H

#include <stdbool.h>

#include "gp/error.h"
#include "gp/tls.h"

struct x509_st;
struct x509_store_ctx_st;

/* What is known of a failure besides OpenSSL's error. */
typedef struct gp__tls_failure {
    const gp_tls *tls;           /* borrowed: outlives us */
    struct x509_st *certificate; /* owned; the other side's, if it was not accepted, else NULL */
    int verdict;                 /* why |certificate| was not accepted: one of X509_V_* */
    bool server;                 /* this side is the server, a plugin; the other side is its host */
    bool plain;                  /* the other side has sent something that is not TLS */
    bool cut;                    /* the connection has ended without TLS's close_notify */
    bool established;            /* the other side has accepted the connection */
} gp__tls_failure;

/*
 * For SSL_CTX_set_verify(); an SSL's application data is its gp__tls_failure. Notes what is wrong
 * with a certificate, which OpenSSL does not keep.
 */
int gp__tls_failure_verify(int good, struct x509_store_ctx_st *store);

void gp__tls_failure_release(gp__tls_failure *failure);

/*
 * Say why a step has failed, of which OpenSSL's first error is |code|. Returns: GP_ETLS, with one
 * of gp/tls.h's words as its detail, or GP_ENOMEM.
 */
int gp__tls_explain(const gp__tls_failure *failure, unsigned long code, gp_error *err);

/* Say why OpenSSL does not accept this side's settings. Returns as gp__tls_explain(). */
int gp__tls_explain_settings(const gp__tls_failure *failure, unsigned long code, gp_error *err);

/* GP_ETLS with |reason|, one of gp/tls.h's words, as its detail. Returns it. */
int gp__tls_fault(gp_error *err, const char *reason, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
