#include "tls/pem.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/alloc.h"
#include "tls/openssl_symbols.h"

/* Give no passphrase. Without a callback OpenSSL would ask for one on the terminal. */
static int
no_passphrase(char *out, int size, int writing, void *ctx)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)ctx;
    return -1;
}

/* Whether the last failure to read means that there was no further block. */
static bool
at_end(void)
{
    unsigned long code = ERR_peek_last_error();

    return ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
}

int
gp__pem_check_certificates(const char *pem, const char *what, gp_error *err)
{
    BIO *source;
    X509 *certificate;
    size_t count = 0;
    bool broken;
    int rc = gp__openssl_load(err);

    if (rc < 0) {
        return rc;
    }
    source = BIO_new_mem_buf(pem, (int)strlen(pem));
    if (source == NULL) {
        return gp_error_set(err, GP_ENOMEM, "%s", what);
    }
    ERR_clear_error();
    while ((certificate = PEM_read_bio_X509(source, NULL, no_passphrase, NULL)) != NULL) {
        X509_free(certificate);
        count++;
    }
    broken = !at_end();
    ERR_clear_error();
    BIO_free(source);
    if (broken) {
        return gp_error_set(err, GP_EINVAL, "%s: certificate %zu cannot be read as PEM", what,
                            count + 1);
    }
    if (count == 0) {
        return gp_error_set(err, GP_EINVAL,
                            "%s: no certificate in it; PEM text with -----BEGIN CERTIFICATE----- "
                            "lines is expected",
                            what);
    }
    return 0;
}

static EVP_PKEY *
read_key(const char *pem)
{
    BIO *source = BIO_new_mem_buf(pem, (int)strlen(pem));
    EVP_PKEY *key =
        source != NULL ? PEM_read_bio_PrivateKey(source, NULL, no_passphrase, NULL) : NULL;

    BIO_free(source);
    return key;
}

static X509 *
read_certificate(const char *pem)
{
    BIO *source = BIO_new_mem_buf(pem, (int)strlen(pem));
    X509 *certificate =
        source != NULL ? PEM_read_bio_X509(source, NULL, no_passphrase, NULL) : NULL;

    BIO_free(source);
    return certificate;
}

static bool
use_chain(SSL_CTX *context, const char *pem)
{
    BIO *source = BIO_new_mem_buf(pem, -1);
    X509 *first = source != NULL ? PEM_read_bio_X509(source, NULL, no_passphrase, NULL) : NULL;
    bool used = first != NULL && SSL_CTX_use_certificate(context, first) == 1;
    X509 *next;

    X509_free(first);
    while (used && (next = PEM_read_bio_X509(source, NULL, no_passphrase, NULL)) != NULL) {
        used = SSL_CTX_add0_chain_cert(context, next) == 1;
        if (!used) {
            X509_free(next);
        }
    }
    BIO_free(source);
    return used;
}

bool
gp__pem_use_pair(SSL_CTX *context, const char *key, const char *chain)
{
    EVP_PKEY *private_key;
    bool used = use_chain(context, chain);

    if (used) {
        private_key = read_key(key);
        used = private_key != NULL && SSL_CTX_use_PrivateKey(context, private_key) == 1;
        EVP_PKEY_free(private_key);
    }
    return used;
}

/* OpenSSL may refuse even a matching pair, for instance because the key is too short. */
static int
try_pair(const char *key, const char *chain, const char *whose, gp_error *err)
{
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    const char *reason;
    int rc = 0;

    if (context == NULL) {
        rc = gp_error_set(err, GP_ENOMEM, "TLS cannot be set up");
    } else if (!gp__pem_use_pair(context, key, chain)) {
        reason = ERR_reason_error_string(ERR_peek_error());
        rc = gp_error_set(err, GP_EINVAL, "%s certificate chain is not accepted by OpenSSL: %s",
                          whose, reason != NULL ? reason : "it does not say why");
    }
    SSL_CTX_free(context);
    return rc;
}

int
gp__pem_check_pair(const char *key, const char *chain, const char *whose, gp_error *err)
{
    char *what = gp__format("%s certificate chain", whose);
    int rc = what != NULL ? gp__pem_check_certificates(chain, what, err)
                          : gp_error_set(err, GP_ENOMEM, "certificate chain");
    EVP_PKEY *private_key;
    X509 *certificate;

    gp__free(what);
    if (rc < 0) {
        return rc;
    }
    private_key = read_key(key);
    certificate = read_certificate(chain);
    if (private_key == NULL) {
        rc = gp_error_set(err, GP_EINVAL,
                          "%s private key cannot be read: an unencrypted key in PEM is expected",
                          whose);
    } else if (certificate == NULL || X509_check_private_key(certificate, private_key) != 1) {
        rc = gp_error_set(err, GP_EINVAL,
                          "%s private key does not belong to the first certificate of its chain",
                          whose);
    } else {
        ERR_clear_error();
        rc = try_pair(key, chain, whose, err);
    }
    ERR_clear_error();
    EVP_PKEY_free(private_key);
    X509_free(certificate);
    return rc;
}

/* Give the password, for which OpenSSL's own callback would ask on the terminal. */
static int
give_password(char *out, int size, int writing, void *ctx)
{
    const char *password = ctx;
    size_t len = strlen(password);

    (void)writing;
    if (len > (size_t)size) {
        return -1;
    }
    memcpy(out, password, len);
    return (int)len;
}

static char *
key_text(EVP_PKEY *key)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *copy = NULL;
    char *data;
    long len;

    if (bio != NULL && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1) {
        len = BIO_get_mem_data(bio, &data);
        copy = gp__memdup(data, (size_t)len);
        OPENSSL_cleanse(data, (size_t)len);
    }
    BIO_free(bio);
    return copy;
}

int
gp__pem_decrypt_key(char **out, const char *pem, const char *password, gp_error *err)
{
    BIO *source;
    EVP_PKEY *key = NULL;
    int rc = gp__openssl_load(err);

    if (rc < 0) {
        return rc;
    }
    source = BIO_new_mem_buf(pem, (int)strlen(pem));
    if (source != NULL) {
        key = PEM_read_bio_PrivateKey(source, NULL, give_password, (void *)(uintptr_t)password);
    }
    if (key == NULL) {
        rc = gp_error_set(err, GP_EINVAL,
                          "the private key cannot be read: it is no key in PEM, or the password is "
                          "not the right one");
    } else if ((*out = key_text(key)) == NULL) {
        rc = gp_error_set(err, GP_ENOMEM, "out of memory for a private key");
    }
    ERR_clear_error();
    EVP_PKEY_free(key);
    BIO_free(source);
    return rc;
}
