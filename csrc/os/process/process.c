#include "os/process/process.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "gp/lock.h"
#include "gp/runtime.h"
#include "os/fd.h"
#include "os/process/group.h"
#include "os/process/pidfd.h"
#include "os/process/procstat.h"
#include "os/process/spawn.h"
#include "os/reactor.h"

/* How far a plugin may be below the process that was launched, a wrapper's say. */
enum { GENERATIONS = 16 };

/* How many members of a group are remembered, beside those that can be told by its mark. */
enum { MOST_REMEMBERED = 64 };

/* How long members of a group may take to end; one that hangs in the kernel takes longer. */
static const int64_t group_ms = 1000;

/* How often a process without a pidfd is looked after while somebody waits for it. */
static const int64_t nap_ns = 5 * GP__MS;

/* The same while nobody does, in milliseconds. */
static const int64_t exit_poll_ms = 20;

struct gp__process {
    atomic_int refs;
    pid_t pid;
    int pidfd;              /* owned; -1 where there is none */
    bool child;             /* ours to reap */
    char *group;            /* owned; the mark of what is killed with it; NULL: it alone is */
    gp__process *relays[2]; /* shared: ref. Pass a detached child's output on; NULL: none */
    gp_runner runner;       /* owned; of a process elsewhere, else without a start */
    int alive;              /* owned: the other end of what stands for the pidfd there; else -1 */
    atomic_bool doomed;     /* elsewhere: somebody kills it */
    gp__procstat identity;
    bool identified; /* |identity| is that of the process */
    bool recognised; /* a joined process is known to be the one that was meant */

    gp_mutex lock;                   /* guards reaping and signalling against each other; a leaf */
    int remembered[MOST_REMEMBERED]; /* owned: pidfds of the group's members; with |lock| */
    size_t remembered_count;
    atomic_bool gone;
    int status; /* written before |gone| */
    uid_t user; /* likewise; of a joined process when it is made */
    bool user_known;

    gp_mutex watch_lock; /* guards the watch; taken before the reactor's lock */
    gp__watch *watch;    /* owned */
    void (*exited)(void *ctx);
    void *exited_ctx; /* borrowed: outlives the watch */
};

static int
process_new(gp__process **out, pid_t pid, bool child, gp_error *err)
{
    gp__process *process = gp__calloc(1, sizeof(*process));

    if (process == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a process");
    }
    atomic_init(&process->refs, 1);
    atomic_init(&process->gone, false);
    process->pid = pid;
    process->pidfd = -1;
    process->alive = -1;
    atomic_init(&process->doomed, false);
    process->child = child;
    process->status = GP_STATUS_UNKNOWN;
    gp_mutex_init(&process->lock);
    gp_mutex_init(&process->watch_lock);
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
        if (process->runner.start != NULL) {
            process->runner.release(process->runner.ctx);
        }
        gp__fd_close(&process->alive);
        gp__process_unref(process->relays[0]);
        gp__process_unref(process->relays[1]);
        gp__fd_close(&process->pidfd);
        for (size_t i = 0; i < process->remembered_count; i++) {
            gp__fd_close(&process->remembered[i]);
        }
        gp__free(process->group);
        gp_mutex_release(&process->watch_lock);
        gp_mutex_release(&process->lock);
        gp__free(process);
    }
}

/*
 * The host's end of a detached child's pipes goes away with the host, and a Go program dies of the
 * SIGPIPE that its next line of log then gets. So another process stands in between that survives
 * as well: it copies to the host while there is one, and to nowhere after that. |*fd| becomes the
 * end to write to. Without it (there is no sh, say) the child has to live with its broken pipe.
 */
