/*
 * Layer: rpc. The receiving half of a call, the same on the client's and on the server's side.
 *
 * An inbox is part of a call. The call starts the inbox's batches, and has a reference to itself
 * while they are on the queue. An inbox has at most one receive under way. One thread at a time
 * receives; the polling thread completes the receive.
 *
 * Lock order: the call's lock, then gp__engine_lock.
 */
#ifndef GP_RPC_INBOX_H
#define GP_RPC_INBOX_H

#include <stdbool.h>

#include "gp/lock.h"
#include "gp/message.h"
#include "rpc/batch.h"
#include "rpc/grpc_symbols.h"
#include "rpc/poller.h"

/*
 *             start                     complete                     take
 *    (idle) ---------> (under way) ------------------> (arrived) --------------> (idle)
 *                            \                                                      /
 *                             '------- complete, and |then| is set: called --------'
 */
typedef struct gp__inbox {
    gp__event event;  /* its completion has to call gp__inbox_complete() */
    gp__gate arrived; /* open when |incoming| may be taken */
    void *call;       /* borrowed: the call that this is part of */
    gp__start_batch *start_batch;
    gp__poller *poller; /* borrowed: the call's */
    /* It is not idle. Used by the receiving thread; by the polling thread when it calls |then|. */
    bool receiving;
    grpc_byte_buffer *incoming; /* owned until taken; NULL: the end of the messages */

    gp_mutex *lock;                         /* borrowed: the call's */
    gp_received *then GP_GUARDED_BY(&lock); /* called in place of opening |arrived|; or NULL */
    void *ctx GP_GUARDED_BY(&lock);
} gp__inbox;

/* Storage is zeroed. */
void gp__inbox_init(gp__inbox *inbox, void *call, gp__start_batch *start_batch, gp__poller *poller,
                    gp_mutex *lock, void (*complete)(gp__event *event, bool ok));
void gp__inbox_release(gp__inbox *inbox);

/* The operation that receives one message into the inbox. */
grpc_op gp__inbox_op(gp__inbox *inbox);

/* Start to receive. If gRPC refuses, the end of the messages counts as arrived. */
void gp__inbox_start(gp__inbox *inbox);

/*
 * A receive is complete. Called on the polling thread. Returns whether |then| has been called, and
 * has taken what arrived.
 */
bool gp__inbox_complete(gp__inbox *inbox);

/* Take what has arrived; NULL: the end of the messages. */
gp_message *gp__inbox_take(gp__inbox *inbox);

/* Take what has arrived, if anything has. Returns whether that is so. */
bool gp__inbox_take_arrived(gp__inbox *inbox, gp_message **out);

/* Undo a take, before the next receive is started. */
void gp__inbox_put_back(gp__inbox *inbox, gp_message *message);

/* As gp_call_receive() and gp_call_receive_then(). */
int gp__inbox_receive(gp__inbox *inbox, gp_message **out, const gp_interrupt *interrupt);
int gp__inbox_receive_then(gp__inbox *inbox, gp_message **out, gp_received *then, void *ctx);

#endif
