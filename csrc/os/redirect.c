#include "os/redirect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <unistd.h>

#include "os/fatal_report.h"
#include "os/fd.h"

enum { FIRST = STDOUT_FILENO, COUNT = 2, ABOVE_STANDARD = 3 };

static atomic_flag replaced = ATOMIC_FLAG_INIT; /* a redirect of this process is active */

/* Make the pipe that is to replace descriptor |FIRST + i|, and duplicate what that is now. */
static int
prepare_pipe(gp__redirect *redirect, int writing_ends[COUNT], int i, gp_error *err)
{
    int ends[2];
    int rc = gp__fd_pipe(ends, err);

    if (rc < 0) {
        return rc;
    }
    redirect->fds[i] = ends[0];
    writing_ends[i] = ends[1];
    redirect->saved[i] = fcntl(FIRST + i, F_DUPFD_CLOEXEC, ABOVE_STANDARD);
    if ((redirect->saved[i] < 0 && errno != EBADF) || gp__fd_set_nonblocking(ends[0]) < 0) {
        return gp_error_set_errno(err, errno, "cannot replace descriptor %d", FIRST + i);
    }
    return 0;
}

int
gp__redirect_open(gp__redirect *redirect, gp_error *err)
{
    int writing_ends[COUNT] = {-1, -1};
    int rc = 0;

    if (atomic_flag_test_and_set(&replaced)) {
        return gp_error_set(err, GP_EINVAL, "stdout and stderr have been replaced already");
    }
    *redirect = (gp__redirect)GP__REDIRECT_INIT;
    for (int i = 0; rc == 0 && i < COUNT; i++) {
        rc = prepare_pipe(redirect, writing_ends, i, err);
    }
    if (rc == 0) {
        redirect->active = true;
        gp__fatal_report_set_pipe(redirect->fds[1], redirect->saved[1]);
    }
    for (int i = 0; i < COUNT; i++) {
        if (rc == 0) {
            while (dup2(writing_ends[i], FIRST + i) < 0 && errno == EINTR) {
            }
        }
        gp__fd_close(&writing_ends[i]);
    }
    if (rc < 0) {
        gp__redirect_close(redirect);
        atomic_flag_clear(&replaced);
    }
    return rc;
}

void
gp__redirect_restore(gp__redirect *redirect)
{
    if (!redirect->active) {
        return;
    }
    redirect->active = false;
    gp__fatal_report_clear_pipe();
    for (int i = 0; i < COUNT; i++) {
        if (redirect->saved[i] < 0) {
            close(FIRST + i);
            continue;
        }
        while (dup2(redirect->saved[i], FIRST + i) < 0 && errno == EINTR) {
        }
    }
    atomic_flag_clear(&replaced);
}

void
gp__redirect_close(gp__redirect *redirect)
{
    gp__redirect_restore(redirect);
    for (int i = 0; i < COUNT; i++) {
        gp__fd_close(&redirect->fds[i]);
        gp__fd_close(&redirect->saved[i]);
    }
}
