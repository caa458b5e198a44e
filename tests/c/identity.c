#include "identity.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "base/alloc.h"
#include "support.h"

static char *
bio_text(BIO *bio)
{
    char *data;
    long len = BIO_get_mem_data(bio, &data);
    char *copy = gp__memdup(data, (size_t)len);

    BIO_free(bio);
    return copy;
}

static EVP_PKEY *
new_key(void)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
    EVP_PKEY *key = NULL;

    assert_int_equal(EVP_PKEY_keygen_init(context), 1);
    assert_int_equal(EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_X9_62_prime256v1), 1);
    assert_int_equal(EVP_PKEY_keygen(context, &key), 1);
    EVP_PKEY_CTX_free(context);
    return key;
}

identity
identity_issue_for(const char *name, const identity *issuer, const char *host, long from,
                   long until)
{
    static long serial = 1;
    identity made = {.key = new_key(), .certificate = X509_new()};
    X509_NAME *subject = X509_get_subject_name(made.certificate);
    X509_EXTENSION *extension;
    char names[128];
    BIO *bio;

    snprintf(names, sizeof(names), "DNS:%s", host);
    extension = issuer == NULL
                    ? X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE")
                    : X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
    X509_set_version(made.certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made.certificate), serial++);
    X509_gmtime_adj(X509_getm_notBefore(made.certificate), from);
    X509_gmtime_adj(X509_getm_notAfter(made.certificate), until);
    X509_set_pubkey(made.certificate, made.key);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(made.certificate,
                         issuer != NULL ? X509_get_subject_name(issuer->certificate) : subject);
    X509_add_ext(made.certificate, extension, -1);
    X509_EXTENSION_free(extension);
    assert_true(X509_sign(made.certificate, issuer != NULL ? issuer->key : made.key, EVP_sha256()) >
                0);

    bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, made.key, NULL, NULL, 0, NULL, NULL);
    made.key_pem = bio_text(bio);
    bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, made.certificate);
    made.certificate_pem = bio_text(bio);
    return made;
}

identity
identity_issue(const char *name, const identity *issuer)
{
    return identity_issue_for(name, issuer, "localhost", -3600, 3600);
}

void
identity_release(identity *of)
{
    EVP_PKEY_free(of->key);
    X509_free(of->certificate);
    gp__free(of->key_pem);
    gp__free(of->certificate_pem);
}

gp_key_pair
identity_pair(const identity *of)
{
    return (gp_key_pair){of->key_pem, of->certificate_pem};
}
