#include "os/process/spawn.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "os/fd.h"
#include "os/process/diagnosis.h"
#include "os/process/program.h"
#include "os/reactor.h"

#if defined(__linux__) && !defined(GP_PORTABLE)
#include <linux/close_range.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#define HAVE_CLOSE_RANGE 1
#define HAVE_DEATH_SIGNAL 1
#endif

enum { FIRST_CLOSED = 3 };

/* What the child has failed to do; it writes a report to the parent before it exits. */
typedef enum spawn_stage { STAGE_DESCRIPTORS, STAGE_DIRECTORY, STAGE_EXEC } spawn_stage;

typedef struct spawn_report {
    spawn_stage stage;
    int errnum;
    int candidate; /* which of the paths |errnum| is about */
} spawn_report;

/* All that the child needs, prepared while allocating is still allowed. */
typedef struct spawn_plan {
    const gp__spawn_spec *spec; /* borrowed */
    char **candidates;          /* owned, with its strings; NULL-terminated paths to try */
    int report;                 /* borrowed: the writing end of a close-on-exec pipe */
    int highest;                /* no higher descriptor was open; -1: close_range() is used */
    volatile bool entered;      /* written by the child: seen here only if memory is shared */
    pid_t host;                 /* this process */
    pid_t child;                /* the result of the fork, and its errno */
    int errnum;
#ifdef HAVE_DEATH_SIGNAL
    cpu_set_t cpus; /* of the calling thread; |pinned|: they differ from the forking thread's */
    bool pinned;
    int nice; /* the calling thread's */
#endif
} spawn_plan;

/* ---- In the child ----------------------------------------------------------------------------
 *
 * The child runs on the memory of its parent, whose calling thread is suspended until the exec. So
 * it makes only async-signal-safe calls, allocates nothing, and never returns.
 */

static _Noreturn void
report_and_exit(const spawn_plan *plan, spawn_stage stage, int errnum, int candidate)
{
    spawn_report report = {stage, errnum, candidate};

    (void)!write(plan->report, &report, sizeof(report));
    _exit(127);
}

static void
reset_signals(void)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = SIG_DFL;
    for (int number = 1; number < NSIG; number++) {
        sigaction(number, &action, NULL); /* fails for those that cannot be changed */
    }
}

static void
close_others_on_exec(const spawn_plan *plan)
{
#ifdef HAVE_CLOSE_RANGE
    if (plan->highest < 0) {
        syscall(SYS_close_range, FIRST_CLOSED, ~0U, CLOSE_RANGE_CLOEXEC);
        return;
    }
#endif
    for (int fd = FIRST_CLOSED; fd <= plan->highest; fd++) {
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
}

/*
 * Give a detached child a session of its own. Otherwise give the child the calling thread's CPUs
 * and priority, since another thread has forked it, and have it die with this process.
 */
static void
set_up_process(const spawn_plan *plan)
{
    if (plan->spec->detached) {
        setsid();
        return;
    }
#ifdef HAVE_DEATH_SIGNAL
    if (plan->pinned) {
        sched_setaffinity(0, sizeof(plan->cpus), &plan->cpus);
    }
    setpriority(PRIO_PROCESS, 0, plan->nice);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != plan->host) {
        _exit(127); /* the host died before it could be bound to us */
    }
#endif
}

static _Noreturn void
run_child(spawn_plan *plan)
{
    const gp__spawn_spec *spec = plan->spec;
    sigset_t none;
    int failed = ENOENT;
    int candidate = 0;

    plan->entered = true;
    reset_signals();
    set_up_process(plan);
    if ((spec->in >= FIRST_CLOSED && dup2(spec->in, STDIN_FILENO) < 0) ||
        dup2(spec->out, STDOUT_FILENO) < 0 || dup2(spec->err, STDERR_FILENO) < 0) {
        report_and_exit(plan, STAGE_DESCRIPTORS, errno, 0);
    }
    close_others_on_exec(plan);
    if (spec->image != NULL && spec->image->script) {
        fcntl(spec->image->fd, F_SETFD, 0); /* for the interpreter, which opens it by its path */
    }
    if (spec->directory != NULL && chdir(spec->directory) < 0) {
        report_and_exit(plan, STAGE_DIRECTORY, errno, 0);
    }
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    for (int i = 0; plan->candidates[i] != NULL; i++) {
        execve(plan->candidates[i], (char *const *)spec->argv, (char *const *)spec->env);
        /* The error of a file that exists explains more than that of one that does not. */
        if (errno != ENOENT && errno != ENOTDIR && failed == ENOENT) {
            failed = errno;
            candidate = i;
        }
    }
#ifdef HAVE_DEATH_SIGNAL
    if (failed == ENOENT && spec->image != NULL && spec->image->fd >= 0 && !spec->image->script) {
        /* Without a /proc it has no path. (A script's interpreter needs a path.) */
        syscall(SYS_execveat, spec->image->fd, "", spec->argv, spec->env, AT_EMPTY_PATH);
        failed = errno == ENOSYS ? ENOENT : errno;
    }
#endif
    report_and_exit(plan, STAGE_EXEC, failed, candidate);
}

