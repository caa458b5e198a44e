#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "identity.h"
#include "os/fd.h"
#include "support.h"
#include "tls/tls_stream.h"

enum { STEPS = 100000 }; /* more than any exchange takes, which would not end otherwise */

static gp_tls *host; /* AutoMTLS's, as the two sides of a plugin have it */
static gp_tls *plugin;
static identity authority;
static identity stranger; /* an authority */
static identity expired;

static int
make_identities(void **state)
{
    (void)state;
    assert_int_equal(gp_tls_new_automatic(&host, NULL, NULL), 0);
    assert_int_equal(gp_tls_new_automatic(&plugin, gp_tls_certificate(host), NULL), 0);
    assert_int_equal(
        gp_tls_trust_field(host, gp_tls_field(plugin), strlen(gp_tls_field(plugin)), NULL), 0);
    authority = identity_issue("authority", NULL);
    stranger = identity_issue("stranger", NULL);
    expired = identity_issue_for("client", &authority, "localhost", -7200, -3600);
    return 0;
}

static int
free_identities(void **state)
{
    (void)state;
    gp_tls_unref(host);
    gp_tls_unref(plugin);
    identity_release(&authority);
    identity_release(&stranger);
    identity_release(&expired);
    return 0;
}

/* ---- Two ends -------------------------------------------------------------------------------- */

typedef struct pair {
    gp__stream *client;
    gp__stream *server;
} pair;

static gp__stream *
secure(int fd, gp_tls *tls, bool server, const char *protocol)
{
    const gp__tls_stream_options options = {.server = server, .protocol = protocol};
    gp__stream *below;
    gp__stream *stream;

    assert_int_equal(gp__stream_socket_new(&below, fd, NULL), 0);
    assert_int_equal(gp__tls_stream_new(&stream, below, tls, &options, NULL), 0);
    assert_int_equal(gp__stream_fd(stream), fd);
    return stream;
}

static pair
open_pair(gp_tls *client, gp_tls *server, const char *protocol)
{
    int ends[2];

    assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
    return (pair){secure(ends[0], client, false, protocol),
                  secure(ends[1], server, true, protocol)};
}

static void
close_pair(pair *it)
{
    gp__stream_close(it->client);
    gp__stream_close(it->server);
}

/* Advance both handshakes until each has ended. Returns what they did by |outcomes|. */
static void
shake_hands(pair *it, int outcomes[2], gp_error errors[2])
{
    int rc[2] = {GP__WOULD_BLOCK, GP__WOULD_BLOCK};

    for (int i = 0; rc[0] == GP__WOULD_BLOCK || rc[1] == GP__WOULD_BLOCK; i++) {
        assert_true(i < STEPS);
        if (rc[0] == GP__WOULD_BLOCK) {
            rc[0] = gp__tls_stream_handshake(it->client, &errors[0]);
        }
        if (rc[1] == GP__WOULD_BLOCK) {
            rc[1] = gp__tls_stream_handshake(it->server, &errors[1]);
        }
    }
    outcomes[0] = rc[0];
    outcomes[1] = rc[1];
}

static pair
open_secured(const char *protocol)
{
    pair it = open_pair(host, plugin, protocol);
    gp_error errors[2] = {GP_ERROR_INIT, GP_ERROR_INIT};
    int outcomes[2];

    shake_hands(&it, outcomes, errors);
    assert_int_equal(outcomes[0], 0);
    assert_int_equal(outcomes[1], 0);
    return it;
}

static unsigned char
byte_at(size_t offset)
{
    return (unsigned char)(offset * 13 + offset / 255);
}

