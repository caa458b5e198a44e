/*
 * Layer: public. A gRPC server whose polling thread runs the handlers itself.
 *
 * One thread polls for all servers of the process, and for its calls. What a call needs from user
 * code runs right there, which costs no hand-over; when it takes longer than a tick (about half a
 * millisecond) another thread takes over the polling. At most |max_workers| of a server's handlers
 * run at once; further calls queue. Services written in C (gp__method) run on the polling thread
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
 * What the application does with calls. All of it runs on the core's threads, without locks held.
 */
typedef struct gp_server_handler {
    /*
     * A call came in. Look its method up and keep what was found in |*data|.
     * Returns: 1 to be run once the first message is there, 0 to be run now, or -1: UNIMPLEMENTED.
     */
    int (*begin)(void *ctx, gp_server_call *call, void **data);
    /* Answer the call; gp_server_call_finish() or gp_server_call_reply() must have been called. */
    void (*run)(void *ctx, gp_server_call *call, void *data);
    /* Nothing of the above and below will be called any more. */
    void (*release)(void *ctx);
    /*
     * Not NULL: instead of |begin|, for every call, on the polling thread. The application answers
     * it on a thread of its own and then hands it back; or it delegates it to |run|. Must not
     * block.
     */
    void (*take)(void *ctx, gp_server_call *call);
    /*
     * Not NULL: as many handlers run as may, |max_workers|, and a call waits. Not again before half
     * of them have returned. Called with locks held: it must not block, nor call the library.
     */
    void (*full)(void *ctx, int max_workers);
} gp_server_handler;

typedef struct gp_server_options {
    gp_server_handler handler;
    void *handler_ctx; /* owned once gp_server_new() has succeeded: see release */
    int max_workers;
    int max_concurrent; /* beyond it calls get RESOURCE_EXHAUSTED; 0: no limit */
    const gp_channel_arg *args;
    size_t args_count;
    /*
     * A server that is no plugin: begin with gRPC's own arguments, shared ports and its limit on
     * the size of messages, and leave the modes of unix sockets to the umask.
     */
    bool general;
} gp_server_options;

/*
 * Have |goodbye| called by each thread that may have run handlers, when it ends. Once, before all
 * else.
 */
void gp_server_on_thread_exit(void (*goodbye)(void));

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

/* Once. Returns: 0; GP_EINVAL after a start or a stop; GP_EOS. */
int gp_server_start(gp_server *server, gp_error *err);

/*
 * Stop taking calls; cancel those that are still running after |grace_ms| (0: at once; negative:
 * never). A second call can only shorten the time. Never blocks; safe in a handler.
 */
void gp_server_stop(gp_server *server, int64_t grace_ms);

/* Wait until the server has stopped. Returns 0, GP_ETIMEOUT or GP_EUSER. */
int gp_server_wait(gp_server *server, int64_t timeout_ms, const gp_interrupt *interrupt);

/*
 * Have |then| called once, on the polling thread, when the server has stopped; it must not block.
 * Before gp_server_start(), at most once.
 */
void gp_server_on_stopped(gp_server *server, void (*then)(void *ctx), void *ctx);

/* Whether gp_server_stop() has been called, by us or by the host's Shutdown. */
bool gp_server_stopping(gp_server *server);

/*
 * Wait until a server that was stopped is done: all handlers have returned, nothing is under way.
 * Returns: 0, GP_ETIMEOUT or GP_EUSER. Never from a handler.
 */
int gp_server_join(gp_server *server, int64_t timeout_ms, const gp_interrupt *interrupt);

/* Stop at once and let go. Never blocks: the memory goes with the last handler that returns. */
void gp_server_release(gp_server *server);

/* ---- One call, as its handler sees it. Receiving and sending: one thread at a time each. ---- */

gp_server_call *gp_server_call_ref(gp_server_call *call);
void gp_server_call_unref(gp_server_call *call);

gp_bytes gp_server_call_method(const gp_server_call *call);
gp_bytes gp_server_call_host(const gp_server_call *call);
gp_metadata gp_server_call_metadata(const gp_server_call *call);

/* Seconds left until the deadline, never negative; negative if there is none. */
double gp_server_call_time_remaining(const gp_server_call *call);

/* "unix:..." or "ipv4:..." of the client; may be NULL. Release with gp_server_call_free_peer. */
char *gp_server_call_peer(gp_server_call *call);
void gp_server_call_free_peer(char *peer);

