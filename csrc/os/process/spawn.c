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
#include "base/buf.h"
#include "os/fd.h"
#include "os/process/diagnosis.h"
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

/* Where a program is looked for when the environment has no PATH, as Python's os.defpath. */
static const char default_path[] = "/bin:/usr/bin";

enum { FIRST_CLOSED = 3 };

/* What the child could not do; written to the parent when it gives up. */
typedef enum spawn_stage { STAGE_DESCRIPTORS, STAGE_DIRECTORY, STAGE_EXEC } spawn_stage;

typedef struct spawn_report {
    spawn_stage stage;
    int errnum;
    int candidate; /* which of the paths |errnum| is about */
} spawn_report;

/* All that the child needs, made ready while allocating is still allowed. */
typedef struct spawn_plan {
    const gp__spawn_spec *spec; /* borrowed */
    char **candidates;          /* owned, with its strings; NULL-terminated paths to try */
    int report;                 /* the writing end of a close-on-exec pipe */
    int highest;                /* no descriptor above it was open; -1: close_range() does it */
    volatile bool entered;      /* written by the child: seen here only if memory is shared */
    pid_t host;                 /* this process */
    pid_t child;                /* the result of the fork, and its errno */
    int errnum;
#ifdef HAVE_DEATH_SIGNAL
    cpu_set_t cpus; /* where the calling thread may run; |pinned|: elsewhere than the forking one */
    bool pinned;
    int nice; /* the calling thread's */
#endif
} spawn_plan;

/* ---- In the child ----------------------------------------------------------------------------
 *
 * It runs on the memory of its parent, whose calling thread is suspended until the exec: only
 * async-signal-safe calls, no allocation, no return.
 */

static _Noreturn void
give_up(const spawn_plan *plan, spawn_stage stage, int errnum, int candidate)
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
        sigaction(number, &action, NULL); /* fails for those that nobody may change */
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

/* What the child would have got from the calling thread, and its bond to this process. */
static void
join_or_leave(const spawn_plan *plan)
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
        _exit(127); /* it died before it could be asked to tell */
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
    join_or_leave(plan);
    if ((spec->in >= FIRST_CLOSED && dup2(spec->in, STDIN_FILENO) < 0) ||
        dup2(spec->out, STDOUT_FILENO) < 0 || dup2(spec->err, STDERR_FILENO) < 0) {
        give_up(plan, STAGE_DESCRIPTORS, errno, 0);
    }
    close_others_on_exec(plan);
    if (spec->image != NULL && spec->image->script) {
        fcntl(spec->image->fd, F_SETFD, 0); /* for the interpreter, which opens it by its path */
    }
    if (spec->directory != NULL && chdir(spec->directory) < 0) {
        give_up(plan, STAGE_DIRECTORY, errno, 0);
    }
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    for (int i = 0; plan->candidates[i] != NULL; i++) {
        execve(plan->candidates[i], (char *const *)spec->argv, (char *const *)spec->env);
        /* A file that is there but does not run says more than one that is not there. */
        if (errno != ENOENT && errno != ENOTDIR && failed == ENOENT) {
            failed = errno;
            candidate = i;
        }
    }
#ifdef HAVE_DEATH_SIGNAL
    if (failed == ENOENT && spec->image != NULL && spec->image->fd >= 0 && !spec->image->script) {
        /* Without a /proc it has no path. A script would need one, for its interpreter. */
        syscall(SYS_execveat, spec->image->fd, "", spec->argv, spec->env, AT_EMPTY_PATH);
        failed = errno == ENOSYS ? ENOENT : errno;
    }
#endif
    give_up(plan, STAGE_EXEC, failed, candidate);
}

/* ---- In the parent --------------------------------------------------------------------------- */

/* In a function of its own, so that the child clobbers no variable that the parent still needs. */
static __attribute__((noinline)) pid_t
fork_child(spawn_plan *plan)
{
    pid_t pid = vfork();

    if (pid == 0) {
        run_child(plan);
    }
    return pid;
}

static const char *
find_env(const char *const *env, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; env[i] != NULL; i++) {
        if (strncmp(env[i], name, len) == 0 && env[i][len] == '=') {
            return env[i] + len + 1;
        }
    }
    return NULL;
}

static const char *
search_path(const gp__spawn_spec *spec)
{
    const char *path = find_env(spec->env, "PATH");

    return path != NULL ? path : default_path;
}

static void
free_candidates(char **candidates)
{
    for (size_t i = 0; candidates != NULL && candidates[i] != NULL; i++) {
        gp__free(candidates[i]);
    }
    gp__free(candidates);
}

