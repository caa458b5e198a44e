/*
 * Layer: rpc. Services written in C.
 */
#ifndef GP_RPC_METHOD_H
#define GP_RPC_METHOD_H

#include <stdbool.h>

#include "gp/server.h"

/*
 * A method written in C, which takes one request unless |streams| is set. |answer| is called on the
 * polling thread and must not block. It ends the call, or arranges for that. |request| is NULL if
 * the client sent none; it is freed after the return.
 */
typedef struct gp__method {
    const char *path; /* "/package.Service/Method" */
    void (*answer)(void *ctx, gp_server_call *call, const gp_message *request);
    void *ctx;
    bool endless; /* its calls are ended when the server is stopped, without grace */
    /*
     * Called once, when the server is being stopped and no handler runs any more: ends calls that
     * would otherwise go on for ever. Called on any thread; must not block. May be NULL.
     */
    void (*on_idle)(void *ctx);
    void (*release)(void *ctx); /* called when the server is gone; may be NULL */
    bool streams; /* |answer| is called when the call arrives, and receives requests itself */
} gp__method;

/*
 * Add |count| methods, which are part of the allocation |block|, before the server is started. The
 * server owns |block| from here on, and frees it if this fails. Returns: 0 or GP_ENOMEM.
 */
int gp__server_add_methods(gp_server *server, const gp__method *methods, size_t count, void *block,
                           gp_error *err);

#endif
