/*
 * Layer: rpc. The two halves of a call, the same on either side: what is received and what is sent.
 *
 * Each half has one operation of gRPC's under way at most, and is used by one thread at a time; the
 * polling thread completes it. Both are part of a call, which starts their batches and keeps itself
 * alive while they are on the queue.
 *
 * Lock order: the call's lock, then the poller's.
 */
#ifndef GP_RPC_HALVES_H
#define GP_RPC_HALVES_H

#include <grpc/grpc.h>

#include "gp/lock.h"
#include "gp/message.h"
#include "rpc/poller.h"

/* Start a batch of |call|, which holds a reference until |event| is complete. 0 or GP_EINVAL. */
typedef int gp__start_batch(void *call, const grpc_op *ops, size_t count, gp__event *event);

/*
 *             start                     complete                     take
 *    (idle) ---------> (under way) ------------------> (there) ----------------> (idle)
 *                            \                                                      /
 *                             '---- complete, and |then| is set: it is told -------'
 */
typedef struct gp__inbox {
    gp__event event; /* its completion ends with gp__inbox_complete() */
    gp__gate there;  /* open when |incoming| is there to be taken */
    void *call;      /* borrowed: what this is part of */
    gp__start_batch *start_batch;
    gp__poller *poller;         /* borrowed: the call's */
    gp_mutex *lock;             /* borrowed: the call's; guards |then| */
    bool receiving;             /* a receive is under way, or its result not yet taken */
    grpc_byte_buffer *incoming; /* owned until taken */
    gp_received *then;
    void *ctx;
} gp__inbox;

/* What may wait to be sent: so many messages, or one that begins below so many bytes. */
enum { GP__OUTBOX_MESSAGES = 32, GP__OUTBOX_BYTES = 65536 };

/* What became of a send that does not wait. Negative: GP_E*. */
typedef enum gp__posted {
    GP__POSTED_FULL,  /* it is queued, and |then| will be called when the next may be sent */
    GP__POSTED,       /* it is queued, and the next may be sent */
    GP__POSTED_TAKEN, /* the place is taken for it, and the next may be sent once it is started */
} gp__posted;

/*
 *                take                       start
 *    (free) -------------> (taken) -----------------------> (under way) <--.
 *       ^                     |                                  |   |     | complete,
 *       '------- yield -------'------------ complete ------------'   '-----' one is queued
 *
 * gRPC completes a send when its bytes have been written. While the other side does not read that
 * takes for ever, whatever becomes of the call meanwhile: so the end of the call ends all waiting
 * here by itself (gp__outbox_end), and the send that is under way is freed when the connection
 * ends.
 *
 * While another thread polls, whose part it is to complete a send, messages are queued: that thread
 * sends them one after the other, and the sender need not sleep and be woken for each.
 */
typedef struct gp__outbox {
    gp__event event; /* its completion ends with gp__outbox_complete() */
    gp__gate free;
    void *call; /* borrowed: what this is part of */
    gp__start_batch *start_batch;
    gp__poller *poller;         /* borrowed: the call's */
    grpc_byte_buffer *outgoing; /* owned: what is being sent */
    gp_sent *then;              /* NULL if nobody wants to know */
    void *ctx;

    gp_mutex *lock; /* borrowed: the call's; guards what follows */
    gp__gate room;  /* open unless the queue is full */
    struct {
        grpc_byte_buffer *message; /* owned */
        uint32_t flags;
    } queue[GP__OUTBOX_MESSAGES]; /* a ring. Its messages are urgent business of the poller's */
    unsigned first;
    unsigned count;
    size_t bytes;
    gp_sent *on_room; /* as |room|, for who does not wait; told false when the call is over */
    void *on_room_ctx;
    bool over; /* the call is: nothing is taken any more, whatever is still under way */
    bool told; /* |then| has been told so, perhaps before its send was started */
} gp__outbox;

/* Storage is zeroed. */
void gp__inbox_init(gp__inbox *inbox, void *call, gp__start_batch *start_batch, gp__poller *poller,
                    gp_mutex *lock, void (*complete)(gp__event *event, bool ok));
void gp__inbox_release(gp__inbox *inbox);

/* The operation that receives one message into the inbox. */
grpc_op gp__inbox_op(gp__inbox *inbox);

/* Start to receive. If gRPC refuses, the end of the messages is there. */
void gp__inbox_start(gp__inbox *inbox);

/* On the polling thread. Returns whether somebody was told, so that there is nothing to take. */
bool gp__inbox_complete(gp__inbox *inbox);

/* What is there; NULL: the end. */
gp_message *gp__inbox_take(gp__inbox *inbox);

/* Undo a take. Nothing is under way. */
void gp__inbox_put_back(gp__inbox *inbox, gp_message *message);

/* As gp_call_receive() and gp_call_receive_then(). */
int gp__inbox_receive(gp__inbox *inbox, gp_message **out, const gp_interrupt *interrupt);
int gp__inbox_receive_then(gp__inbox *inbox, gp_message **out, gp_received *then, void *ctx);

void gp__outbox_init(gp__outbox *outbox, void *call, gp__start_batch *start_batch,
                     gp__poller *poller, gp_mutex *lock,
                     void (*complete)(gp__event *event, bool ok));
void gp__outbox_release(gp__outbox *outbox);

/* Wait until everything has been sent, and take the place. Returns: 0, GP_ECLOSED or GP_EUSER. */
int gp__outbox_take(gp__outbox *outbox, const gp_interrupt *interrupt);

/*
 * Have a copy of |message| sent, or take the place for it, whichever is possible first.
 * Returns: 1: it is queued, 0: the place is taken, GP_ECLOSED or GP_EUSER.
 */
int gp__outbox_queue(gp__outbox *outbox, gp_bytes message, uint32_t flags,
                     const gp_interrupt *interrupt);

/*
 * Take the place without waiting, with |then| to be called when it is free again. Returns: 0,
 * GP_ECLOSED, or GP_EINVAL while a send is under way.
 */
int gp__outbox_take_then(gp__outbox *outbox, gp_sent *then, void *ctx);

/*
 * Have a copy of |message| sent, or if it is NULL the end of the messages, without waiting.
 * GP_EINVAL: the next may not be sent yet. GP_ECLOSED: the call is over.
 */
int gp__outbox_post(gp__outbox *outbox, const gp_bytes *message, uint32_t flags, gp_sent *then,
                    void *ctx);

/* Returns: 1: everything has been sent, 0: |then| will be called when it has. */
int gp__outbox_flush_then(gp__outbox *outbox, gp_sent *then, void *ctx);

/*
 * Give the place back without having sent anything. Returns GP_ECLOSED; or 0 if |then| has been
 * told of the end meanwhile, as it is when a send was started in vain.
 */
int gp__outbox_yield(gp__outbox *outbox);

/* With the place taken: the operation that sends a copy of |message|. */
grpc_op gp__outbox_op(gp__outbox *outbox, gp_bytes message, uint32_t flags);

/* With the place taken: send. Returns: 0, or as gp__outbox_yield() with the place given back. */
int gp__outbox_start(gp__outbox *outbox, const grpc_op *ops, size_t count);

/*
 * On the polling thread: send what is queued next; or free the place and tell who wanted to know.
 */
void gp__outbox_complete(gp__outbox *outbox, bool ok);

/* The call is over: drop what is queued, wake who waits, tell who wanted to know. No lock held. */
void gp__outbox_end(gp__outbox *outbox);

#endif
