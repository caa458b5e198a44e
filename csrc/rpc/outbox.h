/*
 * Layer: rpc. The sending half of a call, the same on the client's and on the server's side.
 *
 * An outbox is part of a call. The call starts the outbox's batches, and has a reference to itself
 * while they are on the queue. An outbox has at most one send under way. One thread at a time
 * sends; the polling thread completes the send.
 *
 * Lock order: the call's lock, then gp__engine_lock.
 */
#ifndef GP_RPC_OUTBOX_H
#define GP_RPC_OUTBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "gp/lock.h"
#include "gp/message.h"
#include "rpc/batch.h"
#include "rpc/grpc_symbols.h"
#include "rpc/poller.h"

/* The queue is full when it has this many messages, or at least this many bytes. */
enum { GP__OUTBOX_MESSAGES = 32, GP__OUTBOX_BYTES = 65536 };

/* Messages are held no longer when there are so many bytes. */
enum { GP__OUTBOX_HELD_BYTES = 16384 };

/* What is done with the messages in the queue. */
typedef enum gp__holding {
    GP__NOT_HOLDING,       /* the polling thread sends them */
    GP__HOLDING_IDLE,      /* they are held; no send is under way */
    GP__HOLDING_UNDER_WAY, /* they are held; a send is under way, whose completion sends them */
} gp__holding;

/* What gp__outbox_post() has done with a message. Negative: GP_E*. */
typedef enum gp__posted {
    GP__POSTED_FULL,     /* queued; |then| will be called when the next message may be sent */
    GP__POSTED,          /* queued; the next message may be sent */
    GP__POSTED_ACQUIRED, /* the outbox is acquired for it; the next may be sent once it starts */
} gp__posted;

/*
 *                acquire                    start
 *    (idle) -------------> (acquired) --------------------> (under way) <--.
 *       ^                     |                                  |   |     | complete, and a
 *       '------ abandon ------'------------ complete ------------'   '-----' message is queued
 *
 * gRPC completes a send when its bytes have been written. While the peer does not read, that takes
 * forever, even after the call has ended. So the end of the call ends all waiting here by itself
 * (gp__outbox_end), and the send that is under way is freed when the connection ends.
 *
 * While another thread polls and would have to complete each send, messages are queued: the polling
 * thread sends them one after the other, and the sender need not sleep and be woken for each.
 *
 * A message that follows others within microseconds is held: it is queued, and goes out with the
 * next ones by one write, which costs more than all else that is done for a small message. The
 * sender sends what is held when it is enough, or old, or when it sends something else or receives;
 * a worker does if the sender does nothing of that. The first messages of a burst are never held.
 */
typedef struct gp__outbox {
    gp__event event; /* its completion has to call gp__outbox_complete() */
    gp__gate idle;   /* open in the idle state, and after the end of the call */
    gp__gate room;   /* open unless the queue is full */
    void *call;      /* borrowed: the call that this is part of */
    const gp__sending_call *ops;
    gp__poller *poller;       /* borrowed: the call's */
    grpc_byte_buffer *buffer; /* owned: the message that is being sent */

    gp_mutex *lock;                     /* borrowed: the call's */
    gp_sent *then GP_GUARDED_BY(&lock); /* called when the send is complete; or NULL */
    void *ctx GP_GUARDED_BY(&lock);
    /*
     * The queue of outgoing messages, a ring. While it is neither empty nor held it counts as
     * urgent in the poller. Two arrays take less memory than one of structs, and so calls stay below the 1032
     * bytes up to which glibc allocates by its fast path.
     */
    grpc_byte_buffer *queue[GP__OUTBOX_MESSAGES] GP_GUARDED_BY(&lock); /* owned; NULL: the end */
    uint8_t flags[GP__OUTBOX_MESSAGES] GP_GUARDED_BY(&lock);           /* GRPC_WRITE_* */
    unsigned first GP_GUARDED_BY(&lock);
    unsigned count GP_GUARDED_BY(&lock);
    size_t bytes GP_GUARDED_BY(&lock);
    gp__hold hold;                       /* the poller's, while messages are held */
    int64_t last GP_GUARDED_BY(&lock);   /* when the last message was to be sent */
    int64_t oldest GP_GUARDED_BY(&lock); /* when the first of the held messages was to be sent */
    unsigned quick GP_GUARDED_BY(&lock); /* messages that followed the one before at once */
    gp__holding holding GP_GUARDED_BY(&lock);
    gp_sent *on_room GP_GUARDED_BY(&lock); /* called when |room| opens, or with false at the end */
    void *on_room_ctx GP_GUARDED_BY(&lock);
    bool ended GP_GUARDED_BY(&lock);      /* the call has ended: nothing more is accepted */
    bool then_ended GP_GUARDED_BY(&lock); /* gp__outbox_end() has called |then| */
} gp__outbox;

