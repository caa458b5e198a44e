#include "gp/host.h"

#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/thread.h"
#include "gp/runtime.h"
#include "os/fd.h"
#include "os/process/process.h"
#include "os/process/procstat.h"
#include "os/reactor.h"

#if defined(__linux__) && !defined(GP_PORTABLE)
#include <sys/prctl.h>
#endif

enum { ANCESTORS = 16, OUTPUTS = 2 };

/*
 * How long a process may take to exit: it closes its descriptors first, and its children get
 * another parent last.
 */
static const int64_t dying_ms = 10000;
/* How often to look at the parent or the ancestors, where the system does not report their end. */
static const int64_t look_ms = 50;

/*
 * The watch of the host, of which a process has one, and which is never removed. Used on the
 * reactor's thread alone.
 */
static struct {
    void (*gone)(void *ctx);
    void *ctx;
    int64_t patience_ms;
    gp__process *parent;         /* shared: ref; NULL: this process cannot see its parent */
    pid_t parent_pid;            /* used where there are no pidfds */
    pid_t ancestors[ANCESTORS];  /* from the parent upwards; zeros after the last known one */
    int outputs[OUTPUTS];        /* owned: stdout and stderr if both are pipes, else -1 */
    gp__watch *watches[OUTPUTS]; /* owned */
    gp__watch *clock;            /* owned; NULL: nothing is looked at regularly */
    /* Until when to look whether an ancestor has ended; 0: the outputs are still being read. */
    int64_t look_until;
    /* When this process is ended; 0: the host is still there. */
    int64_t deadline;
} host = {.outputs = {-1, -1}};

static atomic_flag watched = ATOMIC_FLAG_INIT;

/* ---- The end --------------------------------------------------------------------------------- */

static void
exit_after_deadline(void *unused)
{
    (void)unused;
    if (gp__now() >= host.deadline) {
        _exit(1);
    }
}

/* The host has ended: report that, and limit the time that this process has left. */
static void
report_host_gone(void)
{
    if (host.deadline != 0) {
        return;
    }
    host.deadline = gp_deadline_in(host.patience_ms);
    for (int i = 0; i < OUTPUTS; i++) {
        gp__reactor_remove(host.watches[i]);
        host.watches[i] = NULL;
    }
    gp__reactor_remove(host.clock);
    gp__reactor_every(&host.clock, look_ms, exit_after_deadline, NULL, NULL);
    host.gone(host.ctx);
}

static void
parent_ended(void *unused)
{
    (void)unused;
    report_host_gone();
}

static void
list_ancestors(pid_t out[ANCESTORS])
{
    gp__procstat at;
    pid_t pid = getppid();

    for (int i = 0; i < ANCESTORS; i++) {
        out[i] = pid;
        pid = pid > 0 && gp__procstat_read(pid, &at) ? at.parent : 0;
    }
}

/*
 * Whether an ancestor of this process has ended. If only the parent is known, it is assumed to have
 * ended: this is called only after the outputs have been closed.
 */
static bool
ancestors_changed(void)
{
    pid_t now[ANCESTORS];
    bool changed = host.ancestors[1] == 0;

    list_ancestors(now);
    for (int i = 0; i < ANCESTORS && !changed; i++) {
        changed = now[i] != host.ancestors[i];
    }
    return changed;
}

/*
 * Called regularly where the system does not report the parent's end: this process then has another
 * parent.
 */
static void
look_for_parent(void *unused)
{
    (void)unused;
    if (getppid() != host.parent_pid || (host.look_until != 0 && ancestors_changed())) {
        report_host_gone();
    }
}

/*
 * Called regularly once the outputs are not read any more. If the host has only closed them, no
 * ancestor ends, and after a while this stops looking.
 */
static void
look_for_ancestors(void *unused)
{
    (void)unused;
    if (ancestors_changed()) {
        report_host_gone();
    } else if (gp__now() >= host.look_until) {
        gp__reactor_remove(host.clock);
        host.clock = NULL;
    }
}

