#include <unistd.h>

#include "base/fork.h"
#include "base/thread.h"
#include "gp/grpc.h"
#include "gp/runtime.h"
#include "rpc/channel.h"
#include "rpc/engine.h"
#include "rpc/grpc_library.h"
#include "rpc/server.h"

/* Whether gRPC is in use, but only by objects that have been released and will soon be freed. */
static bool
is_only_ending(void)
{
    int count = gp__fork_users();

    return count > 0 && count <= gp__fork_count(GP__FORK_ENDING);
}

/*
 * Free gRPC's part of channels and servers that have ended. Returns whether some of them still have
 * calls.
 */
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
     * How long to wait for calls to which the application still refers: it may do so for ever, and
     * a fork should not take long. Objects that have been released are certain to be freed, but
     * perhaps not before a timer of gRPC's has run out, which takes a second: after that gRPC would
     * try again to connect to a plugin that was killed.
     */
    const int64_t calls_ms = 500;
    const int64_t ending_ms = 3000;
    int64_t deadline = gp_deadline_in(ending_ms);
    int64_t calls_deadline = gp_deadline_in(calls_ms);

    if (gp_runtime_forked() || gp__fork_count(GP__FORK_CORE) == 0) {
        return;
    }
    /* gRPC's threads may still use objects that have ended a moment ago. */
    while ((retire_all() && gp__now() < calls_deadline) ||
           (is_only_ending() && gp__now() < deadline)) {
        usleep(500);
    }
    gp__grpc_stop(gp__engine_suspend, deadline);
}