static void
open_relay(gp__process **out, int *fd)
{
    static const char *const argv[] = {"/bin/sh", "-c", "cat; exec cat >/dev/null", NULL};
    static const char *const env[] = {"PATH=/bin:/usr/bin", NULL};
    gp__spawn_spec spec = {.argv = argv, .env = env, .directory = "/", .detached = true};
    gp__process *relay;
    int ends[2];

    if (process_new(&relay, -1, true, NULL) < 0) {
        return;
    }
    if (gp__fd_pipe(ends, NULL) < 0) {
        goto fail_pipe;
    }
    spec.in = ends[0];
    spec.out = *fd;
    spec.err = *fd;
    if (gp__spawn(&relay->pid, &spec, NULL) < 0) {
        goto fail_spawn;
    }
    gp__fd_close(&ends[0]);
    relay->pidfd = gp__pidfd_open(relay->pid);
    gp__process_watch(relay, NULL, NULL, NULL); /* to have it reaped */
    gp__fd_close(fd);
    *fd = ends[1];
    *out = relay;
    return;

fail_spawn:
    gp__fd_close(&ends[0]);
    gp__fd_close(&ends[1]);
fail_pipe:
    gp__process_unref(relay);
}

void
gp__process_await_relays(gp__process *process, int64_t deadline)
{
    for (int i = 0; i < 2 && process->relays[i] != NULL; i++) {
        gp__process_wait(process->relays[i], deadline, NULL);
    }
}

int
gp__process_spawn(gp__process **out, const gp__process_spec *spec, int *out_fd, int *err_fd,
                  gp_error *err)
{
    int outputs[2] = {-1, -1};
    int errors[2] = {-1, -1};
    gp__spawn_spec child = {.argv = spec->argv,
                            .env = spec->env,
                            .directory = spec->directory,
                            .detached = spec->detached,
                            .image = spec->image};
    gp__process *process;
    int rc;

    /* Everything that can fail comes before the child: nothing has to be undone behind it. */
    if ((rc = process_new(&process, -1, true, err)) < 0) {
        return rc;
    }
    if (spec->group != NULL && (process->group = gp__strdup(spec->group)) == NULL) {
        rc = gp_error_set(err, GP_ENOMEM, "out of memory for a process");
        goto fail;
    }
    if ((rc = gp__fd_pipe(outputs, err)) < 0 || (rc = gp__fd_pipe(errors, err)) < 0) {
        goto fail;
    }
    if (gp__fd_set_nonblocking(outputs[0]) < 0 || gp__fd_set_nonblocking(errors[0]) < 0) {
        rc = gp_error_set_errno(err, errno, "cannot set up a pipe");
        goto fail;
    }
    if (spec->detached) {
        open_relay(&process->relays[0], &outputs[1]);
        open_relay(&process->relays[1], &errors[1]);
    }
    child.out = outputs[1];
    child.err = errors[1];
    if ((rc = gp__spawn(&process->pid, &child, err)) < 0) {
        goto fail;
    }
    process->pidfd = gp__pidfd_open(process->pid);
    /*
     * If the host reaps any child it sees, the descriptor may be a stranger's: then it's no child.
     */
    gp__process_gone(process);
    gp__fd_close(&outputs[1]);
    gp__fd_close(&errors[1]);
    *out_fd = outputs[0];
    *err_fd = errors[0];
    *out = process;
    return 0;

fail:
    for (int i = 0; i < 2; i++) {
        gp__fd_close(&outputs[i]);
        gp__fd_close(&errors[i]);
    }
    gp__process_unref(process);
    return rc;
}

/* ---- Elsewhere ------------------------------------------------------------------------------- */

static void *
await_elsewhere(void *arg)
{
    gp__process *process = arg;

    process->status = process->runner.wait(process->runner.ctx);
    atomic_store(&process->gone, true);
    gp__fd_close(&process->alive); /* which makes the other end readable */
    gp__process_unref(process);
    return NULL;
}

static void *
kill_elsewhere(void *arg)
{
    gp__process *process = arg;

    process->runner.kill(process->runner.ctx);
    gp__process_unref(process);
    return NULL;
}

/* A thread that nobody joins: how long a runner takes is nobody's business. */
static int
start_detached(const char *name, void *(*run)(void *), gp__process *process, gp_error *err)
{
    pthread_t thread;
    int rc;

    gp__process_ref(process); /* the thread's reference */
    rc = gp_user_thread_start(&thread, name, run, process, err);
    if (rc < 0) {
        gp__process_unref(process);
        return rc;
    }
    pthread_detach(thread);
    return 0;
}

