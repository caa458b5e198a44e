#include "tls/probe.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/thread.h"
#include "os/fd.h"
#include "tls/pem.h"

/*
 * What begins a connection of HTTP/2: the client's preface and its settings, of which there are
 * none.
 */
static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";

static const unsigned char alpn[] = {2, 'h', '2'};

/* The kinds of TLS records. Whoever sends anything else first does not speak TLS. */
enum { FIRST_RECORD_KIND = 20, LAST_RECORD_KIND = 24 };

typedef struct probe {
    const gp_tls *tls;
    int fd;
    SSL_CTX *context;  /* owned */
    SSL *ssl;          /* owned, with both of the following */
    BIO *in;           /* what has come and not been read */
    BIO *out;          /* what is to be sent */
    X509 *certificate; /* owned; the one that was not accepted */
    int verdict;       /* why, one of X509_V_* */
    bool heard;        /* something has come */
    bool plain;        /* and it was no TLS */
    bool closed;       /* nothing more will come */
    int64_t deadline;
    const gp_interrupt *interrupt;
} probe;

/* GP_ETLS with |reason| as its detail. */
static int fault(gp_error *err, const char *reason, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int
fault(gp_error *err, const char *reason, const char *format, ...)
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

/* ---- Setting up ---- */

static bool
add_roots(SSL_CTX *context, const char *pem)
{
    X509_STORE *store = SSL_CTX_get_cert_store(context);
    BIO *source;
    X509 *root;

    if (pem == NULL) {
        return SSL_CTX_set_default_verify_paths(context) == 1;
    }
    source = BIO_new_mem_buf(pem, -1);
    while (source != NULL && (root = PEM_read_bio_X509(source, NULL, NULL, NULL)) != NULL) {
        X509_STORE_add_cert(store, root);
        X509_free(root);
    }
    BIO_free(source);
    return source != NULL;
}

static bool
set_name(SSL *ssl, const char *name)
{
    X509_VERIFY_PARAM *rules = SSL_get0_param(ssl);

    /* As gRPC, which takes a whole label for an asterisk. */
    X509_VERIFY_PARAM_set_hostflags(rules, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (X509_VERIFY_PARAM_set1_ip_asc(rules, name) == 1) {
        return true;
    }
    return SSL_set_tlsext_host_name(ssl, name) == 1 &&
           X509_VERIFY_PARAM_set1_host(rules, name, 0) == 1;
}

/* See what is wrong with a certificate: afterwards, OpenSSL has it no more. */
static int
verified(int good, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    probe *self = SSL_get_app_data(ssl);

    if (good == 0 && self->verdict == X509_V_OK) {
        self->verdict = X509_STORE_CTX_get_error(store);
        self->certificate = X509_STORE_CTX_get_current_cert(store);
        if (self->certificate != NULL) {
            X509_up_ref(self->certificate);
        }
    }
    return good;
}

static bool
set_up(probe *self)
{
    const gp_tls *tls = self->tls;
    const char *certificate = gp_tls_certificate(tls);

    self->context = SSL_CTX_new(TLS_client_method());
    if (self->context == NULL ||
        SSL_CTX_set_min_proto_version(self->context, TLS1_2_VERSION) != 1 ||
        !add_roots(self->context, gp_tls_roots(tls)) ||
        (certificate != NULL &&
         !gp__pem_use_pair(self->context, gp_tls_private_key(tls), certificate)) ||
        SSL_CTX_set_alpn_protos(self->context, alpn, sizeof(alpn)) != 0) {
        return false;
    }
    SSL_CTX_set_verify(self->context, SSL_VERIFY_PEER, verified);
    self->ssl = SSL_new(self->context);
    self->in = BIO_new(BIO_s_mem());
    self->out = BIO_new(BIO_s_mem());
    if (self->ssl == NULL || self->in == NULL || self->out == NULL) {
        BIO_free(self->in);
        BIO_free(self->out);
        return false;
    }
    BIO_set_mem_eof_return(self->in, -1);
    SSL_set_bio(self->ssl, self->in, self->out);
    SSL_set_app_data(self->ssl, self);
    return set_name(self->ssl, gp_tls_server_name(tls));
}

/* ---- Moving bytes ---- */

/*
 * Wait until the socket is ready. Returns 0, GP_ETIMEOUT or GP_EUSER: also if it is ready, since
 * there are peers that never stop sending.
 */
static int
await(const probe *self, short events)
{
    struct pollfd ready = {.fd = self->fd, .events = events};

    for (;;) {
        int found = gp__fd_poll(&ready, 1, gp__slice(self->deadline, self->interrupt));
        int rc;

        if (gp__now() >= self->deadline) {
            return GP_ETIMEOUT;
        }
        if ((rc = gp__interrupted(self->interrupt)) < 0 || found != 0) {
            return rc;
        }
    }
}

/* Send what there is to send. A peer that is gone is noticed when nothing comes back. */
static int
flush(probe *self)
{
    char *data;
    long len = BIO_get_mem_data(self->out, &data);
    int rc = 0;

    for (long sent = 0; sent < len && rc == 0;) {
        ssize_t some = send(self->fd, data + sent, (size_t)(len - sent), MSG_NOSIGNAL);

        if (some >= 0) {
            sent += some;
        } else if (errno == EAGAIN) {
            rc = await(self, POLLOUT);
        } else if (errno != EINTR) {
            break;
        }
    }
    BIO_reset(self->out);
    return rc;
}

/* Wait for more to read. Returns 0, GP_ETIMEOUT or GP_EUSER. */
static int
fetch(probe *self)
{
    unsigned char bytes[4096];
    int rc = await(self, POLLIN);
    ssize_t got = rc == 0 ? recv(self->fd, bytes, sizeof(bytes), 0) : -1;

    if (rc < 0 || (got < 0 && (errno == EAGAIN || errno == EINTR))) {
        return rc;
    }
    if (got <= 0) {
        self->closed = true;
        return 0;
    }
    if (!self->heard) {
        self->heard = true;
        self->plain = bytes[0] < FIRST_RECORD_KIND || bytes[0] > LAST_RECORD_KIND;
    }
    BIO_write(self->in, bytes, (int)got);
    return 0;
}

/* ---- What went wrong ---- */

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
explain_name(const probe *self, gp_error *err)
{
    gp__buf names = GP__BUF_INIT;
    int rc;

    if (self->certificate != NULL) {
        list_names(&names, self->certificate);
    }
    rc = fault(err, GP_TLS_NAME_MISMATCH,
               "the plugin's certificate is not valid for the name %s, it is for %.*s; set "
               "server_name to the name to expect",
               gp_tls_server_name(self->tls), names.len > 0 ? (int)names.len : 13,
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
explain_certificate(const probe *self, gp_error *err)
{
    const X509 *certificate = self->certificate;
    char when[64];

    switch (self->verdict) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        time_text(when, sizeof(when), certificate != NULL ? X509_get0_notAfter(certificate) : NULL);
        return fault(err, GP_TLS_EXPIRED,
                     "the plugin's certificate has expired: it was valid until %s", when);
    case X509_V_ERR_CERT_NOT_YET_VALID:
        time_text(when, sizeof(when),
                  certificate != NULL ? X509_get0_notBefore(certificate) : NULL);
        return fault(err, GP_TLS_NOT_YET_VALID,
                     "the plugin's certificate is not valid before %s; is a clock wrong?", when);
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return explain_name(self, err);
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE: /* a namesake of one of the roots */
        return fault(err, GP_TLS_UNKNOWN_AUTHORITY,
                     gp_tls_field(self->tls) != NULL
                         ? "the plugin's certificate is not the one of its handshake (%s)"
                         : "the plugin's certificate comes from an unknown authority: none of the "
                           "roots vouches for it (%s)",
                     X509_verify_cert_error_string(self->verdict));
    default:
        return fault(err, GP_TLS_INVALID, "the plugin's certificate is not accepted: %s",
                     X509_verify_cert_error_string(self->verdict));
    }
}

/* What the other side has against us, by the number of its alert. NULL: something else. */
static const char *
alert_text(int alert, bool have_certificate)
{
    switch (alert) {
    case SSL_AD_CERTIFICATE_REQUIRED:
    case SSL_AD_BAD_CERTIFICATE:
        return have_certificate ? "it does not accept the host's certificate"
                                : "it asks for a certificate, and the host has none to show";
    case SSL_AD_CERTIFICATE_EXPIRED:
        return "the host's certificate has expired";
    case SSL_AD_UNKNOWN_CA:
        return "the host's certificate was signed by an authority that it does not know";
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_ACCESS_DENIED:
        return "it does not accept the host's certificate";
    case SSL_AD_PROTOCOL_VERSION:
        return "it knows no version of TLS from 1.2 on";
    default:
        return NULL;
    }
}

static int
explain(const probe *self, gp_error *err)
{
    unsigned long code = ERR_peek_error();
    int alert = ERR_GET_REASON(code) - SSL_AD_REASON_OFFSET;
    bool have_certificate = gp_tls_certificate(self->tls) != NULL;
    const char *text;
    char reason[160];

    if (self->plain) {
        return fault(err, GP_TLS_PLAINTEXT,
                     "the plugin does not speak TLS: it answered in plain text");
    }
    if (self->verdict != X509_V_OK) {
        return explain_certificate(self, err);
    }
    if (ERR_GET_LIB(code) == ERR_LIB_SSL && alert >= 0 && alert <= 255) {
        text = alert_text(alert, have_certificate);
        return fault(err, GP_TLS_REFUSED, "the plugin refused the connection: %s",
                     text != NULL ? text : SSL_alert_desc_string_long(alert));
    }
    if (self->closed) {
        return fault(err, GP_TLS_CLOSED,
                     "the plugin closed the connection during the TLS handshake, without saying "
                     "why; %s",
                     have_certificate ? "it may not accept the host's certificate"
                                      : "it may ask for a certificate, and the host has none to "
                                        "show");
    }
    ERR_error_string_n(code, reason, sizeof(reason));
    return fault(err, GP_TLS_PROTOCOL, "the TLS handshake failed: %s", reason);
}

/* It is our own settings that OpenSSL has something against, unless memory is short. */
static int
explain_set_up(gp_error *err)
{
    unsigned long code = ERR_peek_error();
    char reason[160];

    if (code == 0 || ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE) {
        return gp_error_set(err, GP_ENOMEM, "TLS cannot be set up");
    }
    ERR_error_string_n(code, reason, sizeof(reason));
    return fault(err, GP_TLS_CONFIGURATION,
                 "the host's own settings of TLS are not accepted by OpenSSL: %s", reason);
}

/* ---- The handshake ---- */

/* Repeat |step| until it succeeds. Returns 0 or a GP_E* code. */
static int
drive(probe *self, int (*step)(SSL *), gp_error *err)
{
    for (;;) {
        int done;
        int why;
        int rc;

        ERR_clear_error();
        done = step(self->ssl);
        why = done > 0 ? SSL_ERROR_NONE : SSL_get_error(self->ssl, done);
        rc = flush(self);
        if (rc == 0 && done > 0) {
            return 0;
        }
        if (rc == 0 && (why != SSL_ERROR_WANT_READ || self->plain || self->closed)) {
            return explain(self, err);
        }
        if (rc == 0) {
            rc = fetch(self);
        }
        if (rc == GP_ETIMEOUT) {
            return fault(err, GP_TLS_TIMEOUT,
                         "the plugin took the connection, and did not answer the TLS handshake");
        }
        if (rc < 0) {
            return gp_error_set(err, rc, "connecting was interrupted");
        }
    }
}

static int
send_preface(SSL *ssl)
{
    return SSL_write(ssl, preface, sizeof(preface) - 1);
}

static int
receive_byte(SSL *ssl)
{
    char byte;

    return SSL_read(ssl, &byte, 1);
}

static int
check_protocol(const probe *self, gp_error *err)
{
    const unsigned char *chosen;
    unsigned len;

    SSL_get0_alpn_selected(self->ssl, &chosen, &len);
    if (len == sizeof(alpn) - 1 && memcmp(chosen, alpn + 1, len) == 0) {
        return 0;
    }
    return fault(
        err, GP_TLS_PROTOCOL,
        "the plugin's TLS does not offer HTTP/2, which gRPC needs: its configuration lacks "
        "the protocol h2 (ALPN)");
}

int
gp__tls_probe(const gp_tls *tls, int fd, int64_t deadline, const gp_interrupt *interrupt,
              gp_error *err)
{
    probe self = {.tls = tls, .fd = fd, .deadline = deadline, .interrupt = interrupt};
    int rc;

    ERR_clear_error();
    if (!set_up(&self)) {
        rc = explain_set_up(err);
    } else if ((rc = drive(&self, SSL_connect, err)) == 0 &&
               (rc = check_protocol(&self, err)) == 0 &&
               (rc = drive(&self, send_preface, err)) == 0) {
        rc = drive(&self, receive_byte, err);
    }
    SSL_free(self.ssl);
    SSL_CTX_free(self.context);
    X509_free(self.certificate);
    ERR_clear_error();
    return rc;
}
