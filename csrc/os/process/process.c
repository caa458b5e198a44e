#include "os/process/process.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "gp/runtime.h"
#include "os/fd.h"
#include "os/process/pidfd.h"
#include "os/process/process_state.h"

/* How many generations a plugin may be below the process that was launched (a wrapper script). */
enum { GENERATIONS = 16 };

/* How long members of a group may take to end; one that hangs in the kernel takes longer. */
static const int64_t group_ms = 1000;

/* How often a process without a pidfd is looked at while a thread waits for it. */
static const int64_t nap_ns = 5 * GP__MS;

/* How often the reactor looks at a process without a pidfd, in milliseconds. */
static const int64_t exit_poll_ms = 20;

int
gp__process_new(gp__process **out, gp_error *err)
{
    gp__process *process = gp__calloc(1, sizeof(*process));

    if (process == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a process");
    }
    atomic_init(&process->refs, 1);
    atomic_init(&process->gone, false);
    process->pid = -1;
    process->pidfd = -1;
    process->status = GP_STATUS_UNKNOWN;
    gp_mutex_init(&process->lock);
    gp_mutex_init(&process->watch_lock);
    gp__tail_init(&process->tail);
    *out = process;
    return 0;
}

gp__process *
gp__process_ref(gp__process *process)
{
    atomic_fetch_add(&process->refs, 1);
    return process;
}

void
gp__process_unref(gp__process *process)
{
    if (process != NULL && atomic_fetch_sub(&process->refs, 1) == 1) {
        gp__elsewhere_free(process->elsewhere);
        gp__process_unref(process->relays[0]);
        gp__process_unref(process->relays[1]);
        gp__fd_close(&process->pidfd);
        gp__group_free(process->group);
        gp__tail_release(&process->tail);
        gp__free(process->name);
        gp_mutex_release(&process->watch_lock);
        gp_mutex_release(&process->lock);
        gp__free(process);
    }
}

gp__tail *
gp__process_tail(gp__process *process)
{
    return &process->tail;
}

/* ---- Identity -------------------------------------------------------------------------------- */

bool
gp__process_recognise(gp__process *process, int pid)
{
    gp__procstat at;
    bool found = pid == (int)process->pid;

    for (int i = 0; i < GENERATIONS && !found && pid > 1; i++) {
        if (!gp__procstat_read(pid, &at)) {
            break;
        }
        pid = (int)at.parent;
        found = pid == (int)process->pid;
    }
    /* If it still runs, the ancestor with its pid was the process, and not a successor. */
    if (found && !gp__process_gone(process)) {
        gp_mutex_lock(&process->lock);
        process->recognised = true;
        gp_mutex_unlock(&process->lock);
        return true;
    }
    return false;
}

bool
gp__process_user(const gp__process *process, uid_t *out)
{
    if (process->elsewhere != NULL || (process->child && !atomic_load(&process->gone))) {
        return false;
    }
    /*
     * It is not known if another part of the program has reaped the child. If we are not root, the
     * child has had our uid.
     */
    *out = process->user_known ? process->user : geteuid();
    return process->user_known || geteuid() != 0;
}

unsigned long long
gp__process_start_time(gp__process *process)
{
    unsigned long long start_time;

    gp_mutex_lock(&process->lock);
    /* The pid of a child that has not been reaped is its own. */
    if (!process->identified && process->child && !atomic_load(&process->gone)) {
        process->identified = gp__procstat_read(process->pid, &process->identity);
    }
    start_time = process->identified ? process->identity.start_time : 0;
    gp_mutex_unlock(&process->lock);
    return start_time;
}

/* ---- Whether it runs ------------------------------------------------------------------------- */

static void reap_child_locked(gp__process *process) GP_REQUIRES(&process->lock);
static bool is_same_process_locked(const gp__process *process) GP_REQUIRES(&process->lock);
static void look_at_joined_locked(gp__process *process) GP_REQUIRES(&process->lock);

void
gp__process_set_gone(gp__process *process, int status)
{
    process->status = status;
    atomic_store(&process->gone, true);
}

/*
 * Reap a child if it has ended. If the host ignores SIGCHLD or waits for any child itself, there is
 * none to reap (ECHILD): then the process is gone and its status unknown.
 */
