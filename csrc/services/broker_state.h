/*
 * Layer: services. What the broker's files share: what it knows, and how its parts reach each
 * other.
 *
 *   broker.c         making, ids, the end
 *   broker_host.c    the stream of a host, to its plugin: messages come in, and go out by broker_talk.c
 *   broker_plugin.c  the streams of a plugin's hosts, likewise
 *   broker_talk.c    what the two sides say to each other
 *   broker_places.c  what the other side has announced, until it is asked for
 *   broker_dial.c    connections to there
 *
 * Threads: any, but for what a function says. The broker's lock comes before the poller's alone.
 */
#ifndef GP_SERVICES_BROKER_STATE_H
#define GP_SERVICES_BROKER_STATE_H

#include <stdatomic.h>

#include "base/thread.h"
#include "gen/grpc_broker.pb-c.h"
#include "gp/broker.h"
#include "gp/call.h"
#include "gp/lock.h"
#include "os/process/process.h"
#include "rpc/poller.h"

#define GP__BROKER_STREAM "/plugin.GRPCBroker/StartStream"

/* Where the other side listens under some id. */
typedef struct gp__listener {
    char *network; /* owned: "unix" or "tcp" */
    char *address; /* owned */
} gp__listener;

/* Something that the other side announced, until it is asked for. */
typedef struct gp__place {
    struct gp__place *next;
    uint32_t id;
    gp__listener where; /* owned */
    int64_t expires;
} gp__place;

/* A thread that waits for such an announcement. */
typedef struct gp__dialler {
    struct gp__dialler *next;
    uint32_t id;
    gp__gate called; /* open when it is there, or never will be */
} gp__dialler;

/* Something to tell the other side, packed. */
typedef struct gp__note {
    struct gp__note *next;
    size_t len;
    unsigned char bytes[];
} gp__note;

/* A path that the plugin announced: its socket may be left behind. */
typedef struct gp__socket_path {
    struct gp__socket_path *next;
    char path[];
} gp__socket_path;

/* One host's stream. */
typedef struct gp__hosted {
    gp_broker *broker;    /* shared: ref */
    gp_server_call *call; /* shared: ref */
} gp__hosted;

/*
 * The stream is a call of the host's. On the plugin's side another one may take its place, of a
 * host that has reattached: the newest counts.
 */
struct gp_broker {
    atomic_int refs; /* the user's, the server's, one for each receive and send under way */
    atomic_uint last_id;
    gp_tls *tls;           /* shared: ref; NULL: none */
    gp_channel_args *args; /* shared: ref; of what is dialled; NULL: none */
    gp_grpc_mux *mux;      /* shared: ref; NULL: each connection has a socket of its own */
    bool of_host;
    gp__process *process; /* shared: ref; of a host, at the other end. NULL: nobody knows */
    gp__process
        *elsewhere;  /* shared: ref; of a host whose plugin a runner has launched, else NULL */
    char *directory; /* owned; what the other side's paths are relative to; NULL: this process's */
    gp__poller *poller; /* borrowed: lives as long as the process */

    gp_mutex lock;          /* guards what follows; nothing but the poller is called with it held */
    gp__dialler *diallers;  /* each lives on its own stack */
    gp_call *call;          /* shared: ref; of a host, NULL when it is over */
    gp_server_call *stream; /* shared: ref; of a plugin, NULL while there is none */
    gp__place *places;      /* owned, newest first */
    size_t places_count;
    gp__note *notes; /* owned, oldest first */
    gp__note **notes_end;
    size_t notes_count;
    bool sending;
    const gp_server_call *sending_on; /* borrowed, to be compared only; of a plugin */
    gp__hosted *ended; /* owned: its stream, to be finished once that send is through */
    bool closed;
    char gone[80];            /* why nothing will come any more, "" while something may */
    gp__socket_path *sockets; /* owned, newest first */
    size_t sockets_count;
    size_t prune_at; /* so many are worth a look at which of them are gone */
    gp_then *on_gone;
    gp_then *release_gone;
    void *gone_ctx;
};

/* ---- Making, and the end ---- */

/* Shared references are taken of |tls| and |mux|. NULL when memory is short. */
gp_broker *gp__broker_new(gp_tls *tls, gp_grpc_mux *mux);

/* "the plugin" or "the host". */
const char *gp__broker_other_side(const gp_broker *broker);

/* With the lock held: nothing will come any more, for the first reason that is given. */
void gp__broker_set_gone(gp_broker *broker, const char *format, const char *what);

/* Wake the diallers of |id|, or with 0 all. With the lock held. */
void gp__broker_call_diallers(gp_broker *broker, uint32_t id);

/* Tell those who wait, and who asked to be told. Without the lock. */
void gp__broker_tell_gone(gp_broker *broker);

/* ---- What is said ---- */

/* The other side says something. Consumes the message; what means nothing is left out. */
void gp__broker_take_in(gp_broker *broker, gp_message *message);

/* Send what is to be said, unless something is under way or there is no stream yet. */
void gp__broker_send_next(gp_broker *broker);

/* With the lock held: it need not be said any more. */
void gp__broker_drop_notes(gp_broker *broker);

/* For the mux, as gp__grpc_mux_post has them. */
int gp__broker_post_knock(void *ctx, uint32_t id, uint32_t mark);
int gp__broker_post_answer(void *ctx, uint32_t id, uint32_t mark, const char *error);

/* ---- Where things are ---- */

/* The other side has announced something. Memory that is short costs the announcement. */
void gp__broker_take_place(gp_broker *broker, const Plugin__ConnInfo *info);

/* Wait for the announcement of |id|. |*out| is then the caller's. Returns as gp_broker_dial(). */
int gp__broker_find(gp_broker *broker, uint32_t id, int64_t timeout_ms,
                    const gp_interrupt *interrupt, gp__listener *out, gp_error *err);

void gp__broker_release_listener(gp__listener *where);

/* With the lock held: nobody will ask for anything any more. */
void gp__broker_drop_places(gp_broker *broker);

void gp__broker_drop_sockets(gp__socket_path *sockets);

/*
 * Forget the sockets that are gone, if there are many. Without the lock: it looks at the file
 * system, for a second at most.
 */
void gp__broker_prune_sockets(gp_broker *broker);

/* ---- The plugin's stream ---- */

/* A host's stream has ended, and nothing is being sent on it. Consumes |it|. */
void gp__broker_finish_hosted(gp__hosted *it);

#endif