/* Send |len| bytes in pieces of |piece|, and read as many with room for |room| at a time. */
static void
transfer(gp__stream *from, gp__stream *to, size_t len, size_t piece, size_t room)
{
    static unsigned char sent[1 << 20];
    static unsigned char got[1 << 20];
    size_t written = 0;
    size_t read = 0;

    assert_true(piece <= sizeof(sent) && room <= sizeof(got));
    for (int i = 0; read < len; i++) {
        size_t part = len - written < piece ? len - written : piece;
        ptrdiff_t some = 0;

        assert_true(i < STEPS);
        for (size_t k = 0; k < part; k++) {
            sent[k] = byte_at(written + k);
        }
        if (part > 0) {
            some = gp__stream_write(from, sent, part, NULL);
            assert_true(some > 0 || some == GP__WOULD_BLOCK);
            written += some > 0 ? (size_t)some : 0;
        }
        if (gp__stream_flush(from, NULL) == GP__WOULD_BLOCK) {
            assert_true((gp__stream_events(from, 0) & GP__STREAM_WRITE) != 0);
        }
        some = gp__stream_read(to, got, room, NULL);
        assert_true(some > 0 || some == GP__WOULD_BLOCK);
        assert_true(some != GP__WOULD_BLOCK || !gp__stream_pending(to));
        for (ptrdiff_t k = 0; k < some; k++) {
            if (got[k] != byte_at(read + (size_t)k)) {
                fail_msg("byte %zu is wrong", read + (size_t)k);
            }
        }
        read += some > 0 ? (size_t)some : 0;
    }
    assert_int_equal(read, len);
}

static void
expect_fault(int rc, gp_error *err, const char *reason, const char *words)
{
    assert_int_equal(rc, GP_ETLS);
    if (strstr(gp_error_message(err), words) == NULL || strcmp(err->detail, reason) != 0) {
        fail_msg("[%s] '%s' does not contain '%s'", err->detail, gp_error_message(err), words);
    }
    gp_error_release(err);
}

/* ---- Data ------------------------------------------------------------------------------------ */

static void
both_ways(void **state)
{
    pair it = open_secured(NULL);

    (void)state;
    assert_int_equal(gp__stream_events(it.client, GP__STREAM_READ), GP__STREAM_READ);
    assert_false(gp__tls_stream_agreed(it.client));
    transfer(it.client, it.server, 5, 5, 5);
    transfer(it.server, it.client, 5, 5, 5);
    close_pair(&it);
}

/* The handshake needs no call of its own. */
static void
reading_and_writing_advance_the_handshake(void **state)
{
    pair it = open_pair(host, plugin, NULL);
    char byte;

    (void)state;
    assert_int_equal(gp__stream_write(it.server, "x", 1, NULL), GP__WOULD_BLOCK);
    assert_int_equal(gp__stream_events(it.server, GP__STREAM_WRITE), GP__STREAM_READ);
    assert_int_equal(gp__stream_flush(it.client, NULL), GP__WOULD_BLOCK); /* sends its hello */
    for (int i = 0; gp__stream_read(it.client, &byte, 1, NULL) == GP__WOULD_BLOCK; i++) {
        assert_true(i < STEPS);
        assert_int_equal(gp__stream_read(it.server, &byte, 1, NULL), GP__WOULD_BLOCK);
        (void)gp__stream_write(it.server, "x", 1, NULL);
    }
    assert_int_equal(byte, 'x');
    close_pair(&it);
}

static void
all_sizes_of_pieces(void **state)
{
    static const size_t sizes[] = {1, 2, 100, 16383, 16384, 16385, 65536, 65537, 300000};
    enum { COUNT = sizeof(sizes) / sizeof(sizes[0]) };
    pair it = open_secured(NULL);

    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        for (size_t k = 0; k < COUNT; k++) {
            size_t len = (sizes[i] < sizes[k] ? sizes[i] : sizes[k]) * 50;

            len = len < 1000000 ? len : 1000000;
            transfer(it.client, it.server, len, sizes[i], sizes[k]);
            transfer(it.server, it.client, len, sizes[i], sizes[k]);
        }
    }
    close_pair(&it);
}

