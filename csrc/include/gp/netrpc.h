/*
 * Layer: public. net/rpc as Go's package of that name speaks it: calls by name over one stream of
 * bytes, with arguments and replies in gob. Go's texts of errors are kept.
 *
 * Here arguments and replies are encoded values (gp/gob.h). The glue makes and reads them, with the
 * GIL held.
 */
#ifndef GP_NETRPC_H
#define GP_NETRPC_H

#include <stdbool.h>
#include <stdint.h>

#include "gp/error.h"
#include "gp/gob.h"
#include "gp/message.h"
#include "gp/runtime.h"
#include "gp/tls.h"

/* ---- Clients --------------------------------------------------------------------------------- */

/*
 * The calling side of one stream. Shared by reference. Threads: any, and any number of calls at
 * once.
 */
typedef struct gp_netrpc_client gp_netrpc_client;

/*
 * Connect to a server that speaks net/rpc over a connection of its own. |network| is "unix" or
 * "tcp". A reference is taken of |tls| (NULL: none). |limits| (NULL: defaults) are for replies.
 * Blocks until |deadline| at most, including the TLS handshake.
 *
 * Returns: 0, GP_EOS (no connection can be made), GP_EINVAL (the address means nothing),
 * GP_ETIMEOUT, GP_ETLS, GP_EUSER, GP_ENOMEM or GP_EFORKED.
 */
int gp_netrpc_connect(gp_netrpc_client **out, const char *network, const char *address, gp_tls *tls,
                      const gp_gob_limits *limits, int64_t deadline, const gp_interrupt *interrupt,
                      gp_error *err);

gp_netrpc_client *gp_netrpc_client_ref(gp_netrpc_client *client);

/* The last reference closes the client. NULL is fine. */
void gp_netrpc_client_unref(gp_netrpc_client *client);

/* End the stream. Calls in flight, and later ones, fail with GP_ECLOSED. Idempotent. */
void gp_netrpc_client_close(gp_netrpc_client *client);

/* Whether the stream has ended, for whatever reason. */
bool gp_netrpc_client_closed(gp_netrpc_client *client);

/* Decodes the replies. Borrowed: it lives as long as the client. */
gp_gob_decoder *gp_netrpc_client_decoder(const gp_netrpc_client *client);

/*
 * Call |method| ("Service.Method") and wait for the answer. |args| stays the caller's. On success,
 * |reply| is the caller's, to be decoded by the client's decoder and released.
 *
 * Returns: 0; GP_ESERVER when the server has answered with an error, whose text is the error's
 * detail; GP_ECLOSED when the stream has ended; GP_ETIMEOUT at |deadline|; GP_EUSER; GP_ENOMEM; or
 * GP_EFORKED. After GP_ETIMEOUT and GP_EUSER the answer is dropped when it comes.
 */
int gp_netrpc_call(gp_netrpc_client *client, gp_bytes method, gp_gob_output *args, int64_t deadline,
                   const gp_interrupt *interrupt, gp_gob_message *reply, gp_error *err);

/* A call that was started without waiting for its answer. Shared by reference. Threads: any. */
typedef struct gp_netrpc_pending gp_netrpc_pending;

/*
 * Start a call. |args| is taken over, also when this fails. |done|(|ctx|) is called once, unless
 * the call is cancelled, when there is an answer or there will be none: on a thread that must not
 * block or enter Python, with no lock held. |*out| is set before that.
 *
 * Returns: 0; otherwise as gp_netrpc_call(), and |done| is not called.
 */
int gp_netrpc_start(gp_netrpc_pending **out, gp_netrpc_client *client, gp_bytes method,
                    gp_gob_output *args, gp_then *done, void *ctx, gp_error *err);

gp_netrpc_pending *gp_netrpc_pending_ref(gp_netrpc_pending *pending);

/* The call goes on without references. NULL is fine. */
void gp_netrpc_pending_unref(gp_netrpc_pending *pending);

/* Wait until the call is over. Returns: 0, GP_ETIMEOUT or GP_EUSER; then the call goes on. */
int gp_netrpc_pending_wait(gp_netrpc_pending *pending, int64_t deadline,
                           const gp_interrupt *interrupt);

/* Whether the call is over: answered, failed or cancelled. */
bool gp_netrpc_pending_over(gp_netrpc_pending *pending);

/*
 * Give the call up: |done| will not be called, and the answer is dropped when it comes. Returns
 * false if the call is over.
 */
bool gp_netrpc_pending_cancel(gp_netrpc_pending *pending);

/*
 * The result of a call that is over. |*reply| is borrowed from |pending|.
 *
 * Returns: 0, GP_ESERVER or GP_ECLOSED as gp_netrpc_call(); GP_EUSER when it was cancelled.
 */
int gp_netrpc_pending_result(gp_netrpc_pending *pending, const gp_gob_message **reply,
                             gp_error *err);

/* ---- Servers --------------------------------------------------------------------------------- */

