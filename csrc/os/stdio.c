#include "gp/stdio.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/ref_list.h"
#include "base/thread.h"
#include "os/fatal_report.h"
#include "os/fd.h"
#include "os/stdio_state.h"

/* Times of the phase ENDING. */
enum {
    CHECK_MS = 20,       /* how often to check whether the phase is over */
    FIRST_CALL_MS = 100, /* how long to wait for a host that has connected but not called yet */
    QUIET_MS = 50,       /* how long processes that still have the pipes may be silent */
};

static void set_watched_locked(gp_stdio *stdio, int i, bool watched) GP_REQUIRES(&stdio->lock);
static bool read_source_locked(gp_stdio *stdio, int i) GP_REQUIRES(&stdio->lock);
static bool fetch_chunk_locked(gp_stdio *stdio) GP_REQUIRES(&stdio->lock);
static gp__stdio_consumer *first_consumer_locked(gp_stdio *stdio) GP_REQUIRES(&stdio->lock);
static void deliver_locked(gp_stdio *stdio) GP_REQUIRES(&stdio->lock);
static bool is_empty_locked(const gp_stdio *stdio) GP_REQUIRES(&stdio->lock);
static bool is_over_locked(gp_stdio *stdio) GP_REQUIRES(&stdio->lock);
static void write_rest_locked(gp_stdio *stdio) GP_REQUIRES(&stdio->lock);
static void close_pipes_locked(gp_stdio *stdio) GP_REQUIRES(&stdio->lock);

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
    gp_mutex_lock(&stdio->lock);
    gp_list_init(&stdio->consumers);
    stdio->redirect = (gp__redirect)GP__REDIRECT_INIT;
    stdio->sources[0].stdio = stdio;
    stdio->sources[1].stdio = stdio;
    gp_mutex_unlock(&stdio->lock);
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
    gp__watch *watches[3];

    if (stdio == NULL || gp_runtime_forked() || atomic_fetch_sub(&stdio->refs, 1) != 1) {
        return;
    }
    gp_mutex_lock(&stdio->lock);
    watches[0] = stdio->timer;
    watches[1] = stdio->sources[0].watch;
    watches[2] = stdio->sources[1].watch;
    gp_mutex_unlock(&stdio->lock);
    /* Without the lock: removing a watch waits for its callback, which takes it. */
    for (int i = 0; i < 3; i++) {
        gp__reactor_remove(watches[i]);
    }
    gp_mutex_lock(&stdio->lock);
    gp__redirect_close(&stdio->redirect);
    gp_mutex_unlock(&stdio->lock);
    gp_cond_release(&stdio->changed);
    gp_mutex_release(&stdio->lock);
    gp__free(stdio);
}

/* ---- Reading --------------------------------------------------------------------------------- */

/* Have the reactor watch one of the two sources, or stop watching it. */
static void
set_watched_locked(gp_stdio *stdio, int i, bool watched)
{
    gp__stdio_source *source = &stdio->sources[i];

    if (source->watch != NULL && source->watched != watched) {
        source->watched = watched;
        gp__reactor_enable(source->watch, watched);
    }
}

/* Read from one of the two sources. Returns whether there is a chunk now. */
static bool
read_source_locked(gp_stdio *stdio, int i)
{
    unsigned char *at = stdio->buffer + GP__STDIO_ROOM;
    char *out = (char *)at;
    ssize_t got;

    if (stdio->sources[i].closed) {
        return false;
    }
    got = i == 1 ? gp__fatal_report_read(stdio->redirect.fds[i], out, GP__STDIO_MOST)
                 : gp__fd_read(stdio->redirect.fds[i], out, GP__STDIO_MOST);
    if (got <= 0) {
        bool closed = got == 0 || errno != EAGAIN;

        stdio->sources[i].closed = closed;
        set_watched_locked(stdio, i, !closed);
        return false;
    }
    stdio->pending = (gp__stdio_chunk){i == 0 ? GP_STDOUT : GP_STDERR, at, (size_t)got};
    stdio->last_read = gp__now();
    stdio->next_source = !i;
    return true;
}

/* If no chunk is pending, read one. Returns whether a chunk is pending. */
static bool
fetch_chunk_locked(gp_stdio *stdio)
{
    int first = stdio->next_source;

    if (stdio->pending.len > 0) {
        return true;
    }
    if (stdio->phase != GP__STDIO_OPEN && stdio->phase != GP__STDIO_ENDING) {
        return false;
    }
    return read_source_locked(stdio, first) || read_source_locked(stdio, !first);
}

