/*
 * Layer: rpc. Services written in C.
 */
#ifndef GP_RPC_METHOD_H
#define GP_RPC_METHOD_H

#include <stdbool.h>

#include "gp/server.h"

/*
 * A method written in C, by default with one request. |answer| runs on the polling thread, must not
 * block, and ends the call, or sends one message and leaves the end to later. |request| is NULL if
 * the client sent none; it is freed after the return.
 */
typedef struct gp__method {
    const char *path; /* "/package.Service/Method" */
    void (*answer)(void *ctx, gp_server_call *call, const gp_message *request);
    void *ctx;
    bool endless; /* its calls end with the server's stop and get no grace */
    /* The server stops and no handler runs any more: time to end calls that would never end. Once; on
     * any thread, must not block. May be NULL. */
    void (*on_idle)(void *ctx);
    void (*release)(void *ctx); /* the server is gone; may be NULL */
    bool streams; /* many requests: |answer| runs at once with none, and receives by itself */
} gp__method;

/*
 * Add |count| methods, which lie in |block|, before the start. The server owns |block| from here
 * on, also on failure, and frees it with gp__free(). Returns: 0 or GP_ENOMEM.
 */
int gp__server_add_methods(gp_server *server, const gp__method *methods, size_t count, void *block,
                           gp_error *err);

#endif
