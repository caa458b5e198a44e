#include "gp/stdio.h"
#include "gp/lock.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "gp/services.h"
#include "os/fatal_report.h"
#include "os/fd.h"
#include "os/reactor.h"
#include "os/redirect.h"
#include "rpc/method.h"

#define STREAM "/plugin.GRPCStdio/StreamStdio"

enum {
    HEADER = 8,        /* in front of the bytes in a message; see encode() */
    CHUNK = 64 * 1024, /* what a pipe holds, by default */
    LOOK_MS = 20,      /* at the end: how often to see whether it is one */
    ASKING_MS = 100,   /* ... and for a host that has connected but not asked yet */
    QUIET_MS = 50,     /* at the end: how long those who still have the pipe may be silent */
    UNAVAILABLE = 14,
};

/*
 * One in line for the output: a call of StreamStdio, or a reader. All of it is guarded by the lock
 * of |stdio|, which is held when |give| is called, and not when |end| is.
 */
typedef struct taker {
    struct taker *next;
    gp_stdio *stdio; /* shared: ref */
    int refs;
    bool in_line; /* with a reference */
    bool busy;    /* has not finished with what it was given */
    /* Take a message, copying it before |busy| is reset. Returns false when it can take no more. */
    bool (*give)(struct taker *self, gp_bytes message);
    void (*end)(struct taker *self, bool busy); /* nothing more will come */
    void (*free)(struct taker *self);
} taker;

/* Standard output or standard error. */
typedef struct source {
    gp_stdio *stdio;  /* borrowed: it holds us */
    gp__watch *watch; /* owned; written before its first callback */
    bool armed;
    bool over; /* nobody can write to it any more */
} source;

typedef enum state { NEW, OPEN, ENDING, ENDED } state;

struct gp_stdio {
    atomic_int refs;
    gp_mutex lock; /* guards what follows; before the locks of reactor, calls and poller */
    gp_cond changed;
    state state;
    gp__redirect redirect;
    source sources[2];
    int turn;         /* which of them is read first */
    taker *line;      /* each with a reference */
    bool settled;     /* the end has been told */
    int streams;      /* calls that are not over */
    bool wanted;      /* somebody has been in line */
    int64_t since;    /* ENDING: when it began */
    int64_t heard;    /* when something was last read */
    int64_t until;    /* ENDING: when patience is over */
    gp__watch *clock; /* owned; ENDING */
    /* The message that was read last. Its length is 0 once it has been given to somebody. */
    gp_bytes pending;
    int pending_source;
    size_t pending_size; /* of the output in it, at its end */
    unsigned char buffer[HEADER + CHUNK];
};

/* ---- Making and freeing ---------------------------------------------------------------------- */

int
gp_stdio_new(gp_stdio **out, gp_error *err)
{
    gp_stdio *stdio;

    if (gp_runtime_init() < 0) {
        return gp_error_set(err, GP_EOS, "cannot install the fork guard");
    }
    stdio = gp__calloc(1, sizeof(*stdio));
    if (stdio == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for stdout and stderr");
    }
    gp_mutex_init(&stdio->lock);
    gp_cond_init(&stdio->changed);
    atomic_init(&stdio->refs, 1);
    stdio->redirect = (gp__redirect)GP__REDIRECT_INIT;
    stdio->sources[0].stdio = stdio;
    stdio->sources[1].stdio = stdio;
    *out = stdio;
    return 0;
}

gp_stdio *
gp_stdio_ref(gp_stdio *stdio)
{
    atomic_fetch_add(&stdio->refs, 1);
    return stdio;
}

void
gp_stdio_unref(gp_stdio *stdio)
{
    if (stdio == NULL || gp_runtime_forked() || atomic_fetch_sub(&stdio->refs, 1) != 1) {
        return;
    }
    gp__reactor_remove(stdio->clock);
    gp__reactor_remove(stdio->sources[0].watch);
    gp__reactor_remove(stdio->sources[1].watch);
    gp__redirect_close(&stdio->redirect);
    gp_cond_release(&stdio->changed);
    gp_mutex_release(&stdio->lock);
    gp__free(stdio);
}

/* ---- Reading --------------------------------------------------------------------------------- */

/* Lock held. */
static void
arm(source *from, bool armed)
{
    if (from->watch != NULL && from->armed != armed) {
        from->armed = armed;
        gp__reactor_enable(from->watch, armed);
    }
}

