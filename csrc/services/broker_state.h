/*
 * Layer: services. What the broker's files share: what it knows, and how its parts reach each
 * other.
 *
 *   broker.c                making, ids, the end
 *   broker_host.c           a host's stream to its plugin: what comes in
 *   broker_plugin.c         the streams of a plugin's hosts: what comes in
 *   broker_messages.c       messages from and to the other side
 *   broker_announcements.c  what the other side has announced, until it is dialled
 *   broker_dial.c           connections to what was announced
 *
 * Threads: any, but for what a function says. While the broker's lock is held, no other lock is
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

/* Where a side listens. */
typedef struct gp__broker_address {
    char *network; /* owned: "unix" or "tcp" */
    char *address; /* owned */
} gp__broker_address;

/* The other side listens for a connection with some id, which has not been dialled yet. */
typedef struct gp__announcement {
    gp_link link; /* in the broker's |announcements| */
    uint32_t id;
    gp__broker_address where; /* owned */
    int64_t expires;
} gp__announcement;

/* A thread that waits for an announcement. */
typedef struct gp__broker_dialler {
    gp_link link; /* in the broker's |diallers| */
    uint32_t id;
    gp__gate announced; /* open when the announcement is there, or will never come */
} gp__broker_dialler;

/* A message to the other side, packed. */
typedef struct gp__broker_message {
    gp_link link; /* in the broker's |messages| */
    size_t len;
    unsigned char bytes[];
} gp__broker_message;

/* A path that the plugin announced: its socket may be left behind. */
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
 * The messages go over a stream, which is a call of the host's. On the plugin's side the stream of
 * a host that has reattached takes the place of the one before: the newest counts.
 */
struct gp_broker {
    atomic_int refs; /* the user's, the server's, one for each receive and send under way */
    atomic_uint last_id;
    gp_tls *tls;           /* shared: ref; NULL: none */
    gp_channel_args *args; /* shared: ref; of what is dialled; NULL: none */
    gp_grpc_mux *mux;      /* shared: ref; NULL: each connection has a socket of its own */
    bool of_host;
    gp__process *process;   /* shared: ref; of a host: its plugin's. NULL: it is not known */
    gp__process *elsewhere; /* shared: ref; |process| if a runner has launched it, else NULL */
    char *directory; /* owned; what the other side's paths are relative to; NULL: this process's */
    gp__poller *poller; /* borrowed: lives as long as the process */

    gp_mutex lock;
    gp_list diallers GP_GUARDED_BY(&lock); /* of gp__broker_dialler, each on its stack */
    gp_call *call GP_GUARDED_BY(&lock);    /* shared: ref; a host's stream; NULL: it is over */
    gp_server_call *stream GP_GUARDED_BY(&lock); /* shared: ref; a plugin's; NULL: there is none */
    gp_list announcements GP_GUARDED_BY(&lock);  /* owned; of gp__announcement, newest first */
    gp_list messages GP_GUARDED_BY(&lock);       /* owned; of gp__broker_message, oldest first */
    size_t messages_count GP_GUARDED_BY(&lock);
    bool sending GP_GUARDED_BY(&lock); /* a message is being sent */
    /* Borrowed, to be compared only: the plugin's stream that it is sent on. */
    const gp_server_call *sending_on GP_GUARDED_BY(&lock);
    gp__host_stream *ended GP_GUARDED_BY(&lock); /* owned: that stream, if it has ended meanwhile */
    bool closed GP_GUARDED_BY(&lock);
    char gone[80] GP_GUARDED_BY(&lock); /* why nothing more will come; "" while it may */
    gp__announced_socket *sockets GP_GUARDED_BY(&lock); /* owned, newest first */
    size_t sockets_count GP_GUARDED_BY(&lock);
    size_t prune_at GP_GUARDED_BY(&lock); /* at so many, find out which of them are gone */
    gp_then *on_gone GP_GUARDED_BY(&lock);
    gp_then *release_gone GP_GUARDED_BY(&lock);
    void *gone_ctx GP_GUARDED_BY(&lock);
};

/* ---- broker.c ---- */

/* References are taken of |tls| and |mux|. NULL when memory is short. */
gp_broker *gp__broker_new(gp_tls *tls, gp_grpc_mux *mux);

/* "the plugin" or "the host". */
const char *gp__broker_other_side(const gp_broker *broker);

/* Nothing more will come, for the first reason that is given. */
void gp__broker_set_gone_locked(gp_broker *broker, const char *format, const char *what)
    GP_REQUIRES(&broker->lock);

/* Tell threads that wait, and the user, that nothing more will come. */
void gp__broker_report_gone(gp_broker *broker) GP_EXCLUDES(&broker->lock);

/* ---- broker_messages.c ---- */

/* A message has come. It is consumed; one that means nothing is ignored. */
void gp__broker_handle_message(gp_broker *broker, gp_message *message) GP_EXCLUDES(&broker->lock);

/* Send the next message, unless one is being sent or there is no stream yet. */
void gp__broker_send_next(gp_broker *broker) GP_EXCLUDES(&broker->lock);

void gp__broker_drop_messages_locked(gp_broker *broker) GP_REQUIRES(&broker->lock);

/* The mux's gp__grpc_mux_sender. */
int gp__broker_send_request(void *ctx, uint32_t id, uint32_t serial);
int gp__broker_send_answer(void *ctx, uint32_t id, uint32_t serial, const char *error);

/* ---- broker_announcements.c ---- */

/* The other side has announced a listener. If memory is short the announcement is lost. */
void gp__broker_add_announcement(gp_broker *broker, const Plugin__ConnInfo *info)
    GP_EXCLUDES(&broker->lock);

/*
 * Wait for the announcement of |id|, which can be claimed once. |*out| is then the caller's.
 * Returns as gp_broker_dial().
 */
int gp__broker_claim(gp_broker *broker, uint32_t id, int64_t timeout_ms,
                     const gp_interrupt *interrupt, gp__broker_address *out, gp_error *err)
    GP_EXCLUDES(&broker->lock);

void gp__broker_address_release(gp__broker_address *where);

/* Wake the threads that wait for |id|, or with 0 all. */
void gp__broker_wake_diallers_locked(gp_broker *broker, uint32_t id) GP_REQUIRES(&broker->lock);

void gp__broker_drop_announcements_locked(gp_broker *broker) GP_REQUIRES(&broker->lock);

void gp__broker_free_sockets(gp__announced_socket *sockets);

/*
 * Forget the sockets that are gone, if there are many. Asks the file system, for a second at most.
 */
void gp__broker_prune_sockets(gp_broker *broker) GP_EXCLUDES(&broker->lock);

/* ---- broker_plugin.c ---- */

/* A host's stream has ended, and nothing is being sent on it. Consumes |ended|. */
void gp__host_stream_finish(gp__host_stream *ended);

#endif
