#include "os/last_words.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/thread.h"
#include "gp/runtime.h"
#include "os/fd.h"

enum {
    PIECE = 512,       /* no more than PIPE_BUF: what poll() says there is room for */
    PATIENCE_MS = 200, /* for a reader who has stopped reading, while we die */
};

static const int fatal[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL};
enum { FATAL = sizeof(fatal) / sizeof(fatal[0]) };

/* Written before the handlers are there; read by them. */
static struct sigaction before[FATAL];
static atomic_int guarded_from = -1;
static atomic_int guarded_to = -1;

/*
 * The end of what has been taken out of the pipe without a pause, and when. A crash is reported in
 * many small writes, each of which may have been taken out by itself.
 */
static char passing[16384];
static atomic_size_t passing_len;
static _Atomic(int64_t) passed;
static const int64_t recent = 1000 * GP__MS;

/* Whether somebody takes bytes out of the pipe, and whether a handler needs them to stay in it. */
static atomic_bool taking;
static atomic_bool dying;

/* ---- Copying: called from signal handlers, too ---- */

int
gp__last_words_write(int to, const char *bytes, size_t len, int patience_ms)
{
    while (len > 0) {
        struct pollfd room = {.fd = to, .events = POLLOUT};
        ssize_t put = -1;

        if (poll(&room, 1, patience_ms) > 0 && (room.revents & POLLOUT) != 0) {
            put = write(to, bytes, len < PIECE ? len : PIECE);
        }
        if (put <= 0) {
            return 0;
        }
        bytes += put;
        len -= (size_t)put;
    }
    return 1;
}

void
gp__last_words_copy(int from, int to, int patience_ms)
{
    char piece[PIECE];
    ssize_t got = 0;
    int left = 0;

    /* No more than there is now: others may hold the pipe as well, and fill it faster than we empty it. */
    ioctl(from, FIONREAD, &left);
    do {
        left -= (int)got;
        got = left > 0 ? gp__fd_read(from, piece, sizeof(piece)) : 0;
    } while (got > 0 && gp__last_words_write(to, piece, (size_t)got, patience_ms));
}

/* ---- Taking ---- */

static void
remember(const char *bytes, size_t len)
{
    int64_t now = gp__now();
    size_t taken = len < sizeof(passing) ? len : sizeof(passing);
    size_t kept = now - atomic_load(&passed) < recent ? atomic_load(&passing_len) : 0;

    if (kept > sizeof(passing) - taken) {
        size_t lost = kept - (sizeof(passing) - taken);

        kept -= lost;
        memmove(passing, passing + lost, kept);
    }
    memcpy(passing + kept, bytes + len - taken, taken);
    atomic_store(&passing_len, kept + taken);
    atomic_store(&passed, now);
}

ssize_t
gp__last_words_take(int from, char *bytes, size_t size)
{
    ssize_t got = -1;

    atomic_store(&taking, true);
    if (atomic_load(&dying)) {
        errno = EAGAIN;
    } else {
        got = gp__fd_read(from, bytes, size);
        if (got > 0) {
            remember(bytes, (size_t)got);
        }
    }
    atomic_store(&taking, false);
    return got;
}

/* ---- Dying ---- */

/* What is being taken is remembered soon, unless it is this thread that takes it. */
static void
let_take(void)
{
    for (int i = 0; i < PATIENCE_MS && atomic_load(&taking); i++) {
        poll(NULL, 0, 1);
    }
}

static void
on_fatal(int number)
{
    int from = atomic_exchange(&guarded_from, -1);
    int to = atomic_exchange(&guarded_to, -1);
    int saved = errno;

    if (to >= 0 && !gp_runtime_forked()) {
        dup2(to, STDERR_FILENO);
        atomic_store(&dying, true);
        let_take();
        if (gp__now() - atomic_load(&passed) < recent) {
            gp__last_words_write(to, passing, atomic_load(&passing_len), PATIENCE_MS);
        }
        gp__last_words_copy(from, to, PATIENCE_MS);
        atomic_store(&dying, false);
    }
    for (int i = 0; i < FATAL; i++) {
        if (fatal[i] == number) {
            sigaction(number, &before[i], NULL);
        }
    }
    errno = saved;
    raise(number); /* for those who were here before; blocked until we return */
}

void
gp__last_words_guard(int from, int to)
{
    struct sigaction ours = {.sa_handler = on_fatal, .sa_flags = SA_ONSTACK};

    sigemptyset(&ours.sa_mask);
    if (to < 0) {
        return;
    }
    atomic_store(&guarded_from, from);
    atomic_store(&guarded_to, to);
    for (int i = 0; i < FATAL; i++) {
        sigaction(fatal[i], NULL, &before[i]);
        sigaction(fatal[i], &ours, NULL);
    }
}

void
gp__last_words_unguard(void)
{
    if (atomic_exchange(&guarded_to, -1) < 0) {
        return;
    }
    atomic_store(&guarded_from, -1);
    atomic_store(&passing_len, 0);
    for (int i = 0; i < FATAL; i++) {
        struct sigaction now;

        /* A handler that came later than ours may call it: then it stays, and does nothing. */
        if (sigaction(fatal[i], NULL, &now) == 0 && now.sa_handler == on_fatal) {
            sigaction(fatal[i], &before[i], NULL);
        }
    }
}
