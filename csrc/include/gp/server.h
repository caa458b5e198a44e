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
 * What the application does with calls. Unless said otherwise it runs on the core's threads,
 * without locks held.
 */
typedef struct gp_server_handler {
    /*
     * A call has arrived. Look its method up and keep the result in |*data|.
     * Returns: 1 to have |run| called once the first message is there, 0 to have it called now, or
     * -1 to end the call as UNIMPLEMENTED.
     */
    int (*begin)(void *ctx, gp_server_call *call, void **data);
    /*
     * Answer the call: end it by gp_server_call_finish() or gp_server_call_reply(), before the
     * return unless gp_server_call_keep() has been called.
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
     * not again before half of them have returned. Called with locks held: it must not block, nor
     * call the library.
     */
    void (*full)(void *ctx, int max_workers);
} gp_server_handler;

typedef struct gp_server_options {
    gp_server_handler handler;
    void *handler_ctx; /* owned once gp_server_new() has succeeded: see release */
    int max_workers;
    int max_concurrent; /* further calls end as RESOURCE_EXHAUSTED; 0: no limit */
    const gp_channel_arg *args;
    size_t args_count;
    /*
     * The server is no plugin: its arguments are gRPC's own by default, with shared ports and
     * gRPC's limit on the size of messages, and the umask decides the modes of unix sockets.
     */
    bool general;
} gp_server_options;

/* Returns: 0, GP_ENOMEM, GP_EFORKED in a forked child, or GP_EOS. */
int gp_server_new(gp_server **out, const gp_server_options *options, gp_error *err);

/*
 * Add a listening address before the start. |bound_port| (may be NULL) is the port for "host:0".
 * Returns: 0 or GP_EOS.
 */
int gp_server_listen(gp_server *server, const char *address, int *bound_port, gp_error *err);

/* The same with TLS. |credentials| are borrowed; NULL: none. */
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

/* Whether gp_server_stop() has been called, by the application or for the host's Shutdown. */
bool gp_server_stopping(gp_server *server);

/*
 * Wait until a server that was stopped has nothing left to do: all handlers have returned, no
 * operation is under way. Not in a handler. Returns: 0, GP_ETIMEOUT or GP_EUSER.
 */
int gp_server_join(gp_server *server, int64_t timeout_ms, const gp_interrupt *interrupt);

/* Stop at once and free the server, once the last handler has returned. Never blocks. */
void gp_server_release(gp_server *server);

/* ---- One call, as its handler sees it. Receiving and sending: one thread at a time each. ---- */

gp_server_call *gp_server_call_ref(gp_server_call *call);
void gp_server_call_unref(gp_server_call *call);

gp_bytes gp_server_call_method(const gp_server_call *call);
gp_bytes gp_server_call_host(const gp_server_call *call);
gp_metadata gp_server_call_metadata(const gp_server_call *call);

/* Seconds left until the deadline, 0 when it has passed; negative if there is none. */
double gp_server_call_time_remaining(const gp_server_call *call);

/* The client's address, "unix:..." or "ipv4:..."; may be NULL. Free with the second one. */
char *gp_server_call_peer(gp_server_call *call);
void gp_server_call_free_peer(char *peer);

/* Who the client is, without properties if unknown. The caller's. NULL: out of memory. */
gp_auth_context *gp_server_call_auth_context(gp_server_call *call);

/*
 * Receive one message. Blocks, and polls meanwhile if no other thread does.
 * Returns: 1 with |out| set, 0 at the end of the requests or when the call was cancelled, GP_EUSER.
 */
int gp_server_call_receive(gp_server_call *call, gp_message **out, const gp_interrupt *interrupt);

/* Returns: 0, or GP_ECLOSED if they or a message have been sent before, or the call is over. */
int gp_server_call_send_initial_metadata(gp_server_call *call, gp_metadata metadata);

/* Compress messages by |algorithm|, GP_COMPRESS_*. No effect once initial metadata are sent. */
void gp_server_call_set_compression(gp_server_call *call, int algorithm);

/* Send the next message uncompressed, whatever the compression. */
void gp_server_call_skip_compression(gp_server_call *call);

/* Send one message of a stream. Blocks while too much waits to be sent. 0, GP_ECLOSED, GP_EUSER. */
int gp_server_call_send(gp_server_call *call, gp_bytes message, const gp_interrupt *interrupt);

/*
 * Receive without waiting.
 * Returns: 1 with |out| set (NULL: the end) when that is known at once, 0: |then| will be called.
 */
int gp_server_call_receive_then(gp_server_call *call, gp_message **out, gp_received *then,
                                void *ctx);

/* Undo a receive: the next one returns |message| (NULL: the end). No receive is under way. */
void gp_server_call_put_back(gp_server_call *call, gp_message *message);

/*
 * Send without waiting. |then| is called when the next message may be sent, unless this fails.
 * Returns: 0; GP_ECLOSED as the functions above; GP_EINVAL while a send is under way.
 */
int gp_server_call_send_then(gp_server_call *call, gp_bytes message, gp_sent *then, void *ctx);
int gp_server_call_send_initial_metadata_then(gp_server_call *call, gp_metadata metadata,
                                              gp_sent *then, void *ctx);

/*
 * Queue a message to be sent, without waiting: up to 64 KiB wait in the call. Returns: 1 if the
 * next one may be sent at once, 0 if not before |then| is called; GP_ECLOSED, GP_EINVAL.
 */
int gp_server_call_post(gp_server_call *call, gp_bytes message, gp_sent *then, void *ctx);

/*
 * Returns: 1 when nothing waits to be sent, so that the end of the call does not block; 0 if not,
 * and |then| will be called when that is so.
 */
int gp_server_call_flush_then(gp_server_call *call, gp_sent *then, void *ctx);

/*
 * Have |then| called, on the polling thread, if the call ends before it is answered; it must not
 * block. A call has one such callback; NULL removes it. Returns: 0, or GP_ECLOSED if the call is
 * over or, for NULL, if the callback has been called or is about to be.
 */
int gp_server_call_on_cancel(gp_server_call *call, gp_then *then, void *ctx);

/* In |run|: the call is answered on another thread after |run| returns, and handed back then. */
void gp_server_call_keep(gp_server_call *call);

/*
 * The application is done with a call that it took (see |take|) or kept, and has ended. Any thread.
 */
void gp_server_call_hand_back(gp_server_call *call);

/*
 * Have |run| answer a call that was taken, with |data|, as soon as a worker is free, and with
 * |wants_message| not before its first message is there.
 */
void gp_server_call_delegate(gp_server_call *call, void *data, bool wants_message);

/* End the call. Has no effect on one that was ended before. Never blocks for long. */
void gp_server_call_finish(gp_server_call *call, int code, gp_bytes details, gp_metadata trailing);

/* Send one message, and end the call. */
void gp_server_call_reply(gp_server_call *call, gp_bytes message, int code, gp_bytes details,
                          gp_metadata trailing);

/* Cancel the call: the client sees |code|. */
void gp_server_call_cancel(gp_server_call *call, int code, const char *details);

/* Whether the call is over for any reason: answered, cancelled, deadline, connection lost. */
bool gp_server_call_over(const gp_server_call *call);

/* Whether it ended before it was answered. */
bool gp_server_call_cancelled(const gp_server_call *call);

/*
 * Have |then| called once, when the call is over, on a worker, with no lock held; it may block. At
 * most one per call.
 * Returns: 0, or GP_ECLOSED if the call is over already, and |then| is not called.
 */
int gp_server_call_on_finished(gp_server_call *call, void (*then)(void *ctx), void *ctx);

#endif
