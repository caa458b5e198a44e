/*
 * Layer: rpc. The client's call from the inside: what call.c and call_start.c share.
 *
 *   call_start.c   making a call, and its first batches
 *   call.c         its life: completions, waiting, sending, receiving, ending
 */
#ifndef GP_RPC_CALL_H
#define GP_RPC_CALL_H

#include <grpc/grpc.h>

#include "gp/call.h"
#include "gp/lock.h"
#include "rpc/channel.h"
#include "rpc/halves.h"

/*
 * A call has up to five batches under way: its request (or what goes ahead of a stream of them),
 * its status, the initial metadata if they may be asked for before that, one send and one receive.
 * Each holds a reference while it is on the queue; those that are waited for open their gate when
 * they are done.
 *
 * What is sent shares no batch with what is received. gRPC completes a batch as a whole, and a send
 * only when its bytes have been written: with the status in the same batch, neither a deadline nor
 * cancel() would end a call to a peer that has stopped reading.
 */
struct gp_call {
    gp__call_link link;  /* in the channel's ring until done */
    atomic_int refs;     /* users' and batches' */
    atomic_int users;    /* users' alone: the last one cancels */
    grpc_call *call;     /* owned */
    gp_channel *channel; /* shared: ref */
    grpc_channel
        *grpc_channel;  /* borrowed: the channel's, which is in use as long as the call exists */
    gp__poller *poller; /* borrowed: the channel's */
    int64_t deadline;

    gp__inquiry inquiry; /* into why there is no connection, before |done| */
    gp__event request;
    gp__event start;
    gp__event status;
    gp__gate started;
    gp__gate done;
    bool
        has_start; /* initial metadata have a batch of their own, and do not come with the status */
    bool one_reply;    /* it comes with the status, too */
    gp__inbox inbox;   /* of a stream of replies; or where the status batch puts the one reply */
    gp__outbox outbox; /* of a stream of requests; or what the first batch sends */

    grpc_metadata_array initial;
    grpc_metadata_array trailing;
    gp_metadatum *initial_view;  /* owned; made on demand */
    gp_metadatum *trailing_view; /* owned; made with the status */
    grpc_status_code code;
    grpc_slice details;
    const char *debug; /* owned by gpr */
    gp_call_status result;
    atomic_bool refused; /* a message could not be taken, and |refusal| counts instead */
    gp_call_status refusal;
    grpc_slice refused_details;

    gp_mutex lock; /* guards what follows, and what of |inbox| is under a lock */
    gp_then *on_start;
    void *on_start_ctx;
    bool attended; /* counted as urgent in the poller */
    bool over;     /* as |done|, for those who must decide under the lock */
    void (*on_done)(void *ctx);
    void *on_done_ctx;
};

/* call.c: a call of |channel| that has no batches and is in no ring. GP_ENOMEM. */
int gp__call_new(gp_call **out, gp_channel *channel);

/* As gp__start_batch. */
int gp__call_start_batch(void *call, const grpc_op *ops, size_t count, gp__event *event);

/* Give a reference back that is no user's. */
void gp__call_unref(gp_call *call);

#endif