/*
 * Put what stands in front of |size| bytes of output in a StdioData: the channel, field 1, and the
 * length of the bytes, field 2. Returns where the message begins.
 */
static unsigned char *
encode(gp_stdio *stdio, int channel, size_t size)
{
    unsigned char length[HEADER];
    size_t count = 0;
    unsigned char *at;

    do {
        length[count++] = (unsigned char)((size & 0x7f) | 0x80);
        size >>= 7;
    } while (size > 0);
    length[count - 1] &= 0x7f;
    at = stdio->buffer + HEADER - count - 3;
    at[0] = 1 << 3;
    at[1] = (unsigned char)channel;
    at[2] = 2 << 3 | 2;
    for (size_t i = 0; i < count; i++) {
        at[3 + i] = length[i];
    }
    return at;
}

/* Read from one of the two, the lock held. Returns whether there is a message now. */
static bool
read_source(gp_stdio *stdio, int i)
{
    source *from = &stdio->sources[i];
    unsigned char *at;
    ssize_t got;

    if (from->over) {
        return false;
    }
    if (i == 1) {
        got = gp__fatal_report_read(stdio->redirect.fds[i], (char *)stdio->buffer + HEADER, CHUNK);
    } else {
        got = gp__fd_read(stdio->redirect.fds[i], stdio->buffer + HEADER, CHUNK);
    }
    if (got <= 0) {
        from->over = got == 0 || errno != EAGAIN;
        arm(from, !from->over);
        return false;
    }
    at = encode(stdio, i == 0 ? GP_STDOUT : GP_STDERR, (size_t)got);
    stdio->pending = (gp_bytes){at, (size_t)(stdio->buffer + HEADER - at) + (size_t)got};
    stdio->pending_source = i;
    stdio->pending_size = (size_t)got;
    stdio->heard = gp__now();
    stdio->turn = !i;
    return true;
}

/* Lock held. */
static bool
has_message(gp_stdio *stdio)
{
    if (stdio->pending.len > 0) {
        return true;
    }
    if (stdio->state != OPEN && stdio->state != ENDING) {
        return false;
    }
    return read_source(stdio, stdio->turn) || read_source(stdio, !stdio->turn);
}

/* ---- The line -------------------------------------------------------------------------------- */

/* Lock not held. */
static void
taker_unref(taker *self)
{
    gp_stdio *stdio = self->stdio;
    bool last;

    gp_mutex_lock(&stdio->lock);
    last = --self->refs == 0;
    gp_mutex_unlock(&stdio->lock);
    if (last) {
        self->free(self);
        gp_stdio_unref(stdio);
    }
}

/* Lock held. */
static void
enter(taker *self)
{
    taker **link = &self->stdio->line;

    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = self;
    self->stdio->wanted = true;
    self->in_line = true;
    self->refs++;
}

/* Lock held; whoever calls has a reference of his own. */
static void
leave(taker *self)
{
    taker **link = &self->stdio->line;

    if (self->in_line) {
        while (*link != self) {
            link = &(*link)->next;
        }
        *link = self->next;
        self->in_line = false;
        self->refs--;
    }
    self->busy = false;
}

/* Give what there is to the first in line, if it is not busy. Lock held. */
static void
pump(gp_stdio *stdio)
{
    while (stdio->line != NULL && !stdio->line->busy && has_message(stdio)) {
        taker *first = stdio->line;

        first->busy = true;
        if (first->give(first, stdio->pending)) {
            stdio->pending.len = 0;
        } else {
            leave(first); /* it is gone, and its own reference will follow */
        }
    }
}

/* ---- The end --------------------------------------------------------------------------------- */

static bool
is_empty(const gp_stdio *stdio)
{
    struct pollfd fds[2] = {{.fd = stdio->redirect.fds[0], .events = POLLIN},
                            {.fd = stdio->redirect.fds[1], .events = POLLIN}};

    return poll(fds, 2, 0) <= 0 || ((fds[0].revents | fds[1].revents) & POLLIN) == 0;
}

/* Whether there is a reason to wait any longer. Lock held. */
static bool
is_over(const gp_stdio *stdio)
{
    int64_t now = gp__now();

    if (now >= stdio->until) {
        return true;
    }
    if (stdio->line == NULL) {
        /* The first calls on a connection may come in any order. */
        return stdio->wanted || now - stdio->since > ASKING_MS * GP__MS || is_empty(stdio);
    }
    if (stdio->line->busy || stdio->pending.len > 0) {
        return false;
    }
    /* A child that has inherited the descriptors may hold them for ever. */
    return (stdio->sources[0].over && stdio->sources[1].over) ||
           now - stdio->heard > QUIET_MS * GP__MS;
}