/* The paths to try, in order. NULL when memory is short. */
static char **
make_candidates(const gp__spawn_spec *spec)
{
    const char *program = spec->image != NULL ? spec->image->path : spec->argv[0];
    bool direct = strchr(program, '/') != NULL;
    const char *path = direct ? "" : search_path(spec);
    size_t count = 1;
    char **candidates;

    for (const char *at = path; *at != '\0'; at++) {
        count += *at == ':';
    }
    candidates = gp__calloc(count + 1, sizeof(*candidates));
    if (candidates == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        size_t len = strcspn(path, ":");

        /* An empty entry stands for the working directory. */
        candidates[i] =
            len == 0 ? gp__strdup(program) : gp__format("%.*s/%s", (int)len, path, program);
        if (candidates[i] == NULL) {
            free_candidates(candidates);
            return NULL;
        }
        path += path[len] == ':' ? len + 1 : len;
    }
    return candidates;
}

/* A path of the child's as the parent has to write it. NULL when memory is short. */
static char *
as_seen_here(const gp__spawn_spec *spec, const char *path)
{
    if (path[0] == '/' || spec->directory == NULL) {
        return gp__strdup(path);
    }
    return gp__format("%s/%s", spec->directory, path);
}

/* The first of |candidates| that allows |mode|, as seen from here. NULL: none, or no memory. */
static char *
find_candidate(const gp__spawn_spec *spec, char *const *candidates, int mode)
{
    char *found = NULL;

    for (size_t i = 0; candidates[i] != NULL && found == NULL; i++) {
        found = as_seen_here(spec, candidates[i]);
        if (found != NULL && access(found, mode) < 0) {
            gp__free(found);
            found = NULL;
        }
    }
    return found;
}

char *
gp__spawn_find(const gp__spawn_spec *spec)
{
    char **candidates = make_candidates(spec);
    char *found = NULL;

    if (candidates != NULL) {
        found = find_candidate(spec, candidates, X_OK);
        found = found != NULL ? found : find_candidate(spec, candidates, F_OK);
    }
    free_candidates(candidates);
    return found;
}

int
gp__spawn_not_found(const gp__spawn_spec *spec, gp_error *err)
{
    const char *program = spec->argv[0];
    gp__buf why = GP__BUF_INIT;
    char *path;

    if (strchr(program, '/') == NULL) {
        return gp_error_set(err, GP_ESTART,
                            "cannot start %s: there is no such program in PATH (%s)", program,
                            search_path(spec));
    }
    path = as_seen_here(spec, program);
    if (path == NULL || gp__diagnose_exec(&why, path, ENOENT) < 0) {
        gp_error_set(err, GP_ESTART, "cannot start %s: there is no such file", program);
    } else {
        gp_error_set(err, GP_ESTART, "cannot start %s: %.*s", program, (int)why.len, why.data);
    }
    gp__buf_release(&why);
    gp__free(path);
    return GP_ESTART;
}

/*
 * The highest descriptor that may be open, with some room for what other threads open meanwhile
 * (new ones take the lowest free numbers); -1 where close_range() will do.
 */
static int
highest_descriptor(void)
{
    enum { MARGIN = 64, UNLISTED = 65536 };
    DIR *listing;
    struct dirent *entry;
    int highest = FIRST_CLOSED;

#ifdef HAVE_CLOSE_RANGE
    /* A range in which nothing can be open tells whether the kernel knows the call and the flag. */
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
 * Read what the child reported before it gave up. Returns false if it reported nothing: it runs.
 *
 * The child has exec'ed or exited when vfork() returns, so its report is there by then or never. An
 * end of the pipe may meanwhile live on in a process that another thread forked without exec, so
 * waiting for the pipe's end could take for ever. Where vfork() is an ordinary fork (valgrind, some
 * sanitizers) the flag that the child set is not seen here, and waiting is what has to be done.
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
    const char *program = spec->argv[0];
    char *path;
    gp__buf why = GP__BUF_INIT;

    if (spec->image != NULL && spec->image->fd >= 0 && access("/proc/self/fd", X_OK) < 0 &&
        spec->image->script) {
        return gp_error_set(
            err, GP_ESTART,
            "cannot start %s: it is a script that had to be checked, and the copy of "
            "it that was is read by its interpreter through /proc, which is not "
            "mounted here",
            program);
    }
    if (spec->image != NULL) {
        /* A copy in a file may lie where nothing can be executed. */
        path = gp__strdup(spec->image->fd < 0 && report->errnum == EACCES ? spec->image->path
                                                                          : spec->image->origin);
    } else if (report->errnum == ENOENT && strchr(program, '/') == NULL) {
        char *found = gp__spawn_find(spec);

        /* Found all the same: then it is its interpreter that is missing. */
        if (found == NULL) {
            return gp__spawn_not_found(spec, err);
        }
        path = found;
    } else {
        path = as_seen_here(spec, plan->candidates[report->candidate]);
    }
    if (path == NULL || gp__diagnose_exec(&why, path, report->errnum) < 0) {
        gp_error_set_errno(err, report->errnum, "cannot start %s", program);
    } else {
        gp_error_set(err, GP_ESTART, "cannot start %s: %.*s", program, (int)why.len, why.data);
    }
    if (err != NULL) {
        err->code = GP_ESTART;
    }
    gp__buf_release(&why);
    gp__free(path);
    return GP_ESTART;
}

