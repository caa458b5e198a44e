#include "rpc/reset.h"

#include <string.h>

#include "gp/grpc_status.h"

/* What gRPC says of RST_STREAM with the code CANCEL, and what newer versions put around that. */
static const char cancel_reset[] = "Received RST_STREAM with error code 8";
static const char newer_cancel_reset[] =
    "Stream removed (RST_STREAM (Received RST_STREAM with error code 8))";

static bool
is_text(gp_bytes details, const char *text)
{
    return details.len == strlen(text) && memcmp(details.data, text, details.len) == 0;
}

bool
gp__reset_by_deadline(int code, gp_bytes details, int64_t deadline, int64_t now)
{
    if (!is_text(details, cancel_reset) && !is_text(details, newer_cancel_reset)) {
        return false;
    }
    return code == GP_GRPC_DEADLINE_EXCEEDED ||
           (code == GP_GRPC_CANCELLED && now >= deadline - GP__RESET_EARLY);
}
