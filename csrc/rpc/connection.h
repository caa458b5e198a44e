/*
 * Layer: rpc. The connection below one or more channels, which are views of it. Only channel.c and
 * connection*.c include this:
 *
 *   connection.c       opening and freeing, the list of all connections
 *   connection_end.c   why a connection is missing, and retiring those that are not used
 *   channel.c          the views
 *
 * Lock order: the lock of the list of all connections, a connection's lock, a view's lock.
 */
#ifndef GP_RPC_CONNECTION_H
#define GP_RPC_CONNECTION_H

#include <stdatomic.h>

#include "base/ref_list.h"
#include "base/task.h"
#include "gp/list.h"
#include "gp/lock.h"
#include "os/reactor.h"
#include "rpc/channel.h"
#include "rpc/direct.h"
#include "rpc/grpc_symbols.h"
#include "rpc/poller.h"

typedef struct gp__connection {
    atomic_int refs;
    _Atomic(grpc_channel *) channel; /* owned; NULL: retired */
    gp__direct *direct;   /* owned: the socket that was given; NULL: gRPC makes the connection */
    gp__poller *poller;   /* borrowed: lives as long as the process */
    gp__carrier carrier;  /* what carries the connection; with a reference */
    gp__process *process; /* shared: ref; the plugin at the other end; NULL: not known */
    int kept;             /* owned: the descriptor that the target refers to; -1: none */
    bool secure;          /* has credentials */
    size_t unpack_limit;  /* for gp__unpack() */
    atomic_bool ended;    /* the connection will not be made again */
    bool retired; /* gRPC's channel has been freed before the views. Written with |lock| held */
    gp__task deferred_free; /* queued once the last reference is gone */
    gp__ref_link link;      /* in the list of all connections */

    gp_mutex lock;
    gp_list views GP_GUARDED_BY(&lock);          /* gp_channel: borrowed, each removes itself */
    gp_list reason_waiters GP_GUARDED_BY(&lock); /* borrowed: each has a reference to its call */
    gp__watch *timer GP_GUARDED_BY(&lock);       /* owned; NULL unless there are |reason_waiters| */
    int checks_left GP_GUARDED_BY(&lock);        /* times that |timer| still checks the process */
    bool survived GP_GUARDED_BY(&lock); /* the process went on after its connection had ended */
    bool told GP_GUARDED_BY(&lock);     /* its end and the last of its stderr are known, or will
                                           not be waited for any more */
} gp__connection;

/* A view of a connection: closing it ends its own calls only. */
struct gp_channel {
    atomic_int refs;
    atomic_int users; /* uses of gRPC's channel: calls that exist, threads that look at its state */
    gp__connection *connection; /* shared: ref */
    gp_link link;               /* in |connection->views| */
    gp_mutex lock;
    gp_list calls GP_GUARDED_BY(&lock); /* gp_call: borrowed, each removes itself */
    bool closed GP_GUARDED_BY(&lock);
    bool disconnected GP_GUARDED_BY(&lock); /* see gp_channel_disconnect() */
};

/* Connect to |target|. Returns: 0, or a code of gp_channel_open(). */
int gp__connection_open(gp__connection **out, const char *target, const gp_channel_options *options,
                        gp_error *err);

/* Make a connection over |fd|, as gp__channel_open_over(). */
int gp__connection_open_over(gp__connection **out, int fd, const char *name, const char *authority,
                             const gp_channel_options *options, gp_error *err);

void gp__connection_unref(gp__connection *connection);

/*
 * The connection after |last| in the list of all, or the first one if |last| is NULL, with a
 * reference. Returns NULL at the end of the list.
 */
gp__connection *gp__connection_next(gp__connection *last);

#endif