/* ---- Consumers ------------------------------------------------------------------------------- */

void
gp__stdio_consumer_unref(gp__stdio_consumer *self)
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

void
gp__stdio_append_locked(gp_stdio *stdio, gp__stdio_consumer *self)
{
    gp_list_append(&stdio->consumers, &self->link);
    self->refs++;
    stdio->has_had_consumer = true;
}

void
gp__stdio_remove_locked(gp_stdio *stdio, gp__stdio_consumer *self)
{
    (void)stdio;
    if (gp_link_is_linked(&self->link)) {
        gp_link_remove(&self->link);
        self->refs--;
    }
    self->busy = false;
}

void
gp__stdio_count_sending_locked(gp_stdio *stdio, int by)
{
    stdio->sending += by;
    gp_cond_broadcast(&stdio->changed);
}

/* The consumer that gets the output; NULL if there is none. */
static gp__stdio_consumer *
first_consumer_locked(gp_stdio *stdio)
{
    return gp_list_first_entry(&stdio->consumers, gp__stdio_consumer, link);
}

/*
 * Give the output to the first consumer, as long as there is output and the consumer is not busy.
 */
static void
deliver_locked(gp_stdio *stdio)
{
    gp__stdio_consumer *first;

    while ((first = first_consumer_locked(stdio)) != NULL && !first->busy &&
           fetch_chunk_locked(stdio)) {
        first->busy = true;
        if (first->give(first, &stdio->pending)) {
            stdio->pending.len = 0;
        } else { /* its connection is over; what notices that drops another reference */
            gp__stdio_remove_locked(stdio, first);
        }
    }
}

/* ---- The end --------------------------------------------------------------------------------- */

static bool
is_empty_locked(const gp_stdio *stdio)
{
    struct pollfd fds[2] = {{.fd = stdio->redirect.fds[0], .events = POLLIN},
                            {.fd = stdio->redirect.fds[1], .events = POLLIN}};

    return poll(fds, 2, 0) <= 0 || ((fds[0].revents | fds[1].revents) & POLLIN) == 0;
}

/*
 * Whether the phase ENDING is over: there is no reason to wait for more output or for a consumer.
 */
static bool
is_over_locked(gp_stdio *stdio)
{
    const gp__stdio_consumer *first = first_consumer_locked(stdio);
    int64_t now = gp__now();

    if (now >= stdio->ending_until) {
        return true;
    }
    if (first == NULL) {
        /* A host's first calls on a connection may arrive in any order. */
        return stdio->has_had_consumer || now - stdio->ending_since > FIRST_CALL_MS * GP__MS ||
               is_empty_locked(stdio);
    }
    if (first->busy || stdio->pending.len > 0) {
        return false;
    }
    /* A child that has inherited the descriptors may hold them for ever. */
    return (stdio->sources[0].closed && stdio->sources[1].closed) ||
           now - stdio->last_read > QUIET_MS * GP__MS;
}

/* Write the output that no consumer has taken to the original descriptors. */
static void
write_rest_locked(gp_stdio *stdio)
{
    for (int i = 0; i < 2; i++) {
        int to = stdio->redirect.saved[i];

        if (to < 0) {
            continue;
        }
        if (stdio->pending.len > 0 && stdio->pending.channel == (i == 0 ? GP_STDOUT : GP_STDERR)) {
            gp__fd_write_within(to, (const char *)stdio->pending.bytes, stdio->pending.len, 0);
        }
        gp__fd_copy_available(stdio->redirect.fds[i], to, 0);
    }
    stdio->pending.len = 0;
}

static void
close_pipes_locked(gp_stdio *stdio)
{
    set_watched_locked(stdio, 0, false);
    set_watched_locked(stdio, 1, false);
    gp__redirect_close(&stdio->redirect);
}

/* End the first consumer, as no output will follow. Returns false if there is none. */
static bool
end_consumer(gp_stdio *stdio)
{
    gp__stdio_consumer *first;
    bool busy = false;

    gp_mutex_lock(&stdio->lock);
    first = first_consumer_locked(stdio);
    if (first != NULL) {
        gp_link_remove(&first->link); /* takes over the list's reference */
        busy = first->busy;
    }
    gp_mutex_unlock(&stdio->lock);
    if (first == NULL) {
        return false;
    }
    first->end(first, busy);
    gp__stdio_consumer_unref(first);
    return true;
}

