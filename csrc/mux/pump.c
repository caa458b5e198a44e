#include "mux/pump.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/fifo.h"
#include "base/thread.h"
#include "gp/lock.h"
#include "os/fd.h"
#include "os/reactor.h"

enum { INPUT = 256 * 1024, TICK_MS = 30000, WAKE_MOST = 8 };

/*
 * One stream and its local end. The two directions end one by one:
 *
 *   out, from the local end:  open -> |sent_all|: it was shut down, and FIN is out
 *   in, to the local end:     open -> |ended|: FIN has come -> |told|: the backlog was empty, shut down
 *
 * When both have ended, the link goes. |deaf| is a local end that was closed: what comes is thrown
 * away, until its own last data are out.
 */
typedef struct link {
    struct link *next; /* in the ring of all */
    struct link *prev;
    struct link *hungry;      /* in the line of those that wait for room in the output */
    gp__pump *pump;           /* borrowed: outlives its links */
    gp__yamux_stream *stream; /* owned; NULL once the session is over */
    gp__watch *watch;         /* owned */
    int fd;                   /* owned */
    gp__fifo backlog;         /* come in, and not taken by the local end yet */
    unsigned wants;           /* what the reactor looks for */
    bool in_line;
    bool sent_all;
    bool ended;
    bool told;
    bool deaf;
} link;

struct gp__pump {
    gp__pump_options options;
    gp_mutex lock;      /* guards what follows; taken before the reactor's */
    int fd;             /* owned; -1 once the session is over */
    gp__watch *watch;   /* owned */
    gp__watch *ticks;   /* owned */
    gp__yamux *session; /* owned; NULL once it is over */
    link links;         /* head of the ring */
    link *line;         /* those that wait for room in the output, oldest first */
    link **line_end;
    unsigned wants;
    size_t waiting; /* the streams of ours that the other side had to answer, when last looked at */
    bool closing;
    bool busy;        /* a callback of ours runs */
    gp_cond idle;     /* none does any more */
    gp_error failure; /* why it is over... */
    bool hung_up;     /* and there is no more to it than that */
};

/* What all pumps read into: they take turns on the reactor's thread, and store nothing of it. */
static unsigned char input[INPUT];

static void settle(gp__pump *pump);

/* ---- Callbacks of the reactor ---- */

/* Returns whether to go on, with the lock held then. */
static bool
enter(gp__pump *pump)
{
    gp_mutex_lock(&pump->lock);
    if (pump->closing) {
        gp_mutex_unlock(&pump->lock);
        return false;
    }
    pump->busy = true;
    return true;
}

/* Whether the other side has answered any since the last look. */
static bool
count_waiting(gp__pump *pump)
{
    size_t before = pump->waiting;

    pump->waiting = pump->session != NULL ? gp__yamux_waiting(pump->session, NULL) : 0;
    return pump->waiting < before;
}

static void
leave(gp__pump *pump)
{
    if (count_waiting(pump) && pump->options.answered != NULL) {
        gp_mutex_unlock(&pump->lock);
        pump->options.answered(pump->options.ctx);
        gp_mutex_lock(&pump->lock);
    }
    pump->busy = false;
    gp_cond_broadcast(&pump->idle);
    gp_mutex_unlock(&pump->lock);
}

/* ---- Interest ---- */

static void
link_want(link *it, unsigned wants)
{
    if (wants != it->wants && it->watch != NULL) {
        it->wants = wants;
        gp__reactor_want(it->watch, wants);
    }
}

static void
pump_want(gp__pump *pump, unsigned wants)
{
    if (wants != pump->wants && pump->watch != NULL) {
        pump->wants = wants;
        gp__reactor_want(pump->watch, wants);
    }
}

/* ---- Links ---- */

static void
leave_line(link *it)
{
    link **at = &it->pump->line;

    if (!it->in_line) {
        return;
    }
    while (*at != it) {
        at = &(*at)->hungry;
    }
    *at = it->hungry;
    if (it->hungry == NULL) {
        it->pump->line_end = at;
    }
    it->in_line = false;
}

