#include <unistd.h>

#include "base/fork.h"
#include "base/thread.h"
#include "gp/grpc.h"
#include "gp/runtime.h"
#include "rpc/channel.h"
#include "rpc/engine.h"
#include "rpc/grpc_library.h"
#include "rpc/server.h"

/* Whether gRPC is used, and only by what has been released and is not freed yet. */
static bool
is_only_ending(void)
{
    int count = gp__fork_users();

    return count > 0 && count <= gp__fork_count(GP__FORK_ENDING);
}

/* Free gRPC's part of what is over. Returns whether calls still refer to some of it. */
static bool
retire_all(void)
{
    bool channels = gp__channels_retire();

    return gp__servers_retire() || channels;
}

void
gp_grpc_suspend(void)
{
    /*
     * The application may refer to calls for ever, and a fork should not take long. What is not
     * referred to ends for certain: a timer of gRPC's runs for a second, until it would try again
     * to connect to a plugin that was killed.
     */
    const int64_t referred_ms = 500;
    const int64_t ending_ms = 3000;
    int64_t deadline = gp_deadline_in(ending_ms);
    int64_t referred = gp_deadline_in(referred_ms);

    if (gp_runtime_forked() || gp__fork_count(GP__FORK_CORE) == 0) {
        return;
    }
    /* The core's threads may still hold what has ended a moment ago. */
    while ((retire_all() && gp__now() < referred) || (is_only_ending() && gp__now() < deadline)) {
        usleep(500);
    }
    gp__grpc_stop(gp__engine_suspend, deadline);
}
