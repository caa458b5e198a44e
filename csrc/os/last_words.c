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
#include "gp/leaving.h"
#include "gp/lock.h"
#include "gp/runtime.h"
#include "os/fd.h"

enum {
    PIECE = 512,       /* no more than PIPE_BUF: what poll() says there is room for */
    PATIENCE_MS = 200, /* for a reader who has stopped reading, while we die */
};

static const struct {
    int number;
    const char *announcement;
} fatal[] = {
    {SIGSEGV, "panic: SIGSEGV: segmentation fault\n"},
    {SIGABRT, "panic: SIGABRT: aborted\n"},
    {SIGBUS, "panic: SIGBUS: bus error\n"},
    {SIGFPE, "panic: SIGFPE: arithmetic error\n"},
    {SIGILL, "panic: SIGILL: illegal instruction\n"},
};
enum { FATAL = sizeof(fatal) / sizeof(fatal[0]) };

static void on_fatal_first(int number);
static void on_fatal_again(int number);

/*
 * Our handlers, the lower ones first. The upper ones are for handlers of others that have come
 * later and have to run after ours: faulthandler's, which write a trace. When the interpreter
 * aborts it takes those away, which leads to the lower ones and not past ours.
 */
static struct level {
    void (*const handler)(int);
    bool installed[FATAL];          /* guarded by |lock| */
    struct sigaction before[FATAL]; /* written before the handler is there; read by it */
} levels[] = {{.handler = on_fatal_again}, {.handler = on_fatal_first}};
enum { LEVELS = sizeof(levels) / sizeof(levels[0]) };

static gp_mutex lock = GP_MUTEX_INIT;

/* Read by the handlers. */
static atomic_int guarded_from = -1;
static atomic_int guarded_to = -1;
static atomic_int announcing; /* the process that announces its end; 0: none does */

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

    /*
     * No more than there is now: others may hold the pipe as well, and fill it faster than we empty
     * it.
     */
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

/* Once, and not in a child that is a fork: its parent goes on. */
static void
announce(int number)
{
    pid_t self = getpid();

    if (!atomic_compare_exchange_strong(&announcing, &self, 0)) {
        return;
    }
    for (int i = 0; i < FATAL; i++) {
        if (fatal[i].number == number) {
            gp__last_words_write(STDERR_FILENO, fatal[i].announcement,
                                 strlen(fatal[i].announcement), PATIENCE_MS);
        }
    }
}

/* Say what there is to say, once, and leave the signal to those who were here before. */
static void
die(int number, const struct level *level)
{
    int from = atomic_exchange(&guarded_from, -1);
    int to = atomic_exchange(&guarded_to, -1);
    int saved = errno;

    if (to >= 0 && !gp_runtime_forked()) {
        dup2(to, STDERR_FILENO);
        atomic_store(&dying, true);
        announce(number);
        let_take();
        if (gp__now() - atomic_load(&passed) < recent) {
            gp__last_words_write(to, passing, atomic_load(&passing_len), PATIENCE_MS);
        }
        gp__last_words_copy(from, to, PATIENCE_MS);
        atomic_store(&dying, false);
    } else {
        announce(number);
    }
    for (int i = 0; i < FATAL; i++) {
        if (fatal[i].number == number) {
            sigaction(number, &level->before[i], NULL);
        }
    }
    errno = saved;
    raise(number); /* blocked until we return */
}

static void
on_fatal_first(int number)
{
    die(number, &levels[1]);
}

static void
on_fatal_again(int number)
{
    die(number, &levels[0]);
}

/* Have a handler of ours be the first one of each signal. Lock held. */
static void
install(void)
{
    for (int i = 0; i < FATAL; i++) {
        struct level *lower = &levels[0];
        struct level *level = lower->installed[i] ? &levels[1] : lower;
        struct sigaction ours = {.sa_handler = level->handler, .sa_flags = SA_ONSTACK};
        struct sigaction now;

        sigemptyset(&ours.sa_mask);
        if (level->installed[i] || sigaction(fatal[i].number, NULL, &now) < 0 ||
            (lower->installed[i] && now.sa_handler == lower->handler)) {
            continue;
        }
        level->before[i] = now;
        level->installed[i] = true;
        sigaction(fatal[i].number, &ours, NULL);
    }
}

/* A handler that came later than ours may call it: then it stays, and does nothing. Lock held. */
static void
uninstall(void)
{
    for (int i = 0; i < FATAL; i++) {
        for (int j = LEVELS - 1; j >= 0; j--) {
            struct sigaction now;

            if (levels[j].installed[i] && sigaction(fatal[i].number, NULL, &now) == 0 &&
                now.sa_handler == levels[j].handler) {
                sigaction(fatal[i].number, &levels[j].before[i], NULL);
                levels[j].installed[i] = false;
            }
        }
    }
}

void
gp_leaving_announce(void)
{
    gp_mutex_lock(&lock);
    atomic_store(&announcing, getpid());
    install();
    gp_mutex_unlock(&lock);
}

void
gp__last_words_guard(int from, int to)
{
    if (to < 0) {
        return;
    }
    gp_mutex_lock(&lock);
    atomic_store(&guarded_from, from);
    atomic_store(&guarded_to, to);
    install();
    gp_mutex_unlock(&lock);
}

void
gp__last_words_unguard(void)
{
    if (atomic_exchange(&guarded_to, -1) < 0) {
        return;
    }
    atomic_store(&guarded_from, -1);
    atomic_store(&passing_len, 0);
    gp_mutex_lock(&lock);
    if (atomic_load(&announcing) == 0) {
        uninstall();
    }
    gp_mutex_unlock(&lock);
}