static void
link_free(link *it)
{
    it->prev->next = it->next;
    it->next->prev = it->prev;
    gp__reactor_remove(it->watch);
    gp__fd_close(&it->fd);
    gp__fifo_release(&it->backlog);
    gp__free(it);
}

static void
link_drop(link *it)
{
    leave_line(it);
    if (it->stream != NULL) {
        gp__yamux_stream_release(it->stream);
    }
    link_free(it);
}

/* On the reactor's thread. Returns whether the link goes on. */
static bool
link_ends(link *it)
{
    if (it->ended && it->backlog.len == 0 && !it->told) {
        it->told = true;
        shutdown(it->fd, SHUT_WR);
    }
    if (it->sent_all && (it->told || it->deaf)) {
        link_drop(it);
        return false;
    }
    return true;
}

/* The local end takes no more. */
static void
link_deafen(link *it)
{
    it->deaf = true;
    if (it->stream != NULL) {
        gp__yamux_stream_consumed(it->stream, it->backlog.len);
    }
    gp__fifo_release(&it->backlog);
}

static ssize_t
give_local(link *it, const unsigned char *bytes, size_t len)
{
    ssize_t given = send(it->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (given < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
        link_deafen(it);
        return (ssize_t)len;
    }
    return given > 0 ? given : 0;
}

/* Data for the local end: past the backlog when there is none. Returns 0 or GP_ENOMEM. */
static int
link_take(link *it, const unsigned char *bytes, size_t len)
{
    size_t given = 0;

    if (it->deaf) {
        given = len;
    } else if (it->backlog.len == 0) {
        given = (size_t)give_local(it, bytes, len);
    }
    gp__yamux_stream_consumed(it->stream, given);
    if (given < len) {
        link_want(it, it->wants | GP__WATCH_WRITE);
        return gp__fifo_put(&it->backlog, bytes + given, len - given);
    }
    return 0;
}

/* The local end may have room for the backlog. */
static void
link_push(link *it)
{
    ssize_t given = give_local(it, gp__fifo_front(&it->backlog), it->backlog.len);

    if (!it->deaf) {
        gp__fifo_drop(&it->backlog, (size_t)given);
        if (it->stream != NULL) {
            gp__yamux_stream_consumed(it->stream, (size_t)given);
        }
    }
    if (it->backlog.len == 0) {
        gp__fifo_release(&it->backlog);
        link_want(it, it->wants & ~(unsigned)GP__WATCH_WRITE);
    }
}

/* Nothing more will come from the local end. Has it closed the other direction as well? */
static void
link_local_end(link *it)
{
    struct pollfd poll_fd = {.fd = it->fd, .events = 0};

    it->sent_all = true;
    link_want(it, it->wants & ~(unsigned)GP__WATCH_READ);
    if (it->stream != NULL) {
        gp__yamux_stream_shutdown(it->stream);
    }
    if (poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & POLLHUP) != 0) {
        link_deafen(it);
    }
}

/* The local end may have something to send. */
static void
link_pull(link *it)
{
    gp__pump *pump = it->pump;
    unsigned char *room;
    ptrdiff_t most = gp__yamux_stream_reserve(it->stream, &room, GP__YAMUX_FRAME_MOST);
    ssize_t got;

    if (most <= 0) {
        link_want(it, it->wants & ~(unsigned)GP__WATCH_READ);
        if (most == 0 && gp__yamux_full(pump->session) && !it->in_line) {
            it->in_line = true;
            it->hungry = NULL;
            *pump->line_end = it;
            pump->line_end = &it->hungry;
        }
        return;
    }
    got = recv(it->fd, room, (size_t)most, MSG_DONTWAIT);
    if (got > 0) {
        gp__yamux_stream_commit(it->stream, (size_t)got);
    } else if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
        link_local_end(it);
    }
}

