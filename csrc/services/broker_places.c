#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "os/offload.h"
#include "os/path.h"
#include "os/socket.h"
#include "services/broker.h"
#include "services/broker_state.h"

enum {
    LONGEST_ADDRESS = 1024, /* of a network's name, too: nobody listens at a longer one */
    MOST_PLACES = 4096,     /* announced and not asked for; older ones go */
    MOST_SOCKETS = 1024,    /* of the plugin's, remembered to be tidied up after it... */
    MANY_SOCKETS = 256      /* ... and how many make it worth looking which ones are gone */
};

/* As with go-plugin: who dials comes within five seconds, or not at all. */
static const int64_t claim_ms = 5000;
/* How long the file system may take to tell which sockets are gone. */
static const int64_t prune_ms = 1000;

void
gp__broker_release_listener(gp__listener *where)
{
    gp__free(where->network);
    gp__free(where->address);
    *where = (gp__listener){NULL, NULL};
}

static void
free_place(gp__place *one)
{
    gp__broker_release_listener(&one->where);
    gp__free(one);
}

/* With the lock held. Those that nobody has asked for in time, and those with |id|, go. */
static void
drop_places(gp_broker *broker, uint32_t id)
{
    gp__place **at = &broker->places;
    int64_t now = gp__now();
    size_t kept = 0;

    while (*at != NULL) {
        gp__place *one = *at;

        if (one->id == id || one->expires <= now || kept >= MOST_PLACES - 1) {
            *at = one->next;
            free_place(one);
        } else {
            kept++;
            at = &one->next;
        }
    }
    broker->places_count = kept;
}

/* With the lock held. Nothing but memory is touched: a file system may take its time. */
static void
remember_socket(gp_broker *broker, const char *path)
{
    size_t size = strlen(path) + 1;
    gp__socket_path *one;

    if (broker->sockets_count >= MOST_SOCKETS || (one = gp__malloc(sizeof(*one) + size)) == NULL) {
        return;
    }
    memcpy(one->path, path, size);
    one->next = broker->sockets;
    broker->sockets = one;
    broker->sockets_count++;
}

/* Those of the sockets in the list |ctx| that are gone leave it. */
static void
prune(void *ctx)
{
    gp__socket_path **at = ctx;

    while (*at != NULL) {
        gp__socket_path *one = *at;

        if (gp__socket_exists(one->path)) {
            at = &one->next;
        } else {
            *at = one->next;
            gp__free(one);
        }
    }
}

static void
release_list(void *ctx)
{
    gp__socket_path **list = ctx;

    gp__broker_drop_sockets(*list);
    gp__free(list);
}

/* Put the list |ctx| back. */
static void
keep_list(gp_broker *broker, gp__socket_path **list)
{
    gp__socket_path **end = list;
    size_t count = 0;

    while (*end != NULL) {
        end = &(*end)->next;
        count++;
    }
    gp_mutex_lock(&broker->lock);
    *end = broker->sockets;
    broker->sockets = *list;
    broker->sockets_count += count;
    broker->prune_at = 2 * count < MOST_SOCKETS ? 2 * count : MOST_SOCKETS;
    gp_mutex_unlock(&broker->lock);
    *list = NULL;
}

void
gp__broker_prune_sockets(gp_broker *broker)
{
    gp__socket_path **list = NULL;

    gp_mutex_lock(&broker->lock);
    if (broker->sockets_count >= MANY_SOCKETS && broker->sockets_count >= broker->prune_at &&
        (list = gp__calloc(1, sizeof(*list))) != NULL) {
        *list = broker->sockets;
        broker->sockets = NULL;
        broker->sockets_count = 0;
    }
    gp_mutex_unlock(&broker->lock);
    if (list != NULL &&
        gp__offload(prune, release_list, list, gp_deadline_in(prune_ms), NULL, NULL) == 0) {
        keep_list(broker, list);
        gp__free(list);
    }
}

void
gp__broker_remove_sockets(gp_broker *broker, const gp__leftover *leftover)
{
    gp__socket_path *sockets;

    gp_mutex_lock(&broker->lock);
    sockets = broker->sockets;
    broker->sockets = NULL;
    broker->sockets_count = 0;
    gp_mutex_unlock(&broker->lock);
    for (const gp__socket_path *one = sockets; one != NULL; one = one->next) {
        gp__leftover_remove(leftover, one->path);
    }
    gp__broker_drop_sockets(sockets);
}

/*
 * The address, a path as an absolute one. (Those of a runner's plugin are its own.) Owned, or NULL.
 */
