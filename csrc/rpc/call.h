/*
 * Layer: rpc. The client's side of a call, as call.c and call_start.c see it.
 *
 *   call_start.c   makes a call and starts its first batches
 *   call.c         completions, waiting, sending, receiving, the end
 */
#ifndef GP_RPC_CALL_H
#define GP_RPC_CALL_H

#include "gp/call.h"
#include "gp/list.h"
#include "gp/lock.h"
#include "rpc/channel.h"
#include "rpc/grpc_symbols.h"
#include "rpc/inbox.h"
#include "rpc/outbox.h"

/*
 * A call has up to five batches under way: its request (or the metadata that precede a stream of
 * requests), its status, the initial metadata if they may be asked for before the status, one send
 * and one receive. Each batch holds a reference while it is on the queue.
 *
 * What is sent shares no batch with what is received. gRPC completes a batch as a whole, and a send
 * only when its bytes have been written: with the status in the same batch, neither a deadline nor
 * cancel() would end a call to a peer that has stopped reading.
 */
struct gp_call {
    gp_link link;               /* in the channel's list of calls, until |done| is open */
    atomic_int refs;            /* of users and of batches */
    atomic_int users;           /* of users alone: dropping the last one cancels the call */
    grpc_call *call;            /* owned */
    gp_channel *channel;        /* shared: ref */
    grpc_channel *grpc_channel; /* borrowed: the channel's, in use as long as the call exists */
    gp__poller *poller;         /* borrowed: the channel's */
    int64_t deadline;           /* on CLOCK_MONOTONIC, in nanoseconds, or GP__FOREVER */

    gp__reason_waiter reason_waiter; /* queued before |done| opens, if the connection is missing */
    gp__event request;
    gp__event initial;
    gp__event status;
    gp__gate started; /* open when the initial metadata have come. Unused unless |early| */
    gp__gate done;    /* open when the call has its status */
    bool early;     /* the initial metadata have a batch of their own, and not that of the status */
    bool one_reply; /* the one reply shares the status's batch */
    gp__inbox inbox;   /* for a stream of replies, or for the one reply of the status batch */
    gp__outbox outbox; /* for a stream of requests, or for the one request of the first batch */

    grpc_metadata_array initial_metadata;
    grpc_metadata_array trailing_metadata;
    gp_metadatum *trailing_view; /* owned; made with the status */
    grpc_status_code code;
    grpc_slice details;
    const char *debug; /* owned; freed by gpr_free() */
    gp_call_status result;
    bool cut_off; /* by the end of the process at the other end. Written before |done| opens */
    atomic_bool refused; /* a message could not be unpacked: |refusal| is the status instead */
    gp_call_status refusal;
    grpc_slice refused_details; /* owned; what |refusal| points to */

    gp_mutex lock;                                   /* also guards part of |inbox| and |outbox| */
    gp_metadatum *initial_view GP_GUARDED_BY(&lock); /* owned; made when first asked for */
    gp_then *on_initial GP_GUARDED_BY(&lock);
    void *on_initial_ctx GP_GUARDED_BY(&lock);
    bool attended GP_GUARDED_BY(&lock); /* counted as urgent in the poller */
    bool ended
        GP_GUARDED_BY(&lock); /* set after |done| has opened: |on_done| can no longer be set */
    void (*on_done)(void *ctx) GP_GUARDED_BY(&lock);
    void *on_done_ctx GP_GUARDED_BY(&lock);
};

/*
 * Make a call of |channel| without batches, which is not in its list of calls yet. Returns: 0 or
 * GP_ENOMEM.
 */
int gp__call_new(gp_call **out, gp_channel *channel);

/* The call's gp__start_batch. */
int gp__call_start_batch(void *call, const grpc_op *ops, size_t count, gp__event *event);

/* Give back a reference of a batch, or of gp_call_hold(). */
void gp__call_unref(gp_call *call);

#endif