/* What nobody has taken goes to where it would have gone without us. Lock held. */
static void
rescue(gp_stdio *stdio)
{
    for (int i = 0; i < 2; i++) {
        int to = stdio->redirect.saved[i];

        if (to < 0) {
            continue;
        }
        if (stdio->pending.len > 0 && stdio->pending_source == i) {
            gp__fd_write_within(to, (const char *)stdio->buffer + HEADER, stdio->pending_size, 0);
        }
        gp__fd_copy_available(stdio->redirect.fds[i], to, 0);
    }
}

/* Lock held. */
static void
conclude(gp_stdio *stdio)
{
    rescue(stdio);
    stdio->pending.len = 0;
    arm(&stdio->sources[0], false);
    arm(&stdio->sources[1], false);
    gp__redirect_close(&stdio->redirect);
    stdio->state = ENDED;
}

/*
 * Move things on, and see whether it is all over. To be called after every change; takes the lock.
 */
static void
proceed(gp_stdio *stdio)
{
    taker *line = NULL;
    gp__watch *clock = NULL;

    gp_mutex_lock(&stdio->lock);
    pump(stdio);
    if (stdio->state == ENDING && is_over(stdio)) {
        conclude(stdio);
    }
    if (stdio->state == ENDED && !stdio->settled) {
        stdio->settled = true;
        clock = stdio->clock;
        stdio->clock = NULL;
    }
    if (stdio->state == ENDED) {
        line = stdio->line; /* with their references */
        stdio->line = NULL;
        for (taker *one = line; one != NULL; one = one->next) {
            one->in_line = false;
        }
        gp_cond_broadcast(&stdio->changed);
    }
    gp_mutex_unlock(&stdio->lock);
    gp__reactor_remove(clock);
    while (line != NULL) {
        taker *next = line->next;

        line->end(line, line->busy);
        taker_unref(line);
        line = next;
    }
}

/* On the reactor's thread. */
static void
readable(void *ctx)
{
    source *from = ctx;
    gp_stdio *stdio = from->stdio;

    gp_mutex_lock(&stdio->lock);
    if (stdio->line == NULL || stdio->line->busy) {
        arm(from, false);
    }
    gp_mutex_unlock(&stdio->lock);
    proceed(stdio);
}

/* On the reactor's thread, while it ends. */
static void
tick(void *ctx)
{
    proceed(ctx);
}

/* To what standard output was. */
static int
write_line(int fd, gp_bytes line, gp_error *err)
{
    const char *bytes = line.data;

    for (size_t done = 0; done < line.len;) {
        ssize_t put = write(fd, bytes + done, line.len - done);

        if (put < 0 && errno != EINTR) {
            return gp_error_set_errno(err, errno, "cannot write to stdout");
        }
        done += put > 0 ? (size_t)put : 0;
    }
    return 0;
}

int
gp_stdio_open(gp_stdio *stdio, gp_bytes line, gp_error *err)
{
    int rc = 0;

    if (gp_runtime_forked()) {
        return gp_error_set(err, GP_EFORKED, "a forked child has its parent's stdout and stderr");
    }
    gp_mutex_lock(&stdio->lock);
    if (stdio->state != NEW) {
        rc = gp_error_set(err, GP_EINVAL, "stdout and stderr have been replaced already");
    }
    if (rc == 0) {
        rc = gp__redirect_open(&stdio->redirect, err);
    }
    for (int i = 0; rc == 0 && i < 2; i++) {
        source *from = &stdio->sources[i];

        from->armed = true;
        rc = gp__reactor_add(&from->watch, stdio->redirect.fds[i], readable, from, err);
    }
    if (rc == 0) {
        rc = write_line(stdio->redirect.saved[0], line, err);
    }
    if (rc == 0) {
        stdio->state = OPEN;
    } else if (stdio->state == NEW) {
        arm(&stdio->sources[0], false);
        arm(&stdio->sources[1], false);
        gp__redirect_close(&stdio->redirect);
    }
    gp_mutex_unlock(&stdio->lock);
    return rc;
}

