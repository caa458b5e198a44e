#include <errno.h>
#include <signal.h>

#include "base/alloc.h"
#include "os/fd.h"
#include "os/process/pidfd.h"
#include "os/process/process_state.h"
#include "os/process/spawn.h"
#include "os/process/template.h"

/* ---- Children -------------------------------------------------------------------------------- */

/* Run the program and make |process| stand for it. Returns as gp__spawn(). */
static int
spawn_child(gp__process *process, const gp__spawn_spec *spec, gp_error *err)
{
    int rc = spec->tmpl != NULL ? gp__template_spawn(spec->tmpl, &process->pid, spec, err)
                                : GP__TEMPLATE_GONE;

    if (rc == GP__TEMPLATE_GONE) {
        rc = gp__spawn(&process->pid, spec, err);
    }
    if (rc == 0) {
        process->child = true;
        process->pidfd = gp__pidfd_open(process->pid);
    }
    return rc;
}

int
gp__process_start(gp__process **out, const gp__spawn_spec *spec, gp_error *err)
{
    int rc = gp__process_new(out, err);

    if (rc < 0) {
        return rc;
    }
    if ((rc = spawn_child(*out, spec, err)) < 0) {
        gp__process_unref(*out);
        *out = NULL;
        return rc;
    }
    gp__process_watch(*out, NULL, NULL, NULL); /* to have it reaped */
    return 0;
}

/*
 * Start a relay: a process that copies what is written to it to |*fd| while that can be written to,
 * and discards it after that. |*fd| becomes the end to write to.
 *
 * The host's end of a detached child's pipes is closed when the host ends, and a Go program dies of
 * the SIGPIPE that its next line of log then gets. A relay survives the host, too. If it cannot be
 * started (there is no sh, say) the child has to cope with a broken pipe.
 */
static void
start_relay(gp__process **out, int *fd)
{
    static const char *const argv[] = {"/bin/sh", "-c", "cat; exec cat >/dev/null", NULL};
    static const char *const env[] = {"PATH=/bin:/usr/bin", NULL};
    gp__spawn_spec spec = {.argv = argv, .env = env, .directory = "/", .detached = true};
    int ends[2];

    if (gp__fd_pipe(ends, NULL) < 0) {
        return;
    }
    spec.in = ends[0];
    spec.out = *fd;
    spec.err = *fd;
    if (gp__process_start(out, &spec, NULL) < 0) {
        gp__fd_close(&ends[1]);
    } else {
        gp__fd_close(fd);
        *fd = ends[1];
    }
    gp__fd_close(&ends[0]);
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
                            .image = spec->image,
                            .tmpl = spec->tmpl};
    gp__process *process;
    int rc;

    /* Everything that can fail comes before the child, so that no failure has to end it. */
    if ((rc = gp__process_new(&process, err)) < 0) {
        return rc;
    }
    if (spec->group != NULL && (rc = gp__group_new(&process->group, spec->group, err)) < 0) {
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
        start_relay(&process->relays[0], &outputs[1]);
        start_relay(&process->relays[1], &errors[1]);
    }
    child.out = outputs[1];
    child.err = errors[1];
    if ((rc = spawn_child(process, &child, err)) < 0) {
        goto fail;
    }
    /*
     * If the host reaps all children itself, the pidfd may be that of another process: then this
     * one counts as gone.
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

void
gp__process_await_relays(gp__process *process, int64_t deadline)
{
    for (int i = 0; i < 2 && process->relays[i] != NULL; i++) {
        gp__process_wait(process->relays[i], deadline, NULL);
    }
}

/* ---- Joining --------------------------------------------------------------------------------- */

static int
not_found(int pid, gp_error *err)
{
    return gp_error_set(err, GP_EREATTACH, "process not found: there is no process %d", pid);
}

/* Compare the start time with the expected one, if both are known. Returns 0 or GP_EREATTACH. */
static int
check_start_time(gp__process *process, unsigned long long expected, gp_error *err)
{
    unsigned long long start_time = gp__process_start_time(process);

    if (expected == 0 || start_time == 0) {
        return 0;
    }
    if (start_time != expected) {
        return gp_error_set(err, GP_EREATTACH,
                            "process not found: the pid %d is that of another process now",
                            (int)process->pid);
    }
    gp_mutex_lock(&process->lock);
    process->recognised = true;
    gp_mutex_unlock(&process->lock);
    return 0;
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
    if ((rc = gp__process_new(&process, err)) < 0) {
        return rc;
    }
    process->pid = pid;
    process->pidfd = gp__pidfd_open(pid);
    gp_mutex_lock(&process->lock);
    process->identified = gp__procstat_read(pid, &process->identity);
    gp_mutex_unlock(&process->lock);
    process->user_known = gp__procstat_user(pid, &process->user);
    /* If it has not gone by now, /proc has told of the process behind |pidfd|. */
    rc = gp__process_gone(process) ? not_found(pid, err)
                                   : check_start_time(process, start_time, err);
    if (rc < 0) {
        gp__process_unref(process);
        return rc;
    }
    *out = process;
    return 0;
}
