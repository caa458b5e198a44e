/*
 * Layer: os. Descriptors that stand for processes. Where the system has none, and under
 * GP_PORTABLE, every function fails with ENOSYS.
 */
#ifndef GP_OS_PROCESS_PIDFD_H
#define GP_OS_PROCESS_PIDFD_H

#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>

/* Close-on-exec. Readable once all threads of the process have ended. */
int gp__pidfd_open(pid_t pid);

int gp__pidfd_kill(int pidfd, int number);

/* waitid() for the child behind |pidfd|. */
int gp__pidfd_wait(int pidfd, siginfo_t *info, int options);

#endif
