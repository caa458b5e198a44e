#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "os/offload.h"
#include "os/path.h"
#include "os/socket.h"
#include "services/broker.h"
#include "services/broker_state.h"

enum {
    ADDRESS_LONGEST = 1024,    /* also of a network's name; no real address is longer */
    ANNOUNCEMENTS_MOST = 4096, /* that have not been dialled; the oldest are dropped */
    SOCKETS_MOST = 1024,       /* remembered, to be removed after the plugin's end */
    SOCKETS_MANY = 256,        /* from so many on, those that do not exist any more are dropped */
};

/* As with go-plugin: an announcement that is not dialled within five seconds is dropped. */
static const int64_t claim_ms = 5000;
/* How long the file system may take to say which sockets exist. */
static const int64_t prune_ms = 1000;

void
gp__broker_address_release(gp__broker_address *where)
{
    gp__free(where->network);
    gp__free(where->address);
    *where = (gp__broker_address){NULL, NULL};
}

/* Free |announcement|, which must not be in the list. */
static void
free_announcement(gp__announcement *announcement)
{
    gp__broker_address_release(&announcement->where);
    gp__free(announcement);
}

/* ---- Sockets that the plugin may leave behind ------------------------------------------------ */

static void remember_socket_locked(gp_broker *broker, const char *path) GP_REQUIRES(&broker->lock);

/* Remember |path|. This does not look at the file system, which may be slow. */
static void
remember_socket_locked(gp_broker *broker, const char *path)
{
    size_t size = strlen(path) + 1;
    gp__announced_socket *one;

    if (broker->sockets_count >= SOCKETS_MOST || (one = gp__malloc(sizeof(*one) + size)) == NULL) {
        return;
    }
    memcpy(one->path, path, size);
    one->next = broker->sockets;
    broker->sockets = one;
    broker->sockets_count++;
}

/* Remove the sockets that do not exist any more from the list |ctx|. */
static void
drop_gone_sockets(void *ctx)
{
    gp__announced_socket **at = ctx;

    while (*at != NULL) {
        gp__announced_socket *one = *at;

        if (gp__socket_exists(one->path)) {
            at = &one->next;
        } else {
            *at = one->next;
            gp__free(one);
        }
    }
}

static void
free_socket_list(void *ctx)
{
    gp__announced_socket **list = ctx;

    gp__broker_free_sockets(*list);
    gp__free(list);
}

/* Put |list| back into the broker. */
static void
put_sockets_back(gp_broker *broker, gp__announced_socket **list)
{
    gp__announced_socket **end = list;
    size_t count = 0;

    while (*end != NULL) {
        end = &(*end)->next;
        count++;
    }
    gp_mutex_lock(&broker->lock);
    *end = broker->sockets;
    broker->sockets = *list;
    broker->sockets_count += count;
    broker->prune_at = 2 * count < SOCKETS_MOST ? 2 * count : SOCKETS_MOST;
    gp_mutex_unlock(&broker->lock);
    *list = NULL;
}

void
gp__broker_prune_sockets(gp_broker *broker)
{
    gp__announced_socket **list = NULL;

    gp_mutex_lock(&broker->lock);
    if (broker->sockets_count >= SOCKETS_MANY && broker->sockets_count >= broker->prune_at &&
        (list = gp__calloc(1, sizeof(*list))) != NULL) {
        *list = broker->sockets;
        broker->sockets = NULL;
        broker->sockets_count = 0;
    }
    gp_mutex_unlock(&broker->lock);
    if (list != NULL && gp__offload(drop_gone_sockets, free_socket_list, list,
                                    gp_deadline_in(prune_ms), NULL, NULL) == 0) {
        put_sockets_back(broker, list);
        gp__free(list);
    }
}

void
gp__broker_remove_sockets(gp_broker *broker, const gp__leftover *leftover)
{
    gp__announced_socket *sockets;

    gp_mutex_lock(&broker->lock);
    sockets = broker->sockets;
    broker->sockets = NULL;
    broker->sockets_count = 0;
    gp_mutex_unlock(&broker->lock);
    for (const gp__announced_socket *one = sockets; one != NULL; one = one->next) {
        gp__leftover_remove(leftover, one->path);
    }
    gp__broker_free_sockets(sockets);
}

/* ---- Announcements --------------------------------------------------------------------------- */

static void drop_old_locked(gp_broker *broker, uint32_t id) GP_REQUIRES(&broker->lock);
static bool claim_locked(gp_broker *broker, uint32_t id, gp__broker_address *out)
    GP_REQUIRES(&broker->lock);
static int wait_for_announcement_locked(gp_broker *broker, gp__broker_dialler *dialler,
                                        int64_t deadline, const gp_interrupt *interrupt)
    GP_REQUIRES(&broker->lock);

/*
 * The address of an announcement. A path is made absolute, unless it is for a runner to translate.
 * Owned by the caller; NULL when memory is short.
 */
static char *
absolute_address(const gp_broker *broker, const Plugin__ConnInfo *info)
{
    return strcmp(info->network, "unix") == 0 && broker->of_host && broker->translator == NULL &&
                   info->address[0] != '/' && info->address[0] != '@'
               ? gp__path_absolute(info->address, strlen(info->address), broker->directory)
               : gp__strdup(info->address);
}

/*
 * Drop announcements that were not dialled in time, those of |id|, and the oldest if there are too
 * many.
 */
