/*
 * Layer: services. What the broker's files share.
 *
 *   broker.c                making, ids, the end
 *   broker_host.c           a host's stream to its plugin: messages that come in
 *   broker_plugin.c         the streams of a plugin's hosts: messages that come in
 *   broker_messages.c       messages from and to the other side
 *   broker_announcements.c  announcements of the other side, until they are dialled
 *   broker_dial.c           making connections
 *
 * Threads: any, unless a comment says otherwise. While the broker's lock is held, no other lock is
 * taken but the poller's.
 */
#ifndef GP_SERVICES_BROKER_STATE_H
#define GP_SERVICES_BROKER_STATE_H

#include <stdatomic.h>

#include "base/thread.h"
#include "gen/grpc_broker.pb-c.h"
#include "gp/broker.h"
#include "gp/call.h"
#include "gp/list.h"
#include "gp/lock.h"
#include "os/process/process.h"
#include "rpc/poller.h"

#define GP__BROKER_STREAM "/plugin.GRPCBroker/StartStream"

/* The address at which a side listens. */
typedef struct gp__broker_address {
    char *network; /* owned: "unix" or "tcp" */
    char *address; /* owned */
} gp__broker_address;

/*
 * An announcement of the other side, which has not been dialled yet: it listens for connection
 * |id|.
 */
typedef struct gp__announcement {
    gp_link link; /* in the broker's |announcements| */
    uint32_t id;
    gp__broker_address where; /* owned */
    int64_t expires;          /* when it is dropped, in nanoseconds of CLOCK_MONOTONIC */
} gp__announcement;

/* A thread that waits for an announcement. */
typedef struct gp__broker_dialler {
    gp_link link; /* in the broker's |diallers| */
    uint32_t id;
    gp__gate announced; /* open when the announcement has come, or will never come */
} gp__broker_dialler;

/* A message to the other side, packed. */
typedef struct gp__broker_message {
    gp_link link; /* in the broker's |messages| */
    size_t len;
    unsigned char bytes[];
} gp__broker_message;

/* A path that the plugin has announced, and where it may leave its socket behind. */
typedef struct gp__announced_socket {
    struct gp__announced_socket *next;
    char path[];
} gp__announced_socket;

/* The stream of one of a plugin's hosts. */
typedef struct gp__host_stream {
    gp_broker *broker;    /* shared: ref */
    gp_server_call *call; /* shared: ref */
} gp__host_stream;

/*
 * The messages go over a stream, which is a call that the host makes. On a plugin, a new stream
 * takes the place of the one before: the host may have reattached.
 */
struct gp_broker {
    atomic_int refs; /* of the user, of the server, and of each receive and send under way */
    atomic_uint last_id;
    gp_tls *tls;             /* shared: ref; NULL: none */
    gp_channel_args *args;   /* shared: ref; of the channels that are dialled; NULL: none */
    gp_grpc_mux *mux;        /* shared: ref; NULL: each connection has a socket of its own */
    bool of_host;            /* this side is the host */
    gp__process *process;    /* shared: ref; on a host: its plugin. NULL: not known */
    gp__process *translator; /* shared: ref; |process| if it has a runner, else NULL */
    char *directory;    /* owned; base of the other side's relative paths; NULL: this process's */
    gp__poller *poller; /* borrowed: lives as long as the process */

