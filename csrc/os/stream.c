#include "os/stream.h"

#include <poll.h>

#include "base/thread.h"
#include "os/fd.h"

short
gp__stream_poll_events(unsigned events)
{
    return (short)(((events & GP__STREAM_READ) != 0 ? POLLIN : 0) |
                   ((events & GP__STREAM_WRITE) != 0 ? POLLOUT : 0));
}

int
gp__stream_await(const gp__stream *stream, unsigned wanted, int64_t deadline,
                 const gp_interrupt *interrupt)
{
    struct pollfd ready = {
        .fd = gp__stream_fd(stream),
        .events = gp__stream_poll_events(gp__stream_events(stream, wanted)),
    };

    for (;;) {
        int found = gp__fd_poll(&ready, 1, gp__slice(deadline, interrupt));
        int rc;

        if (gp__now() >= deadline) {
            return GP_ETIMEOUT;
        }
        if ((rc = gp__interrupted(interrupt)) < 0 || found != 0) {
            return rc;
        }
    }
}
