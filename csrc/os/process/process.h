/*
 * Layer: os. One process: a child of this one, a process that was already running and was joined,
 * or a process that a runner has started elsewhere.
 *
 * Shared by reference. Every function may be called from any thread; none takes a lock of another
 * object while holding its own. On Linux a pidfd stands for the process, so that no signal can
 * reach a successor with the same pid. Without pidfds (GP_PORTABLE, old kernels) a child is
 * signalled only while it is not reaped, and a joined process only if it is still the same one.
 */
#ifndef GP_OS_PROCESS_H
#define GP_OS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "gp/error.h"
#include "gp/runner.h"
#include "gp/runtime.h"
#include "gp/template.h"
#include "os/process/sealed.h"
#include "os/process/tail.h"

typedef struct gp__process gp__process;

typedef struct gp__process_spec {
    const char *const *argv; /* borrowed; NULL-terminated, not empty */
    const char *const *env;  /* borrowed; NULL-terminated: all of the child's environment */
    const char *directory;   /* borrowed; NULL: the host's own */
    bool detached;           /* survives this process, and so do its outputs */
    const char *group;       /* borrowed; the mark of its group ("KEY=VALUE", which is in |env| as
                                well), which is killed with it (os/process/group.h). NULL: none */

    const gp__sealed *image; /* borrowed; run this instead of what argv[0] names; NULL: do not */
    gp_template *tmpl;       /* borrowed; copy this instead, if it lives; NULL: do not */
} gp__process_spec;

/* Start a child with descriptors of the caller's, and watch it, so that it is reaped. */
struct gp__spawn_spec;
int gp__process_start(gp__process **out, const struct gp__spawn_spec *spec, gp_error *err);

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
 * process has no pid. One thread waits for its end; another one is started to kill it.
 *
 * Returns: 0, GP_ENOMEM, GP_EOS, or what the runner's start returned.
 */
int gp__process_run(gp__process **out, const gp_runner *runner, const char *const *env, int *out_fd,
                    int *err_fd, gp_error *err);

/* The runner of a process elsewhere, which lives as long as |process|; NULL for others. */
const gp_runner *gp__process_runner(const gp__process *process);

/*
 * Join a process that runs already. |start_time| is what gp__process_start_time() once gave for it
 * (0: unknown); it tells the process from another one that has got the same pid.
 *
 * Returns: 0, GP_EREATTACH (there is no such process), GP_ENOMEM or GP_EOS.
 */
int gp__process_attach(gp__process **out, int pid, unsigned long long start_time, gp_error *err);

/*
 * Whether |pid|, whose source can be trusted, is the process or descends from it. A joined process
 * is not signalled before it has been recognised, in this way or by its start time: its pid may
 * have been reused before it was joined.
 */
bool gp__process_recognise(gp__process *process, int pid);

/*
 * The real uid of the process, or the one that it had when it ended. False if it is not known:
 * while a child runs, for processes elsewhere, and if root's child was reaped by another part of
 * the program.
 */
bool gp__process_user(const gp__process *process, uid_t *out);

/* When it started, in ticks since boot; with the pid, that identifies a process. 0: unknown. */
unsigned long long gp__process_start_time(gp__process *process);

gp__process *gp__process_ref(gp__process *process);

/* Dropping the last reference to a child that runs leaves it running; it is then never reaped. */
void gp__process_unref(gp__process *process);

/*
 * A detached child writes through relays: wait until they have passed on what the dead child has
 * written, |deadline| at most. Returns at once for other processes.
 */
void gp__process_await_relays(gp__process *process, int64_t deadline);

/*
 * Have the reactor notice the death, which reaps a child at once and calls |exited| (may be NULL)
 * on the reactor's thread with no lock held. At most one watch per process.
 */
int gp__process_watch(gp__process *process, void (*exited)(void *ctx), void *ctx, gp_error *err);

/*
 * After this returns, |exited| will not be called any more. Not to be called with a lock that
 * |exited| takes.
 */
void gp__process_unwatch(gp__process *process);

/* Whether the process has ended; asks the system unless that is known. Reaps a child. */
bool gp__process_gone(gp__process *process);

/*
 * The phase of a process. A dying process has begun to exit; Linux reports that before it closes
 * the first of the process's descriptors. Without /proc, the phase of a process that runs is
 * unknown.
 */
typedef enum gp__process_phase {
    GP__PROCESS_RUNNING,
    GP__PROCESS_DYING,
    GP__PROCESS_GONE,
    GP__PROCESS_UNKNOWN,
} gp__process_phase;

gp__process_phase gp__process_inspect(gp__process *process);

/* Wait until it has ended. Returns: 0, GP_ETIMEOUT or GP_EUSER. */
int gp__process_wait(gp__process *process, int64_t deadline, const gp_interrupt *interrupt);

/*
 * SIGKILL, if it is known that the pid stands for this process. Never blocks, unless it has a
 * group: then the members that are left are killed, even if the process has ended, and, except on
 * the reactor's thread, their end is waited for.
 */
void gp__process_kill(gp__process *process);

/*
 * If it has a group, find the members that there are now, to be killed with the group: once the
 * process has ended, those that only their parent makes members cannot be recognised any more.
 */
void gp__process_remember_group(gp__process *process);

/* Whether it has a group, of which members may be left when it has ended. */
bool gp__process_has_group(const gp__process *process);

int gp__process_pid(const gp__process *process);

/* A descriptor that is readable once the process has ended; -1: there is none. Borrowed. */
int gp__process_pidfd(const gp__process *process);

/* Once it has ended: the exit status, -N for signal N, or GP_STATUS_UNKNOWN. */
int gp__process_status(gp__process *process);

/* "exited with status 3", "was killed by signal 9 (SIGKILL)", ... Returns |out|. */
const char *gp__process_describe_exit(int status, char *out, size_t size);

/* The last bytes of its stderr; empty if nothing reads that. Borrowed. */
gp__tail *gp__process_tail(gp__process *process);

/*
 * What messages about it call it; "the plugin" before that, and when memory is short. To be called
 * before other threads describe its end.
 */
void gp__process_set_name(gp__process *process, const char *name);

/*
 * How it has ended, as "NAME: exited with status 3". Owned by the caller; NULL if it has not ended,
 * or memory is short.
 */
char *gp__process_describe_end(gp__process *process);

#endif