/* ---- In the parent --------------------------------------------------------------------------- */

/* A function of its own, so that the child overwrites no variable that the parent still needs. */
static __attribute__((noinline)) pid_t
fork_child(spawn_plan *plan)
{
    pid_t pid = vfork();

    if (pid == 0) {
        run_child(plan);
    }
    return pid;
}

/*
 * The highest descriptor that may be open, with a margin for those that other threads open
 * meanwhile (which get the lowest free numbers); -1 if there is close_range().
 */
static int
highest_descriptor(void)
{
    enum { MARGIN = 64, UNLISTED = 65536 };
    DIR *listing;
    struct dirent *entry;
    int highest = FIRST_CLOSED;

#ifdef HAVE_CLOSE_RANGE
    /* With a range in which no descriptor can be open, it only tells whether the kernel has it. */
    if (syscall(SYS_close_range, ~0U, ~0U, CLOSE_RANGE_CLOEXEC) == 0) {
        return -1;
    }
#endif
    listing = opendir("/dev/fd");
    if (listing == NULL) {
        long limit = sysconf(_SC_OPEN_MAX);

        return limit > 0 && limit < UNLISTED ? (int)limit : UNLISTED;
    }
    while ((entry = readdir(listing)) != NULL) {
        int fd = atoi(entry->d_name);

        highest = fd > highest ? fd : highest;
    }
    closedir(listing);
    return highest + MARGIN;
}

/*
 * Read the child's report. Returns false if there is none: the program runs.
 *
 * The child has exec'ed or exited when vfork() returns, so its report has been written by then, or
 * never will be. A process that another thread has forked without exec may still hold the pipe, so
 * waiting for the pipe's end could take for ever. If vfork() is an ordinary fork (valgrind, some
 * sanitizers), the flag that the child sets is not seen here, and we have to wait for that end.
 */
static bool
read_report(const spawn_plan *plan, int fd, spawn_report *report)
{
    if (plan->entered) {
        gp__fd_set_nonblocking(fd);
    }
    return gp__fd_read(fd, report, sizeof(*report)) == (ssize_t)sizeof(*report);
}

static int
explain_exec(const spawn_plan *plan, const spawn_report *report, gp_error *err)
{
    const gp__spawn_spec *spec = plan->spec;
    const gp__sealed *image = spec->image;
    const char *program = spec->argv[0];
    char *path;
    int rc;

    if (image != NULL && image->fd >= 0 && access("/proc/self/fd", X_OK) < 0 && image->script) {
        return gp_error_set(err, GP_ESTART,
                            "cannot start %s: it is a script, and its interpreter has to read the "
                            "checked copy of it through /proc, which is not mounted here",
                            program);
    }
    if (image != NULL) {
        /* A copy in a file may be in a directory from which nothing can be executed. */
        path = gp__strdup(image->fd < 0 && report->errnum == EACCES ? image->path : image->origin);
    } else if (report->errnum == ENOENT && strchr(program, '/') == NULL) {
        path = gp__program_find(spec);
        if (path == NULL) {
            return gp__program_not_found(spec, err);
        }
        /* The program exists, so its interpreter does not. */
    } else {
        path = gp__program_path_here(spec, plan->candidates[report->candidate]);
    }
    rc = gp__cannot_start(err, program, path, report->errnum);
    gp__free(path);
    return rc;
}

