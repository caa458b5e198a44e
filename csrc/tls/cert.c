#include "tls/cert.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "gp/tls.h"
#include "tls/openssl_symbols.h"

enum { SERIAL_BYTES = 16 };

/*
 * When certificates are valid, in seconds from now, as go-plugin has it: from 30 s ago, for clocks
 * that differ a little, for 30 years, since there is no renewal.
 */
static const long valid_since = -30;
static const long valid_for = 262980L * 3600;

static const char host[] = "localhost";

static EVP_PKEY *
make_key(void)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
    EVP_PKEY *key = NULL;

    if (context == NULL || EVP_PKEY_keygen_init(context) != 1 ||
        EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_secp521r1) != 1 ||
        EVP_PKEY_keygen(context, &key) != 1) {
        key = NULL;
    }
    EVP_PKEY_CTX_free(context);
    return key;
}

static bool
set_serial(X509 *certificate)
{
    unsigned char bytes[SERIAL_BYTES];
    BIGNUM *number = NULL;
    bool set = RAND_bytes(bytes, sizeof(bytes)) == 1 &&
               (number = BN_bin2bn(bytes, sizeof(bytes), NULL)) != NULL &&
               BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;

    BN_free(number);
    return set;
}

static bool
set_names(X509 *certificate)
{
    X509_NAME *name = X509_get_subject_name(certificate);

    return X509_NAME_add_entry_by_NID(name, NID_organizationName, MBSTRING_ASC,
                                      (const unsigned char *)"HashiCorp", -1, -1, 0) == 1 &&
           X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_ASC,
                                      (const unsigned char *)host, -1, -1, 0) == 1 &&
           X509_set_issuer_name(certificate, name) == 1;
}

static bool
set_times(X509 *certificate)
{
    time_t now = time(NULL);

    return X509_time_adj_ex(X509_getm_notBefore(certificate), 0, valid_since, &now) != NULL &&
           X509_time_adj_ex(X509_getm_notAfter(certificate), 0, valid_for, &now) != NULL;
}

static bool
add_extensions(X509 *certificate)
{
    static const struct {
        int kind;
        const char *value;
    } extensions[] = {
        {NID_key_usage, "critical,digitalSignature,keyEncipherment,keyAgreement,keyCertSign"},
        {NID_ext_key_usage, "clientAuth,serverAuth"},
        {NID_basic_constraints, "critical,CA:TRUE"},
        {NID_subject_key_identifier, "hash"},
        {NID_subject_alt_name, "DNS:localhost"},
    };
    X509V3_CTX context;

    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    for (size_t i = 0; i < sizeof(extensions) / sizeof(extensions[0]); i++) {
        X509_EXTENSION *made =
            X509V3_EXT_conf_nid(NULL, &context, extensions[i].kind, extensions[i].value);
        bool added = made != NULL && X509_add_ext(certificate, made, -1) == 1;

        X509_EXTENSION_free(made);
        if (!added) {
            return false;
        }
    }
    return true;
}

/* Quicker than X509_set_pubkey(), which in OpenSSL 3 encodes the key and decodes it again. */
static bool
set_public_key(X509 *certificate, EVP_PKEY *key)
{
    unsigned char *point = NULL;
    size_t len = EVP_PKEY_get1_encoded_public_key(key, &point);

    if (len > 0 && X509_PUBKEY_set0_param(X509_get_X509_PUBKEY(certificate),
                                          OBJ_nid2obj(NID_X9_62_id_ecPublicKey), V_ASN1_OBJECT,
                                          OBJ_nid2obj(NID_secp521r1), point, (int)len) == 1) {
        return true;
    }
    OPENSSL_free(point);
    return false;
}

static X509 *
make_certificate(EVP_PKEY *key)
{
    X509 *certificate = X509_new();

    if (certificate != NULL && X509_set_version(certificate, 2) == 1 && set_serial(certificate) &&
        set_names(certificate) && set_times(certificate) && set_public_key(certificate, key) &&
        add_extensions(certificate) && X509_sign(certificate, key, EVP_sha512()) > 0) {
        return certificate;
    }
    X509_free(certificate);
    return NULL;
}

/* The contents of |bio|, zero-terminated. Wipes and frees |bio|. */
static char *
take_text(BIO *bio)
{
    char *data;
    long len = BIO_get_mem_data(bio, &data);
    char *copy = gp__memdup(data, (size_t)len);

    OPENSSL_cleanse(data, (size_t)len);
    BIO_free(bio);
    return copy;
}

/*
 * The key as PEM in the traditional form, which names the kind of key: OpenSSL 3.0 reads it in 3/4
 * of the time that PKCS #8 takes.
 */