static void
reap_child_locked(gp__process *process)
{
    siginfo_t info;
    int rc;

    memset(&info, 0, sizeof(info));
    do {
        rc = process->pidfd >= 0 ? gp__pidfd_wait(process->pidfd, &info, WEXITED | WNOHANG) : -1;
        if (process->pidfd < 0 || (rc < 0 && errno == EINVAL)) {
            rc = waitid(P_PID, (id_t)process->pid, &info, WEXITED | WNOHANG);
        }
    } while (rc < 0 && errno == EINTR);
    if (rc == 0 && info.si_pid != 0) {
        process->user = info.si_uid;
        process->user_known = true;
        gp__process_set_gone(process,
                             info.si_code == CLD_EXITED ? info.si_status : -info.si_status);
    } else if (rc < 0 && errno == ECHILD) {
        atomic_store(&process->gone, true);
    }
}

/* Whether the pid of a joined process stands for the process that was joined. */
static bool
is_same_process_locked(const gp__process *process)
{
    gp__procstat now;

    return process->identified && gp__procstat_read(process->pid, &now) &&
           now.start_time == process->identity.start_time;
}

static void
look_at_joined_locked(gp__process *process)
{
    struct pollfd ended = {.fd = process->pidfd, .events = POLLIN};
    gp__procstat now;

    if (process->pidfd >= 0) {
        if (poll(&ended, 1, 0) > 0) {
            atomic_store(&process->gone, true);
        }
        return;
    }
    if (kill(process->pid, 0) < 0 && errno != EPERM) {
        atomic_store(&process->gone, true);
    } else if (process->identified && gp__procstat_read(process->pid, &now) &&
               now.start_time != process->identity.start_time) {
        atomic_store(&process->gone, true); /* a successor with the same pid */
    }
}

bool
gp__process_gone(gp__process *process)
{
    if (atomic_load(&process->gone) || process->elsewhere != NULL) {
        return atomic_load(&process->gone);
    }
    gp_mutex_lock(&process->lock);
    if (!atomic_load(&process->gone)) {
        if (process->child) {
            reap_child_locked(process);
        } else {
            look_at_joined_locked(process);
        }
    }
    gp_mutex_unlock(&process->lock);
    return atomic_load(&process->gone);
}

gp__process_phase
gp__process_inspect(gp__process *process)
{
    gp__procstat now;

    if (gp__process_gone(process)) {
        return GP__PROCESS_GONE;
    }
    if (!gp__procstat_read(process->pid, &now)) {
        /* Another part of the program has reaped it just now, or there is no /proc. */
        return gp__process_gone(process) ? GP__PROCESS_GONE : GP__PROCESS_UNKNOWN;
    }
    return now.dying ? GP__PROCESS_DYING : GP__PROCESS_RUNNING;
}

/* Sleep until |until|, or for |nap_ns| if that is sooner. */
static void
nap_until(int64_t until)
{
    int64_t left = until - gp__now();
    struct timespec pause = {.tv_nsec = (long)(left < 0 ? 0 : left < nap_ns ? left : nap_ns)};

    nanosleep(&pause, NULL);
}

int
gp__process_wait(gp__process *process, int64_t deadline, const gp_interrupt *interrupt)
{
    struct pollfd ended = {.fd = process->pidfd, .events = POLLIN};

    while (!gp__process_gone(process)) {
        int64_t slice = gp__slice(deadline, interrupt);

        if (process->pidfd < 0) {
            nap_until(slice);
        } else if (gp__fd_poll(&ended, 1, slice) > 0 && !gp__process_gone(process)) {
            nap_until(slice); /* it has ended, but cannot be reaped before its tracer releases it */
        }
        if (gp__process_gone(process)) {
            break;
        }
        if (gp__now() >= deadline) {
            return GP_ETIMEOUT;
        }
        if (gp__interrupted(interrupt) < 0) {
            return GP_EUSER;
        }
    }
    return 0;
}

/* ---- Signals and notifications --------------------------------------------------------------- */

void
gp__process_remember_group(gp__process *process)
{
    if (process->group != NULL && !gp_runtime_forked()) {
        gp__group_remember(process->group, process->pid, process->pidfd);
    }
}