void
gp__stdio_update(gp_stdio *stdio)
{
    gp__watch *timer = NULL;
    gp_then *then = NULL;
    void *ctx = NULL;
    bool ended;

    gp_mutex_lock(&stdio->lock);
    deliver_locked(stdio);
    if (stdio->phase == GP__STDIO_ENDING && is_over_locked(stdio)) {
        write_rest_locked(stdio);
        close_pipes_locked(stdio);
        stdio->phase = GP__STDIO_ENDED;
    }
    ended = stdio->phase == GP__STDIO_ENDED;
    if (ended) {
        timer = stdio->timer;
        stdio->timer = NULL;
        then = stdio->then;
        ctx = stdio->then_ctx;
        stdio->then = NULL;
        gp_cond_broadcast(&stdio->changed);
    }
    gp_mutex_unlock(&stdio->lock);
    gp__reactor_remove(timer);
    while (ended && end_consumer(stdio)) {
    }
    if (then != NULL) {
        then(ctx);
    }
}

void
gp__stdio_on_ended(gp_stdio *stdio, gp_then *then, void *ctx)
{
    gp_mutex_lock(&stdio->lock);
    stdio->then = then;
    stdio->then_ctx = ctx;
    gp_mutex_unlock(&stdio->lock);
    gp__stdio_update(stdio);
}

/*
 * Callbacks on the reactor's thread need a reference of their own. The end of the last consumer may
 * drop the last one of the others, and once the timer is removed, gp_stdio_unref() no longer waits
 * for its callback. If there is no reference any more, gp_stdio_unref() does wait.
 */

static void
on_readable(void *ctx)
{
    gp__stdio_source *source = ctx;
    gp_stdio *stdio = source->stdio;
    const gp__stdio_consumer *first;

    if (!gp__try_ref(&stdio->refs)) {
        return;
    }
    gp_mutex_lock(&stdio->lock);
    first = first_consumer_locked(stdio);
    if (first == NULL || first->busy) {
        set_watched_locked(stdio, source == &stdio->sources[1], false);
    }
    gp_mutex_unlock(&stdio->lock);
    gp__stdio_update(stdio);
    gp_stdio_unref(stdio);
}

/* Called in the phase ENDING. */
static void
on_tick(void *ctx)
{
    gp_stdio *stdio = ctx;

    if (gp__try_ref(&stdio->refs)) {
        gp__stdio_update(stdio);
        gp_stdio_unref(stdio);
    }
}

/* Write the whole |line|. Returns 0 or GP_EOS. */
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
    if (stdio->phase != GP__STDIO_NEW) {
        rc = gp_error_set(err, GP_EINVAL, "stdout and stderr have been replaced already");
    }
    if (rc == 0) {
        rc = gp__redirect_open(&stdio->redirect, err);
    }
    for (int i = 0; rc == 0 && i < 2; i++) {
        gp__stdio_source *source = &stdio->sources[i];

        source->watched = true;
        rc = gp__reactor_add(&source->watch, stdio->redirect.fds[i], on_readable, source, err);
    }
    if (rc == 0) {
        rc = write_line(stdio->redirect.saved[0], line, err);
    }
    if (rc == 0) {
        stdio->phase = GP__STDIO_OPEN;
    } else if (stdio->phase == GP__STDIO_NEW) {
        close_pipes_locked(stdio);
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
    if (stdio->phase == GP__STDIO_NEW) {
        stdio->phase = GP__STDIO_ENDED;
    } else if (stdio->phase == GP__STDIO_OPEN) {
        stdio->phase = GP__STDIO_ENDING;
        stdio->ending_until = until;
        stdio->ending_since = stdio->last_read = gp__now();
        gp__redirect_restore(&stdio->redirect);
        /* If it cannot be added, the end comes only when a thread waits for it. */
        gp__reactor_every(&stdio->timer, CHECK_MS, on_tick, stdio, NULL);
    } else if (until < stdio->ending_until) {
        stdio->ending_until = until;
    }
    gp_mutex_unlock(&stdio->lock);
    gp__stdio_update(stdio);
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
    while (rc == 0 && (stdio->phase != GP__STDIO_ENDED || stdio->sending > 0)) {
        rc = gp__cond_wait_interruptible(&stdio->changed, &stdio->lock, deadline, interrupt);
    }
    gp_mutex_unlock(&stdio->lock);
    if (rc < 0) {
        gp_stdio_finish(stdio, 0);
    }
    return rc == GP_EUSER ? rc : 0;
}