static char *
key_text(EVP_PKEY *key)
{
    BIO *bio = BIO_new(BIO_s_mem());

    if (bio != NULL &&
        PEM_write_bio_PrivateKey_traditional(bio, key, NULL, NULL, 0, NULL, NULL) == 1) {
        return take_text(bio);
    }
    BIO_free(bio);
    return NULL;
}

static char *
certificate_text(X509 *certificate)
{
    BIO *bio = BIO_new(BIO_s_mem());

    if (bio != NULL && PEM_write_bio_X509(bio, certificate) == 1) {
        return take_text(bio);
    }
    BIO_free(bio);
    return NULL;
}

static char *
certificate_field(X509 *certificate)
{
    unsigned char *der = NULL;
    int len = i2d_X509(certificate, &der);
    char *field = len > 0 ? gp__malloc((size_t)(len + 2) / 3 * 4 + 1) : NULL;

    if (field != NULL) {
        int written = EVP_EncodeBlock((unsigned char *)field, der, len);

        while (written > 0 && field[written - 1] == '=') {
            field[--written] = '\0';
        }
    }
    OPENSSL_free(der);
    return field;
}

int
gp__cert_make(gp__cert_pair *out, gp_error *err)
{
    EVP_PKEY *key;
    X509 *certificate;
    int rc = gp__openssl_load(err);

    *out = (gp__cert_pair){NULL, NULL, NULL};
    if (rc < 0) {
        return rc;
    }
    key = make_key();
    certificate = key != NULL ? make_certificate(key) : NULL;
    if (certificate == NULL) {
        char reason[160];

        ERR_error_string_n(ERR_peek_last_error(), reason, sizeof(reason));
        rc = gp_error_set(err, GP_ETLS, "no certificate can be made for AutoMTLS: %s", reason);
        goto done;
    }
    out->private_key = key_text(key);
    out->certificate = certificate_text(certificate);
    out->field = certificate_field(certificate);
    if (out->private_key == NULL || out->certificate == NULL || out->field == NULL) {
        gp__cert_release(out);
        rc = gp_error_set(err, GP_ENOMEM, "out of memory for the certificate of AutoMTLS");
    }
done:
    ERR_clear_error();
    X509_free(certificate);
    EVP_PKEY_free(key);
    return rc;
}

void
gp__cert_release(gp__cert_pair *pair)
{
    if (pair->private_key != NULL) {
        OPENSSL_cleanse(pair->private_key, strlen(pair->private_key));
    }
    gp__free(pair->private_key);
    gp__free(pair->certificate);
    gp__free(pair->field);
    *pair = (gp__cert_pair){NULL, NULL, NULL};
}

/* The value of a base64 digit, or -1. */
static int
digit_value(char digit)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = digit != '\0' ? strchr(digits, digit) : NULL;

    return found != NULL ? (int)(found - digits) : -1;
}

/*
 * Decode into |out|, which has room for three quarters of |len|. Returns the length, or -1 if it is
 * not base64.
 */
static long
decode(unsigned char *out, const char *field, size_t len)
{
    unsigned bits = 0;
    int have = 0;
    long written = 0;

    for (size_t i = 0; i < len; i++) {
        int value = digit_value(field[i]);

        if (value < 0) {
            return -1;
        }
        bits = (bits << 6 | (unsigned)value) & 0xffff;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[written++] = (unsigned char)(bits >> have);
        }
    }
    /* A single digit is not a byte, and the bits that are left over have to be zero. */
    return have == 6 || (bits & ((1U << have) - 1)) != 0 ? -1 : written;
}

int
gp__cert_from_field(char **out, const char *field, size_t len, gp_error *err)
{
    unsigned char *der;
    const unsigned char *at;
    X509 *certificate = NULL;
    long size;
    int rc = gp__openssl_load(err);

    if (rc < 0) {
        return rc;
    }
    /* Some encoders pad although go-plugin does not. */
    for (int i = 0; i < 2 && len > 0 && field[len - 1] == '='; i++) {
        len--;
    }
    at = der = gp__malloc(len / 4 * 3 + 3);
    if (der == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for the plugin's certificate");
    }
    size = decode(der, field, len);
    if (size >= 0) {
        certificate = d2i_X509(NULL, &at, size);
    }
    if (certificate == NULL || at != der + size) {
        rc = gp_error_set(err, GP_ETLS,
                          "the certificate in the plugin's handshake (field 6) cannot be read: it "
                          "is not %s",
                          size < 0 ? "base64" : "a certificate in DER");
        gp_error_set_detail(err, GP_TLS_INVALID, strlen(GP_TLS_INVALID));
    } else if ((*out = certificate_text(certificate)) == NULL) {
        rc = gp_error_set(err, GP_ENOMEM, "out of memory for the plugin's certificate");
    }
    ERR_clear_error();
    X509_free(certificate);
    gp__free(der);
    return rc;
}
