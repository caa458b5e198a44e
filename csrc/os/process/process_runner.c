#include <pthread.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "os/fd.h"
#include "os/process/process_state.h"

static void *
await_end(void *arg)
{
    gp__process *process = arg;
    gp__elsewhere *elsewhere = process->elsewhere;

    gp__process_set_gone(process, elsewhere->runner.wait(elsewhere->runner.ctx));
    gp__fd_close(&elsewhere->writing_end); /* which makes the reading end readable */
    gp__process_unref(process);
    return NULL;
}

static void *
kill_process(void *arg)
{
    gp__process *process = arg;

    process->elsewhere->runner.kill(process->elsewhere->runner.ctx);
    gp__process_unref(process);
    return NULL;
}

/*
 * Start a thread with a reference to |process|. No other thread waits for its end, since runners
 * may block.
 */
static int
start_detached_thread(const char *name, void *(*run)(void *), gp__process *process, gp_error *err)
{
    pthread_t thread;
    int rc;

    gp__process_ref(process);
    rc = gp_user_thread_start(&thread, name, run, process, err);
    if (rc < 0) {
        gp__process_unref(process);
        return rc;
    }
    pthread_detach(thread);
    return 0;
}

/* Take over the runner, even if this fails. Returns 0 or GP_ENOMEM. */
static int
new_elsewhere(gp__elsewhere **out, const gp_runner *runner, gp_error *err)
{
    gp__elsewhere *elsewhere = gp__calloc(1, sizeof(*elsewhere));

    if (elsewhere == NULL) {
        runner->release(runner->ctx);
        return gp_error_set(err, GP_ENOMEM, "out of memory for a process");
    }
    elsewhere->runner = *runner;
    elsewhere->writing_end = -1;
    *out = elsewhere;
    return 0;
}

void
gp__elsewhere_free(gp__elsewhere *elsewhere)
{
    if (elsewhere != NULL) {
        elsewhere->runner.release(elsewhere->runner.ctx);
        gp__fd_close(&elsewhere->writing_end);
        gp__free(elsewhere);
    }
}

void
gp__elsewhere_kill(gp__process *process)
{
    if (!atomic_load(&process->gone) &&
        !atomic_exchange(&process->elsewhere->kill_requested, true)) {
        start_detached_thread("gp-runner-kill", kill_process, process, NULL);
    }
}

int
gp__process_run(gp__process **out, const gp_runner *runner, const char *const *env, int *out_fd,
                int *err_fd, gp_error *err)
{
    gp__elsewhere *elsewhere = NULL;
    gp__process *process;
    int ends[2];
    int rc = new_elsewhere(&elsewhere, runner, err);

    if (rc < 0) {
        return rc;
    }
    if ((rc = gp__process_new(&process, err)) < 0) {
        gp__elsewhere_free(elsewhere);
        return rc;
    }
    process->elsewhere = elsewhere;
    if ((rc = gp__fd_pipe(ends, err)) < 0) {
        goto fail;
    }
    process->pidfd = ends[0];
    elsewhere->writing_end = ends[1];
    if ((rc = runner->start(runner->ctx, env, out_fd, err_fd, err)) < 0) {
        goto fail;
    }
    gp__fd_set_nonblocking(*out_fd);
    gp__fd_set_nonblocking(*err_fd);
    if ((rc = start_detached_thread("gp-runner", await_end, process, err)) < 0) {
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
    return process->elsewhere != NULL ? &process->elsewhere->runner : NULL;
}