void
gp_stdio_finish(gp_stdio *stdio, int64_t patience_ms)
{
    int64_t until = gp_deadline_in(patience_ms);

    if (gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&stdio->lock);
    if (stdio->state == NEW) {
        stdio->state = ENDED;
    } else if (stdio->state == OPEN) {
        stdio->state = ENDING;
        stdio->until = until;
        stdio->heard = stdio->since = gp__now();
        gp__redirect_restore(&stdio->redirect);
        /* Without it an end takes until somebody waits for it. */
        gp__reactor_every(&stdio->clock, LOOK_MS, tick, stdio, NULL);
    } else if (until < stdio->until) {
        stdio->until = until;
    }
    gp_mutex_unlock(&stdio->lock);
    proceed(stdio);
}

int
gp_stdio_end(gp_stdio *stdio, int64_t patience_ms, const gp_interrupt *interrupt)
{
    int64_t deadline = gp_deadline_in(patience_ms);
    int rc = 0;

    if (gp_runtime_forked()) {
        return 0;
    }
    gp_stdio_finish(stdio, patience_ms);
    gp_mutex_lock(&stdio->lock);
    /* What has been given to gRPC is on its way for sure only when its call is over. */
    while (rc == 0 && (stdio->state != ENDED || stdio->streams > 0)) {
        rc = gp__cond_wait_interruptible(&stdio->changed, &stdio->lock, deadline, interrupt);
    }
    gp_mutex_unlock(&stdio->lock);
    if (rc < 0) {
        gp_stdio_finish(stdio, 0);
    }
    return rc == GP_EUSER ? rc : 0;
}

/* ---- Calls of StreamStdio -------------------------------------------------------------------- */

typedef struct stream {
    taker base;
    gp_server_call *call; /* shared: ref */
} stream;

static void
stream_sent(void *ctx, bool ok)
{
    taker *self = ctx;
    gp_stdio *stdio = self->stdio;

    gp_mutex_lock(&stdio->lock);
    self->busy = false;
    if (!ok) {
        leave(self); /* it is over, and must not be given what it cannot send */
    }
    gp_mutex_unlock(&stdio->lock);
    proceed(stdio);
    taker_unref(self);
}

static bool
stream_give(taker *self, gp_bytes message)
{
    self->refs++; /* until it has been sent */
    if (gp_server_call_send_then(((stream *)self)->call, message, stream_sent, self) < 0) {
        self->refs--;
        return false;
    }
    return true;
}

static void
stream_end(taker *self, bool busy)
{
    gp_server_call *call = ((stream *)self)->call;

    if (busy) { /* a status would have to wait for a host that does not read */
        gp_server_call_cancel(call, UNAVAILABLE, "the output was not read in time");
    } else {
        gp_server_call_finish(call, 0, (gp_bytes){"", 0}, (gp_metadata){NULL, 0});
    }
}

static void
stream_free(taker *self)
{
    gp_server_call_unref(((stream *)self)->call);
    gp__free(self);
}

/* The call is over: with the connection, as a rule. */
static void
stream_over(void *ctx)
{
    taker *self = ctx;
    gp_stdio *stdio = self->stdio;

    gp_mutex_lock(&stdio->lock);
    leave(self);
    stdio->streams--;
    gp_cond_broadcast(&stdio->changed);
    gp_mutex_unlock(&stdio->lock);
    proceed(stdio);
    taker_unref(self);
}

static void
answer_stream(void *ctx, gp_server_call *call, const gp_message *request)
{
    gp_stdio *stdio = ctx;
    stream *self = gp__calloc(1, sizeof(*self));

    (void)request;
    if (self == NULL) {
        gp_server_call_cancel(call, UNAVAILABLE, "out of memory");
        return;
    }
    self->base = (taker){.stdio = gp_stdio_ref(stdio),
                         .refs = 1, /* until the call is over */
                         .give = stream_give,
                         .end = stream_end,
                         .free = stream_free};
    self->call = gp_server_call_ref(call);
    gp_mutex_lock(&stdio->lock);
    enter(&self->base);
    stdio->streams++;
    /* Metadata that came with the first message would have to be waited for, at the end in vain. */
    self->base.busy = true;
    self->base.refs++;
    if (gp_server_call_send_initial_metadata_then(call, (gp_metadata){NULL, 0}, stream_sent, self) <
        0) {
        self->base.busy = false;
        self->base.refs--;
    }
    gp_mutex_unlock(&stdio->lock);
    if (gp_server_call_on_finished(call, stream_over, self) < 0) {
        stream_over(self);
    } else {
        proceed(stdio);
    }
}