static int
explain_report(const spawn_plan *plan, const spawn_report *report, gp_error *err)
{
    const char *program = plan->spec->argv[0];
    int rc;

    switch (report->stage) {
    case STAGE_DIRECTORY:
        rc = gp_error_set_errno(err, report->errnum, "cannot start %s in its working directory %s",
                                program, plan->spec->directory);
        break;
    case STAGE_EXEC:
        return explain_exec(plan, report, err);
    default:
        rc = gp_error_set_errno(err, report->errnum,
                                "cannot start %s: its output cannot be redirected", program);
    }
    return gp__as_start_error(rc, err);
}

/* Fork with all signals blocked, so that no handler of the host runs on the shared memory. */
static void
fork_with_signals_blocked(void *ctx)
{
    spawn_plan *plan = ctx;
    sigset_t all;
    sigset_t before;
#ifdef HAVE_DEATH_SIGNAL
    cpu_set_t own;

    plan->pinned = plan->pinned && sched_getaffinity(0, sizeof(own), &own) == 0 &&
                   !CPU_EQUAL(&own, &plan->cpus);
#endif
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    plan->child = fork_child(plan);
    plan->errnum = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Fork on the reactor's thread if the child is to die with the thread that has forked it. */
static int
fork_on_lasting_thread(spawn_plan *plan, gp_error *err)
{
    plan->host = getpid();
#ifdef HAVE_DEATH_SIGNAL
    if (!plan->spec->detached) {
        plan->pinned = sched_getaffinity(0, sizeof(plan->cpus), &plan->cpus) == 0;
        plan->nice = getpriority(PRIO_PROCESS, 0);
        return gp__reactor_call(fork_with_signals_blocked, plan, err);
    }
#endif
    (void)err;
    fork_with_signals_blocked(plan);
    return 0;
}

static void
reap_child(pid_t pid)
{
    siginfo_t info;

    while (waitid(P_PID, (id_t)pid, &info, WEXITED) < 0 && errno == EINTR) {
    }
}

enum { CHILD_FAILED = 1 };

/* Returns 0 (the program runs), CHILD_FAILED with |*report|, or a GP_E* code: there is no child. */
static int
run_once(spawn_plan *plan, spawn_report *report, gp_error *err)
{
    int ends[2];
    int rc = gp__fd_pipe(ends, err);

    if (rc < 0) {
        return rc;
    }
    plan->report = ends[1];
    plan->entered = false;
    rc = fork_on_lasting_thread(plan, err);
    if (rc == 0 && plan->child < 0) {
        rc = gp_error_set_errno(err, plan->errnum, "cannot create a process for %s",
                                plan->spec->argv[0]);
    }
    gp__fd_close(&ends[1]);
    if (rc == 0 && read_report(plan, ends[0], report)) {
        reap_child(plan->child);
        rc = CHILD_FAILED;
    }
    gp__fd_close(&ends[0]);
    return rc;
}

static bool
is_text_busy(int rc, const spawn_report *report)
{
    return rc == CHILD_FAILED && report->stage == STAGE_EXEC && report->errnum == ETXTBSY;
}

/*
 * As run_once(), repeated for a while if the file is being written to. A file that was just written
 * seems to be so, while a child of another thread is between fork and exec and has its descriptor.
 */
static int
run_with_retries(spawn_plan *plan, spawn_report *report, gp_error *err)
{
    static const long first_ns = 1000000;
    static const long last_ns = 512000000;
    int rc = run_once(plan, report, err);

    for (long wait = first_ns; wait <= last_ns && is_text_busy(rc, report); wait *= 2) {
        const struct timespec pause = {.tv_nsec = wait};

        nanosleep(&pause, NULL);
        rc = run_once(plan, report, err);
    }
    return rc;
}

int
gp__spawn(pid_t *out, const gp__spawn_spec *spec, gp_error *err)
{
    spawn_plan plan = {.spec = spec};
    spawn_report report;
    int rc;

    plan.candidates = gp__program_candidates(spec);
    if (plan.candidates == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory to start %s", spec->argv[0]);
    }
    plan.highest = highest_descriptor();
    rc = run_with_retries(&plan, &report, err);
    if (rc == CHILD_FAILED) {
        rc = explain_report(&plan, &report, err);
    } else if (rc == 0) {
        *out = plan.child;
    }
    gp__program_free_candidates(plan.candidates);
    return rc;
}
