#include "tls/tls_failure.h"

#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "tls/openssl_symbols.h"

int
gp__tls_fault(gp_error *err, const char *reason, const char *format, ...)
{
    va_list args;
    char *text;

    va_start(args, format);
    text = gp__vformat(format, args);
    va_end(args);
    gp_error_set(err, GP_ETLS, "%s", text != NULL ? text : reason);
    gp_error_set_detail(err, reason, strlen(reason));
    gp__free(text);
    return GP_ETLS;
}

static const char *
this_side(const gp__tls_failure *failure)
{
    return failure->server ? "the plugin" : "the host";
}

static const char *
other_side(const gp__tls_failure *failure)
{
    return failure->server ? "the host" : "the plugin";
}

/* ---- The other side's certificate ------------------------------------------------------------ */

int
gp__tls_failure_verify(int good, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    gp__tls_failure *failure = SSL_get_app_data(ssl);

    if (good == 0 && failure->verdict == X509_V_OK) {
        failure->verdict = X509_STORE_CTX_get_error(store);
        failure->certificate = X509_STORE_CTX_get_current_cert(store);
        if (failure->certificate != NULL) {
            X509_up_ref(failure->certificate);
        }
    }
    return good;
}

void
gp__tls_failure_release(gp__tls_failure *failure)
{
    X509_free(failure->certificate);
    failure->certificate = NULL;
}

/* The names that the certificate is for, as far as they are names of hosts. */
static void
list_names(gp__buf *out, X509 *certificate)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);

    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type == GEN_DNS) {
            gp__buf_printf(out, "%s%.*s", out->len > 0 ? ", " : "",
                           ASN1_STRING_length(name->d.dNSName),
                           (const char *)ASN1_STRING_get0_data(name->d.dNSName));
        }
    }
    GENERAL_NAMES_free(names);
}

static int
explain_name(const gp__tls_failure *failure, gp_error *err)
{
    gp__buf names = GP__BUF_INIT;
    int rc;

    if (failure->certificate != NULL) {
        list_names(&names, failure->certificate);
    }
    rc = gp__tls_fault(err, GP_TLS_NAME_MISMATCH,
                       "%s's certificate is not valid for the name %s, it is for %.*s; set "
                       "server_name to the name to expect",
                       other_side(failure), gp_tls_server_name(failure->tls),
                       names.len > 0 ? (int)names.len : 13,
                       names.len > 0 ? names.data : "no host names");
    gp__buf_release(&names);
    return rc;
}

/* "Nov 24 13:44:18 2026 GMT" */
static void
time_text(char *out, size_t size, const ASN1_TIME *when)
{
    BIO *bio = BIO_new(BIO_s_mem());
    bool printed = bio != NULL && when != NULL && ASN1_TIME_print(bio, when) == 1;
    int len = printed ? BIO_read(bio, out, (int)size - 1) : 0;

    out[len > 0 ? len : 0] = '\0';
    BIO_free(bio);
}

static int
explain_certificate(const gp__tls_failure *failure, gp_error *err)
{
    const X509 *certificate = failure->certificate;
    const char *whose = other_side(failure);
    char when[64];

    switch (failure->verdict) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        time_text(when, sizeof(when), certificate != NULL ? X509_get0_notAfter(certificate) : NULL);
        return gp__tls_fault(err, GP_TLS_EXPIRED,
                             "%s's certificate has expired: it was valid until %s", whose, when);
    case X509_V_ERR_CERT_NOT_YET_VALID:
        time_text(when, sizeof(when),
                  certificate != NULL ? X509_get0_notBefore(certificate) : NULL);
        return gp__tls_fault(err, GP_TLS_NOT_YET_VALID,
                             "%s's certificate is not valid before %s; is a clock wrong?", whose,
                             when);
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return explain_name(failure, err);
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE: /* it has the same name as one of the roots */
        return gp__tls_fault(err, GP_TLS_UNKNOWN_AUTHORITY,
                             gp_tls_field(failure->tls) != NULL
                                 ? "%s's certificate is not the one of its handshake (%s)"
                                 : "%s's certificate comes from an unknown authority: none of the "
                                   "roots vouches for it (%s)",
                             whose, X509_verify_cert_error_string(failure->verdict));
    default:
        return gp__tls_fault(err, GP_TLS_INVALID, "%s's certificate is not accepted: %s", whose,
                             X509_verify_cert_error_string(failure->verdict));
    }
}

