/*
 * Layer: os. One process: a child of ours, or one that was merely joined.
 *
 * Shared by reference. Every function may be called from any thread; none takes a lock of another
 * object while holding its own. On Linux a pidfd stands for the process, so that no signal can
 * reach a successor with the same pid. Elsewhere (GP_PORTABLE, old kernels) a child is signalled
 * only while it is not reaped, and a joined process only if it is still the same one.
 */
#ifndef GP_OS_PROCESS_H
#define GP_OS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "gp/error.h"
#include "gp/runner.h"
#include "gp/runtime.h"
#include "os/process/sealed.h"

typedef struct gp__process gp__process;

typedef struct gp__process_spec {
    const char *const *argv; /* borrowed; NULL-terminated, not empty */
    const char *const *env;  /* borrowed; NULL-terminated: all of the child's environment */
    const char *directory;   /* borrowed; NULL: the host's own */
    bool detached;           /* survives this process, and so do its outputs */
    const char *group;       /* borrowed; "KEY=VALUE", which is in |env| as well: what it starts is
                                killed with it (os/process/group.h). NULL: it alone is */

    const gp__sealed *image; /* borrowed; run this and not what argv[0] names; NULL: that */
} gp__process_spec;

/*
 * Start a child. |*out_fd| and |*err_fd| are the reading ends of its stdout and stderr:
 * non-blocking, close-on-exec, the caller's to close.
 *
 * Returns: 0, GP_ESTART, GP_ENOMEM or GP_EOS.
 */
int gp__process_spawn(gp__process **out, const gp__process_spec *spec, int *out_fd, int *err_fd,
                      gp_error *err);

/*
 * Have a runner start a process elsewhere. The runner is taken over, even if this fails. Such a
 * process has no pid; a thread of its own waits for its end, another one is started to kill it.
 *
 * Returns: 0, GP_ENOMEM, GP_EOS, or what the runner's start returned.
 */
int gp__process_run(gp__process **out, const gp_runner *runner, const char *const *env, int *out_fd,
                    int *err_fd, gp_error *err);

/* The runner of such a process, as long as that lives; NULL for others. */
const gp_runner *gp__process_runner(const gp__process *process);

/*
 * Join a process that runs already. With |start_time|, what gp__process_start_time() once gave for
 * it, another process that has the pid meanwhile is not taken for it; 0: unknown.
 *
 * Returns: 0, GP_EREATTACH (there is none), GP_ENOMEM or GP_EOS.
 */
int gp__process_attach(gp__process **out, int pid, unsigned long long start_time, gp_error *err);

/*
 * Whether |pid|, which somebody trustworthy has named, is the process or descends from it. A joined
 * process is not signalled before it was recognised, in this way or by its start time: its pid may
 * have been reused by the time it was joined.
 */
bool gp__process_recognise(gp__process *process, int pid);

/*
 * Whom the process belongs to, or belonged to when it ended: its real uid, whose rights it has had.
 * False while a child runs, for processes elsewhere, and where nobody can tell.
 */
bool gp__process_user(const gp__process *process, uid_t *out);

/* When it started, in ticks since boot: with the pid it names one process only. 0 if unknown. */
unsigned long long gp__process_start_time(gp__process *process);

gp__process *gp__process_ref(gp__process *process);

/* The last reference to a child that still runs leaves it running, to be reaped by nobody. */
void gp__process_unref(gp__process *process);

/*
 * A detached child writes through relays: wait until they have passed on what the dead child left,
 * |deadline| at most. Nothing to wait for with others.
 */
void gp__process_await_relays(gp__process *process, int64_t deadline);

/*
 * Have the reactor notice the death, which reaps a child at once and calls |exited| (may be NULL)
 * on the reactor's thread with no lock held. At most one watch per process.
 */
int gp__process_watch(gp__process *process, void (*exited)(void *ctx), void *ctx, gp_error *err);

/* After this returns, |exited| will not be called any more. Not with a lock that |exited| takes. */
void gp__process_unwatch(gp__process *process);

/* Whether the process is gone; asks the system unless that is known. Reaps a child. */
bool gp__process_gone(gp__process *process);

/*
 * How a process looks. A dying one has not ended yet, but will without anybody's doing: Linux says
 * so from before the first of its descriptors is closed. Without a /proc nobody can tell.
 */
typedef enum gp__process_look {
    GP__PROCESS_RUNNING,
    GP__PROCESS_DYING,
    GP__PROCESS_GONE,
    GP__PROCESS_UNKNOWN,
} gp__process_look;

gp__process_look gp__process_inspect(gp__process *process);

/* Wait until it is gone. Returns: 0, GP_ETIMEOUT or GP_EUSER. */
int gp__process_wait(gp__process *process, int64_t deadline, const gp_interrupt *interrupt);

/*
 * SIGKILL, if it is known that the pid stands for this process. Never blocks, unless it has a
 * group: of that, members are killed that are left when the process is gone, too, and their end is
 * waited for.
 */
void gp__process_kill(gp__process *process);

/*
 * Get hold of what the process has started so far, if it has a group: before it ends by itself, and
 * those that are known by their parent alone can be told no more. They are killed with the group.
 */
void gp__process_remember_group(gp__process *process);

/* Whether it has a group, of which something may be left when it is gone. */
bool gp__process_has_group(const gp__process *process);

int gp__process_pid(const gp__process *process);

/* Readable once the process has ended; -1 where there is no such thing. Borrowed. */
int gp__process_pidfd(const gp__process *process);

/* Once gone: the exit status, -N for signal N, or GP_STATUS_UNKNOWN. */
int gp__process_status(gp__process *process);

/* "exited with status 3", "was killed by signal 9 (Killed)", ... Returns |out|. */
const char *gp__process_describe_exit(int status, char *out, size_t size);

#endif
