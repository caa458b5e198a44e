#include "tls/tls_stream.h"

#include <stdint.h>
#include <string.h>

#include "base/alloc.h"
#include "gp/container.h"
#include "tls/openssl_symbols.h"
#include "tls/pem.h"
#include "tls/roots.h"
#include "tls/tls_failure.h"

enum {
    FIRST_RECORD_KIND = 20, /* the kinds of TLS records; no other byte begins one */
    LAST_RECORD_KIND = 24,
    FETCH = 16 * 1024,      /* bytes to read from below at a time */
    FETCHES_MOST = 16,      /* reads from below in one call, whatever the other side sends */
    WRITE_MOST = 64 * 1024, /* bytes of data that one write takes before it sends them encrypted */
    STORED_MOST = 4 * WRITE_MOST, /* bytes to be sent, beyond which nothing is read from below */
    PROTOCOL_MOST = 32,           /* ALPN: length and name */
};

/*
 *   handshaking --done--> open --shutdown()--> |shut|: close_notify is out, or stored
 *        |                 |---close_notify--> |ended|: there is nothing more to read
 *        '--------.--------'
 *                 '--a fault--> |fault|, which all calls return from then on
 */
typedef struct tls_stream {
    gp__stream base;
    gp__stream *below; /* owned */
    gp_tls *tls;       /* shared: ref */
    SSL_CTX *context;  /* owned */
    SSL *ssl;          /* owned, with both of the following */
    BIO *in;           /* bytes that have come from below and are not decrypted yet */
    BIO *out;          /* encrypted bytes that the stream below has not taken yet */
    gp__tls_failure failure;
    unsigned char protocol[PROTOCOL_MOST]; /* as ALPN encodes it; its length is 0: none */
    bool heard;                            /* at least one byte has come from below */
    bool done;                             /* the handshake has been completed */
    bool shut;                             /* close_notify was made */
    bool ended;                            /* close_notify has come */
    bool unsendable;                       /* the stream below takes nothing any more */
    gp_error fault;                        /* why the stream has failed; code 0: it has not */
} tls_stream;

static tls_stream *
from_base(const gp__stream *stream)
{
    return gp_container_of(stream, tls_stream, base);
}

/* ---- Setting up ------------------------------------------------------------------------------ */

static bool
add_roots(SSL_CTX *context, const char *pem)
{
    X509_STORE *store = SSL_CTX_get_cert_store(context);
    BIO *source;
    X509 *root;

    if (pem == NULL) {
        return gp__tls_trust_system(context);
    }
    source = BIO_new_mem_buf(pem, -1);
    while (source != NULL && (root = PEM_read_bio_X509(source, NULL, NULL, NULL)) != NULL) {
        X509_STORE_add_cert(store, root);
        X509_free(root);
    }
    BIO_free(source);
    return source != NULL;
}

