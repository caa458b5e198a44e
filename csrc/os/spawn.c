#include "os/spawn.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "os/diagnose.h"
#include "os/fd.h"

#if defined(__linux__) && !defined(GP_PORTABLE)
#include <linux/close_range.h>
#include <sys/syscall.h>
#define HAVE_CLOSE_RANGE 1
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

static _Noreturn void
run_child(spawn_plan *plan)
{
    const gp__spawn_spec *spec = plan->spec;
    sigset_t none;
    int failed = ENOENT;
    int candidate = 0;

    plan->entered = true;
    reset_signals();
    if (dup2(spec->out, STDOUT_FILENO) < 0 || dup2(spec->err, STDERR_FILENO) < 0) {
        give_up(plan, STAGE_DESCRIPTORS, errno, 0);
    }
    close_others_on_exec(plan);
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
    const char *program = spec->argv[0];
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

char *
gp__spawn_find(const gp__spawn_spec *spec)
{
    char **candidates = make_candidates(spec);
    char *found = NULL;

    for (size_t i = 0; candidates != NULL && candidates[i] != NULL && found == NULL; i++) {
        found = as_seen_here(spec, candidates[i]);
        if (found != NULL && access(found, F_OK) < 0) {
            gp__free(found);
            found = NULL;
        }
    }
    free_candidates(candidates);
    return found;
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
    ssize_t got;

    if (plan->entered) {
        gp__fd_set_nonblocking(fd);
    }
    do {
        got = read(fd, report, sizeof(*report));
    } while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof(*report);
}

static int
explain_exec(const spawn_plan *plan, const spawn_report *report, gp_error *err)
{
    const gp__spawn_spec *spec = plan->spec;
    const char *program = spec->argv[0];
    char *path;
    gp__buf why = GP__BUF_INIT;

    if (report->errnum == ENOENT && strchr(program, '/') == NULL) {
        char *found = gp__spawn_find(spec);

        /* Found all the same: then it is its interpreter that is missing. */
        if (found == NULL) {
            return gp_error_set(err, GP_ESTART,
                                "cannot start %s: there is no such program in PATH (%s)", program,
                                search_path(spec));
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
static pid_t
fork_undisturbed(spawn_plan *plan)
{
    sigset_t all;
    sigset_t before;
    int failed;
    pid_t pid;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid = fork_child(plan);
    failed = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = failed;
    return pid;
}

static void
reap(pid_t pid)
{
    siginfo_t info;

    while (waitid(P_PID, (id_t)pid, &info, WEXITED) < 0 && errno == EINTR) {
    }
}

int
gp__spawn(pid_t *out, const gp__spawn_spec *spec, gp_error *err)
{
    spawn_plan plan = {.spec = spec};
    spawn_report report;
    int ends[2];
    pid_t pid;
    int rc;

    plan.candidates = make_candidates(spec);
    if (plan.candidates == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory to start %s", spec->argv[0]);
    }
    rc = gp__fd_pipe(ends, err);
    if (rc < 0) {
        goto fail_pipe;
    }
    plan.report = ends[1];
    plan.highest = highest_descriptor();
    pid = fork_undisturbed(&plan);
    if (pid < 0) {
        rc = gp_error_set_errno(err, errno, "cannot create a process for %s", spec->argv[0]);
    }
    gp__fd_close(&ends[1]);
    if (pid > 0) {
        if (read_report(&plan, ends[0], &report)) {
            reap(pid);
            rc = explain(&plan, &report, err);
        } else {
            *out = pid;
        }
    }
    gp__fd_close(&ends[0]);
fail_pipe:
    free_candidates(plan.candidates);
    return rc;
}