static void
finish_with_server(void *ctx)
{
    static const int64_t patience_ms = 1000;

    gp_stdio_finish(ctx, patience_ms);
}

static void
release(void *ctx)
{
    gp_stdio_unref(ctx);
}

int
gp_server_add_stdio(gp_server *server, gp_stdio *stdio, gp_error *err)
{
    gp__method *method = gp__calloc(1, sizeof(*method));
    int rc;

    if (method == NULL) {
        return gp_error_set(err, GP_ENOMEM, "stdio service");
    }
    *method = (gp__method){.path = STREAM,
                           .answer = answer_stream,
                           .ctx = stdio,
                           .on_idle = finish_with_server,
                           .release = release};
    rc = gp__server_add_methods(server, method, 1, method, err);
    if (rc == 0) {
        gp_stdio_ref(stdio);
    }
    return rc;
}

/* ---- Readers --------------------------------------------------------------------------------- */

struct gp_stdio_reader {
    taker base;
    gp_bytes given;      /* borrowed: from |stdio|, until no longer busy */
    unsigned char *copy; /* owned */
    bool closed;
};

static bool
reader_give(taker *self, gp_bytes message)
{
    ((gp_stdio_reader *)self)->given = message;
    gp_cond_broadcast(&self->stdio->changed);
    return true;
}

static void
reader_end(taker *self, bool busy)
{
    (void)busy;
    gp_stdio_reader_close((gp_stdio_reader *)self);
}

static void
reader_free(taker *self)
{
    gp__free(((gp_stdio_reader *)self)->copy);
    gp__free(self);
}

int
gp_stdio_reader_new(gp_stdio_reader **out, gp_stdio *stdio, gp_error *err)
{
    gp_stdio_reader *reader = gp__calloc(1, sizeof(*reader));

    if (reader == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a reader of stdout and stderr");
    }
    reader->base = (taker){.stdio = gp_stdio_ref(stdio),
                           .refs = 1,
                           .give = reader_give,
                           .end = reader_end,
                           .free = reader_free};
    gp_mutex_lock(&stdio->lock);
    enter(&reader->base);
    gp_mutex_unlock(&stdio->lock);
    proceed(stdio);
    *out = reader;
    return 0;
}

/* Copy what was given, so that it outlives a close. Lock held. Returns 1 or GP_ENOMEM. */
static int
take_copy(gp_stdio_reader *reader, gp_bytes *out)
{
    gp__free(reader->copy);
    reader->copy = (unsigned char *)gp__memdup(reader->given.data, reader->given.len);
    *out = (gp_bytes){reader->copy, reader->given.len};
    reader->given.len = 0;
    return reader->copy != NULL ? 1 : GP_ENOMEM;
}

int
gp_stdio_reader_next(gp_stdio_reader *reader, gp_bytes *out, const gp_interrupt *interrupt)
{
    gp_stdio *stdio = reader->base.stdio;
    int rc = 0;

    if (gp_runtime_forked()) {
        return 0;
    }
    gp_mutex_lock(&stdio->lock);
    if (reader->given.len == 0) {
        reader->base.busy = false;
    }
    gp_mutex_unlock(&stdio->lock);
    proceed(stdio);
    gp_mutex_lock(&stdio->lock);
    while (rc == 0 && reader->given.len == 0 && !reader->closed) {
        rc = gp__cond_wait_interruptible(&stdio->changed, &stdio->lock, GP__FOREVER, interrupt);
    }
    if (rc == 0 && !reader->closed) {
        rc = take_copy(reader, out);
    }
    gp_mutex_unlock(&stdio->lock);
    return rc;
}

void
gp_stdio_reader_close(gp_stdio_reader *reader)
{
    gp_stdio *stdio = reader->base.stdio;

    if (gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&stdio->lock);
    reader->closed = true;
    reader->given.len = 0;
    leave(&reader->base);
    gp_cond_broadcast(&stdio->changed);
    gp_mutex_unlock(&stdio->lock);
    proceed(stdio);
}

void
gp_stdio_reader_free(gp_stdio_reader *reader)
{
    if (reader != NULL && !gp_runtime_forked()) {
        gp_stdio_reader_close(reader);
        taker_unref(&reader->base);
    }
}
