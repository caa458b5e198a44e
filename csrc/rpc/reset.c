#include "rpc/reset.h"

#include <string.h>

#include "gp/grpc_status.h"

/* What gRPC's core says of RST_STREAM with the code CANCEL. */
static const char cancel_reset[] = "Received RST_STREAM with error code 8";

bool
gp__reset_by_deadline(int code, gp_bytes details, int64_t deadline, int64_t now)
{
    if (details.len != sizeof(cancel_reset) - 1 ||
        memcmp(details.data, cancel_reset, details.len) != 0) {
        return false;
    }
    return code == GP_GRPC_DEADLINE_EXCEEDED ||
           (code == GP_GRPC_CANCELLED && now >= deadline - GP__RESET_EARLY);
}
