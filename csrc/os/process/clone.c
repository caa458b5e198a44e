#include "gp/template.h"

#include <errno.h>

#if defined(__linux__) && !defined(GP_PORTABLE) && (defined(__x86_64__) || defined(__aarch64__))
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * Where the C library keeps this thread's id, which the kernel has to write into the copy, as in
 * fork(). The kernel knows the address, since it clears the id when the thread ends. NULL: this
 * kernel does not tell, or this C library keeps something else there.
 */
static int *
thread_id(void)
{
    int *address = NULL;

    return prctl(PR_GET_TID_ADDRESS, &address, 0, 0, 0) == 0 && address != NULL &&
                   *address == (int)syscall(SYS_gettid)
               ? address
               : NULL;
}

const char *
gp_template_obstacle(void)
{
    if (thread_id() == NULL) {
        return "this system cannot copy a process for its parent (it has no PR_GET_TID_ADDRESS, or "
               "a C library other than glibc)";
    }
    return NULL;
}

pid_t
gp_template_clone(void)
{
    const unsigned long flags = CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD;
    int *id = thread_id();
    void *robust = NULL;
    size_t size = 0;
    pid_t pid;

    if (id == NULL) {
        errno = ENOSYS;
        return -1;
    }
    /* The kernel forgets the list of robust mutexes in the copy. */
    syscall(SYS_get_robust_list, 0, &robust, &size);
#if defined(__x86_64__)
    pid = (pid_t)syscall(SYS_clone, flags, NULL, NULL, id, 0UL);
#else
    pid = (pid_t)syscall(SYS_clone, flags, NULL, NULL, 0UL, id);
#endif
    if (pid == 0 && robust != NULL) {
        syscall(SYS_set_robust_list, robust, size);
    }
    return pid;
}

void
gp_template_begin(bool detached, pid_t host)
{
    if (detached) {
        setsid();
        return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != host) {
        _exit(127);
    }
}

#else

const char *
gp_template_obstacle(void)
{
    return "templates need Linux on x86_64 or aarch64";
}

pid_t
gp_template_clone(void)
{
    errno = ENOSYS;
    return -1;
}

void
gp_template_begin(bool detached, pid_t host)
{
    (void)detached;
    (void)host;
}

#endif