static int
explain(const spawn_plan *plan, const spawn_report *report, gp_error *err)
{
    switch (report->stage) {
    case STAGE_DIRECTORY:
        gp_error_set_errno(err, report->errnum, "cannot start %s in its working directory %s",
                           plan->spec->argv[0], plan->spec->directory);
        break;
    case STAGE_EXEC:
        return explain_exec(plan, report, err);
    default:
        gp_error_set_errno(err, report->errnum, "cannot start %s: its output cannot be redirected",
                           plan->spec->argv[0]);
    }
    if (err != NULL) {
        err->code = GP_ESTART;
    }
    return GP_ESTART;
}

/* Fork with every signal blocked, so that no handler of the host's runs on shared memory. */
static void
fork_undisturbed(void *ctx)
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

/* Fork on a thread that is there for good, if the child is to notice the end of it. */
static int
fork_somewhere(spawn_plan *plan, gp_error *err)
{
    plan->host = getpid();
#ifdef HAVE_DEATH_SIGNAL
    if (!plan->spec->detached) {
        plan->pinned = sched_getaffinity(0, sizeof(plan->cpus), &plan->cpus) == 0;
        plan->nice = getpriority(PRIO_PROCESS, 0);
        return gp__reactor_call(fork_undisturbed, plan, err);
    }
#endif
    (void)err;
    fork_undisturbed(plan);
    return 0;
}

static void
reap(pid_t pid)
{
    siginfo_t info;

    while (waitid(P_PID, (id_t)pid, &info, WEXITED) < 0 && errno == EINTR) {
    }
}

enum { GAVE_UP = 1 };

/* Returns 0 (it runs), GAVE_UP with |*report|, or a GP_E* code: there is no child. */
static int
try_plan(spawn_plan *plan, spawn_report *report, gp_error *err)
{
    int ends[2];
    int rc = gp__fd_pipe(ends, err);

    if (rc < 0) {
        return rc;
    }
    plan->report = ends[1];
    plan->entered = false;
    rc = fork_somewhere(plan, err);
    if (rc == 0 && plan->child < 0) {
        rc = gp_error_set_errno(err, plan->errnum, "cannot create a process for %s",
                                plan->spec->argv[0]);
    }
    gp__fd_close(&ends[1]);
    if (rc == 0 && read_report(plan, ends[0], report)) {
        reap(plan->child);
        rc = GAVE_UP;
    }
    gp__fd_close(&ends[0]);
    return rc;
}

static bool
is_busy(int rc, const spawn_report *report)
{
    return rc == GAVE_UP && report->stage == STAGE_EXEC && report->errnum == ETXTBSY;
}

/*
 * As try_plan(). A file that was just written cannot be executed as long as another thread of this
 * process has a child between fork and exec, which has inherited the descriptor: so it is tried
 * again for a while.
 */
static int
run_plan(spawn_plan *plan, spawn_report *report, gp_error *err)
{
    static const long first_ns = 1000000;
    static const long last_ns = 512000000;
    int rc = try_plan(plan, report, err);

    for (long wait = first_ns; wait <= last_ns && is_busy(rc, report); wait *= 2) {
        const struct timespec pause = {.tv_nsec = wait};

        nanosleep(&pause, NULL);
        rc = try_plan(plan, report, err);
    }
    return rc;
}

int
gp__spawn(pid_t *out, const gp__spawn_spec *spec, gp_error *err)
{
    spawn_plan plan = {.spec = spec};
    spawn_report report;
    int rc;

    plan.candidates = make_candidates(spec);
    if (plan.candidates == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory to start %s", spec->argv[0]);
    }
    plan.highest = highest_descriptor();
    rc = run_plan(&plan, &report, err);
    if (rc == GAVE_UP) {
        rc = explain(&plan, &report, err);
    } else if (rc == 0) {
        *out = plan.child;
    }
    free_candidates(plan.candidates);
    return rc;
}