/* The name that a server's certificate has to be valid for. */
static bool
set_name(SSL *ssl, const char *name)
{
    X509_VERIFY_PARAM *rules = SSL_get0_param(ssl);

    /* As in gRPC, an asterisk stands for a whole label only. */
    X509_VERIFY_PARAM_set_hostflags(rules, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (X509_VERIFY_PARAM_set1_ip_asc(rules, name) == 1) {
        return true;
    }
    return SSL_set_tlsext_host_name(ssl, name) == 1 &&
           X509_VERIFY_PARAM_set1_host(rules, name, 0) == 1;
}

/* For a server: choose the protocol among those that its client offers. */
static int
choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *len, const unsigned char *in,
                unsigned in_len, void *arg)
{
    const tls_stream *self = arg;

    (void)ssl;
    return SSL_select_next_proto((unsigned char **)(uintptr_t)out, len, self->protocol,
                                 self->protocol[0] + 1u, in, in_len) == OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static bool
set_protocol(tls_stream *self, const char *name)
{
    size_t len = name != NULL ? strlen(name) : 0;

    if (len == 0 || len >= sizeof(self->protocol)) {
        return len == 0;
    }
    self->protocol[0] = (unsigned char)len;
    memcpy(self->protocol + 1, name, len);
    if (self->failure.server) {
        SSL_CTX_set_alpn_select_cb(self->context, choose_protocol, self);
        return true;
    }
    return SSL_CTX_set_alpn_protos(self->context, self->protocol, (unsigned)len + 1) == 0;
}

static bool
set_up_context(tls_stream *self, const char *protocol)
{
    bool server = self->failure.server;
    const char *certificate = gp_tls_certificate(self->tls);
    const char *roots = gp_tls_roots(self->tls);
    bool verify = !server || roots != NULL;

    self->context = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    if (self->context == NULL ||
        SSL_CTX_set_min_proto_version(self->context, TLS1_2_VERSION) != 1 ||
        (verify && !add_roots(self->context, roots)) ||
        (certificate != NULL &&
         !gp__pem_use_pair(self->context, gp_tls_private_key(self->tls), certificate)) ||
        !set_protocol(self, protocol)) {
        return false;
    }
    SSL_CTX_set_options(self->context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(self->context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(self->context, 0);
    SSL_CTX_set_mode(self->context,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (verify) {
        SSL_CTX_set_verify(self->context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                           gp__tls_failure_verify);
    }
    return true;
}

static bool
set_up(tls_stream *self, const char *protocol)
{
    if (!set_up_context(self, protocol) || (self->ssl = SSL_new(self->context)) == NULL) {
        return false;
    }
    self->in = BIO_new(BIO_s_mem());
    self->out = BIO_new(BIO_s_mem());
    if (self->in == NULL || self->out == NULL) {
        BIO_free(self->in);
        BIO_free(self->out);
        return false;
    }
    BIO_set_mem_eof_return(self->in, -1);
    SSL_set_bio(self->ssl, self->in, self->out);
    SSL_set_app_data(self->ssl, &self->failure);
    if (self->failure.server) {
        SSL_set_accept_state(self->ssl);
        return true;
    }
    SSL_set_connect_state(self->ssl);
    return set_name(self->ssl, gp_tls_server_name(self->tls));
}

/* ---- Faults ---------------------------------------------------------------------------------- */

/* Return why the stream is over. */
static int
repeat_fault(const tls_stream *self, gp_error *err)
{
    gp_error_set(err, self->fault.code, "%s", gp_error_message(&self->fault));
    if (self->fault.detail != NULL) {
        gp_error_set_detail(err, self->fault.detail, self->fault.detail_len);
    }
    return self->fault.code;
}

/* End the stream: OpenSSL's first error is |code|. Returns why, as all further calls do. */
static int
end_with_fault(tls_stream *self, unsigned long code)
{
    int rc = gp__tls_explain(&self->failure, code, &self->fault);

    ERR_clear_error();
    return rc;
}

/* ---- Moving bytes ---------------------------------------------------------------------------- */

static size_t
stored(const tls_stream *self)
{
    return BIO_ctrl_pending(self->out);
}

/*
 * Send what is stored. Returns 0 when nothing is left, GP__WOULD_BLOCK, or GP_ECLOSED when the
 * stream below takes nothing any more: why shows when it is read.
 */
static int
send_stored(tls_stream *self)
{
    unsigned char sent[4096];
    char *data;
    long len;

    while (!self->unsendable && (len = BIO_get_mem_data(self->out, &data)) > 0) {
        ptrdiff_t some = gp__stream_write(self->below, data, (size_t)len, NULL);

        if (some == GP__WOULD_BLOCK) {
            return GP__WOULD_BLOCK;
        }
        self->unsendable = some < 0;
        /* Reading from a memory BIO removes the bytes from it. */
        while (some > 0) {
            size_t part = (size_t)some < sizeof(sent) ? (size_t)some : sizeof(sent);

            BIO_read(self->out, sent, (int)part);
            some -= (ptrdiff_t)part;
        }
    }
    if (self->unsendable) {
        (void)BIO_reset(self->out);
        return GP_ECLOSED;
    }
    return gp__stream_flush(self->below, NULL) == GP__WOULD_BLOCK ? GP__WOULD_BLOCK : 0;
}

/*
 * Fetch more bytes from below. Returns how many; 0 when there will be no more; GP__WOULD_BLOCK; or
 * GP_ENOMEM.
 */
static int
fetch(tls_stream *self)
{
    unsigned char bytes[FETCH];
    ptrdiff_t got;

    if (self->failure.cut) {
        return 0;
    }
    if (stored(self) > STORED_MOST) {
        return GP__WOULD_BLOCK; /* the other side does not read our answers: make no new ones */
    }
    got = gp__stream_read(self->below, bytes, sizeof(bytes), NULL);
    if (got == GP__WOULD_BLOCK) {
        return GP__WOULD_BLOCK;
    }
    if (got <= 0) {
        self->failure.cut = true;
        return 0;
    }
    if (!self->heard) {
        self->heard = true;
        self->failure.plain = bytes[0] < FIRST_RECORD_KIND || bytes[0] > LAST_RECORD_KIND;
    }
    return BIO_write(self->in, bytes, (int)got) == got ? (int)got : GP_ENOMEM;
}

/*
 * Called when OpenSSL has returned |done|, which is no success. Sends the bytes that OpenSSL has
 * made. Returns 0 if OpenSSL waits for bytes from below; otherwise ends the stream with a fault,
 * and returns that.
 */
static int
after_step(tls_stream *self, int done)
{
    int why = SSL_get_error(self->ssl, done);
    unsigned long code = ERR_peek_error();

    send_stored(self);
    if (why == SSL_ERROR_WANT_READ && !self->failure.plain && !self->failure.cut) {
        return 0;
    }
    return end_with_fault(self, code);
}

/*
 * Advance the handshake, with what has come or, if |may_fetch|, with bytes from below. Returns as
 * gp__tls_stream_handshake(), with no error set.
 */
static int
advance(tls_stream *self, bool may_fetch)
{
    for (int fetches = 0; !self->done && self->fault.code == 0; fetches++) {
        int result;
        int rc;

        ERR_clear_error();
        result = SSL_do_handshake(self->ssl);
        if (result == 1) {
            self->done = true;
            self->failure.established = self->failure.server;
            send_stored(self);
        } else if ((rc = after_step(self, result)) < 0) {
            return rc;
        } else if (!may_fetch || fetches == FETCHES_MOST || (rc = fetch(self)) == GP__WOULD_BLOCK) {
            return GP__WOULD_BLOCK;
        } else if (rc < 0) {
            return end_with_fault(self, 0);
        }
    }
    return self->fault.code;
}

/* ---- The stream ------------------------------------------------------------------------------ */

/* Decrypt what has come, as far as |size| allows. Returns how much data, or a fault. */
static ptrdiff_t
decrypt(tls_stream *self, unsigned char *bytes, size_t size, bool *starved)
{
    size_t got = 0;

    *starved = false;
    while (got < size && !*starved && !self->ended) {
        size_t room = size - got < INT32_MAX ? size - got : INT32_MAX;
        int some;

        ERR_clear_error();
        some = SSL_read(self->ssl, bytes + got, (int)room);
        if (some > 0) {
            self->failure.established = true;
            got += (size_t)some;
        } else if (SSL_get_error(self->ssl, some) == SSL_ERROR_ZERO_RETURN) {
            self->ended = true;
        } else if (got > 0 && self->failure.cut &&
                   SSL_get_error(self->ssl, some) == SSL_ERROR_WANT_READ) {
            break; /* what came before the cut goes first */
        } else if (after_step(self, some) < 0) {
            return got > 0 ? (ptrdiff_t)got : self->fault.code;
        } else {
            *starved = true;
        }
    }
    return (ptrdiff_t)got;
}

static ptrdiff_t
tls_read(gp__stream *stream, void *bytes, size_t size, gp_error *err)
{
    tls_stream *self = from_base(stream);
    unsigned char *at = bytes;
    size_t got = 0;
    int fetched = FETCH;
    int rc = advance(self, true);

    if (rc == GP__WOULD_BLOCK) {
        return GP__WOULD_BLOCK;
    }
    send_stored(self);
    for (int i = 0; i < FETCHES_MOST && self->fault.code == 0 && !self->ended; i++) {
        bool starved;
        ptrdiff_t some = decrypt(self, at + got, size - got, &starved);

        got += some > 0 ? (size_t)some : 0;
        /* After a short read there is nothing more below. */
        if (!starved || (got > 0 && fetched < FETCH)) {
            break;
        }
        fetched = fetch(self);
        if (fetched == GP__WOULD_BLOCK) {
            break;
        }
        if (fetched == GP_ENOMEM) {
            end_with_fault(self, 0);
        }
    }
    if (got > 0 || self->ended) {
        return (ptrdiff_t)got;
    }
    return self->fault.code != 0 ? repeat_fault(self, err) : GP__WOULD_BLOCK;
}

static ptrdiff_t
tls_write(gp__stream *stream, const void *bytes, size_t len, gp_error *err)
{
    tls_stream *self = from_base(stream);
    const unsigned char *at = bytes;
    size_t taken = 0;
    int rc = self->shut ? GP_ECLOSED : advance(self, false);

    if (self->fault.code != 0) {
        return repeat_fault(self, err);
    }
    if (rc == 0) {
        rc = send_stored(self);
    }
    if (rc == GP_ECLOSED) {
        return gp_error_set(err, rc,
                            self->shut ? "this side has ended the connection"
                                       : "the other side has closed the connection");
    }
    if (rc < 0) {
        return rc;
    }
    while (taken < len && taken < WRITE_MOST) {
        size_t part = len - taken < WRITE_MOST - taken ? len - taken : WRITE_MOST - taken;
        int some;

        ERR_clear_error();
        some = SSL_write(self->ssl, at + taken, (int)part);
        if (some > 0) {
            taken += (size_t)some;
        } else if (taken > 0 || after_step(self, some) == 0) {
            break;
        } else {
            return repeat_fault(self, err);
        }
    }
    send_stored(self);
    return taken > 0 ? (ptrdiff_t)taken : GP__WOULD_BLOCK;
}

static int
tls_flush(gp__stream *stream, gp_error *err)
{
    tls_stream *self = from_base(stream);
    int rc = advance(self, false);

    if (self->fault.code != 0) {
        return repeat_fault(self, err);
    }
    if (rc == 0) {
        rc = send_stored(self);
    }
    return rc == GP_ECLOSED ? gp_error_set(err, rc, "the other side has closed the connection")
                            : rc;
}

static int
tls_shutdown(gp__stream *stream, gp_error *err)
{
    tls_stream *self = from_base(stream);
    int rc = advance(self, false);

    if (rc == 0 && !self->shut) {
        ERR_clear_error();
        if (SSL_shutdown(self->ssl) < 0) {
            end_with_fault(self, ERR_peek_error());
        } else {
            self->shut = true;
        }
    }
    return rc == GP__WOULD_BLOCK ? rc : tls_flush(stream, err);
}

static void
tls_free(tls_stream *self)
{
    SSL_free(self->ssl);
    SSL_CTX_free(self->context);
    gp__tls_failure_release(&self->failure);
    gp_error_release(&self->fault);
    gp_tls_unref(self->tls);
    gp__stream_close(self->below);
    gp__free(self);
    ERR_clear_error();
}

static void
tls_close(gp__stream *stream)
{
    tls_stream *self = from_base(stream);

    if (self->done && self->fault.code == 0) {
        tls_shutdown(stream, NULL);
    }
    tls_free(self);
}

static int
tls_fd(const gp__stream *stream)
{
    return gp__stream_fd(from_base(stream)->below);
}

static unsigned
tls_events(const gp__stream *stream, unsigned wanted)
{
    const tls_stream *self = from_base(stream);
    unsigned below = 0;

    if ((wanted & GP__STREAM_READ) != 0 || !self->done) {
        below |= stored(self) > STORED_MOST ? 0 : GP__STREAM_READ;
    }
    if (stored(self) > 0 || ((wanted & GP__STREAM_WRITE) != 0 && self->done)) {
        below |= GP__STREAM_WRITE;
    }
    return gp__stream_events(self->below, below);
}

static bool
tls_pending(const gp__stream *stream)
{
    const tls_stream *self = from_base(stream);

    return self->fault.code != 0 || self->ended || BIO_ctrl_pending(self->in) > 0 ||
           SSL_pending(self->ssl) > 0 || gp__stream_pending(self->below);
}

static const gp__stream_ops ops = {
    .read = tls_read,
    .write = tls_write,
    .flush = tls_flush,
    .shutdown = tls_shutdown,
    .close = tls_close,
    .fd = tls_fd,
    .events = tls_events,
    .pending = tls_pending,
};

int
gp__tls_stream_new(gp__stream **out, gp__stream *below, gp_tls *tls,
                   const gp__tls_stream_options *options, gp_error *err)
{
    tls_stream *self;
    int rc = gp__openssl_load(err);

    if (rc < 0) {
        gp__stream_close(below);
        return rc;
    }
    self = gp__calloc(1, sizeof(*self));
    if (self == NULL) {
        gp__stream_close(below);
        return gp_error_set(err, GP_ENOMEM, "out of memory for TLS");
    }
    self->base.ops = &ops;
    self->below = below;
    self->tls = gp_tls_ref(tls);
    self->failure.tls = tls;
    self->failure.server = options->server;
    self->failure.verdict = X509_V_OK;
    ERR_clear_error();
    if (options->server && gp_tls_certificate(tls) == NULL) {
        rc = gp_error_set(err, GP_EINVAL, "a server needs a certificate and its private key");
    } else if (!set_up(self, options->protocol)) {
        rc = gp__tls_explain_settings(&self->failure, ERR_peek_error(), err);
    }
    if (rc < 0) {
        tls_free(self);
        return rc;
    }
    *out = &self->base;
    return 0;
}

int
gp__tls_stream_handshake(gp__stream *stream, gp_error *err)
{
    tls_stream *self = from_base(stream);
    int rc = advance(self, true);

    return self->fault.code != 0 ? repeat_fault(self, err) : rc;
}

bool
gp__tls_stream_agreed(const gp__stream *stream)
{
    const tls_stream *self = from_base(stream);
    const unsigned char *chosen;
    unsigned len;

    SSL_get0_alpn_selected(self->ssl, &chosen, &len);
    return len > 0 && len == self->protocol[0] && memcmp(chosen, self->protocol + 1, len) == 0;
}
