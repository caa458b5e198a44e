#include "netrpc/services.h"

#include <string.h>

#include "base/alloc.h"

/* How many methods there are, and how long their names are, with a terminating zero each. */
static void
measure(const gp_netrpc_service *services, size_t count, size_t *methods, size_t *bytes)
{
    *methods = 0;
    *bytes = 0;
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(services[i].name) + 1;

        *methods += services[i].count;
        for (size_t j = 0; j < services[i].count; j++) {
            *bytes += len + strlen(services[i].methods[j].name) + 1;
        }
    }
}

/* Write "service.method" to |at|, and fill |out|. Returns where the next name goes. */
static char *
add_method(gp__netrpc_method *out, char *at, const char *service, const gp_netrpc_method *method)
{
    size_t service_len = strlen(service);
    size_t method_len = strlen(method->name);

    memcpy(at, service, service_len);
    at[service_len] = '.';
    memcpy(at + service_len + 1, method->name, method_len + 1);
    out->name = at;
    out->len = service_len + 1 + method_len;
    out->handle = method->handle;
    out->data = method->data;
    out->quick = method->quick;
    atomic_init(&out->slow, false);
    return at + out->len + 1;
}

int
gp_netrpc_services_new(gp_netrpc_services **out, const gp_netrpc_service *services, size_t count,
                       void *ctx, void (*release)(void *ctx), gp_error *err)
{
    gp_netrpc_services *made;
    size_t methods;
    size_t bytes;
    char *at;

    measure(services, count, &methods, &bytes);
    made = gp__calloc(1, sizeof(*made) + methods * sizeof(made->methods[0]));
    at = gp__malloc(bytes);
    if (made == NULL || at == NULL) {
        gp__free(made);
        gp__free(at);
        return gp_error_set(err, GP_ENOMEM, "out of memory for services");
    }
    atomic_init(&made->refs, 1);
    made->ctx = ctx;
    made->release = release;
    made->names = at;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < services[i].count; j++) {
            at = add_method(&made->methods[made->count++], at, services[i].name,
                            &services[i].methods[j]);
        }
    }
    *out = made;
    return 0;
}

gp_netrpc_services *
gp_netrpc_services_ref(gp_netrpc_services *services)
{
    atomic_fetch_add_explicit(&services->refs, 1, memory_order_relaxed);
    return services;
}

void
gp_netrpc_services_unref(gp_netrpc_services *services)
{
    if (services == NULL ||
        atomic_fetch_sub_explicit(&services->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    if (services->release != NULL) {
        services->release(services->ctx);
    }
    gp__free(services->names);
    gp__free(services);
}

gp__netrpc_method *
gp__netrpc_services_find(gp_netrpc_services *services, gp_bytes name)
{
    for (size_t i = 0; i < services->count; i++) {
        gp__netrpc_method *method = &services->methods[i];

        if (method->len == name.len && memcmp(method->name, name.data, name.len) == 0) {
            return method;
        }
    }
    return NULL;
}

/* Whether there is a service of that name. One without methods cannot be told from none. */
static bool
has_service(const gp_netrpc_services *services, const char *name, size_t len)
{
    for (size_t i = 0; i < services->count; i++) {
        const gp__netrpc_method *method = &services->methods[i];

        if (method->len > len && method->name[len] == '.' && memcmp(method->name, name, len) == 0) {
            return true;
        }
    }
    return false;
}

char *
gp__netrpc_services_refusal(const gp_netrpc_services *services, gp_bytes name)
{
    const char *text = name.data;
    size_t dot = name.len;

    while (dot > 0 && text[dot - 1] != '.') {
        dot--;
    }
    if (dot == 0) {
        return gp__format("rpc: service/method request ill-formed: %.*s", (int)name.len, text);
    }
    return gp__format("rpc: can't find %s %.*s",
                      has_service(services, text, dot - 1) ? "method" : "service", (int)name.len,
                      text);
}