static void
a_stream_that_is_not_read_blocks_its_writer(void **state)
{
    static char much[1 << 18];
    pair it = open_secured(NULL);
    size_t written = 0;
    size_t read = 0;
    ptrdiff_t some;

    (void)state;
    while ((some = gp__stream_write(it.client, much, sizeof(much), NULL)) > 0) {
        written += (size_t)some;
        assert_true(written < 16 << 20);
    }
    assert_int_equal(some, GP__WOULD_BLOCK);
    assert_int_equal(gp__stream_flush(it.client, NULL), GP__WOULD_BLOCK);
    assert_int_equal(gp__stream_events(it.client, GP__STREAM_READ),
                     GP__STREAM_READ | GP__STREAM_WRITE);
    transfer(it.server, it.client, 100000, 100000, 100000); /* the other direction goes on */
    for (int i = 0; read < written; i++) {
        assert_true(i < STEPS);
        some = gp__stream_read(it.server, much, sizeof(much), NULL);
        read += some > 0 ? (size_t)some : 0;
        (void)gp__stream_flush(it.client, NULL);
    }
    assert_int_equal(gp__stream_flush(it.client, NULL), 0);
    transfer(it.client, it.server, 8 << 20, sizeof(much), sizeof(much));
    close_pair(&it);
}

static void
streams_stack(void **state)
{
    const gp__tls_stream_options client = {.server = false};
    const gp__tls_stream_options server = {.server = true};
    pair inner = open_secured(NULL);
    gp_error errors[2] = {GP_ERROR_INIT, GP_ERROR_INIT};
    int outcomes[2];
    pair it;

    (void)state;
    assert_int_equal(gp__tls_stream_new(&it.client, inner.client, host, &client, NULL), 0);
    assert_int_equal(gp__tls_stream_new(&it.server, inner.server, plugin, &server, NULL), 0);
    shake_hands(&it, outcomes, errors);
    assert_int_equal(outcomes[0], 0);
    assert_int_equal(outcomes[1], 0);
    transfer(it.client, it.server, 1000000, 70000, 3000);
    transfer(it.server, it.client, 1000000, 3000, 70000);
    close_pair(&it);
}

/* ---- Ends ------------------------------------------------------------------------------------ */

static void
each_direction_ends_by_itself(void **state)
{
    pair it = open_secured(NULL);
    char bytes[8];

    (void)state;
    assert_int_equal(gp__stream_write(it.client, "bye", 3, NULL), 3);
    assert_int_equal(gp__stream_shutdown(it.client, NULL), 0);
    assert_int_equal(gp__stream_shutdown(it.client, NULL), 0);
    assert_int_equal(gp__stream_write(it.client, "x", 1, NULL), GP_ECLOSED);
    assert_int_equal(gp__stream_read(it.server, bytes, sizeof(bytes), NULL), 3);
    assert_int_equal(gp__stream_read(it.server, bytes, sizeof(bytes), NULL), 0);
    assert_int_equal(gp__stream_read(it.server, bytes, sizeof(bytes), NULL), 0);
    transfer(it.server, it.client, 200000, 200000, 200000);
    gp__stream_close(it.server);
    assert_int_equal(gp__stream_read(it.client, bytes, sizeof(bytes), NULL), 0);
    gp__stream_close(it.client);
}

static void
a_cut_is_an_error(void **state)
{
    gp_error err = GP_ERROR_INIT;

    (void)state;
    for (int side = 0; side < 2; side++) {
        pair it = open_secured(NULL);
        gp__stream *from = side == 0 ? it.client : it.server;
        gp__stream *to = side == 0 ? it.server : it.client;
        char bytes[8];

        transfer(from, to, 1, 1, 1);
        assert_int_equal(gp__stream_write(from, "last", 4, NULL), 4);
        shutdown(gp__stream_fd(from), SHUT_RDWR);
        assert_int_equal(gp__stream_read(to, bytes, sizeof(bytes), NULL), 4);
        for (int i = 0; i < 2; i++) {
            int rc = (int)gp__stream_read(to, bytes, sizeof(bytes), &err);

            expect_fault(rc, &err, GP_TLS_CLOSED, "cut the connection without ending TLS");
            assert_true(gp__stream_pending(to));
        }
        close_pair(&it);
    }
}