static char *
absolute(const gp_broker *broker, const Plugin__ConnInfo *info)
{
    return strcmp(info->network, "unix") == 0 && broker->elsewhere == NULL &&
                   broker->call != NULL && info->address[0] != '/' && info->address[0] != '@'
               ? gp__path_absolute(info->address, strlen(info->address), broker->directory)
               : gp__strdup(info->address);
}

void
gp__broker_take_place(gp_broker *broker, const Plugin__ConnInfo *info)
{
    gp__place *one;

    if (strlen(info->network) > LONGEST_ADDRESS || strlen(info->address) > LONGEST_ADDRESS ||
        (one = gp__calloc(1, sizeof(*one))) == NULL) {
        return;
    }
    one->id = info->service_id;
    one->where.network = gp__strdup(info->network);
    one->where.address = absolute(broker, info);
    if (one->where.network == NULL || one->where.address == NULL) {
        free_place(one);
        return;
    }
    gp_mutex_lock(&broker->lock);
    /*
     * (A runner's plugin uses paths that are not this machine's, and has a directory of its own.)
     */
    if (broker->of_host && broker->elsewhere == NULL && strcmp(info->network, "unix") == 0) {
        remember_socket(broker, one->where.address);
    }
    drop_places(broker, one->id);
    one->expires = gp_deadline_in(claim_ms);
    one->next = broker->places;
    broker->places = one;
    broker->places_count++;
    gp__broker_call_diallers(broker, one->id);
    gp_mutex_unlock(&broker->lock);
}

/* With the lock held. */
static bool
claim(gp_broker *broker, uint32_t id, gp__listener *out)
{
    for (gp__place **at = &broker->places; *at != NULL; at = &(*at)->next) {
        gp__place *one = *at;

        if (one->id == id && one->expires > gp__now()) {
            *at = one->next;
            broker->places_count--;
            *out = one->where;
            gp__free(one);
            return true;
        }
    }
    return false;
}

void
gp__broker_call_diallers(gp_broker *broker, uint32_t id)
{
    for (gp__dialler *one = broker->diallers; one != NULL; one = one->next) {
        if (id == 0 || one->id == id) {
            gp__gate_open(broker->poller, &one->called);
        }
    }
}

/*
 * Wait as |me|, polling: what is waited for is about to come in. With the lock held, but not
 * meanwhile.
 */
static int
wait_called(gp_broker *broker, gp__dialler *me, int64_t deadline, const gp_interrupt *interrupt)
{
    gp__dialler **at;
    int rc;

    gp__gate_close(&me->called);
    me->next = broker->diallers;
    broker->diallers = me;
    gp_mutex_unlock(&broker->lock);
    rc = gp__poller_wait(broker->poller, &me->called, deadline, interrupt);
    gp_mutex_lock(&broker->lock);
    for (at = &broker->diallers; *at != me; at = &(*at)->next) {
    }
    *at = me->next;
    return rc;
}

int
gp__broker_find(gp_broker *broker, uint32_t id, int64_t timeout_ms, const gp_interrupt *interrupt,
                gp__listener *out, gp_error *err)
{
    int64_t deadline = gp_deadline_in(timeout_ms);
    gp__dialler me = {.id = id};
    bool found;
    int rc = 0;

    gp_mutex_lock(&broker->lock);
    while (!(found = claim(broker, id, out)) && rc == 0 && broker->gone[0] == '\0') {
        rc = wait_called(broker, &me, deadline, interrupt);
    }
    if (found) {
        rc = 0;
    } else if (rc == GP_EUSER) {
        gp_error_set(err, rc, "interrupted while waiting for connection %u", (unsigned)id);
    } else if (broker->gone[0] != '\0') {
        rc = gp_error_set(err, GP_EBROKER, "connection %u cannot be dialled: %s", (unsigned)id,
                          broker->gone);
    } else {
        rc =
            gp_error_set(err, GP_EBROKER,
                         "connection %u was dialled, and %s did not announce within %.3g s that it "
                         "accepts it; it has to accept the same id, and one that nobody dials is "
                         "dropped after 5 s",
                         (unsigned)id, gp__broker_other_side(broker), (double)timeout_ms / 1000);
    }
    gp_mutex_unlock(&broker->lock);
    return rc;
}

void
gp__broker_drop_places(gp_broker *broker)
{
    while (broker->places != NULL) {
        gp__place *next = broker->places->next;

        free_place(broker->places);
        broker->places = next;
    }
    broker->places_count = 0;
}

void
gp__broker_drop_sockets(gp__socket_path *sockets)
{
    while (sockets != NULL) {
        gp__socket_path *next = sockets->next;

        gp__free(sockets);
        sockets = next;
    }
}
