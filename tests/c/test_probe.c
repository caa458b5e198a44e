#include <fcntl.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "identity.h"
#include "support.h"
#include "tls/probe.h"

static identity authority;
static identity good;
static identity expired;
static identity future;
static identity elsewhere;
static identity client;
static identity stranger; /* an authority */
static identity namesake; /* another authority of the same name as |authority| */

static identity *const all[] = {&authority, &good,   &expired,  &future,
                                &elsewhere, &client, &stranger, &namesake};

static int
make_identities(void **state)
{
    (void)state;
    authority = identity_issue("authority", NULL);
    good = identity_issue("server", &authority);
    expired = identity_issue_for("server", &authority, "localhost", -7200, -3600);
    future = identity_issue_for("server", &authority, "localhost", 3600, 7200);
    elsewhere = identity_issue_for("server", &authority, "elsewhere.test", -3600, 3600);
    client = identity_issue("client", &authority);
    stranger = identity_issue("stranger", NULL);
    namesake = identity_issue("authority", NULL);
    return 0;
}

static int
free_identities(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        identity_release(all[i]);
    }
    return 0;
}

/* ---- The other side ---- */

typedef struct server {
    const identity *own; /* NULL: none, and no TLS */
    const identity
        *client_root; /* clients must have a certificate by it; NULL: none is asked for */
    const char *alpn; /* with its length before it; NULL: no choice is made */
    size_t text_len;  /* 0: up to its end */
    const char *text; /* what it says without TLS */
    bool silent;      /* takes the connection and says nothing */
    bool endless;     /* says |text| over and over again */
    int fd;
    pthread_t thread;
} server;

static int
choose(SSL *ssl, const unsigned char **out, unsigned char *len, const unsigned char *in,
       unsigned in_len, void *arg)
{
    const server *self = arg;

    (void)ssl;
    return SSL_select_next_proto((unsigned char **)(uintptr_t)out, len,
                                 (const unsigned char *)self->alpn, strlen(self->alpn), in,
                                 in_len) == OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_NOACK;
}

static void
speak_tls(server *self)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    char byte;
    SSL *ssl;

    SSL_CTX_use_certificate(context, self->own->certificate);
    SSL_CTX_use_PrivateKey(context, self->own->key);
    if (self->alpn != NULL) {
        SSL_CTX_set_alpn_select_cb(context, choose, self);
    }
    if (self->client_root != NULL) {
        X509_STORE_add_cert(SSL_CTX_get_cert_store(context), self->client_root->certificate);
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    ssl = SSL_new(context);
    SSL_set_fd(ssl, self->fd);
    if (SSL_accept(ssl) == 1 && SSL_read(ssl, &byte, 1) == 1) {
        SSL_write(ssl, "\0\0\0\4\0\0\0\0", 9);
    }
    SSL_free(ssl);
    SSL_CTX_free(context);
}

static void *
run(void *arg)
{
    server *self = arg;
    char bytes[1024];

    if (self->own != NULL) {
        speak_tls(self);
    } else if (self->text != NULL) {
        size_t len = self->text_len > 0 ? self->text_len : strlen(self->text);

        do {
        } while (send(self->fd, self->text, len, MSG_NOSIGNAL) > 0 && self->endless);
    }
    if (self->own == NULL && !self->silent) {
        shutdown(self->fd, SHUT_WR);
    }
    /* Until the client has had enough. */
    while (self->own == NULL && read(self->fd, bytes, sizeof(bytes)) > 0) {
    }
    close(self->fd);
    return NULL;
}

