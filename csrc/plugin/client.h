/*
 * Layer: plugin. What the parts of a client share: client.c its life, kill.c its end, reattach.c
 * how it joins a running plugin, registry.c all of them together.
 *
 * Locks: |lock| guards the state and what is published with it. It is held neither while waiting
 * for anything but |changed|, nor during callbacks, nor across calls that block. The registry's
 * lock is never taken with it held, and the other way round neither.
 */
#ifndef GP_PLUGIN_CLIENT_H
#define GP_PLUGIN_CLIENT_H

#include <pthread.h>
#include <stdatomic.h>

#include "gp/client.h"
#include "gp/lock.h"
#include "os/socket.h"
#include "plugin/endpoint.h"
#include "plugin/launch.h"
#include "plugin/options.h"
#include "plugin/output.h"

/*
 *      NEW --> STARTING --> RUNNING --> KILLING --> OVER
 *       |          '----------------------------> FAILED
 *       '---- killed before start ----------------> OVER
 */
typedef enum gp__client_state {
    GP__CLIENT_NEW,
    GP__CLIENT_STARTING,
    GP__CLIENT_RUNNING,
    GP__CLIENT_KILLING,
    GP__CLIENT_OVER,
    GP__CLIENT_FAILED,
} gp__client_state;

struct gp_client {
    atomic_int refs; /* the user's one, and one of whoever kills all clients */
    gp__options options;
    char *name;    /* owned; the program's base name, for messages */
    bool owns_log; /* the sinks in the options are still ours to release */
    bool owns_output;
    bool owns_runner;
    atomic_bool told; /* the end of the process, to the sink for it, which is gone then */
    gp_client *prev;  /* in the registry */
    gp_client *next;
    bool registered;
    unsigned generation; /* of the process that it was made in; in its children it is of no use */

    gp_mutex lock;
    gp_cond changed; /* the state is another */
    gp__client_state state;
    bool kill_wanted;       /* written with the lock held */
    bool given_up;          /* wanted by the very thread that starts it */
    pthread_t worker;       /* the thread that starts or kills it, as long as it does */
    gp__process *process;   /* shared: ref. Written once; NULL while there is none, or unknown */
    gp_tls *tls;            /* shared: ref; NULL: none. Of all its connections. As |channel| */
    char *socket_dir;       /* owned; NULL: none. Removed with the process */
    gp_channel *channel;    /* shared: ref. Written before RUNNING */
    gp__output *output;     /* owned: what the plugin prints. As |channel| */
    gp_broker *broker;      /* shared: ref. As |channel| */
    gp_grpc_mux *mux;       /* shared: ref; NULL: connections are separate. As |channel| */
    gp__endpoint endpoint;  /* written before RUNNING */
    gp__socket_found found; /* who answered there, of one that was joined. Likewise */
    gp_error failure;       /* why the start failed, once FAILED */

    gp__launch launch; /* of the starting thread, later of the killing one; unused when joined */
};

/* Whether the process is one of ours, as against one that was joined. */
bool gp__client_launched(const gp_client *client);

/* The process, to be given back with gp__process_unref(); NULL if there is none. */
gp__process *gp__client_process(gp_client *client);

gp_client *gp__client_ref(gp_client *client);
void gp__client_unref(gp_client *client);

/*
 * Connect to the plugin that the options name and, if its pid is known, watch it. Fills |endpoint|
 * and |*process|. Returns 0, GP_EREATTACH, GP_ENOMEM, GP_EUSER or GP_ECLOSED (killed meanwhile).
 */
int gp__client_reattach(gp_client *client, gp__endpoint *endpoint, gp__process **process,
                        const gp_interrupt *interrupt, gp_error *err);

/*
 * Wait until the channel is connected, or TLS has failed and why. Returns 0, GP_ETLS, GP_EEXITED
 * (the plugin died meanwhile), GP_ENOMEM, GP_EUSER or GP_ECLOSED (killed meanwhile).
 */
int gp__client_secure(gp_client *client, const gp_interrupt *interrupt, gp_error *err);

/* As |interrupt|, and stops also when somebody wants to kill the client. */
typedef struct gp__client_interrupt {
    gp_client *client;
    const gp_interrupt *interrupt;
} gp__client_interrupt;

gp_interrupt gp__client_interrupt_of(gp__client_interrupt *both);
bool gp__client_kill_wanted(gp_client *client);

/*
 * With the lock held: whether this very thread is starting or killing it, and is here again by way
 * of an interrupt (a signal handler of the host's, say) or of a runner. It would wait for itself
 * for ever.
 */
bool gp__client_is_at_work(const gp_client *client);

/* Whether its runner is about to start the process, which may take for ever. */
bool gp__client_waits_for_runner(gp_client *client);

/* Tell of the process's end, unless that was done. |client| is a gp_client. */
void gp__client_tell_exit(void *client);

/*
 * End a client that runs, with |patience_ms| for a graceful exit. One thread only. 0 or GP_EUSER.
 */
int gp__client_end(gp_client *client, int64_t patience_ms, const gp_interrupt *interrupt);

/* Remove the directory for its sockets, if there is one. */
void gp__client_remove_sockets(gp_client *client);

/* End it without patience if it was launched; let go of it if it was joined or detached. */
void gp__client_abandon(gp_client *client);

/* Enter it in the list of live clients, or take it off. Any thread; taking off is idempotent. */
void gp__registry_add(gp_client *client);
void gp__registry_remove(gp_client *client);

#endif