/* What is sent to those that are gone is dropped; why they went shows when the stream is read. */
static void
the_other_side_goes(void **state)
{
    static char much[1 << 16];
    pair it = open_secured(NULL);
    gp_error err = GP_ERROR_INIT;
    ptrdiff_t some = 0;

    (void)state;
    gp__stream_close(it.server);
    for (int i = 0; some >= 0; i++) {
        assert_true(i < STEPS);
        some = gp__stream_write(it.client, much, sizeof(much), &err);
    }
    assert_int_equal(some, GP_ECLOSED);
    gp_error_release(&err);
    assert_int_equal(gp__stream_read(it.client, much, sizeof(much), NULL), 0);
    gp__stream_close(it.client);
}

/* ---- Handshakes that fail -------------------------------------------------------------------- */

static gp_tls *
make_tls(const identity *root, const identity *own)
{
    const gp_tls_options options = {
        .roots = root != NULL ? root->certificate_pem : NULL,
        .certificate = own != NULL ? own->certificate_pem : NULL,
        .private_key = own != NULL ? own->key_pem : NULL,
    };
    gp_tls *tls;

    assert_int_equal(gp_tls_new(&tls, &options, NULL), 0);
    return tls;
}

/*
 * Shake hands and read at both sides, until one fails; what the faults of client and server have to
 * be.
 */
static void
expect_faults(const identity *client_root, const identity *client_own, const identity *server_root,
              const identity *server_own, const char *reasons[2], const char *words[2])
{
    gp_tls *client = make_tls(client_root, client_own);
    gp_tls *server = make_tls(server_root, server_own);
    pair it = open_pair(client, server, NULL);
    gp_error errors[2] = {GP_ERROR_INIT, GP_ERROR_INIT};
    int outcomes[2];
    char byte;

    shake_hands(&it, outcomes, errors);
    if (outcomes[0] == 0) { /* the server's opinion comes after the client's handshake */
        outcomes[0] = (int)gp__stream_read(it.client, &byte, 1, &errors[0]);
    }
    for (int i = 0; i < 2; i++) {
        expect_fault(outcomes[i], &errors[i], reasons[i], words[i]);
    }
    close_pair(&it);
    gp_tls_unref(client);
    gp_tls_unref(server);
}

static void
certificates_that_are_wrong(void **state)
{
    identity good = identity_issue("server", &authority);
    identity elsewhere = identity_issue_for("server", &authority, "elsewhere.test", -3600, 3600);
    identity old = identity_issue_for("server", &authority, "localhost", -7200, -3600);

    (void)state;
    expect_faults(&stranger, NULL, NULL, &good,
                  (const char *[]){GP_TLS_UNKNOWN_AUTHORITY, GP_TLS_REFUSED},
                  (const char *[]){"the plugin's certificate comes from an unknown authority",
                                   "the host refused the connection: the plugin's certificate was "
                                   "signed by an authority that it does not know"});
    expect_faults(&authority, NULL, NULL, &elsewhere,
                  (const char *[]){GP_TLS_NAME_MISMATCH, GP_TLS_REFUSED},
                  (const char *[]){"not valid for the name localhost, it is for elsewhere.test",
                                   "the host refused the connection"});
    expect_faults(&authority, NULL, NULL, &old, (const char *[]){GP_TLS_EXPIRED, GP_TLS_REFUSED},
                  (const char *[]){"the plugin's certificate has expired",
                                   "the plugin's certificate has expired"});
    expect_faults(&authority, NULL, &authority, &good,
                  (const char *[]){GP_TLS_REFUSED, GP_TLS_NO_CERTIFICATE},
                  (const char *[]){"the host has none to show", "the host shows no certificate"});
    expect_faults(&authority, &expired, &authority, &good,
                  (const char *[]){GP_TLS_REFUSED, GP_TLS_EXPIRED},
                  (const char *[]){"the host's certificate has expired",
                                   "the host's certificate has expired"});
    identity_release(&good);
    identity_release(&elsewhere);
    identity_release(&old);
}