    gp_mutex lock;
    gp_list diallers GP_GUARDED_BY(&lock); /* of gp__broker_dialler, each on its stack */
    gp_call *call GP_GUARDED_BY(&lock); /* shared: ref; on a host: the stream; NULL: it is over */
    gp_server_call *stream GP_GUARDED_BY(&lock); /* shared: ref; on a plugin: the stream */
    gp_list announcements GP_GUARDED_BY(&lock);  /* owned; of gp__announcement, newest first */
    gp_list messages GP_GUARDED_BY(&lock);       /* owned; of gp__broker_message, oldest first */
    size_t messages_count GP_GUARDED_BY(&lock);
    bool sending GP_GUARDED_BY(&lock); /* a message is being sent */
    /*
     * Borrowed, and used for comparison only: on a plugin, the stream on which the message is sent.
     */
    const gp_server_call *sending_on GP_GUARDED_BY(&lock);
    /* Owned: the stream |sending_on|, if it has ended meanwhile. */
    gp__host_stream *ended GP_GUARDED_BY(&lock);
    bool closed GP_GUARDED_BY(&lock);
    char gone[80] GP_GUARDED_BY(&lock); /* why no more messages will come; "" while they may */
    gp__announced_socket *sockets GP_GUARDED_BY(&lock); /* owned, newest first */
    size_t sockets_count GP_GUARDED_BY(&lock);
    /* The count of |sockets| from which on those that do not exist any more are dropped. */
    size_t prune_at GP_GUARDED_BY(&lock);
    gp_then *on_gone GP_GUARDED_BY(&lock);
    gp_then *release_gone GP_GUARDED_BY(&lock);
    void *gone_ctx GP_GUARDED_BY(&lock);
};

/* ---- broker.c ---- */

/* References are taken of |tls| and |mux|. NULL when memory is short. */
gp_broker *gp__broker_new(gp_tls *tls, gp_grpc_mux *mux);

/* "the plugin" or "the host". */
const char *gp__broker_other_side(const gp_broker *broker);

/* Record that no more messages will come, and why. Only the first reason is kept. */
void gp__broker_set_gone_locked(gp_broker *broker, const char *format, const char *what)
    GP_REQUIRES(&broker->lock);

/* Wake the threads that wait, and call |on_gone|: no more messages will come. */
void gp__broker_report_gone(gp_broker *broker) GP_EXCLUDES(&broker->lock);

/* ---- broker_messages.c ---- */

/* Handle a message that has come, and free it. A message that means nothing is ignored. */
void gp__broker_handle_message(gp_broker *broker, gp_message *message) GP_EXCLUDES(&broker->lock);

/* Send the next message, unless one is being sent or there is no stream yet. */
void gp__broker_send_next(gp_broker *broker) GP_EXCLUDES(&broker->lock);

void gp__broker_drop_messages_locked(gp_broker *broker) GP_REQUIRES(&broker->lock);

/* Functions of the gp__grpc_mux_sender. |ctx| is the broker. */
int gp__broker_send_request(void *ctx, uint32_t id, uint32_t serial);
int gp__broker_send_answer(void *ctx, uint32_t id, uint32_t serial, const char *error);

/* ---- broker_announcements.c ---- */

/* Store an announcement of the other side. If memory is short it is lost. */
void gp__broker_add_announcement(gp_broker *broker, const Plugin__ConnInfo *info)
    GP_EXCLUDES(&broker->lock);

/*
 * Wait for the announcement of |id|, and take it. |*out| is owned by the caller. Returns as
 * gp_broker_dial().
 */
int gp__broker_claim(gp_broker *broker, uint32_t id, int64_t timeout_ms,
                     const gp_interrupt *interrupt, gp__broker_address *out, gp_error *err)
    GP_EXCLUDES(&broker->lock);

void gp__broker_address_release(gp__broker_address *where);

/* Wake the threads that wait for |id|; with 0, all that wait. */
void gp__broker_wake_diallers_locked(gp_broker *broker, uint32_t id) GP_REQUIRES(&broker->lock);

void gp__broker_drop_announcements_locked(gp_broker *broker) GP_REQUIRES(&broker->lock);

void gp__broker_free_sockets(gp__announced_socket *sockets);

/*
 * If there are many |sockets|, drop those that do not exist any more. Asks the file system, for a
 * second at most.
 */
void gp__broker_prune_sockets(gp_broker *broker) GP_EXCLUDES(&broker->lock);

/* ---- broker_plugin.c ---- */

/*
 * Finish the call of a host's stream that has ended, and on which nothing is being sent. Frees
 * |ended|.
 */
void gp__host_stream_finish(gp__host_stream *ended);

#endif
