/*
 * Layer: public. The client's side of one RPC.
 *
 * A call is shared by reference. The user of its iterator, the thread that sends its requests, and
 * each operation under way hold a reference.
 *
 * Threads: any. One thread at a time may send, and one at a time receive. gp_call_cancel() and the
 * getters may be called by any number of threads at any time.
 */
#ifndef GP_CALL_H
#define GP_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "gp/channel.h"
#include "gp/credentials.h"
#include "gp/error.h"
#include "gp/message.h"
#include "gp/runtime.h"

typedef struct gp_call gp_call;

enum {
    GP_CALL_WAIT_FOR_READY = 1 << 0,    /* wait for a connection instead of failing */
    GP_CALL_NO_WAIT_FOR_READY = 1 << 1, /* fail at once, whatever the channel's default is */
    GP_CALL_EARLY_METADATA = 1 << 2, /* unary: initial metadata may be asked for before the reply */
    GP_CALL_ONE_REPLY = 1 << 3, /* stream: there is one reply; gp_call_take_reply() returns it */
};

typedef struct gp_call_options {
    gp_bytes method; /* "/package.Service/Method" */
    gp_metadata metadata;
    int64_t timeout_ns; /* negative: none */
    unsigned flags;
    int compression;
    const gp_call_credentials *credentials; /* borrowed; NULL: none besides the channel's */
} gp_call_options;

/* How a call ended. Lives as long as the call. */
typedef struct gp_call_status {
    int code; /* gRPC status code */
    gp_bytes details;
    const char *debug; /* gRPC's own account of the failure; may be NULL */
    gp_metadata trailing;
} gp_call_status;

/*
 * Start a unary call: one request, one reply. Never blocks.
 *
 * The bytes are copied. Once gp_call_wait() has returned 0, and if the status is OK,
 * gp_call_take_reply() returns the reply.
 */
int gp_call_start_unary(gp_call **out, gp_channel *channel, const gp_call_options *options,
                        gp_bytes request, gp_error *err);

/*
 * Start a call whose requests, replies or both are streams. Never blocks.
 *
 * |request| is the request of a call that takes only one; NULL if requests are sent later.
 */
int gp_call_start_stream(gp_call **out, gp_channel *channel, const gp_call_options *options,
                         const gp_bytes *request, gp_error *err);

gp_call *gp_call_ref(gp_call *call);

/* Give a reference back. The last one cancels a call that is still running. */
void gp_call_unref(gp_call *call);

/*
 * Take a reference that keeps the memory but does not keep the call running: the call is cancelled
 * when the last reference of the other kind (gp_call_ref()) has been given back. For a thread that
 * sends requests in the background.
 */
gp_call *gp_call_hold(gp_call *call);
void gp_call_release(gp_call *call);

/*
 * Wait until the call has its status.
 *
 * Returns: 0, GP_ETIMEOUT or GP_EUSER; the call goes on in the last two cases.
 */
int gp_call_wait(gp_call *call, int64_t timeout_ns, const gp_interrupt *interrupt);

/*
 * Take the reply of a call that has its status. Returns NULL if there is none, or it was taken
 * before. Owned by the caller.
 */
gp_message *gp_call_take_reply(gp_call *call);

/*
 * Send one message of a stream. Blocks while an earlier message waits for flow control.
 *
 * Returns: 0, GP_ECLOSED when the call has ended (its status says why), or GP_EUSER.
 */
int gp_call_send(gp_call *call, gp_bytes message, const gp_interrupt *interrupt);

/* Say that no more messages follow. Returns as gp_call_send. */
int gp_call_send_close(gp_call *call, const gp_interrupt *interrupt);

/*
 * Receive one message of a stream.
 *
 * Returns: 1 with |out| set, 0 at the end of the stream (the status follows), or GP_EUSER.
 */
int gp_call_receive(gp_call *call, gp_message **out, const gp_interrupt *interrupt);

/*
 * Receive without waiting. The call needs gp_call_attend(), unless a thread is sure to poll.
 *
 * Returns: 1 with |out| set (NULL: the end of the stream) if that is known at once; 0 if |then|
 * will be called.
 */
int gp_call_receive_then(gp_call *call, gp_message **out, gp_received *then, void *ctx);

/*
 * Send |message|, or the end of the messages if it is NULL, without waiting. |then| is called when
 * the next message may be sent.
 *
 * Returns: 0. Otherwise |then| is not called: GP_ECLOSED when the call has ended, GP_EINVAL while a
 * send is under way.
 */
int gp_call_send_then(gp_call *call, const gp_bytes *message, gp_sent *then, void *ctx);

/*
 * Queue |message|, or the end of the messages if it is NULL, without waiting. A call queues up to
 * 64 KiB.
 *
 * Returns: 1 if the next message may be queued at once; 0 if not before |then| is called;
 * GP_ECLOSED when the call has ended; GP_EINVAL if |then| of an earlier message has not been called
 * yet.
 */
int gp_call_post(gp_call *call, const gp_bytes *message, gp_sent *then, void *ctx);

/*
 * Returns: 1 if gp_call_initial_metadata() would not wait; 0 if |then| will be called when that is
 * so.
 */
int gp_call_initial_metadata_then(gp_call *call, gp_then *then, void *ctx);

/* Wait for the initial metadata. Returns 0 or GP_EUSER. |out| is empty if none came. */
int gp_call_initial_metadata(gp_call *call, gp_metadata *out, const gp_interrupt *interrupt);

/* End the call with |code| and |details| as its status, unless it has ended. */
void gp_call_cancel(gp_call *call, int code, const char *details);

/* Whether the call has its status. */
bool gp_call_done(const gp_call *call);

/* The status; NULL while the call does not have it. Borrowed from the call. */
const gp_call_status *gp_call_get_status(const gp_call *call);

/*
 * Whether the end of the plugin's process has ended the call. Then |exit_status| is set as by
 * gp_client_exit_status(), and |stderr_tail| to the last of what the process has written to stderr.
 */
enum { GP_CALL_STDERR = 4096 + 1 };
bool gp_call_cut_off(const gp_call *call, int *exit_status, char stderr_tail[GP_CALL_STDERR]);

/* Seconds left until the deadline, 0 when it has passed; negative if there is none. */
double gp_call_time_remaining(const gp_call *call);

/*
 * The address of the server, "unix:..." or "ipv4:..."; may be NULL. Free it with
 * gp_call_free_peer().
 */
char *gp_call_peer(gp_call *call);
void gp_call_free_peer(char *peer);

/*
 * Until the call ends, have the backup poller poll for it whenever no other thread polls. A call
 * with callbacks needs this, and a unary call that no thread waits for; a stream that a thread
 * reads does not.
 */
void gp_call_attend(gp_call *call);

/*
 * Have |done| called once when the call has its status, on the polling thread and with no lock
 * held; or on this thread if the call has it already. |done| must not block. A call has at most one
 * such callback. Implies gp_call_attend().
 */
void gp_call_on_done(gp_call *call, void (*done)(void *ctx), void *ctx);

#endif
