#include "gp/process.h"

#include "base/thread.h"
#include "os/process/process.h"

/* A gp_process is a gp__process; the library's user has the reference. */
static gp__process *
process_of(const gp_process *process)
{
    return (gp__process *)process;
}

int
gp_process_start(gp_process **out, const char *const *argv, const char *const *env, int *out_fd,
                 int *err_fd, gp_error *err)
{
    const gp__process_spec spec = {.argv = argv, .env = env};
    gp__process *process;
    int rc = gp_runtime_init();

    if (rc < 0 || (rc = gp__process_spawn(&process, &spec, out_fd, err_fd, err)) < 0) {
        return rc;
    }
    gp__process_watch(process, NULL, NULL, NULL); /* to have it reaped even if no thread waits */
    *out = (gp_process *)process;
    return 0;
}

int
gp_process_wait(gp_process *process, int64_t timeout_ms, const gp_interrupt *interrupt)
{
    if (gp_runtime_forked()) {
        return GP_EFORKED;
    }
    return gp__process_wait(process_of(process), gp_deadline_in(timeout_ms), interrupt);
}

int
gp_process_status(gp_process *process)
{
    return gp_runtime_forked() ? GP_STATUS_UNKNOWN : gp__process_status(process_of(process));
}

void
gp_process_kill(gp_process *process)
{
    gp__process_kill(process_of(process));
}

int
gp_process_pid(const gp_process *process)
{
    return gp__process_pid(process_of(process));
}

void
gp_process_free(gp_process *process)
{
    if (process != NULL && !gp_runtime_forked()) {
        gp__process_kill(process_of(process));
        if (gp__process_gone(process_of(process))) {
            gp__process_unwatch(process_of(process)); /* otherwise the reactor has to reap it */
        }
        gp__process_unref(process_of(process));
    }
}
