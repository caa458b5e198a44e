/*
 * Layer: public. A gRPC server whose polling thread runs the handlers itself.
 *
 * One thread polls for all servers of the process, and for its calls. It runs the handler of a call
 * itself, which costs no hand-over; when the handler takes longer than a tick (about half a
 * millisecond), another thread takes over the polling. At most |max_workers| of a server's handlers
 * run at once; further calls wait. Services written in C (gp__method) run on the polling thread
 * whatever the handlers do.
 */
#ifndef GP_SERVER_H
#define GP_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "gp/channel.h"
#include "gp/credentials.h"
#include "gp/error.h"
#include "gp/message.h"
#include "gp/runtime.h"

typedef struct gp_server gp_server;
typedef struct gp_server_call gp_server_call;

/*
 * The application's callbacks. Unless a comment says otherwise, they run on the library's workers
 * with no lock held.
 */
typedef struct gp_server_handler {
    /*
     * A call has arrived. Look its method up, and store the result in |*data|.
     *
     * Returns: 1 to have |run| called once the first message has arrived, 0 to have it called now,
     * or -1 to end the call as UNIMPLEMENTED.
     */
    int (*begin)(void *ctx, gp_server_call *call, void **data);
    /*
     * Answer the call: end it by gp_server_call_finish() or gp_server_call_reply() before |run|
     * returns, or call gp_server_call_keep() and end it later.
     */
    void (*run)(void *ctx, gp_server_call *call, void *data);
    /* The server is gone: none of these functions will be called any more. */
    void (*release)(void *ctx);
    /*
     * May be NULL. Otherwise it is called in place of |begin|, for every call, on the polling
     * thread, and must not block. The application answers the call on a thread of its own and then
     * hands it back, or delegates it to |run|.
     */
    void (*take)(void *ctx, gp_server_call *call);
    /*
     * May be NULL. Otherwise it is called when |max_workers| handlers run and another call waits;
     * then not again before half of the handlers have returned. Called with locks held: it must not
     * block, nor call the library.
     */
    void (*full)(void *ctx, int max_workers);
} gp_server_handler;

typedef struct gp_server_options {
    gp_server_handler handler;
    void *handler_ctx; /* owned once gp_server_new() has succeeded, until |release| is called */
    int max_workers;
    int max_concurrent; /* further calls end as RESOURCE_EXHAUSTED; 0: no limit */
    const gp_channel_arg *args;
    size_t args_count;
    /*
     * The server is not a plugin: its arguments are gRPC's own by default (shared ports, gRPC's
     * limit on the size of messages), and the umask decides the modes of unix sockets.
     */
    bool general;
} gp_server_options;

/* Returns: 0, GP_ENOMEM, GP_EFORKED in a forked child, or GP_EOS. */
int gp_server_new(gp_server **out, const gp_server_options *options, gp_error *err);

/*
 * Add a listening address, before gp_server_start(). |bound_port| (may be NULL) is set to the port
 * that "host:0" was given. Returns: 0 or GP_EOS.
 */
int gp_server_listen(gp_server *server, const char *address, int *bound_port, gp_error *err);

/* Add a listening address with TLS. |credentials| are borrowed; NULL: no TLS. */
int gp_server_listen_secure(gp_server *server, const char *address,
                            const gp_server_credentials *credentials, int *bound_port,
                            gp_error *err);

/* Start to take calls. Returns: 0; GP_EINVAL after a start or a stop; GP_EOS. */
int gp_server_start(gp_server *server, gp_error *err);

/*
 * Stop taking calls, and cancel those that are still running after |grace_ms| (0: at once;
 * negative: never). A second stop can only shorten the time. Never blocks; safe in a handler.
 */
void gp_server_stop(gp_server *server, int64_t grace_ms);

/* Wait until the server has stopped. Returns: 0, GP_ETIMEOUT or GP_EUSER. */
int gp_server_wait(gp_server *server, int64_t timeout_ms, const gp_interrupt *interrupt);

/*
 * Have |then| called when the server has stopped, on the polling thread; it must not block. At most
 * once per server, before gp_server_start().
 */
void gp_server_on_stopped(gp_server *server, void (*then)(void *ctx), void *ctx);

/*
 * Whether gp_server_stop() has been called: by the application, or because the host has called
 * Shutdown.
 */
bool gp_server_stopping(gp_server *server);

/*
 * Wait until a server that was stopped has nothing left to do: all handlers have returned, and no
 * operation is under way. Must not be called in a handler. Returns: 0, GP_ETIMEOUT or GP_EUSER.
 */
int gp_server_join(gp_server *server, int64_t timeout_ms, const gp_interrupt *interrupt);

/* Stop the server at once, and have it freed once the last handler has returned. Never blocks. */
void gp_server_release(gp_server *server);

/* ---- One call, as its handler sees it. Receiving and sending: one thread at a time each. ---- */

gp_server_call *gp_server_call_ref(gp_server_call *call);
void gp_server_call_unref(gp_server_call *call);

gp_bytes gp_server_call_method(const gp_server_call *call);
gp_bytes gp_server_call_host(const gp_server_call *call);
gp_metadata gp_server_call_metadata(const gp_server_call *call);

/* Seconds left until the deadline, 0 when it has passed; negative if there is none. */
double gp_server_call_time_remaining(const gp_server_call *call);

