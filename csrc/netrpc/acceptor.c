#include "netrpc/acceptor.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "gp/runtime.h"
#include "os/fd.h"
#include "os/reactor.h"
#include "os/socket.h"
#include "tls/tls_stream.h"

enum {
    MOST_AT_ONCE = 64, /* connections that are accepted before other watches have their turn */
    PAUSE_MS = 50,     /* how long to wait when there are no descriptors */
};

struct gp__acceptor {
    int fd;      /* owned */
    gp_tls *tls; /* shared: ref; NULL: none */
    void (*accepted)(void *ctx, gp__stream *stream);
    void *ctx;
    gp__watch *watch;   /* owned; NULL: not started */
    gp__watch *pause;   /* owned; enabled while |paused|, and for a moment after its start */
    atomic_bool paused; /* accepting waits for descriptors */
};

/* ---- Accepting, on the reactor's thread ------------------------------------------------------ */

/* Make a stream of the connection |fd|, which is closed if this fails, and hand it over. */
static void
hand_over(gp__acceptor *acceptor, int fd)
{
    static const gp__tls_stream_options as_server = {.server = true};
    gp__stream *stream;

    gp__fd_prepare(fd);
    if (gp__stream_socket_new(&stream, fd, NULL) < 0) {
        return;
    }
    if (acceptor->tls != NULL &&
        gp__tls_stream_new(&stream, stream, acceptor->tls, &as_server, NULL) < 0) {
        return;
    }
    acceptor->accepted(acceptor->ctx, stream);
}

static void
accept_connections(void *ctx)
{
    gp__acceptor *acceptor = ctx;

    for (int i = 0; i < MOST_AT_ONCE; i++) {
        int fd = accept(acceptor->fd, NULL, NULL);

        if (fd >= 0) {
            hand_over(acceptor, fd);
        } else if (gp__fd_exhausted(errno)) {
            /* The socket stays readable: without a pause, the reactor would spin. */
            atomic_store(&acceptor->paused, true);
            gp__reactor_enable(acceptor->watch, false);
            gp__reactor_enable(acceptor->pause, true);
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
}

static void
end_pause(void *ctx)
{
    gp__acceptor *acceptor = ctx;

    if (atomic_exchange(&acceptor->paused, false)) {
        gp__reactor_enable(acceptor->pause, false);
        gp__reactor_enable(acceptor->watch, true);
    }
}

/* ---- For the owner --------------------------------------------------------------------------- */

int
gp__acceptor_open(gp__acceptor **out, const gp__acceptor_options *options, int *port, gp_error *err)
{
    gp__acceptor *acceptor;
    int rc;

    if (gp_runtime_init() < 0) {
        return gp_error_set(err, GP_EOS, "cannot install the fork guard");
    }
    if (gp_runtime_forked()) {
        return gp_runtime_refuse_fork(err);
    }
    if (options->tls != NULL && gp_tls_certificate(options->tls) == NULL) {
        return gp_error_set(err, GP_EINVAL, "a server with TLS needs a certificate and its key");
    }
    acceptor = gp__calloc(1, sizeof(*acceptor));
    if (acceptor == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a listening socket");
    }
    rc = gp__socket_listen(&acceptor->fd, options->network, options->address, port, err);
    if (rc < 0) {
        gp__free(acceptor);
        return rc;
    }
    acceptor->tls = options->tls != NULL ? gp_tls_ref(options->tls) : NULL;
    acceptor->accepted = options->accepted;
    acceptor->ctx = options->ctx;
    *out = acceptor;
    return 0;
}

int
gp__acceptor_start(gp__acceptor *acceptor, gp_error *err)
{
    int rc = gp__reactor_every(&acceptor->pause, PAUSE_MS, end_pause, acceptor, err);

    if (rc < 0) {
        return rc;
    }
    gp__reactor_enable(acceptor->pause, false);
    return gp__reactor_add(&acceptor->watch, acceptor->fd, accept_connections, acceptor, err);
}

void
gp__acceptor_close(gp__acceptor *acceptor)
{
    if (acceptor != NULL) {
        gp__reactor_remove(acceptor->watch);
        gp__reactor_remove(acceptor->pause);
        gp__fd_close(&acceptor->fd);
        gp_tls_unref(acceptor->tls);
        gp__free(acceptor);
    }
}