static void
other_protocols(void **state)
{
    static const char request[] = "GET / HTTP/1.1\r\n";

    (void)state;
    for (int server = 0; server < 2; server++) {
        gp_error err = GP_ERROR_INIT;
        gp__stream *stream;
        int ends[2];
        int rc;

        assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
        stream = secure(ends[0], server ? plugin : host, server, NULL);
        assert_int_equal(send(ends[1], request, strlen(request), 0), (ssize_t)strlen(request));
        rc = gp__tls_stream_handshake(stream, &err);
        expect_fault(rc, &err, GP_TLS_PLAINTEXT, "does not speak TLS");
        gp__stream_close(stream);
        close(ends[1]);

        assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
        stream = secure(ends[0], server ? plugin : host, server, NULL);
        assert_int_equal(gp__tls_stream_handshake(stream, &err), GP__WOULD_BLOCK);
        close(ends[1]);
        rc = gp__tls_stream_handshake(stream, &err);
        expect_fault(rc, &err, GP_TLS_CLOSED, "during the TLS handshake");
        gp__stream_close(stream);
    }
}

static void
protocols_by_alpn(void **state)
{
    const gp__tls_stream_options options = {.server = true};
    gp_error errors[2] = {GP_ERROR_INIT, GP_ERROR_INIT};
    gp_tls *nothing = make_tls(&authority, NULL);
    pair it = open_secured("h2");
    gp__stream *below;
    int outcomes[2];
    int ends[2];

    (void)state;
    assert_true(gp__tls_stream_agreed(it.client));
    assert_true(gp__tls_stream_agreed(it.server));
    close_pair(&it);

    assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
    it = (pair){secure(ends[0], host, false, "h2"), secure(ends[1], plugin, true, "other")};
    shake_hands(&it, outcomes, errors);
    expect_fault(outcomes[0], &errors[0], GP_TLS_REFUSED, "no application protocol");
    expect_fault(outcomes[1], &errors[1], GP_TLS_PROTOCOL, "the TLS handshake failed");
    close_pair(&it);

    assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
    assert_int_equal(gp__stream_socket_new(&below, ends[0], NULL), 0);
    assert_int_equal(gp__tls_stream_new(&it.server, below, nothing, &options, NULL), GP_EINVAL);
    close(ends[1]);
    gp_tls_unref(nothing);
}

/* ---- What else TLS sends --------------------------------------------------------------------- */

/* A server of OpenSSL's own, on the same thread. */
typedef struct peer {
    gp__stream *client;
    SSL_CTX *context;
    SSL *ssl;
    int fd;
} peer;

static void
open_peer(peer *it, int version, gp_tls *trusting, const identity *own)
{
    bool ready = false;
    int rc = GP__WOULD_BLOCK;
    int ends[2];

    assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
    it->client = secure(ends[0], trusting, false, NULL);
    it->fd = ends[1];
    it->context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_max_proto_version(it->context, version);
    SSL_CTX_use_certificate(it->context, own->certificate);
    SSL_CTX_use_PrivateKey(it->context, own->key);
    it->ssl = SSL_new(it->context);
    SSL_set_fd(it->ssl, it->fd);
    for (int i = 0; rc == GP__WOULD_BLOCK || !ready; i++) {
        assert_true(i < STEPS);
        if (rc == GP__WOULD_BLOCK) {
            rc = gp__tls_stream_handshake(it->client, NULL);
        }
        ready = ready || SSL_accept(it->ssl) == 1;
    }
    assert_int_equal(rc, 0);
}

static void
close_peer(peer *it)
{
    gp__stream_close(it->client);
    SSL_free(it->ssl);
    SSL_CTX_free(it->context);
    close(it->fd);
}