/* ---- The other side's alert ------------------------------------------------------------------ */

static int
explain_alert(const gp__tls_failure *failure, int alert, gp_error *err)
{
    const char *own = this_side(failure);
    char text[160];

    switch (alert) {
    case SSL_AD_CERTIFICATE_REQUIRED:
    case SSL_AD_BAD_CERTIFICATE:
        if (gp_tls_certificate(failure->tls) == NULL) {
            snprintf(text, sizeof(text), "it asks for a certificate, and %s has none to show", own);
        } else {
            snprintf(text, sizeof(text), "it does not accept %s's certificate", own);
        }
        break;
    case SSL_AD_CERTIFICATE_EXPIRED:
        snprintf(text, sizeof(text), "%s's certificate has expired", own);
        break;
    case SSL_AD_UNKNOWN_CA:
        snprintf(text, sizeof(text),
                 "%s's certificate was signed by an authority that it does not know", own);
        break;
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_ACCESS_DENIED:
        snprintf(text, sizeof(text), "it does not accept %s's certificate", own);
        break;
    case SSL_AD_PROTOCOL_VERSION:
        snprintf(text, sizeof(text), "it knows no version of TLS from 1.2 on");
        break;
    default:
        snprintf(text, sizeof(text), "%s", SSL_alert_desc_string_long(alert));
        break;
    }
    return gp__tls_fault(err, GP_TLS_REFUSED, "%s refused the connection: %s", other_side(failure),
                         text);
}

/* ---- The connection -------------------------------------------------------------------------- */

static int
explain_cut(const gp__tls_failure *failure, gp_error *err)
{
    const char *other = other_side(failure);

    if (failure->established) {
        return gp__tls_fault(err, GP_TLS_CLOSED,
                             "%s cut the connection without ending TLS: data may be missing",
                             other);
    }
    return gp__tls_fault(err, GP_TLS_CLOSED,
                         gp_tls_certificate(failure->tls) != NULL
                             ? "%s closed the connection during the TLS handshake, without saying "
                               "why; it may not accept %s's certificate"
                             : "%s closed the connection during the TLS handshake, without saying "
                               "why; it may ask for a certificate, and %s has none to show",
                         other, this_side(failure));
}

int
gp__tls_explain(const gp__tls_failure *failure, unsigned long code, gp_error *err)
{
    int alert = ERR_GET_REASON(code) - SSL_AD_REASON_OFFSET;
    bool by_ssl = ERR_GET_LIB(code) == ERR_LIB_SSL;
    char reason[160];

    if (failure->plain) {
        return gp__tls_fault(err, GP_TLS_PLAINTEXT,
                             failure->server ? "%s does not speak TLS: it began in plain text"
                                             : "%s does not speak TLS: it answered in plain text",
                             other_side(failure));
    }
    if (failure->verdict != X509_V_OK) {
        return explain_certificate(failure, err);
    }
    if (by_ssl && alert >= 0 && alert <= 255) {
        return explain_alert(failure, alert, err);
    }
    if (by_ssl && ERR_GET_REASON(code) == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
        return gp__tls_fault(err, GP_TLS_NO_CERTIFICATE, "%s shows no certificate",
                             other_side(failure));
    }
    if (failure->cut) {
        return explain_cut(failure, err);
    }
    if (code == 0 || ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for TLS");
    }
    ERR_error_string_n(code, reason, sizeof(reason));
    return gp__tls_fault(err, GP_TLS_PROTOCOL, "the TLS %s failed: %s",
                         failure->established ? "connection" : "handshake", reason);
}

/* OpenSSL objects to this side's own settings, unless memory is short. */
int
gp__tls_explain_settings(const gp__tls_failure *failure, unsigned long code, gp_error *err)
{
    char reason[160];

    if (code == 0 || ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE) {
        return gp_error_set(err, GP_ENOMEM, "TLS cannot be set up");
    }
    ERR_error_string_n(code, reason, sizeof(reason));
    return gp__tls_fault(err, GP_TLS_CONFIGURATION,
                         "%s's own settings of TLS are not accepted by OpenSSL: %s",
                         this_side(failure), reason);
}