static void
drop_old_locked(gp_broker *broker, uint32_t id)
{
    gp__announcement *next;
    int64_t now = gp__now();
    size_t kept = 0;

    for (gp__announcement *one =
             gp_list_first_entry(&broker->announcements, gp__announcement, link);
         one != NULL; one = next) {
        next = gp_list_next_entry(&broker->announcements, one, gp__announcement, link);
        if (one->id == id || one->expires <= now || kept >= ANNOUNCEMENTS_MOST - 1) {
            gp_link_remove(&one->link);
            free_announcement(one);
        } else {
            kept++;
        }
    }
}

void
gp__broker_add_announcement(gp_broker *broker, const Plugin__ConnInfo *info)
{
    gp__announcement *added;

    if (strlen(info->network) > ADDRESS_LONGEST || strlen(info->address) > ADDRESS_LONGEST ||
        (added = gp__calloc(1, sizeof(*added))) == NULL) {
        return;
    }
    added->id = info->service_id;
    added->where.network = gp__strdup(info->network);
    added->where.address = absolute_address(broker, info);
    if (added->where.network == NULL || added->where.address == NULL) {
        free_announcement(added);
        return;
    }
    gp_mutex_lock(&broker->lock);
    /*
     * Paths that a runner translates are not valid here; such a plugin has a directory of its own.
     */
    if (broker->of_host && broker->translator == NULL && strcmp(info->network, "unix") == 0) {
        remember_socket_locked(broker, added->where.address);
    }
    drop_old_locked(broker, added->id);
    added->expires = gp_deadline_in(claim_ms);
    gp_list_prepend(&broker->announcements, &added->link);
    gp__broker_wake_diallers_locked(broker, added->id);
    gp_mutex_unlock(&broker->lock);
}

/* Take the announcement of |id|. Returns false if there is none. */
static bool
claim_locked(gp_broker *broker, uint32_t id, gp__broker_address *out)
{
    gp__announcement *one = gp_list_first_entry(&broker->announcements, gp__announcement, link);

    while (one != NULL && (one->id != id || one->expires <= gp__now())) {
        one = gp_list_next_entry(&broker->announcements, one, gp__announcement, link);
    }
    if (one != NULL) {
        gp_link_remove(&one->link);
        *out = one->where;
        gp__free(one);
    }
    return one != NULL;
}

void
gp__broker_wake_diallers_locked(gp_broker *broker, uint32_t id)
{
    for (gp__broker_dialler *one = gp_list_first_entry(&broker->diallers, gp__broker_dialler, link);
         one != NULL; one = gp_list_next_entry(&broker->diallers, one, gp__broker_dialler, link)) {
        if (id == 0 || one->id == id) {
            gp__gate_open(broker->poller, &one->announced);
        }
    }
}

/*
 * Wait until |dialler| is woken, and poll meanwhile, since announcements come over the broker's
 * stream. Releases and re-acquires the lock while it waits.
 */
static int
wait_for_announcement_locked(gp_broker *broker, gp__broker_dialler *dialler, int64_t deadline,
                             const gp_interrupt *interrupt)
{
    int rc;

    gp__gate_close(&dialler->announced);
    gp_list_prepend(&broker->diallers, &dialler->link);
    gp_mutex_unlock(&broker->lock);
    rc = gp__poller_wait(broker->poller, &dialler->announced, deadline, interrupt);
    gp_mutex_lock(&broker->lock);
    gp_link_remove(&dialler->link);
    return rc;
}

int
gp__broker_claim(gp_broker *broker, uint32_t id, int64_t timeout_ms, const gp_interrupt *interrupt,
                 gp__broker_address *out, gp_error *err)
{
    int64_t deadline = gp_deadline_in(timeout_ms);
    gp__broker_dialler dialler = {.id = id};
    bool found;
    int rc = 0;

    gp_mutex_lock(&broker->lock);
    while (!(found = claim_locked(broker, id, out)) && rc == 0 && broker->gone[0] == '\0') {
        rc = wait_for_announcement_locked(broker, &dialler, deadline, interrupt);
    }
    if (found) {
        rc = 0;
    } else if (rc == GP_EUSER) {
        gp_error_set(err, rc, "interrupted while waiting for connection %u", (unsigned)id);
    } else if (broker->gone[0] != '\0') {
        rc = gp_error_set(err, GP_EBROKER, "connection %u cannot be dialled: %s", (unsigned)id,
                          broker->gone);
    } else {
        rc = gp_error_set(
            err, GP_EBROKER,
            "connection %u was dialled, and %s did not announce within %.3g s that it "
            "accepts it; it has to accept the same id, and an announcement that is not "
            "dialled is dropped after 5 s",
            (unsigned)id, gp__broker_other_side(broker), (double)timeout_ms / 1000);
    }
    gp_mutex_unlock(&broker->lock);
    return rc;
}

void
gp__broker_drop_announcements_locked(gp_broker *broker)
{
    gp__announcement *one;

    while ((one = gp_list_first_entry(&broker->announcements, gp__announcement, link)) != NULL) {
        gp_link_remove(&one->link);
        free_announcement(one);
    }
}

void
gp__broker_free_sockets(gp__announced_socket *sockets)
{
    while (sockets != NULL) {
        gp__announced_socket *next = sockets->next;

        gp__free(sockets);
        sockets = next;
    }
}
