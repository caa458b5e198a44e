#include "os/fatal_report.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "base/thread.h"
#include "gp/fatal_report.h"
#include "gp/lock.h"
#include "gp/runtime.h"
#include "os/fd.h"

/*
 * How long the handler waits each time that the host does not read, and for the thread of this
 * process that reads from the pipe.
 */
enum { PATIENCE_MS = 200 };

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

static void handle_at_upper_level(int number);
static void handle_at_lower_level(int number);

static gp_mutex lock = GP_MUTEX_INIT;

/*
 * Our handlers, the lower ones first. The upper ones run before handlers that other code has
 * installed after our lower ones: faulthandler's, which write a trace. When the interpreter aborts,
 * it restores the handlers that faulthandler replaced, which are our lower ones.
 */
static struct level {
    void (*const handler)(int);
    bool installed[FATAL] GP_GUARDED_BY(&lock);
    struct sigaction before[FATAL]; /* written before the handler is installed; read by it */
} levels[] = {{.handler = handle_at_lower_level}, {.handler = handle_at_upper_level}};
enum { LEVELS = sizeof(levels) / sizeof(levels[0]) };

/* Read by the handlers. */
static atomic_int pipe_from = -1;
static atomic_int pipe_to = -1;
static atomic_int announcing; /* the process whose end is to be announced; 0: none */

/*
 * The last bytes that were read from the pipe since it was silent for a second, and the time of the
 * last read. A crash is reported in many small writes, each of which may have been read by itself.
 */
static char recent[16384];
static atomic_size_t recent_len;
static _Atomic(int64_t) recent_time;
static const int64_t recent_ns = 1000 * GP__MS;

static atomic_bool reading; /* a thread is reading from the pipe */
static atomic_bool dying;   /* a handler is about to copy the pipe: nothing may be read from it */

/* ---- Reading --------------------------------------------------------------------------------- */

static bool
is_recent(void)
{
    return gp__now() - atomic_load(&recent_time) < recent_ns;
}

static void
remember_recent(const char *bytes, size_t len)
{
    size_t added = len < sizeof(recent) ? len : sizeof(recent);
    size_t kept = is_recent() ? atomic_load(&recent_len) : 0;

    if (kept > sizeof(recent) - added) {
        size_t lost = kept - (sizeof(recent) - added);

        kept -= lost;
        memmove(recent, recent + lost, kept);
    }
    memcpy(recent + kept, bytes + len - added, added);
    atomic_store(&recent_len, kept + added);
    atomic_store(&recent_time, gp__now());
}

ssize_t
gp__fatal_report_read(int from, char *bytes, size_t size)
{
    ssize_t got = -1;

    atomic_store(&reading, true);
    if (atomic_load(&dying)) {
        errno = EAGAIN;
    } else {
        got = gp__fd_read(from, bytes, size);
        if (got > 0) {
            remember_recent(bytes, (size_t)got);
        }
    }
    atomic_store(&reading, false);
    return got;
}

/* ---- In the handlers ------------------------------------------------------------------------- */

/* Wait until the bytes that another thread is reading are among the recent ones. */
static void
await_reading_thread(void)
{
    /* If the signal has interrupted the reading thread itself, |reading| stays true. */
    for (int i = 0; i < PATIENCE_MS && atomic_load(&reading); i++) {
        poll(NULL, 0, 1);
    }
}

/* Write the announcement, once, and not in a forked child: its parent goes on. */
static void
write_announcement(int number)
{
    pid_t self = getpid();

    if (!atomic_compare_exchange_strong(&announcing, &self, 0)) {
        return;
    }
    for (int i = 0; i < FATAL; i++) {
        if (fatal[i].number == number) {
            gp__fd_write_within(STDERR_FILENO, fatal[i].announcement, strlen(fatal[i].announcement),
                                PATIENCE_MS);
        }
    }
}

/* Report, once, and leave the signal to the handler that was there before ours. */
static void
report_and_die(int number, const struct level *level)
{
    int from = atomic_exchange(&pipe_from, -1);
    int to = atomic_exchange(&pipe_to, -1);
    int saved = errno;

    if (to >= 0 && !gp_runtime_forked()) {
        dup2(to, STDERR_FILENO);
        atomic_store(&dying, true);
        write_announcement(number);
        await_reading_thread();
        if (is_recent()) {
            gp__fd_write_within(to, recent, atomic_load(&recent_len), PATIENCE_MS);
        }
        gp__fd_copy_available(from, to, PATIENCE_MS);
        atomic_store(&dying, false);
    } else {
        write_announcement(number);
    }
    for (int i = 0; i < FATAL; i++) {
        if (fatal[i].number == number) {
            sigaction(number, &level->before[i], NULL);
        }
    }
    errno = saved;
    raise(number); /* blocked until the handler returns */
}

static void
handle_at_upper_level(int number)
{
    report_and_die(number, &levels[1]);
}

static void
handle_at_lower_level(int number)
{
    report_and_die(number, &levels[0]);
}

/* ---- Installing them ------------------------------------------------------------------------- */

static void install_handlers_locked(void) GP_REQUIRES(&lock);
static void uninstall_handlers_locked(void) GP_REQUIRES(&lock);

/* Make one of our handlers the first one that runs, for each signal. */
static void
install_handlers_locked(void)
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

/*
 * Restore the handlers that were there before ours. One of ours stays, and does nothing, if a
 * handler that was installed later may call it.
 */
static void
uninstall_handlers_locked(void)
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
gp_fatal_report_enable(void)
{
    gp_mutex_lock(&lock);
    atomic_store(&announcing, getpid());
    install_handlers_locked();
    gp_mutex_unlock(&lock);
}

void
gp__fatal_report_set_pipe(int from, int to)
{
    if (to < 0) {
        return;
    }
    gp_mutex_lock(&lock);
    atomic_store(&pipe_from, from);
    atomic_store(&pipe_to, to);
    install_handlers_locked();
    gp_mutex_unlock(&lock);
}

void
gp__fatal_report_clear_pipe(void)
{
    if (atomic_exchange(&pipe_to, -1) < 0) {
        return;
    }
    atomic_store(&pipe_from, -1);
    atomic_store(&recent_len, 0);
    gp_mutex_lock(&lock);
    if (atomic_load(&announcing) == 0) {
        uninstall_handlers_locked();
    }
    gp_mutex_unlock(&lock);
}