/* Who the client is: a copy, to be freed; without properties when unknown. NULL: out of memory. */
gp_auth_context *gp_server_call_auth_context(gp_server_call *call);

/*
 * Receive one message. Blocks (polling meanwhile, if nobody else does).
 * Returns: 1 with |out| set, 0 at the end of the requests or when the call was cancelled, GP_EUSER.
 */
int gp_server_call_receive(gp_server_call *call, gp_message **out, const gp_interrupt *interrupt);

/* Returns 0, or GP_ECLOSED when they or a message have gone out before or the call is over. */
int gp_server_call_send_initial_metadata(gp_server_call *call, gp_metadata metadata);

/*
 * Compress the messages as GP_COMPRESS_* says. Has no effect once initial metadata have gone out.
 */
void gp_server_call_set_compression(gp_server_call *call, int algorithm);

/* Send the next message uncompressed, whatever the compression. */
void gp_server_call_skip_compression(gp_server_call *call);

/* Send one message of a stream; blocks while the previous one waits. 0, GP_ECLOSED or GP_EUSER. */
int gp_server_call_send(gp_server_call *call, gp_bytes message, const gp_interrupt *interrupt);

/*
 * The same without waiting.
 * Returns: 1 with |out| set (NULL: the end) when that is known at once, 0: |then| will be called.
 */
int gp_server_call_receive_then(gp_server_call *call, gp_message **out, gp_received *then,
                                void *ctx);

/* Undo a receive: the next one gives |message| again (NULL: the end). None is under way. */
void gp_server_call_put_back(gp_server_call *call, gp_message *message);

/*
 * |then| is called when the next message may be sent.
 * Returns: 0; GP_ECLOSED as the functions above, GP_EINVAL while a send is under way: no |then|.
 */
int gp_server_call_send_then(gp_server_call *call, gp_bytes message, gp_sent *then, void *ctx);
int gp_server_call_send_initial_metadata_then(gp_server_call *call, gp_metadata metadata,
                                              gp_sent *then, void *ctx);

/*
 * The same for who sends many: up to 64 KiB wait in the call to be sent.
 * Returns: 1: the next one may be sent at once, 0: when |then| is called; GP_ECLOSED, GP_EINVAL.
 */
int gp_server_call_post(gp_server_call *call, gp_bytes message, gp_sent *then, void *ctx);

/*
 * Returns: 1 when nothing waits to be sent, so that the call can be ended without blocking; 0:
 * |then| will be called when that is so.
 */
int gp_server_call_flush_then(gp_server_call *call, gp_sent *then, void *ctx);

/*
 * Have |then| called if the call ends before it is answered, on the polling thread; it must not
 * block. One at a time; NULL takes it back. Returns: 0, or GP_ECLOSED: too late, because the call
 * is over, or (for NULL) because |then| has been called or is about to be.
 */
int gp_server_call_on_cancel(gp_server_call *call, gp_then *then, void *ctx);

/*
 * While |run| has the call: its handler goes on elsewhere when that returns, until it is handed
 * back.
 */
void gp_server_call_keep(gp_server_call *call);

/*
 * A call that was taken (see |take|) or kept: its handler is done with it. Any thread; it has been
 * ended.
 */
void gp_server_call_hand_back(gp_server_call *call);

/*
 * A call that was taken: have |run| answer it with |data| after all, as soon as a worker is free,
 * and with |wants_message| not before its first message is there.
 */
void gp_server_call_delegate(gp_server_call *call, void *data, bool wants_message);

/* End the call. Only the first end counts. Never blocks for long. */
void gp_server_call_finish(gp_server_call *call, int code, gp_bytes details, gp_metadata trailing);

/* One message and the end in one go. */
void gp_server_call_reply(gp_server_call *call, gp_bytes message, int code, gp_bytes details,
                          gp_metadata trailing);

/* Cancel from the server's side: the client sees |code|. */
void gp_server_call_cancel(gp_server_call *call, int code, const char *details);

/* Whether the call is over for any reason: answered, cancelled, deadline, connection lost. */
bool gp_server_call_over(const gp_server_call *call);

/* Whether it ended before it was answered. */
bool gp_server_call_cancelled(const gp_server_call *call);

/*
 * Have |done| called once, when the call is over, on one of the core's threads, with no lock held;
 * it may block. At most one per call.
 * Returns 0, or GP_ECLOSED if the call is over already (|done| is not called then).
 */
int gp_server_call_on_finished(gp_server_call *call, void (*done)(void *ctx), void *ctx);

#endif