/* Tickets and new keys are no data, and no end. */
static void
messages_after_the_handshake(void **state)
{
    identity own = identity_issue("server", &authority);
    gp_tls *trusting = make_tls(&authority, NULL);
    char bytes[16];
    peer it;

    (void)state;
    open_peer(&it, TLS1_3_VERSION, trusting, &own); /* which has sent two tickets by now */
    assert_int_equal(gp__stream_read(it.client, bytes, sizeof(bytes), NULL), GP__WOULD_BLOCK);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(SSL_key_update(it.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(it.ssl), 1);
        assert_int_equal(gp__stream_read(it.client, bytes, sizeof(bytes), NULL), GP__WOULD_BLOCK);
        assert_int_equal(SSL_write(it.ssl, "hello", 5), 5);
        assert_int_equal(gp__stream_read(it.client, bytes, sizeof(bytes), NULL), 5);
        assert_int_equal(gp__stream_write(it.client, "answer", 6, NULL), 6);
        assert_int_equal(SSL_read(it.ssl, bytes, sizeof(bytes)), 6);
    }
    close_peer(&it);

    open_peer(&it, TLS1_2_VERSION, trusting, &own);
    assert_int_equal(SSL_renegotiate(it.ssl), 1);
    assert_int_equal(SSL_do_handshake(it.ssl), 1); /* asks for it, and does not wait */
    assert_int_equal(gp__stream_read(it.client, bytes, sizeof(bytes), NULL), GP__WOULD_BLOCK);
    assert_int_equal(SSL_read(it.ssl, bytes, sizeof(bytes)), -1); /* it was declined */
    close_peer(&it);
    identity_release(&own);
    gp_tls_unref(trusting);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static void
every_allocation_fails(void **state)
{
    const gp__tls_stream_options options[2] = {{.server = false}, {.server = true}};
    long failing = 0;
    bool failed;

    (void)state;
    do {
        gp__stream *streams[2] = {NULL, NULL};
        gp_error err = GP_ERROR_INIT;
        int ends[2];
        char byte;

        assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
        alloc_begin(failing++);
        for (int i = 0; i < 2; i++) {
            gp__stream *below;
            int rc = gp__stream_socket_new(&below, ends[i], &err);

            if (rc == 0) {
                rc = gp__tls_stream_new(&streams[i], below, i == 0 ? host : plugin, &options[i],
                                        &err);
            }
            assert_true(rc == 0 || rc == GP_ENOMEM);
            streams[i] = rc == 0 ? streams[i] : NULL;
        }
        if (streams[0] != NULL && streams[1] != NULL) {
            pair it = {streams[0], streams[1]};
            gp_error errors[2] = {GP_ERROR_INIT, GP_ERROR_INIT};
            int outcomes[2];

            shake_hands(&it, outcomes, errors);
            transfer(it.client, it.server, 1000, 1000, 1000);
            shutdown(ends[0], SHUT_RDWR);
            assert_int_equal(gp__stream_read(it.server, &byte, 1, &err), GP_ETLS);
        }
        failed = alloc_failures() > 0;
        gp__stream_close(streams[0]);
        gp__stream_close(streams[1]);
        gp_error_release(&err);
        alloc_end();
    } while (failed);
    assert_true(failing > 4);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ways),
        cmocka_unit_test(reading_and_writing_advance_the_handshake),
        cmocka_unit_test(all_sizes_of_pieces),
        cmocka_unit_test(a_stream_that_is_not_read_blocks_its_writer),
        cmocka_unit_test(streams_stack),
        cmocka_unit_test(each_direction_ends_by_itself),
        cmocka_unit_test(a_cut_is_an_error),
        cmocka_unit_test(the_other_side_goes),
        cmocka_unit_test(certificates_that_are_wrong),
        cmocka_unit_test(other_protocols),
        cmocka_unit_test(protocols_by_alpn),
        cmocka_unit_test(messages_after_the_handshake),
        cmocka_unit_test(every_allocation_fails),
    };

    return cmocka_run_group_tests(tests, make_identities, free_identities);
}