/* On the reactor's thread. */
static void
link_ready(void *ctx)
{
    link *it = ctx;
    gp__pump *pump = it->pump;

    if (!enter(pump)) {
        return;
    }
    if ((it->wants & GP__WATCH_WRITE) != 0) {
        link_push(it);
    }
    if ((it->wants & GP__WATCH_READ) != 0 && it->stream != NULL) {
        link_pull(it);
    }
    link_ends(it);
    settle(pump);
    leave(pump);
}

/* With the lock held. Takes |fd| over, also on failure. */
static int
link_new(link **out, gp__pump *pump, int fd, gp_error *err)
{
    link *it = gp__calloc(1, sizeof(*it));
    int rc;

    if (it == NULL) {
        gp__fd_close(&fd);
        return gp_error_set(err, GP_ENOMEM, "out of memory for a stream");
    }
    it->pump = pump;
    it->fd = fd;
    it->wants = GP__WATCH_READ;
    it->next = it->prev = it;
    if ((rc = gp__reactor_add(&it->watch, it->fd, link_ready, it, err)) < 0) {
        link_free(it);
        return rc;
    }
    it->next = &pump->links;
    it->prev = pump->links.prev;
    it->prev->next = it->next->prev = it;
    *out = it;
    return 0;
}

/* ---- The session ---- */

/* Send what there is to send, as far as the connection takes it. Errors show when it is read. */
static void
flush(gp__pump *pump)
{
    const unsigned char *bytes;
    size_t len;

    while ((bytes = gp__yamux_output(pump->session, &len)) != NULL) {
        ssize_t sent = send(pump->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
            gp__yamux_sent(pump->session, len);
            break;
        }
        if (sent < 0) {
            break;
        }
        gp__yamux_sent(pump->session, (size_t)sent);
    }
    pump_want(pump, GP__WATCH_READ | (bytes != NULL ? GP__WATCH_WRITE : 0));
    /* A few at a time: these fill the output again, and each of their turns ends here. */
    for (int i = 0; i < WAKE_MOST && pump->line != NULL && !gp__yamux_full(pump->session); i++) {
        link *it = pump->line;

        leave_line(it);
        link_want(it, it->wants | GP__WATCH_READ);
    }
}

/* On the reactor's thread, with the lock held, which is released while |over| runs. */
static void
end_session(gp__pump *pump, const gp_error *why)
{
    link *it = pump->links.next;

    /* (All with the lock: who notices a stream's end and asks why gets his answer after this.) */
    flush(pump); /* the reason, if there is one to tell */
    gp_error_set(&pump->failure, why->code, "%s", gp_error_message(why));
    while (it != &pump->links) {
        link *next = it->next;

        /* What has come is still delivered. */
        leave_line(it);
        it->stream = NULL;
        it->ended = it->sent_all = true;
        link_want(it, it->wants & ~(unsigned)GP__WATCH_READ);
        link_ends(it);
        it = next;
    }
    pump_want(pump, 0);
    gp__fd_close(&pump->fd);
    gp__yamux_free(pump->session);
    pump->session = NULL;
    if (pump->options.over != NULL) {
        gp_mutex_unlock(&pump->lock);
        pump->options.over(pump->options.ctx, why);
        gp_mutex_lock(&pump->lock);
    }
}

/* A stream of the other side's: with the lock held, which is released while |opened| runs. */
static void
welcome(gp__pump *pump, gp__yamux_stream *stream)
{
    link *it;
    int fd;

    gp_mutex_unlock(&pump->lock);
    fd = pump->options.opened(pump->options.ctx);
    gp_mutex_lock(&pump->lock);
    if (pump->closing) {
        gp__fd_close(&fd);
    } else if (fd < 0 || link_new(&it, pump, fd, NULL) < 0) {
        gp__yamux_stream_release(stream);
    } else {
        it->stream = stream;
        gp__yamux_stream_accept(stream, it);
    }
}

