#include <openssl/pem.h>
#include <string.h>

#include "base/alloc.h"
#include "gp/credentials.h"
#include "gp/tls.h"
#include "identity.h"
#include "support.h"

static identity authority;
static identity own;

static int
make_identities(void **state)
{
    (void)state;
    authority = identity_issue("authority", NULL);
    own = identity_issue("own", &authority);
    return 0;
}

static int
free_identities(void **state)
{
    (void)state;
    identity_release(&authority);
    identity_release(&own);
    return 0;
}

static gp_tls_options
options_with(const char *certificate, const char *private_key)
{
    return (gp_tls_options){
        .roots = authority.certificate_pem,
        .certificate = certificate,
        .private_key = private_key,
        .server_name = "plugin.test",
    };
}

static void
it_keeps_copies(void **state)
{
    gp_tls_options options = options_with(own.certificate_pem, own.key_pem);
    gp_tls *tls;

    (void)state;
    assert_int_equal(gp_tls_new(&tls, &options, NULL), 0);
    assert_string_equal(gp_tls_roots(tls), authority.certificate_pem);
    assert_string_equal(gp_tls_certificate(tls), own.certificate_pem);
    assert_string_equal(gp_tls_private_key(tls), own.key_pem);
    assert_string_equal(gp_tls_server_name(tls), "plugin.test");
    assert_null(gp_tls_field(tls));
    assert_ptr_not_equal(gp_tls_roots(tls), authority.certificate_pem);
    gp_tls_unref(gp_tls_ref(tls));
    gp_tls_unref(tls);
    gp_tls_unref(NULL);
}

static void
nothing_has_to_be_given(void **state)
{
    const gp_tls_options options = {0};
    gp_server_credentials *server;
    gp_channel_credentials *channel;
    gp_error err = GP_ERROR_INIT;
    gp_tls *tls;

    (void)state;
    assert_int_equal(gp_tls_new(&tls, &options, NULL), 0);
    assert_null(gp_tls_roots(tls));
    assert_null(gp_tls_certificate(tls));
    assert_string_equal(gp_tls_server_name(tls), "localhost");
    assert_int_equal(gp_channel_credentials_tls(&channel, tls, NULL), 0);
    gp_channel_credentials_free(channel);
    assert_int_equal(gp_server_credentials_tls(&server, tls, &err), GP_EINVAL);
    gp_error_release(&err);
    gp_tls_unref(tls);
}

static void
expect_invalid(const gp_tls_options *options, const char *words)
{
    gp_error err = GP_ERROR_INIT;
    gp_tls *tls;

    assert_int_equal(gp_tls_new(&tls, options, &err), GP_EINVAL);
    if (strstr(gp_error_message(&err), words) == NULL) {
        fail_msg("'%s' does not contain '%s'", gp_error_message(&err), words);
    }
    assert_null(strstr(gp_error_message(&err), "PRIVATE"));
    gp_error_release(&err);
}

static void
what_does_not_fit_is_refused(void **state)
{
    gp_tls_options options = options_with(own.certificate_pem, NULL);

    (void)state;
    expect_invalid(&options, "there is no private key");
    options = options_with(NULL, own.key_pem);
    expect_invalid(&options, "there is no certificate");
    options = options_with(own.certificate_pem, authority.key_pem);
    expect_invalid(&options, "does not belong to the first certificate");
    options = options_with("no PEM", own.key_pem);
    expect_invalid(&options, "no certificate in it");
    options = options_with(own.certificate_pem, own.key_pem);
    options.roots = "no PEM";
    expect_invalid(&options, "the root certificates: no certificate in it");
}

static char *
encrypted(const identity *of, const char *password)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data;
    long len;
    char *copy;

    PEM_write_bio_PrivateKey(bio, of->key, EVP_aes_256_cbc(), (const unsigned char *)password,
                             (int)strlen(password), NULL, NULL);
    len = BIO_get_mem_data(bio, &data);
    copy = gp__memdup(data, (size_t)len);
    BIO_free(bio);
    return copy;
}

