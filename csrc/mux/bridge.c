#include "mux/bridge.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "os/fd.h"

/* ---- Ends ------------------------------------------------------------------------------------ */

void
gp__bridge_want(gp__bridge *bridge, unsigned wants)
{
    if (wants != bridge->wants && bridge->watch != NULL) {
        bridge->wants = wants;
        gp__reactor_want(bridge->watch, wants);
    }
}

void
gp__bridge_free(gp__bridge *bridge)
{
    gp_link_remove(&bridge->link);
    gp_link_remove(&bridge->waiting);
    gp__reactor_remove(bridge->watch);
    gp__fd_close(&bridge->fd);
    gp__fifo_release(&bridge->backlog);
    gp__free(bridge);
}

void
gp__bridge_drop_locked(gp__pump *pump, gp__bridge *bridge)
{
    (void)pump;
    if (bridge->stream != NULL) {
        gp__yamux_stream_release(bridge->stream);
    }
    gp__bridge_free(bridge);
}

void
gp__bridge_check_end_locked(gp__pump *pump, gp__bridge *bridge)
{
    if (bridge->remote_ended && bridge->backlog.len == 0 && !bridge->shut_down) {
        bridge->shut_down = true;
        shutdown(bridge->fd, SHUT_WR);
    }
    if (bridge->local_ended && (bridge->shut_down || bridge->local_closed)) {
        gp__bridge_drop_locked(pump, bridge);
    }
}

void
gp__bridge_end_remote_locked(gp__pump *pump, gp__bridge *bridge)
{
    bridge->remote_ended = true;
    gp__bridge_check_end_locked(pump, bridge);
}

void
gp__bridge_detach_locked(gp__pump *pump, gp__bridge *bridge)
{
    gp_link_remove(&bridge->waiting);
    bridge->stream = NULL;
    bridge->remote_ended = bridge->local_ended = true;
    gp__bridge_want(bridge, bridge->wants & ~(unsigned)GP__WATCH_READ);
    gp__bridge_check_end_locked(pump, bridge);
}

/* ---- In: to the local end -------------------------------------------------------------------- */

/* The local end was closed: discard what has come in, and whatever comes in from now on. */
static void
discard_incoming(gp__bridge *bridge)
{
    bridge->local_closed = true;
    if (bridge->stream != NULL) {
        gp__yamux_stream_consumed(bridge->stream, bridge->backlog.len);
    }
    gp__fifo_release(&bridge->backlog);
}

/* Send |bytes| to the local end. Returns how many it has taken: all if it was closed. */
static size_t
send_to_local(gp__bridge *bridge, const unsigned char *bytes, size_t len)
{
    ssize_t sent = send(bridge->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
        discard_incoming(bridge);
        return len;
    }
    return sent > 0 ? (size_t)sent : 0;
}

int
gp__bridge_receive_locked(gp__pump *pump, gp__bridge *bridge, const unsigned char *bytes,
                          size_t len)
{
    size_t taken = 0;

    (void)pump;
    if (bridge->local_closed) {
        taken = len;
    } else if (bridge->backlog.len == 0) {
        taken = send_to_local(bridge, bytes, len);
    }
    gp__yamux_stream_consumed(bridge->stream, taken);
    if (taken < len) {
        gp__bridge_want(bridge, bridge->wants | GP__WATCH_WRITE);
        return gp__fifo_put(&bridge->backlog, bytes + taken, len - taken);
    }
    return 0;
}

/* The local end may have room: send the backlog to it. */
static void
send_backlog(gp__bridge *bridge)
{
    size_t taken = send_to_local(bridge, gp__fifo_front(&bridge->backlog), bridge->backlog.len);

    if (!bridge->local_closed) {
        gp__fifo_drop(&bridge->backlog, taken);
        if (bridge->stream != NULL) {
            gp__yamux_stream_consumed(bridge->stream, taken);
        }
    }
    if (bridge->backlog.len == 0) {
        gp__fifo_release(&bridge->backlog);
        gp__bridge_want(bridge, bridge->wants & ~(unsigned)GP__WATCH_WRITE);
    }
}

/* ---- Out: from the local end ----------------------------------------------------------------- */

/* The local end will send no more. It may also have been closed, which ends the other direction. */
static void
end_local(gp__bridge *bridge)
{
    struct pollfd poll_fd = {.fd = bridge->fd, .events = 0};

    bridge->local_ended = true;
    gp__bridge_want(bridge, bridge->wants & ~(unsigned)GP__WATCH_READ);
    if (bridge->stream != NULL) {
        gp__yamux_stream_shutdown(bridge->stream);
    }
    if (poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & POLLHUP) != 0) {
        discard_incoming(bridge);
    }
}

/* The local end may have data: read it into the output. */
static void read_local_locked(gp__pump *pump, gp__bridge *bridge) GP_REQUIRES(&pump->lock);

static void
read_local_locked(gp__pump *pump, gp__bridge *bridge)
{
    unsigned char *room;
    ptrdiff_t most = gp__yamux_stream_reserve(bridge->stream, &room, GP__YAMUX_FRAME_MOST);
    ssize_t got;

    if (most <= 0) {
        gp__bridge_want(bridge, bridge->wants & ~(unsigned)GP__WATCH_READ);
        if (most == 0 && gp__yamux_full(pump->session) && !gp_link_is_linked(&bridge->waiting)) {
            gp_list_append(&pump->waiting, &bridge->waiting);
        }
        return;
    }
    got = recv(bridge->fd, room, (size_t)most, MSG_DONTWAIT);
    if (got > 0) {
        gp__yamux_stream_commit(bridge->stream, (size_t)got);
    } else if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
        end_local(bridge);
    }
}

/* ---- Making ---------------------------------------------------------------------------------- */

/* On the reactor's thread. */
static void
local_ready(void *ctx)
{
    gp__bridge *bridge = ctx;
    gp__pump *pump = bridge->pump;

    gp_mutex_lock(&pump->lock);
    if (!pump->closing) {
        pump->busy = true;
        if ((bridge->wants & GP__WATCH_WRITE) != 0) {
            send_backlog(bridge);
        }
        if ((bridge->wants & GP__WATCH_READ) != 0 && bridge->stream != NULL) {
            read_local_locked(pump, bridge);
        }
        gp__bridge_check_end_locked(pump, bridge);
        gp__pump_finish_callback_locked(pump);
    }
    gp_mutex_unlock(&pump->lock);
}

int
gp__bridge_new_locked(gp__bridge **out, gp__pump *pump, int fd, gp_error *err)
{
    gp__bridge *bridge = gp__calloc(1, sizeof(*bridge));
    int rc;

    if (bridge == NULL) {
        gp__fd_close(&fd);
        return gp_error_set(err, GP_ENOMEM, "out of memory for a stream");
    }
    bridge->pump = pump;
    bridge->fd = fd;
    bridge->wants = GP__WATCH_READ;
    if ((rc = gp__reactor_add(&bridge->watch, fd, local_ready, bridge, err)) < 0) {
        gp__bridge_free(bridge);
        return rc;
    }
    gp_list_append(&pump->bridges, &bridge->link);
    *out = bridge;
    return 0;
}