/*
 * The client's address, "unix:..." or "ipv4:..."; may be NULL. Free it with
 * gp_server_call_free_peer().
 */
char *gp_server_call_peer(gp_server_call *call);
void gp_server_call_free_peer(char *peer);

/*
 * What TLS says about the client; no properties if there is no TLS. Owned by the caller. NULL when
 * memory is short.
 */
gp_auth_context *gp_server_call_auth_context(gp_server_call *call);

/*
 * Receive one message. Blocks, and polls meanwhile if no other thread does.
 * Returns: 1 with |out| set, 0 at the end of the requests or when the call was cancelled, GP_EUSER.
 */
int gp_server_call_receive(gp_server_call *call, gp_message **out, const gp_interrupt *interrupt);

/*
 * Take what has arrived already, such as the request that a handler has been begun for. Never
 * blocks. Returns: whether that is so, with |out| set, to NULL at the end of the requests or when
 * the call was cancelled. If not, gp_server_call_receive() is due.
 */
bool gp_server_call_take_arrived(gp_server_call *call, gp_message **out);

/*
 * Send the initial metadata. Returns: 0, or GP_ECLOSED if they or a message have been sent before,
 * or if the call is over.
 */
int gp_server_call_send_initial_metadata(gp_server_call *call, gp_metadata metadata);

/*
 * Compress messages by |algorithm|, GP_COMPRESS_*. No effect once the initial metadata have been
 * sent.
 */
void gp_server_call_set_compression(gp_server_call *call, int algorithm);

/* Send the next message uncompressed, even if the call's messages are compressed. */
void gp_server_call_skip_compression(gp_server_call *call);

/*
 * Send one message of a stream. Blocks while too much waits to be sent. Returns: 0, GP_ECLOSED or
 * GP_EUSER.
 */
int gp_server_call_send(gp_server_call *call, gp_bytes message, const gp_interrupt *interrupt);

/*
 * Receive without waiting.
 *
 * Returns: 1 with |out| set (NULL: the end of the requests) if that is known at once; 0 if |then|
 * will be called.
 */
int gp_server_call_receive_then(gp_server_call *call, gp_message **out, gp_received *then,
                                void *ctx);

/*
 * Undo a receive: the next one returns |message| (NULL: the end of the requests). To be called
 * while no receive is under way.
 */
void gp_server_call_put_back(gp_server_call *call, gp_message *message);

/*
 * Send without waiting. |then| is called when the next message may be sent.
 *
 * Returns: 0. Otherwise |then| is not called: GP_ECLOSED as the functions above, GP_EINVAL while a
 * send is under way.
 */
int gp_server_call_send_then(gp_server_call *call, gp_bytes message, gp_sent *then, void *ctx);
int gp_server_call_send_initial_metadata_then(gp_server_call *call, gp_metadata metadata,
                                              gp_sent *then, void *ctx);

/*
 * Queue a message without waiting. A call queues up to 64 KiB. Returns: 1 if the next message may
 * be queued at once; 0 if not before |then| is called; GP_ECLOSED when the call is over; GP_EINVAL
 * if |then| of an earlier message has not been called yet.
 */
int gp_server_call_post(gp_server_call *call, gp_bytes message, gp_sent *then, void *ctx);

/*
 * Returns: 1 if nothing waits to be sent, so that ending the call does not block; 0 if |then| will
 * be called when that is so.
 */
int gp_server_call_flush_then(gp_server_call *call, gp_sent *then, void *ctx);

/*
 * Have |then| called, on the polling thread, if the call ends before it is answered; |then| must
 * not block. A call has at most one such callback; NULL removes it. Returns: 0, or GP_ECLOSED if
 * the call is over or, for NULL, if the callback has been called or is about to be.
 */
int gp_server_call_on_cancel(gp_server_call *call, gp_then *then, void *ctx);

/*
 * Called in |run|: the application answers the call later, and then calls
 * gp_server_call_hand_back().
 */
void gp_server_call_keep(gp_server_call *call);

/*
 * The application is done with a call that it took (see |take|) or kept, and that it has ended.
 * Threads: any.
 */
void gp_server_call_hand_back(gp_server_call *call);

/*
 * Have |run| answer a call that was taken (see |take|), with |data|, as soon as a worker is free;
 * with |wants_message|, not before the call's first message has arrived.
 */
void gp_server_call_delegate(gp_server_call *call, void *data, bool wants_message);

/* End the call. No effect if it was ended before. Never blocks for long. */
void gp_server_call_finish(gp_server_call *call, int code, gp_bytes details, gp_metadata trailing);

/* Send one message, and end the call. */
void gp_server_call_reply(gp_server_call *call, gp_bytes message, int code, gp_bytes details,
                          gp_metadata trailing);

/* Cancel the call: the client sees |code|. */
void gp_server_call_cancel(gp_server_call *call, int code, const char *details);

/* Whether the call is over for any reason: answered, cancelled, deadline, connection lost. */
bool gp_server_call_over(const gp_server_call *call);

/* Whether the call ended before it was answered. */
bool gp_server_call_cancelled(const gp_server_call *call);

/*
 * Have |then| called once, when the call is over, on a worker, with no lock held; it may block. A
 * call has at most one such callback. Returns: 0, or GP_ECLOSED if the call is over already; then
 * |then| is not called.
 */
int gp_server_call_on_finished(gp_server_call *call, void (*then)(void *ctx), void *ctx);

#endif
