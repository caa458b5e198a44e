/*
 * Layer: rpc. The connection below one or more channels, which are views of it: what they share of
 * it, and how it comes and goes. Seen by channel.c, connection.c and connection_end.c alone.
 *
 * Lock order: that of the list of all connections, a connection's, a view's.
 */
#ifndef GP_RPC_CONNECTION_H
#define GP_RPC_CONNECTION_H

#include <grpc/grpc.h>
#include <stdatomic.h>

#include "base/task.h"
#include "gp/lock.h"
#include "os/reactor.h"
#include "rpc/channel.h"
#include "rpc/direct.h"
#include "rpc/poller.h"

/* The connection below one or more channels. */
typedef struct gp__connection {
    atomic_int refs;
    _Atomic(grpc_channel *) channel; /* owned; NULL: retired */
    gp__direct *direct;   /* owned: it is over a socket of ours; NULL: gRPC connects it */
    gp__poller *poller;   /* borrowed: lives as long as the process */
    gp__carrier carrier;  /* what the connection is part of, with a reference */
    gp__process *process; /* shared: ref; at the other end. NULL: nobody knows */
    int kept;             /* owned: what the target refers to; -1: nothing */
    bool secure;
    size_t unpack_limit;         /* for gp__unpack() */
    atomic_bool over;            /* the other side will not be reached any more */
    bool retired;                /* gRPC's channel is gone before its views */
    gp__task deferred_free;      /* queued once the last reference is gone */
    struct gp__connection *prev; /* in the list of all */
    struct gp__connection *next;
    gp_mutex lock;          /* guards what follows; comes before that of views */
    gp_channel *views;      /* borrowed: they take themselves off */
    gp__inquiry *inquiries; /* borrowed: each with a reference of its call */
    gp__watch *clock;       /* owned; while there are inquiries */
    int looks;              /* of the clock's, since the first of them */
} gp__connection;

/* A view of a connection: closing it ends its own calls and nobody else's. */
struct gp_channel {
    atomic_int refs;
    atomic_int users; /* of gRPC's channel: calls that exist, and threads that ask for its state */
    gp__connection *connection; /* shared: ref */
    gp_channel *next_view;      /* of the same connection; under its lock */
    gp_mutex lock;              /* guards what follows */
    gp__call_link calls;        /* head of a ring of running calls */
    bool closed;
};

/* Connect to |target|. Returns: 0, or a code of gp_channel_open(). */
int gp__connection_open(gp__connection **out, const char *target, const gp_channel_options *options,
                        gp_error *err);

/* The same over |fd|, which is taken over, also on failure. As gp__channel_open_over(). */
int gp__connection_open_over(gp__connection **out, int fd, const char *name, const char *authority,
                             const gp_channel_options *options, gp_error *err);

void gp__connection_unref(gp__connection *shared);

/* The next one of all after |last|, or the first, with a reference; NULL: that was the last one. */
gp__connection *gp__connection_next(gp__connection *last);

#endif
