/*
 * Layer: plugin. All clients of this process whose plugins may be alive. Threads: any. The
 * registry's lock is the last in the lock order, and the only one held during a visit.
 */
#ifndef GP_PLUGIN_REGISTRY_H
#define GP_PLUGIN_REGISTRY_H

#include "gp/client.h"
#include "gp/list.h"

/* A client's entry in the registry, a member of the client. */
typedef struct gp__registry_entry {
    gp_link link;      /* guarded by the registry's lock */
    gp_client *client; /* borrowed: removes its entry before it is freed */
} gp__registry_entry;

void gp__registry_add(gp__registry_entry *entry, gp_client *client);

/* Idempotent. A zeroed entry is fine. */
void gp__registry_remove(gp__registry_entry *entry);

/* Call |visit| for each client, with the registry's lock held, until it returns a value below 0. */
void gp__registry_visit(int (*visit)(gp_client *client, void *ctx), void *ctx);

#endif
