#include "services/controller.h"

#include "base/alloc.h"
#include "gp/grpc_status.h"
#include "gp/services.h"
#include "rpc/method.h"
#include "services/request.h"

#define SHUTDOWN "/plugin.GRPCController/Shutdown"

/* Freed by the server that it belongs to. */
typedef struct controller {
    gp__method method;
    gp_server *server; /* borrowed: owns this */
    int64_t grace_ms;
} controller;

/* Both messages of Shutdown are empty, and so is their encoding. */
static const gp_bytes empty = {"", 0};

static void
answer_shutdown(void *ctx, gp_server_call *call, const gp_message *request)
{
    controller *self = ctx;

    (void)request;
    /*
     * gp_server_stop() does not block, so this call does not wait for itself and can still be
     * answered.
     */
    gp_server_stop(self->server, self->grace_ms);
    gp_server_call_reply(call, empty, 0, empty, (gp_metadata){NULL, 0});
}

int
gp_server_add_controller(gp_server *server, int64_t grace_ms, gp_error *err)
{
    controller *self = gp__calloc(1, sizeof(*self));

    if (self == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for the controller service");
    }
    self->method = (gp__method){.path = SHUTDOWN, .answer = answer_shutdown, .ctx = self};
    self->server = server;
    self->grace_ms = grace_ms;
    return gp__server_add_methods(server, &self->method, 1, self, err);
}

int
gp__controller_shutdown(gp_channel *channel, int64_t timeout_ms, const gp_interrupt *interrupt,
                        gp_error *err)
{
    gp_error local = GP_ERROR_INIT;
    int rc;

    if (err == NULL) {
        err = &local;
    }
    rc = gp__request(channel, SHUTDOWN, empty, timeout_ms, interrupt, NULL, NULL, err);
    if (rc == GP_ERPC && err->number == GP_GRPC_UNAVAILABLE) {
        gp_error_release(err);
        rc = 0;
    }
    gp_error_release(&local);
    return rc;
}
