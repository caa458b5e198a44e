#include "plugin/registry.h"

#include "gp/lock.h"
#include "gp/runtime.h"

static gp_mutex lock = GP_MUTEX_INIT;
static gp_list entries GP_GUARDED_BY(&lock) = GP_LIST_INIT(entries);

/*
 * In a forked child: the clients belong to the parent. Here they do nothing, and do not leave the
 * list.
 */
static void
reset_after_fork(void)
{
    gp_mutex_init(&lock);
    gp_mutex_lock(&lock);
    gp_list_init(&entries); /* another thread may have been changing it */
    gp_mutex_unlock(&lock);
}

static gp_fork_part part = {.reset = reset_after_fork};

void
gp__registry_add(gp__registry_entry *entry, gp_client *client)
{
    gp_runtime_on_fork(&part);
    gp_mutex_lock(&lock);
    entry->client = client;
    gp_list_prepend(&entries, &entry->link);
    gp_mutex_unlock(&lock);
}

void
gp__registry_remove(gp__registry_entry *entry)
{
    gp_mutex_lock(&lock);
    gp_link_remove(&entry->link);
    gp_mutex_unlock(&lock);
}

void
gp__registry_visit(int (*visit)(gp_client *client, void *ctx), void *ctx)
{
    gp__registry_entry *entry;
    int rc = 0;

    gp_mutex_lock(&lock);
    entry = gp_list_first_entry(&entries, gp__registry_entry, link);
    while (entry != NULL && rc >= 0) {
        rc = visit(entry->client, ctx);
        entry = gp_list_next_entry(&entries, entry, gp__registry_entry, link);
    }
    gp_mutex_unlock(&lock);
}