/*
 * One request, from its arrival until it is answered. It is answered by gp_netrpc_request_reply()
 * or gp_netrpc_request_fail(), once, on any thread, also after its handler has returned. If the
 * stream has ended meanwhile, the answer is dropped.
 */
typedef struct gp_netrpc_request gp_netrpc_request;

/* The argument. Borrowed: until the request is answered. */
const gp_gob_message *gp_netrpc_request_args(const gp_netrpc_request *request);

/* Decodes the argument. Borrowed: until the request is answered. */
gp_gob_decoder *gp_netrpc_request_decoder(const gp_netrpc_request *request);

/* Answer with |reply|, which stays the caller's, and free the request. Never blocks. */
void gp_netrpc_request_reply(gp_netrpc_request *request, gp_gob_output *reply);

/*
 * Answer with an error and free the request. Never blocks. "error" is sent for an empty |text|,
 * which would mean success.
 */
void gp_netrpc_request_fail(gp_netrpc_request *request, gp_bytes text);

typedef struct gp_netrpc_method {
    const char *name; /* as on the wire, without the service's */
    /* Answer |request|, now or later. No lock is held. |ctx| is that of the services. */
    void (*handle)(void *ctx, void *data, gp_netrpc_request *request);
    void *data; /* for |handle| */
    /*
     * |handle| is called on the thread that has read the request, and must not block or enter
     * Python. Otherwise it is called on a worker.
     */
    bool quick;
} gp_netrpc_method;

typedef struct gp_netrpc_service {
    const char *name;
    const gp_netrpc_method *methods;
    size_t count;
} gp_netrpc_service;

/* What one or more servers serve. Shared by reference; it does not change. */
typedef struct gp_netrpc_services gp_netrpc_services;

/*
 * All names are copied. |release|(|ctx|) (may be NULL) is called when the last reference has gone,
 * on any thread, with no lock held. Returns 0 or GP_ENOMEM; then |release| is not called.
 */
int gp_netrpc_services_new(gp_netrpc_services **out, const gp_netrpc_service *services,
                           size_t count, void *ctx, void (*release)(void *ctx), gp_error *err);
gp_netrpc_services *gp_netrpc_services_ref(gp_netrpc_services *services);
void gp_netrpc_services_unref(gp_netrpc_services *services);

typedef struct gp_netrpc_server_options {
    int max_workers;             /* handlers that run at once; 0: 1000 */
    const gp_gob_limits *limits; /* for arguments; NULL: defaults */
} gp_netrpc_server_options;

/* The answering side of one stream. Shared by reference. Threads: any. */
typedef struct gp_netrpc_server gp_netrpc_server;

gp_netrpc_server *gp_netrpc_server_ref(gp_netrpc_server *server);

/* The server goes on without references, until its stream ends. NULL is fine. */
void gp_netrpc_server_unref(gp_netrpc_server *server);

/* End the stream. No handler is started any more; the answers of those that run are dropped. */
void gp_netrpc_server_close(gp_netrpc_server *server);

/*
 * Wait until the stream has ended and no handler runs. Returns: 0, GP_ETIMEOUT at |deadline|, or
 * GP_EUSER.
 */
int gp_netrpc_server_wait(gp_netrpc_server *server, int64_t deadline,
                          const gp_interrupt *interrupt);

/* ---- Listeners ------------------------------------------------------------------------------- */

/* A listening socket, each connection of which is served by itself. Threads: any. */
typedef struct gp_netrpc_listener gp_netrpc_listener;

/*
 * Listen, and serve |services|, of which a reference is taken. |network| is "unix" or "tcp"; the
 * port of |address| may be 0. |*port| (may be NULL) is the port of "tcp". A reference is taken of
 * |tls| (NULL: none).
 *
 * Returns: 0, GP_EOS, GP_EINVAL, GP_ENOMEM or GP_EFORKED.
 */
int gp_netrpc_listen(gp_netrpc_listener **out, const char *network, const char *address,
                     gp_tls *tls, gp_netrpc_services *services,
                     const gp_netrpc_server_options *options, int *port, gp_error *err);

/* Close the socket and end all connections. A unix socket is removed. Idempotent. */
void gp_netrpc_listener_close(gp_netrpc_listener *listener);

/*
 * Wait until the listener is closed and no handler runs. Returns as gp_netrpc_server_wait().
 */
int gp_netrpc_listener_wait(gp_netrpc_listener *listener, int64_t deadline,
                            const gp_interrupt *interrupt);

/* Close and free. NULL is fine. */
void gp_netrpc_listener_free(gp_netrpc_listener *listener);

/* ---- The process ----------------------------------------------------------------------------- */

/*
 * Have |then| called on each worker before it ends. Set once, before there is a worker.
 */
void gp_netrpc_on_worker_exit(void (*then)(void));

/*
 * End the workers, which run handlers, for the end of the process: no others are started after
 * this. Returns: 0, or GP_ETIMEOUT if one has not ended after |patience_ms|; it is left behind.
 */
int gp_netrpc_shutdown(int64_t patience_ms);

#endif