int
gp__process_run(gp__process **out, const gp_runner *runner, const char *const *env, int *out_fd,
                int *err_fd, gp_error *err)
{
    gp__process *process;
    int alive[2];
    int rc = process_new(&process, -1, false, err);

    if (rc < 0) {
        runner->release(runner->ctx);
        return rc;
    }
    process->runner = *runner;
    if ((rc = gp__fd_pipe(alive, err)) < 0) {
        goto fail;
    }
    process->pidfd = alive[0];
    process->alive = alive[1];
    if ((rc = runner->start(runner->ctx, env, out_fd, err_fd, err)) < 0) {
        goto fail;
    }
    gp__fd_set_nonblocking(*out_fd);
    gp__fd_set_nonblocking(*err_fd);
    if ((rc = start_detached("gp-runner", await_elsewhere, process, err)) < 0) {
        runner->kill(runner->ctx);
        gp__fd_close(out_fd);
        gp__fd_close(err_fd);
        goto fail;
    }
    *out = process;
    return 0;

fail:
    gp__process_unref(process);
    return rc;
}

const gp_runner *
gp__process_runner(const gp__process *process)
{
    return process->runner.start != NULL ? &process->runner : NULL;
}

/* ---- Joining --------------------------------------------------------------------------------- */

static int
not_found(int pid, gp_error *err)
{
    return gp_error_set(err, GP_EREATTACH, "process not found: there is no process %d", pid);
}

int
gp__process_attach(gp__process **out, int pid, unsigned long long start_time, gp_error *err)
{
    gp__process *process;
    int rc;

    /* 0 and negative numbers would mean groups of processes to kill(). */
    if (pid <= 0 || (kill(pid, 0) < 0 && errno != EPERM)) {
        return not_found(pid, err);
    }
    if ((rc = process_new(&process, pid, false, err)) < 0) {
        return rc;
    }
    process->pidfd = gp__pidfd_open(pid);
    process->identified = gp__procstat_read(pid, &process->identity);
    process->user_known = gp__procstat_user(pid, &process->user);
    /* Asked after reading: what was read is then that of the process behind the descriptor. */
    if (gp__process_gone(process)) {
        gp__process_unref(process);
        return not_found(pid, err);
    }
    if (start_time != 0 && process->identified) {
        if (process->identity.start_time != start_time) {
            gp__process_unref(process);
            return gp_error_set(err, GP_EREATTACH,
                                "process not found: the pid %d is that of another process now",
                                pid);
        }
        process->recognised = true;
    }
    *out = process;
    return 0;
}

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
    /* It must have been there all along, or a successor of the same pid was looked at. */
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
    if (process->runner.start != NULL || (process->child && !atomic_load(&process->gone))) {
        return false;
    }
    /*
     * Another part of the program has reaped it. A child of an ordinary user's belongs to that
     * user.
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

/* ---- Whether it lives ------------------------------------------------------------------------ */

static void
record_exit(gp__process *process, const siginfo_t *info)
{
    process->status = info->si_code == CLD_EXITED ? info->si_status : -info->si_status;
    process->user = info->si_uid;
    process->user_known = true;
    atomic_store(&process->gone, true);
}

/*
 * Reap a child that has ended, with the lock held.
 *
 * A host that ignores SIGCHLD, or waits for any child itself, leaves us nothing to reap (ECHILD):
 * then the process is gone and its status unknown.
 */
static void
reap(gp__process *process)
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
        record_exit(process, &info);
    } else if (rc < 0 && errno == ECHILD) {
        atomic_store(&process->gone, true);
    }
}

/* Whether the pid of a joined process stands for the process that was joined. */
static bool
is_same_process(const gp__process *process)
{
    gp__procstat now;

    return process->identified && gp__procstat_read(process->pid, &now) &&
           now.start_time == process->identity.start_time;
}

static void
look_after_joined(gp__process *process)
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
    if (atomic_load(&process->gone) || process->runner.start != NULL) {
        return atomic_load(&process->gone);
    }
    gp_mutex_lock(&process->lock);
    if (!atomic_load(&process->gone)) {
        if (process->child) {
            reap(process);
        } else {
            look_after_joined(process);
        }
    }
    gp_mutex_unlock(&process->lock);
    return atomic_load(&process->gone);
}

