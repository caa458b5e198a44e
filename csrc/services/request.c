#include "services/request.h"

#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"

static int
take_reply(gp_call *call, unsigned char **reply, size_t *reply_len, gp_error *err)
{
    gp_message *message = gp_call_take_reply(call);
    int rc = 0;

    *reply = NULL;
    *reply_len = 0;
    if (message != NULL) {
        *reply_len = gp_message_size(message);
        *reply = gp__malloc(*reply_len);
        if (*reply == NULL) {
            rc = gp_error_set(err, GP_ENOMEM, "reply of %zu bytes", *reply_len);
        } else {
            gp_message_copy(message, *reply);
        }
        gp_message_free(message);
    }
    return rc;
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
    rc = gp_call_wait(call, -1, interrupt);
    if (rc < 0) {
        rc = gp_error_set(err, rc, "interrupted while waiting for %s", path);
    } else if ((status = gp_call_get_status(call))->code != 0) {
        rc = gp_error_set(err, GP_ERPC, "%s failed with gRPC status %d: %.*s", path, status->code,
                          (int)status->details.len, (const char *)status->details.data);
        if (err != NULL) {
            err->number = status->code;
        }
    } else if (reply != NULL) {
        rc = take_reply(call, reply, reply_len, err);
    }
    gp_call_unref(call);
    return rc;
}