void
gp__process_kill(gp__process *process)
{
    siginfo_t info;

    if (gp_runtime_forked()) {
        return;
    }
    if (process->elsewhere != NULL) {
        gp__elsewhere_kill(process);
        return;
    }
    /* The group comes before the process itself, whose children lose their parent with it. */
    if (process->group != NULL) {
        /* The reactor's thread does not wait for processes to end. */
        gp__group_kill(process->group, process->pid, process->pidfd,
                       gp__reactor_current() ? 0 : group_ms);
    }
    gp_mutex_lock(&process->lock);
    if (!atomic_load(&process->gone) && (process->child || process->recognised)) {
        if (process->pidfd >= 0) {
            gp__pidfd_kill(process->pidfd, SIGKILL);
        } else if (process->child
                       ? waitid(P_PID, (id_t)process->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0
                       : is_same_process_locked(process)) {
            kill(process->pid, SIGKILL);
        }
    }
    gp_mutex_unlock(&process->lock);
}

bool
gp__process_has_group(const gp__process *process)
{
    return process->group != NULL;
}

void
gp__process_unwatch(gp__process *process)
{
    gp__watch *watch;

    gp_mutex_lock(&process->watch_lock);
    watch = process->watch;
    process->watch = NULL; /* only the thread that does this removes the watch */
    gp_mutex_unlock(&process->watch_lock);
    /* Without the lock: removing waits for the callback, which takes it. */
    if (watch != NULL) {
        gp__reactor_remove(watch);
        gp__process_unref(process); /* the watch's reference */
    }
}

/* Called on the reactor's thread. */
static void
notice_exit(void *ctx)
{
    gp__process *process = ctx;

    if (gp__process_gone(process)) {
        if (process->exited != NULL) {
            process->exited(process->exited_ctx);
        }
        gp__process_unwatch(process);
    }
}

int
gp__process_watch(gp__process *process, void (*exited)(void *ctx), void *ctx, gp_error *err)
{
    int rc;

    gp_mutex_lock(&process->watch_lock);
    process->exited = exited;
    process->exited_ctx = ctx;
    rc = process->pidfd >= 0
             ? gp__reactor_add(&process->watch, process->pidfd, notice_exit, process, err)
             : gp__reactor_every(&process->watch, exit_poll_ms, notice_exit, process, err);
    if (rc == 0) {
        gp__process_ref(process); /* the watch's reference */
    }
    gp_mutex_unlock(&process->watch_lock);
    return rc;
}

int
gp__process_pidfd(const gp__process *process)
{
    return process->pidfd;
}

int
gp__process_pid(const gp__process *process)
{
    return (int)process->pid;
}

int
gp__process_status(gp__process *process)
{
    return gp__process_gone(process) ? process->status : GP_STATUS_UNKNOWN;
}

/* ---- Describing its end ---------------------------------------------------------------------- */

/* The signals that end a process unless it handles them. */
static const struct {
    int number;
    const char *name;
} signals[] = {
    {SIGHUP, "SIGHUP"},   {SIGINT, "SIGINT"},   {SIGQUIT, "SIGQUIT"},     {SIGILL, "SIGILL"},
    {SIGTRAP, "SIGTRAP"}, {SIGABRT, "SIGABRT"}, {SIGBUS, "SIGBUS"},       {SIGFPE, "SIGFPE"},
    {SIGKILL, "SIGKILL"}, {SIGUSR1, "SIGUSR1"}, {SIGSEGV, "SIGSEGV"},     {SIGUSR2, "SIGUSR2"},
    {SIGPIPE, "SIGPIPE"}, {SIGALRM, "SIGALRM"}, {SIGTERM, "SIGTERM"},     {SIGXCPU, "SIGXCPU"},
    {SIGXFSZ, "SIGXFSZ"}, {SIGPROF, "SIGPROF"}, {SIGVTALRM, "SIGVTALRM"}, {SIGSYS, "SIGSYS"},
};

/* NULL for one that is not in the table. */
static const char *
signal_name(int number)
{
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        if (signals[i].number == number) {
            return signals[i].name;
        }
    }
    return NULL;
}

const char *
gp__process_describe_exit(int status, char *out, size_t size)
{
    const char *name = status < 0 ? signal_name(-status) : NULL;

    if (status == GP_STATUS_UNKNOWN) {
        snprintf(out, size, "exited with an unknown status");
    } else if (name != NULL) {
        snprintf(out, size, "was killed by signal %d (%s)", -status, name);
    } else if (status < 0) {
        snprintf(out, size, "was killed by signal %d", -status);
    } else {
        snprintf(out, size, "exited with status %d", status);
    }
    return out;
}

void
gp__process_set_name(gp__process *process, const char *name)
{
    process->name = gp__strdup(name);
}

char *
gp__process_describe_end(gp__process *process)
{
    char how[96];

    if (!gp__process_gone(process)) {
        return NULL;
    }
    gp__process_describe_exit(process->status, how, sizeof(how));
    return process->name != NULL ? gp__format("%s: %s", process->name, how)
                                 : gp__format("the plugin %s", how);
}