gp__process_look
gp__process_inspect(gp__process *process)
{
    gp__procstat now;

    if (gp__process_gone(process)) {
        return GP__PROCESS_GONE;
    }
    if (!gp__procstat_read(process->pid, &now)) {
        /* Reaped by somebody else just now, or there is no /proc. */
        return gp__process_gone(process) ? GP__PROCESS_GONE : GP__PROCESS_UNKNOWN;
    }
    return now.dying ? GP__PROCESS_DYING : GP__PROCESS_RUNNING;
}

static void
nap(int64_t until)
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
            nap(slice);
        } else if (gp__fd_poll(&ended, 1, slice) > 0 && !gp__process_gone(process)) {
            nap(slice); /* ended, but the process that traces it has to let it go first */
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
    int found[MOST_REMEMBERED];
    size_t count;

    if (process->group == NULL || gp_runtime_forked()) {
        return;
    }
    count = gp__group_find(process->pid, process->pidfd, process->group, found, MOST_REMEMBERED);
    gp_mutex_lock(&process->lock);
    for (size_t i = 0; i < count; i++) {
        if (process->remembered_count < MOST_REMEMBERED) {
            process->remembered[process->remembered_count++] = found[i];
        } else {
            gp__fd_close(&found[i]);
        }
    }
    gp_mutex_unlock(&process->lock);
}

/* The reactor's thread does not wait for the end of anybody. */
static void
kill_group(gp__process *process)
{
    int64_t patience_ms = gp__reactor_current() ? 0 : group_ms;
    int found[MOST_REMEMBERED];
    size_t count;

    gp__group_kill(process->pid, process->pidfd, process->group, patience_ms);

    gp_mutex_lock(&process->lock);
    count = process->remembered_count;
    memcpy(found, process->remembered, count * sizeof(*found));
    process->remembered_count = 0;
    gp_mutex_unlock(&process->lock);
    gp__group_kill_found(found, count, patience_ms);
}

void
gp__process_kill(gp__process *process)
{
    siginfo_t info;

    if (gp_runtime_forked()) {
        return;
    }
    if (process->runner.start != NULL) {
        if (!atomic_load(&process->gone) && !atomic_exchange(&process->doomed, true)) {
            start_detached("gp-runner-kill", kill_elsewhere, process, NULL);
        }
        return;
    }
    if (process->group != NULL) { /* first, since children lose their parent with it */
        kill_group(process);
    }
    gp_mutex_lock(&process->lock);
    if (!atomic_load(&process->gone) && (process->child || process->recognised)) {
        if (process->pidfd >= 0) {
            gp__pidfd_kill(process->pidfd, SIGKILL);
        } else if (process->child
                       ? waitid(P_PID, (id_t)process->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0
                       : is_same_process(process)) {
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

/* Whoever clears |watch| is the one to remove it. */
static gp__watch *
take_watch(gp__process *process)
{
    gp__watch *watch;

    gp_mutex_lock(&process->watch_lock);
    watch = process->watch;
    process->watch = NULL;
    gp_mutex_unlock(&process->watch_lock);
    return watch;
}

/* Not with the watch's lock: removing waits for the callback, which takes it. */
static void
drop_watch(gp__process *process)
{
    gp__watch *watch = take_watch(process);

    if (watch != NULL) {
        gp__reactor_remove(watch);
        gp__process_unref(process); /* the watch's reference */
    }
}

/* On the reactor's thread. */
static void
notice_exit(void *ctx)
{
    gp__process *process = ctx;

    if (gp__process_gone(process)) {
        if (process->exited != NULL) {
            process->exited(process->exited_ctx);
        }
        drop_watch(process);
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

void
gp__process_unwatch(gp__process *process)
{
    drop_watch(process);
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

const char *
gp__process_describe_exit(int status, char *out, size_t size)
{
    if (status == GP_STATUS_UNKNOWN) {
        snprintf(out, size, "exited with an unknown status");
    } else if (status < 0) {
        snprintf(out, size, "was killed by signal %d (%s)", -status, strsignal(-status));
    } else {
        snprintf(out, size, "exited with status %d", status);
    }
    return out;
}
