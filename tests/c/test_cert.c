#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/alloc.h"
#include "gp/tls.h"
#include "support.h"
#include "tls/cert.h"

static X509 *
read_certificate(const char *pem)
{
    BIO *source = BIO_new_mem_buf(pem, -1);
    X509 *certificate = PEM_read_bio_X509(source, NULL, NULL, NULL);

    BIO_free(source);
    assert_non_null(certificate);
    return certificate;
}

static EVP_PKEY *
read_key(const char *pem)
{
    BIO *source = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(source, NULL, NULL, NULL);

    BIO_free(source);
    assert_non_null(key);
    return key;
}

static void
what_peers_of_go_plugin_expect(void **state)
{
    const uint32_t usage =
        KU_DIGITAL_SIGNATURE | KU_KEY_ENCIPHERMENT | KU_KEY_AGREEMENT | KU_KEY_CERT_SIGN;
    gp__cert_pair pair;
    X509 *certificate;
    EVP_PKEY *key;
    char text[256];
    int days;
    int seconds;

    (void)state;
    assert_int_equal(gp__cert_make(&pair, NULL), 0);
    certificate = read_certificate(pair.certificate);
    key = read_key(pair.private_key);
    assert_int_equal(X509_check_private_key(certificate, key), 1);
    assert_int_equal(EVP_PKEY_get_bits(key), 521);
    assert_int_equal(X509_verify(certificate, key), 1);
    X509_NAME_oneline(X509_get_subject_name(certificate), text, sizeof(text));
    assert_string_equal(text, "/O=HashiCorp/CN=localhost");
    assert_int_equal(
        X509_NAME_cmp(X509_get_subject_name(certificate), X509_get_issuer_name(certificate)), 0);
    assert_int_equal(
        X509_check_host(certificate, "localhost", 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL), 1);
    assert_true(X509_check_ca(certificate) > 0);
    assert_int_equal(X509_get_key_usage(certificate), usage);
    assert_int_equal(X509_get_extended_key_usage(certificate), XKU_SSL_SERVER | XKU_SSL_CLIENT);
    assert_int_equal(X509_get_version(certificate), 2);
    assert_int_equal(ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(certificate),
                                    X509_get0_notAfter(certificate)),
                     1);
    assert_in_range(days, 30 * 365, 30 * 366);
    assert_true(X509_cmp_current_time(X509_get0_notBefore(certificate)) < 0);
    EVP_PKEY_free(key);
    X509_free(certificate);
    gp__cert_release(&pair);
}

static void
no_two_are_the_same(void **state)
{
    gp__cert_pair one;
    gp__cert_pair other;
    X509 *first;
    X509 *second;

    (void)state;
    assert_int_equal(gp__cert_make(&one, NULL), 0);
    assert_int_equal(gp__cert_make(&other, NULL), 0);
    assert_string_not_equal(one.private_key, other.private_key);
    first = read_certificate(one.certificate);
    second = read_certificate(other.certificate);
    assert_int_not_equal(
        ASN1_INTEGER_cmp(X509_get0_serialNumber(first), X509_get0_serialNumber(second)), 0);
    X509_free(first);
    X509_free(second);
    gp__cert_release(&one);
    gp__cert_release(&other);
}

static void
the_field_is_the_certificate(void **state)
{
    gp__cert_pair pair;
    char *read;
    char *padded;

    (void)state;
    for (int i = 0; i < 4; i++) { /* the length of the DER, and so of the padding, varies */
        assert_int_equal(gp__cert_make(&pair, NULL), 0);
        assert_null(strpbrk(pair.field, "=|\n"));
        assert_int_equal(gp__cert_from_field(&read, pair.field, strlen(pair.field), NULL), 0);
        assert_string_equal(read, pair.certificate);
        gp__free(read);
        padded = gp__format("%s%.*s", pair.field, (int)(4 - strlen(pair.field) % 4) % 4, "===");
        assert_int_equal(gp__cert_from_field(&read, padded, strlen(padded), NULL), 0);
        assert_string_equal(read, pair.certificate);
        gp__free(read);
        gp__free(padded);
        gp__cert_release(&pair);
    }
}

static void
expect_no_certificate(const char *field, size_t len, const char *words)
{
    gp_error err = GP_ERROR_INIT;
    char *read = NULL;

    assert_int_equal(gp__cert_from_field(&read, field, len, &err), GP_ETLS);
    assert_non_null(strstr(gp_error_message(&err), words));
    assert_string_equal(err.detail, GP_TLS_INVALID);
    assert_null(read);
    gp_error_release(&err);
}

static void
what_is_no_certificate(void **state)
{
    gp__cert_pair pair;
    size_t len;
    char *more;

    (void)state;
    expect_no_certificate("", 0, "DER");
    expect_no_certificate("=", 1, "DER");
    expect_no_certificate("A", 1, "base64");
    expect_no_certificate("AB", 2, "base64"); /* bits left over that are not zero */
    expect_no_certificate("AA", 2, "DER");
    expect_no_certificate("AAAA AAAA", 9, "base64");
    expect_no_certificate("AAAA\0AAA", 8, "base64");
    expect_no_certificate("-_-_", 4, "base64");
    assert_int_equal(gp__cert_make(&pair, NULL), 0);
    len = strlen(pair.field);
    expect_no_certificate(pair.field, len / 8 * 4, "DER"); /* cut off */
    expect_no_certificate(pair.field + 4, (len - 4) / 4 * 4, "DER");
    more = gp__format("%.*sAAAA", (int)(len / 4 * 4), pair.field); /* more behind it, or broken */
    expect_no_certificate(more, strlen(more), "DER");
    gp__free(more);
    gp__cert_release(&pair);
}

static void
when_memory_is_short(void **state)
{
    gp_error err = GP_ERROR_INIT;
    gp__cert_pair pair;
    char *read;
    long failing = 0;
    long used;
    int rc;

    (void)state;
    do {
        alloc_begin(failing++);
        rc = gp__cert_make(&pair, NULL);
        assert_int_equal(rc, alloc_failures() > 0 ? GP_ENOMEM : 0);
        if (rc == 0) {
            gp__cert_release(&pair);
        }
        used = alloc_end();
    } while (failing <= used);
    assert_int_equal(gp__cert_make(&pair, NULL), 0);
    failing = 0;
    do {
        alloc_begin(failing++);
        rc = gp__cert_from_field(&read, pair.field, strlen(pair.field), &err);
        assert_int_equal(rc, alloc_failures() > 0 ? GP_ENOMEM : 0);
        if (rc == 0) {
            gp__free(read);
        }
        gp_error_release(&err);
        used = alloc_end();
    } while (failing <= used);
    gp__cert_release(&pair);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_peers_of_go_plugin_expect), cmocka_unit_test(no_two_are_the_same),
        cmocka_unit_test(the_field_is_the_certificate),   cmocka_unit_test(what_is_no_certificate),
        cmocka_unit_test(when_memory_is_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
