/*
 * Layer: os. What a gp__process is, for the files that implement it:
 *
 *     process.c          references, whether it runs, signals, waiting; writes what changes later
 *     process_start.c    starting a child, joining a process; writes what a process is made with
 *     process_runner.c   processes elsewhere, that a runner has started; writes |elsewhere|
 */
#ifndef GP_OS_PROCESS_STATE_H
#define GP_OS_PROCESS_STATE_H

#include <stdatomic.h>

#include "gp/lock.h"
#include "os/process/group.h"
#include "os/process/process.h"
#include "os/process/procstat.h"
#include "os/reactor.h"

/* A process elsewhere. A thread of its own waits for its end, by the runner's wait(). */
typedef struct gp__elsewhere {
    gp_runner runner;           /* owned */
    int writing_end;            /* owned: of the pipe whose reading end is the pidfd; -1: closed */
    atomic_bool kill_requested; /* a thread has been started to kill it, by the runner's kill() */
} gp__elsewhere;

struct gp__process {
    atomic_int refs;

    /* Written before the process is shared. */
    pid_t pid;                /* -1: elsewhere */
    int pidfd;                /* owned; -1: the system has none */
    bool child;               /* ours to reap */
    gp__group *group;         /* owned; killed with it; NULL: it alone is killed */
    gp__process *relays[2];   /* shared: ref. Pass a detached child's output on; NULL: none */
    gp__elsewhere *elsewhere; /* owned; NULL: it runs here */
    char *name;               /* owned; for messages; NULL: none */
    gp__tail tail;

    gp_mutex lock; /* a leaf; held while the process is reaped, or signalled by its pid */
    gp__procstat identity GP_GUARDED_BY(&lock);
    bool identified GP_GUARDED_BY(&lock); /* |identity| is that of the process */
    bool recognised GP_GUARDED_BY(&lock); /* a joined process is known to be the one meant */

    atomic_bool gone;
    int status; /* written before |gone| */
    uid_t user; /* written before |gone|; of a joined process before it is shared */
    bool user_known;

    gp_mutex watch_lock;                         /* taken before the reactor's lock */
    gp__watch *watch GP_GUARDED_BY(&watch_lock); /* owned */
    void (*exited)(void *ctx); /* written before the watch is there; read by its callback */
    void *exited_ctx;          /* borrowed: outlives the watch */
};

/* A process without a pid. */
int gp__process_new(gp__process **out, gp_error *err);

/* Record that it has ended, with that status. */
void gp__process_set_gone(gp__process *process, int status);

/* Of a process elsewhere: request its end, once. Never blocks. */
void gp__elsewhere_kill(gp__process *process);
void gp__elsewhere_free(gp__elsewhere *elsewhere);

#endif