/* Storage is zeroed. */
void gp__outbox_init(gp__outbox *outbox, void *call, const gp__sending_call *ops,
                     gp__poller *poller, gp_mutex *lock,
                     void (*complete)(gp__event *event, bool ok));
void gp__outbox_release(gp__outbox *outbox);

/*
 * Wait until everything has been sent, and acquire the outbox. Returns: 0, GP_ECLOSED or GP_EUSER.
 */
int gp__outbox_acquire(gp__outbox *outbox, const gp_interrupt *interrupt);

/* Send what is held. To be called before a wait for what the peer may do in answer to it. */
void gp__outbox_release_held(gp__outbox *outbox);

/*
 * Queue a copy of |message|, or acquire the outbox for it, whichever is possible first. Returns: 1
 * if it is queued, 0 if the outbox is acquired, GP_ECLOSED or GP_EUSER.
 */
int gp__outbox_queue(gp__outbox *outbox, gp_bytes message, uint32_t flags,
                     const gp_interrupt *interrupt);

/*
 * Acquire the outbox without waiting, with |then| to be called when it is idle again. Returns: 0,
 * GP_ECLOSED, or GP_EINVAL while a send is under way.
 */
int gp__outbox_acquire_then(gp__outbox *outbox, gp_sent *then, void *ctx);

/*
 * Without waiting, queue a copy of |message|, or the end of the messages if it is NULL; or acquire
 * the outbox for it.
 *
 * Returns: a gp__posted; GP_EINVAL if |then| of an earlier message has not been called yet;
 * GP_ECLOSED when the call has ended.
 */
int gp__outbox_post(gp__outbox *outbox, const gp_bytes *message, uint32_t flags, gp_sent *then,
                    void *ctx);

/* Returns: 1 if everything has been sent; 0 if |then| will be called when it has. */
int gp__outbox_flush_then(gp__outbox *outbox, gp_sent *then, void *ctx);

/*
 * Make an acquired outbox idle without having sent anything. Returns GP_ECLOSED; or 0 if
 * gp__outbox_end() has called |then| meanwhile, as if a send had failed.
 */
int gp__outbox_abandon(gp__outbox *outbox);

/* The operation that sends a copy of |message|. The outbox is acquired. */
grpc_op gp__outbox_op(gp__outbox *outbox, gp_bytes message, uint32_t flags);

/*
 * Start to send. The outbox is acquired.
 *
 * Returns: 0. If gRPC refuses, gp__outbox_abandon() is called, and its result returned.
 */
int gp__outbox_start(gp__outbox *outbox, const grpc_op *ops, size_t count);

/*
 * A send is complete: start to send the next message of the queue, or make the outbox idle and call
 * |then|. Called on the polling thread.
 */
void gp__outbox_complete(gp__outbox *outbox, bool ok);

/*
 * The call has ended: drop the queue, wake threads that wait to send, and call the callbacks. No
 * lock may be held.
 */
void gp__outbox_end(gp__outbox *outbox);

#endif
