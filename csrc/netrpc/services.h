/*
 * Layer: netrpc. What a server serves: methods by the names that requests ask for, with Go's texts
 * for those that do not exist. See gp/netrpc.h.
 */
#ifndef GP_NETRPC_SERVICES_H
#define GP_NETRPC_SERVICES_H

#include <stdatomic.h>

#include "gp/netrpc.h"

/* One method. Lives as long as the services. */
typedef struct gp__netrpc_method {
    const char *name; /* owned by the services: "Service.Method" */
    size_t len;
    void (*handle)(void *ctx, void *data, gp_netrpc_request *request);
    void *data;       /* for |handle| */
    bool quick;       /* see gp_netrpc_method */
    atomic_bool slow; /* whether its handler is known to be slow (netrpc/workers.h) */
} gp__netrpc_method;

struct gp_netrpc_services {
    atomic_int refs;
    void *ctx; /* of the methods */
    void (*release)(void *ctx);
    char *names; /* owned: all names, each with a terminating zero */
    size_t count;
    gp__netrpc_method methods[];
};

/* The method that a request for |name| calls; NULL: there is none. */
gp__netrpc_method *gp__netrpc_services_find(gp_netrpc_services *services, gp_bytes name);

/* Go's text about |name|, which gp__netrpc_services_find() has not found. NULL: out of memory. */
char *gp__netrpc_services_refusal(const gp_netrpc_services *services, gp_bytes name);

#endif
