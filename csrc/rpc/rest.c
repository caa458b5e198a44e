#include <unistd.h>

#include "base/fork.h"
#include "base/thread.h"
#include "gp/grpc.h"
#include "gp/runtime.h"
#include "rpc/channel.h"
#include "rpc/engine.h"
#include "rpc/runtime.h"
#include "rpc/server.h"

/* Whether gRPC is used by what has been let go of alone, and has not been freed yet. */
static bool
only_ending(void)
{
    int count = gp__fork_users();

    return count > 0 && count <= gp__fork_count(GP__FORK_ENDING);
}

/* Let go of what is over. Returns whether some of it is still referred to. */
static bool
retire(void)
{
    bool channels = gp__channels_retire();

    return gp__servers_retire() || channels;
}

void
gp_grpc_rest(void)
{
    /*
     * What has calls that are referred to may stay for ever, and forks should not take long. What nobody
     * refers to ends for certain: a timer of gRPC's, until which it tries to connect again to a plugin
     * that was killed, runs for a second.
     */
    const int64_t referred_ms = 500;
    const int64_t ending_ms = 3000;
    int64_t deadline = gp_deadline_in(ending_ms);
    int64_t referred = gp_deadline_in(referred_ms);

    if (gp_runtime_forked() || gp__fork_count(GP__FORK_CORE) == 0) {
        return;
    }
    /* Threads of the core may not have let go yet of what ended a moment ago. */
    while ((retire() && gp__now() < referred) || (only_ending() && gp__now() < deadline)) {
        usleep(500);
    }
    gp__grpc_stop(gp__engine_suspend, deadline);
}
