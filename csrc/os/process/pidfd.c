#include "os/process/pidfd.h"

#include <errno.h>
#include <unistd.h>

#if defined(__linux__) && !defined(GP_PORTABLE)

#include <sys/syscall.h>

/* The numbers are the same on every architecture. Older C libraries do not name them. */
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

/* P_PIDFD, an enumerator that older C libraries lack. */
enum { WAIT_FOR_PIDFD = 3 };

int
gp__pidfd_open(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

int
gp__pidfd_kill(int pidfd, int number)
{
    return (int)syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0);
}

int
gp__pidfd_wait(int pidfd, siginfo_t *info, int options)
{
    return waitid((idtype_t)WAIT_FOR_PIDFD, (id_t)pidfd, info, options);
}

#else

int
gp__pidfd_open(pid_t pid)
{
    (void)pid;
    errno = ENOSYS;
    return -1;
}

int
gp__pidfd_kill(int pidfd, int number)
{
    (void)pidfd;
    (void)number;
    errno = ENOSYS;
    return -1;
}

int
gp__pidfd_wait(int pidfd, siginfo_t *info, int options)
{
    (void)pidfd;
    (void)info;
    (void)options;
    errno = ENOSYS;
    return -1;
}

#endif