/* Probe |self|. Returns as gp__tls_probe(). */
static int
probe_server(server *self, const gp_tls_options *options, int64_t deadline,
             const gp_interrupt *interrupt, gp_error *err)
{
    gp_tls *tls;
    int ends[2];
    int rc;

    assert_int_equal(gp_tls_new(&tls, options, NULL), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    self->fd = ends[1];
    assert_int_equal(gp__thread_start(&self->thread, "server", run, self, NULL), 0);
    rc = gp__tls_probe(tls, ends[0], deadline, interrupt, err);
    pthread_join(self->thread, NULL);
    gp_tls_unref(tls);
    return rc;
}

static gp_tls_options
trusting(const identity *root, const identity *own)
{
    return (gp_tls_options){
        .roots = root->certificate_pem,
        .certificate = own != NULL ? own->certificate_pem : NULL,
        .private_key = own != NULL ? own->key_pem : NULL,
    };
}

static void
expect(server self, gp_tls_options options, const char *reason, const char *words)
{
    gp_error err = GP_ERROR_INIT;
    int rc;

    rc = probe_server(&self, &options, gp_deadline_in(PATIENCE_MS), NULL, &err);
    if (reason == NULL) {
        if (rc < 0) {
            fail_msg("%s", gp_error_message(&err));
        }
        return;
    }
    assert_int_equal(rc, GP_ETLS);
    if (strstr(gp_error_message(&err), words) == NULL || strcmp(err.detail, reason) != 0) {
        fail_msg("[%s] '%s' does not contain '%s'", err.detail, gp_error_message(&err), words);
    }
    gp_error_release(&err);
}

/* ---- Tests ---- */

static const char h2[] = "\2h2";

static void
nothing_is_wrong(void **state)
{
    (void)state;
    expect((server){.own = &good, .alpn = h2}, trusting(&authority, NULL), NULL, NULL);
    expect((server){.own = &good, .alpn = h2, .client_root = &authority},
           trusting(&authority, &client), NULL, NULL);
}

static void
certificates_of_the_plugin(void **state)
{
    gp_tls_options options = trusting(&authority, NULL);

    (void)state;
    expect((server){.own = &expired, .alpn = h2}, options, GP_TLS_EXPIRED, "has expired");
    expect((server){.own = &future, .alpn = h2}, options, GP_TLS_NOT_YET_VALID, "not valid before");
    expect((server){.own = &elsewhere, .alpn = h2}, options, GP_TLS_NAME_MISMATCH,
           "not valid for the name localhost, it is for elsewhere.test");
    expect((server){.own = &good, .alpn = h2}, trusting(&stranger, NULL), GP_TLS_UNKNOWN_AUTHORITY,
           "unknown authority");
    expect((server){.own = &good, .alpn = h2}, trusting(&namesake, NULL), GP_TLS_UNKNOWN_AUTHORITY,
           "unknown authority");
    options.server_name = "127.0.0.1";
    expect((server){.own = &good, .alpn = h2}, options, GP_TLS_NAME_MISMATCH, "127.0.0.1");
    options.server_name = "elsewhere.test";
    expect((server){.own = &elsewhere, .alpn = h2}, options, NULL, NULL);
}

static void
certificates_of_the_host(void **state)
{
    const identity old = identity_issue_for("client", &authority, "localhost", -7200, -3600);
    const server picky = {.own = &good, .alpn = h2, .client_root = &authority};
    const server estranged = {.own = &good, .alpn = h2, .client_root = &stranger};

    (void)state;
    expect(picky, trusting(&authority, NULL), GP_TLS_REFUSED, "the host has none to show");
    expect(picky, trusting(&authority, &old), GP_TLS_REFUSED, "host's certificate has expired");
    expect(estranged, trusting(&authority, &client), GP_TLS_REFUSED,
           "an authority that it does not know");
    identity_release((identity *)(uintptr_t)&old);
}

static void
other_protocols(void **state)
{
    static const char alert[] = {0x15, 3, 3, 0, 2, 2, 40};
    gp_tls_options options = trusting(&authority, &client);

    (void)state;
    expect((server){.text = "HTTP/1.1 400 Bad Request\r\n"}, options, GP_TLS_PLAINTEXT, "plain");
    expect((server){.text = "\xff"}, options, GP_TLS_PLAINTEXT, "plain");
    expect((server){.text = NULL}, options, GP_TLS_CLOSED, "without saying why");
    expect((server){.text = "\x16\x03\x03"}, options, GP_TLS_CLOSED, "without saying why");
    expect((server){.text = "\x16\x03\x03\x7f\xff...."}, options, GP_TLS_PROTOCOL, "failed");
    expect((server){.text = alert, .text_len = sizeof(alert)}, options, GP_TLS_REFUSED,
           "handshake failure");
    expect((server){.own = &good}, options, GP_TLS_PROTOCOL, "HTTP/2");
    expect((server){.own = &good, .alpn = "\10http/1.1"}, options, GP_TLS_PROTOCOL, "HTTP/2");
}

static void
waiting_has_an_end(void **state)
{
    const gp_tls_options options = trusting(&authority, NULL);
    server silent = {.silent = true};
    gp_error err = GP_ERROR_INIT;

    (void)state;
    assert_int_equal(probe_server(&silent, &options, gp_deadline_in(1), NULL, &err), GP_ETLS);
    assert_string_equal(err.detail, GP_TLS_TIMEOUT);
    assert_int_equal(
        probe_server(&silent, &options, gp_deadline_in(PATIENCE_MS), &interrupt_now, &err),
        GP_EUSER);
    gp_error_release(&err);
}

/* A server's requests to renegotiate, which a client ignores during its handshake. */
static const char hello_request[] = {22, 3, 3, 0, 4, 0, 0, 0, 0};

static void
a_peer_that_never_stops_sending(void **state)
{
    const gp_tls_options options = trusting(&authority, NULL);
    server endless = {.text = hello_request, .text_len = sizeof(hello_request), .endless = true};
    gp_error err = GP_ERROR_INIT;

    (void)state;
    assert_int_equal(probe_server(&endless, &options, gp_deadline_in(50), NULL, &err), GP_ETLS);
    assert_string_equal(err.detail, GP_TLS_TIMEOUT);
    assert_int_equal(
        probe_server(&endless, &options, gp_deadline_in(PATIENCE_MS), &interrupt_now, &err),
        GP_EUSER);
    gp_error_release(&err);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_wrong),
        cmocka_unit_test(certificates_of_the_plugin),
        cmocka_unit_test(certificates_of_the_host),
        cmocka_unit_test(other_protocols),
        cmocka_unit_test(waiting_has_an_end),
        cmocka_unit_test(a_peer_that_never_stops_sending),
    };

    return cmocka_run_group_tests(tests, make_identities, free_identities);
}