/* Called when the other end of an output may have been closed. */
static void
check_outputs(void *unused)
{
    struct pollfd outputs[OUTPUTS];
    bool closed = true;

    (void)unused;
    for (int i = 0; i < OUTPUTS; i++) {
        outputs[i] = (struct pollfd){.fd = host.outputs[i]};
    }
    poll(outputs, OUTPUTS, 0);
    for (int i = 0; i < OUTPUTS; i++) {
        bool hung_up = (outputs[i].revents & (POLLERR | POLLHUP)) != 0;

        closed = closed && hung_up;
        if (hung_up && host.watches[i] != NULL) {
            gp__reactor_enable(host.watches[i], false); /* the reactor would report it for ever */
        }
    }
    if (closed && host.look_until == 0) {
        host.look_until = gp_deadline_in(dying_ms);
        if (host.clock == NULL) { /* otherwise look_for_parent() looks for ancestors, too */
            gp__reactor_every(&host.clock, look_ms, look_for_ancestors, NULL, NULL);
        }
    }
}

/* ---- Setting it up --------------------------------------------------------------------------- */

/*
 * A host reads both outputs through pipes. Anything else (a terminal, a file) is not closed by the
 * end of a host.
 */
static void
duplicate_outputs(void)
{
    struct stat file;

    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fstat(fd, &file) < 0 || !S_ISFIFO(file.st_mode)) {
            return;
        }
    }
    for (int i = 0; i < OUTPUTS; i++) {
        host.outputs[i] = fcntl(STDOUT_FILENO + i, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    }
}

static int
watch_outputs(gp_error *err)
{
    int rc = 0;

    duplicate_outputs();
    for (int i = 0; i < OUTPUTS && host.outputs[0] >= 0 && host.outputs[1] >= 0 && rc == 0; i++) {
        rc = gp__reactor_add(&host.watches[i], host.outputs[i], check_outputs, NULL, err);
    }
    return rc;
}

/*
 * Watch the parent. A parent outside of this process's pid namespace has the number 0, and cannot
 * be watched.
 */
static int
watch_parent(gp_error *err)
{
    int rc;

    host.parent_pid = getppid();
    if (host.parent_pid <= 0 || gp__process_attach(&host.parent, host.parent_pid, 0, NULL) < 0) {
        return 0;
    }
    if (gp__process_pidfd(host.parent) < 0) {
        return gp__reactor_every(&host.clock, look_ms, look_for_parent, NULL, err);
    }
    rc = gp__process_watch(host.parent, parent_ended, NULL, err);
    /*
     * The pidfd is the parent's if the parent has had the same pid before and after it was opened.
     */
    if (rc == 0 && getppid() != host.parent_pid) {
        return gp__reactor_every(&host.clock, look_ms, look_for_parent, NULL, err);
    }
    return rc;
}

/* The arguments and the result of gp_host_watch(). */
typedef struct request {
    void (*gone)(void *ctx);
    void *ctx;
    int64_t patience_ms;
    gp_error *err;
    int rc;
} request;

/* On the reactor's thread. */
static void
set_up_watch(void *ctx)
{
    request *wanted = ctx;

    host.gone = wanted->gone;
    host.ctx = wanted->ctx;
    host.patience_ms = wanted->patience_ms;
    list_ancestors(host.ancestors);
    wanted->rc = watch_parent(wanted->err);
    if (wanted->rc == 0) {
        wanted->rc = watch_outputs(wanted->err);
    }
}

int
gp_host_watch(void (*gone)(void *ctx), void *ctx, int64_t patience_ms, gp_error *err)
{
    request wanted = {gone, ctx, patience_ms, err, 0};
    int rc;

    if (gp_runtime_forked()) {
        return gp_error_set(err, GP_EFORKED, "a forked child of a plugin has no host");
    }
    if (atomic_flag_test_and_set(&watched)) {
        return 0;
    }
    rc = gp__reactor_call(set_up_watch, &wanted, err);
    rc = rc == 0 ? wanted.rc : rc;
#if defined(__linux__) && !defined(GP_PORTABLE)
    if (rc == 0) {
        prctl(PR_SET_PDEATHSIG, 0); /* set for the main thread, if this is the main thread */
    }
#endif
    return rc;
}
