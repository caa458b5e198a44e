#include "plugin/early_exit.h"

#include "base/thread.h"

/* How long to wait for a process that has begun to exit. */
static const int64_t dying_ms = 1000;

int
gp__early_exit(int rc, gp__process *process, gp_error *err)
{
    char how[96];
    int status;

    if (process == NULL) {
        return rc;
    }
    if (gp__process_inspect(process) == GP__PROCESS_DYING) {
        gp__process_wait(process, gp_deadline_in(dying_ms), NULL);
    }
    if (!gp__process_gone(process)) {
        return rc;
    }
    status = gp__process_status(process);
    gp_error_set(err, GP_EEXITED, "the plugin %s before the host could connect to it",
                 gp__process_describe_exit(status, how, sizeof(how)));
    if (err != NULL) {
        err->number = status;
    }
    return GP_EEXITED;
}