static int
take_event(gp__pump *pump, const gp__yamux_event *event, gp_error *err)
{
    link *it = event->stream != NULL ? gp__yamux_stream_ctx(event->stream) : NULL;

    switch (event->kind) {
    case GP__YAMUX_OPENED:
        welcome(pump, event->stream);
        break;
    case GP__YAMUX_WRITABLE:
        if (!it->sent_all) {
            link_want(it, it->wants | GP__WATCH_READ);
        }
        break;
    case GP__YAMUX_DATA: {
        int rc = link_take(it, event->data, event->len);

        if (rc < 0) {
            return gp_error_set(err, rc, "out of memory for a stream's data");
        }
        link_ends(it);
        break;
    }
    case GP__YAMUX_ENDED:
        it->ended = true;
        link_ends(it);
        break;
    case GP__YAMUX_RESET:
        link_drop(it);
        break;
    case GP__YAMUX_ACCEPTED:
    case GP__YAMUX_GO_AWAY:
        break;
    }
    return 0;
}

/* Returns 0, or what ends the session. */
static int
process(gp__pump *pump, const unsigned char *bytes, size_t len, gp_error *err)
{
    gp__yamux_event event;
    int rc = 0;

    while (!pump->closing &&
           (rc = gp__yamux_receive(pump->session, &bytes, &len, &event, err)) > 0) {
        if ((rc = take_event(pump, &event, err)) < 0) {
            break;
        }
    }
    return rc;
}

/* At the end of each callback: what it brought about inside the session, and out with the bytes. */
static void
settle(gp__pump *pump)
{
    gp_error err = GP_ERROR_INIT;

    if (pump->session == NULL || pump->closing) {
        return;
    }
    if (process(pump, NULL, 0, &err) < 0) {
        end_session(pump, &err);
    } else if (!pump->closing) {
        flush(pump);
    }
    gp_error_release(&err);
}

static int
receive(gp__pump *pump, gp_error *err)
{
    ssize_t got = recv(pump->fd, input, sizeof(input), MSG_DONTWAIT);

    if (got > 0) {
        return process(pump, input, (size_t)got, err);
    }
    if (got == 0 || (got < 0 && errno == ECONNRESET)) {
        pump->hung_up = true;
        return gp_error_set(err, GP_ECLOSED, "the other side has closed the connection");
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
        return 0;
    }
    return gp_error_set_errno(err, errno, "the multiplexed connection is lost");
}

/* On the reactor's thread. */
static void
session_ready(void *ctx)
{
    gp__pump *pump = ctx;
    gp_error err = GP_ERROR_INIT;

    if (!enter(pump)) {
        return;
    }
    if (pump->session != NULL && receive(pump, &err) < 0) {
        end_session(pump, &err);
    } else {
        settle(pump);
    }
    leave(pump);
    gp_error_release(&err);
}

/* On the reactor's thread. */
static void
session_tick(void *ctx)
{
    gp__pump *pump = ctx;
    gp_error err = GP_ERROR_INIT;

    if (!enter(pump)) {
        return;
    }
    if (pump->session != NULL && gp__yamux_tick(pump->session, gp__now(), &err) < 0) {
        end_session(pump, &err);
    } else {
        settle(pump);
    }
    leave(pump);
    gp_error_release(&err);
}

/* ---- Opening, dialling, closing ---- */

static int64_t
tick_ms(const gp__yamux_options *options)
{
    int64_t shorter = options->keepalive < options->timeout ? options->keepalive : options->timeout;

    return shorter > 0 ? (shorter + GP__MS - 1) / GP__MS : TICK_MS;
}

