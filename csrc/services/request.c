#include "services/request.h"

#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "gp/grpc_status.h"
#include "rpc/reset.h"

static const char deadline_exceeded[] = GP__DEADLINE_DETAILS;

static int
copy_reply(gp_call *call, unsigned char **reply, size_t *reply_len, gp_error *err)
{
    gp_message *message = gp_call_take_reply(call);
    int rc = 0;

    *reply = NULL;
    *reply_len = 0;
    if (message != NULL) {
        *reply_len = gp_message_size(message);
        *reply = gp__malloc(*reply_len);
        if (*reply == NULL) {
            rc = gp_error_set(err, GP_ENOMEM, "out of memory for a reply of %zu bytes", *reply_len);
        } else {
            gp_message_copy(message, *reply);
        }
        gp_message_free(message);
    }
    return rc;
}

/* Returns GP_ERPC. */
static int
set_status(gp_error *err, const char *path, int code, gp_bytes details)
{
    gp_error_set(err, GP_ERPC, "%s failed with gRPC status %d: %.*s", path, code, (int)details.len,
                 (const char *)details.data);
    if (err != NULL) {
        err->number = code;
    }
    return GP_ERPC;
}

int
gp__request(gp_channel *channel, const char *path, gp_bytes request, int64_t timeout_ms,
            const gp_interrupt *interrupt, unsigned char **reply, size_t *reply_len, gp_error *err)
{
    gp_call_options options = {.method = {path, strlen(path)},
                               .timeout_ns = timeout_ms < 0 ? -1 : timeout_ms * GP__MS,
                               .compression = GP_COMPRESS_DEFAULT};
    const gp_call_status *status;
    gp_call *call;
    int rc = gp_call_start_unary(&call, channel, &options, request, err);

    if (rc < 0) {
        return rc;
    }
    /* gRPC enforces the deadline, too; killing a plugin must not depend on gRPC alone. */
    rc = gp_call_wait(call, options.timeout_ns, interrupt);
    if (rc == GP_ETIMEOUT) {
        rc = set_status(err, path, GP_GRPC_DEADLINE_EXCEEDED,
                        (gp_bytes){deadline_exceeded, sizeof(deadline_exceeded) - 1});
    } else if (rc < 0) {
        rc = gp_error_set(err, rc, "interrupted while waiting for %s", path);
    } else if ((status = gp_call_get_status(call))->code != GP_GRPC_OK) {
        rc = set_status(err, path, status->code, status->details);
    } else if (reply != NULL) {
        rc = copy_reply(call, reply, reply_len, err);
    }
    gp_call_unref(call);
    return rc;
}