static void
an_encrypted_key_needs_its_password(void **state)
{
    char *locked = encrypted(&own, "secret");
    gp_tls_options options = options_with(own.certificate_pem, locked);
    char endless[5000];
    gp_tls *tls;

    (void)state;
    expect_invalid(&options, "an unencrypted key in PEM is expected");
    options.password = "other";
    expect_invalid(&options, "the password is not the right one");
    memset(endless, 'x', sizeof(endless) - 1);
    endless[sizeof(endless) - 1] = '\0';
    options.password = endless;
    expect_invalid(&options, "the password is not the right one");
    options.password = "secret";
    assert_int_equal(gp_tls_new(&tls, &options, NULL), 0);
    assert_string_equal(gp_tls_private_key(tls), own.key_pem);
    gp_tls_unref(tls);
    options.private_key = own.key_pem; /* which needs none */
    assert_int_equal(gp_tls_new(&tls, &options, NULL), 0);
    gp_tls_unref(tls);
    gp__free(locked);
}

static void
an_automatic_one_has_no_roots_at_first(void **state)
{
    gp_channel_credentials *channel;
    gp_server_credentials *server;
    gp_tls *host;
    gp_tls *plugin;

    (void)state;
    assert_int_equal(gp_tls_new_automatic(&host, NULL, NULL), 0);
    assert_null(gp_tls_roots(host));
    assert_int_equal(gp_channel_credentials_tls(&channel, host, NULL), GP_ETLS);
    assert_int_equal(gp_server_credentials_tls(&server, host, NULL), GP_ETLS);

    assert_int_equal(gp_tls_new_automatic(&plugin, gp_tls_certificate(host), NULL), 0);
    assert_string_equal(gp_tls_roots(plugin), gp_tls_certificate(host));
    assert_int_equal(gp_tls_trust_field(host, "rubbish", 7, NULL), GP_ETLS);
    assert_null(gp_tls_roots(host));
    assert_int_equal(
        gp_tls_trust_field(host, gp_tls_field(plugin), strlen(gp_tls_field(plugin)), NULL), 0);
    assert_string_equal(gp_tls_roots(host), gp_tls_certificate(plugin));

    assert_int_equal(gp_channel_credentials_tls(&channel, host, NULL), 0);
    gp_channel_credentials_free(channel);
    assert_int_equal(gp_server_credentials_tls(&server, plugin, NULL), 0);
    gp_server_credentials_free(server);
    gp_tls_unref(host);
    gp_tls_unref(plugin);
}

static void
a_host_without_certificate(void **state)
{
    gp_error err = GP_ERROR_INIT;
    gp_tls *tls;

    (void)state;
    assert_int_equal(gp_tls_new_automatic(&tls, "-----BEGIN CERTIFICATE-----\n", &err), GP_ETLS);
    assert_int_equal(err.code, GP_ETLS);
    gp_error_release(&err);
    assert_int_equal(gp_tls_new_automatic(&tls, "", NULL), GP_ETLS);
}

static void
when_memory_is_short(void **state)
{
    gp_tls_options options = options_with(own.certificate_pem, own.key_pem);
    long failing = 0;
    long used;
    gp_tls *tls;
    int rc;

    (void)state;
    options.password = "not needed"; /* but the key is copied */
    do {
        alloc_begin(failing++);
        rc = gp_tls_new(&tls, &options, NULL);
        if (rc == 0) {
            gp_tls_unref(tls);
        }
        assert_int_equal(rc, alloc_failures() > 0 ? GP_ENOMEM : 0);
        used = alloc_end();
    } while (failing <= used);
    failing = 0;
    do {
        alloc_begin(failing++);
        rc = gp_tls_new_automatic(&tls, authority.certificate_pem, NULL);
        if (rc == 0) {
            gp_tls_unref(tls);
        }
        assert_int_equal(rc, alloc_failures() > 0 ? GP_ENOMEM : 0);
        used = alloc_end();
    } while (failing <= used);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_keeps_copies),
        cmocka_unit_test(nothing_has_to_be_given),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(an_encrypted_key_needs_its_password),
        cmocka_unit_test(an_automatic_one_has_no_roots_at_first),
        cmocka_unit_test(a_host_without_certificate),
        cmocka_unit_test(when_memory_is_short),
    };

    return cmocka_run_group_tests(tests, make_identities, free_identities);
}