int
gp__pump_open(gp__pump **out, int fd, const gp__pump_options *options, gp_error *err)
{
    const int yes = 1;
    gp__pump *pump = gp__calloc(1, sizeof(*pump));
    int rc;

    if (pump == NULL) {
        gp__fd_close(&fd);
        return gp_error_set(err, GP_ENOMEM, "out of memory for a multiplexed connection");
    }
    pump->options = *options;
    pump->fd = fd;
    pump->wants = GP__WATCH_READ;
    pump->links.next = pump->links.prev = &pump->links;
    pump->line_end = &pump->line;
    gp_mutex_init(&pump->lock);
    gp_cond_init(&pump->idle);
    /* Fails for sockets that are not TCP's, which need none of it. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    gp_mutex_lock(&pump->lock);
    if ((rc = gp__yamux_new(&pump->session, &options->session, gp__now(), err)) == 0 &&
        (rc = gp__reactor_every(&pump->ticks, tick_ms(&options->session), session_tick, pump,
                                err)) == 0) {
        rc = gp__reactor_add(&pump->watch, fd, session_ready, pump, err);
    }
    *out = pump;
    gp_mutex_unlock(&pump->lock);
    if (rc < 0) {
        *out = NULL;
        gp__pump_close(pump, 0);
    }
    return rc;
}

int
gp__pump_dial(gp__pump *pump, int fd, gp_error *err)
{
    link *it = NULL;
    int rc;

    if (gp_runtime_forked()) {
        gp__fd_close(&fd);
        return gp_runtime_refuse_fork(err);
    }
    gp_mutex_lock(&pump->lock);
    if (pump->session == NULL) {
        gp__fd_close(&fd);
        rc = gp_error_set(err, GP_ECLOSED, "%s", gp_error_message(&pump->failure));
    } else if ((rc = link_new(&it, pump, fd, err)) == 0 &&
               (rc = gp__yamux_open(&it->stream, pump->session, it, err)) < 0) {
        /* The reactor may be about to look at it: its own callback has to drop it. */
        it->sent_all = it->ended = true;
        link_want(it, GP__WATCH_READ | GP__WATCH_WRITE);
    } else if (rc == 0) {
        pump->waiting++;
        flush(pump);
    }
    gp_mutex_unlock(&pump->lock);
    return rc;
}

int
gp__pump_why(gp__pump *pump, gp_error *why)
{
    int code = 0;

    gp_mutex_lock(&pump->lock);
    if (pump->session == NULL && !pump->hung_up && pump->failure.code != 0) {
        code = gp_error_set(why, pump->failure.code, "%s", gp_error_message(&pump->failure));
    }
    gp_mutex_unlock(&pump->lock);
    return code;
}

size_t
gp__pump_waiting(gp__pump *pump, size_t *unsent)
{
    size_t waiting = 0;

    *unsent = 0;
    gp_mutex_lock(&pump->lock);
    if (pump->session != NULL) {
        waiting = gp__yamux_waiting(pump->session, unsent);
    }
    gp_mutex_unlock(&pump->lock);
    return waiting;
}

static bool
has_business(const gp__pump *pump)
{
    size_t len;

    return pump->session != NULL &&
           (pump->links.next != &pump->links || gp__yamux_output(pump->session, &len) != NULL);
}

void
gp__pump_close(gp__pump *pump, int64_t linger_ms)
{
    int64_t deadline = gp_deadline_in(linger_ms);

    if (pump == NULL || gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&pump->lock);
    while (has_business(pump) && gp__now() < deadline) {
        gp_cond_wait_until(&pump->idle, &pump->lock, deadline);
    }
    pump->closing = true;
    if (pump->session != NULL) {
        gp__yamux_go_away(pump->session, GP__YAMUX_NORMAL);
        flush(pump);
    }
    while (pump->busy) {
        gp_cond_wait(&pump->idle, &pump->lock);
    }
    gp_mutex_unlock(&pump->lock);
    /* From here on callbacks see that it is closing, and touch nothing. */
    gp__reactor_remove(pump->watch);
    gp__reactor_remove(pump->ticks);
    while (pump->links.next != &pump->links) {
        link_free(pump->links.next);
    }
    gp__yamux_free(pump->session);
    gp__fd_close(&pump->fd);
    gp_error_release(&pump->failure);
    gp_cond_release(&pump->idle);
    gp_mutex_release(&pump->lock);
    gp__free(pump);
}
