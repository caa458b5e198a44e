/*
 * Layer: os. What /proc tells about a process, where there is a /proc.
 */
#ifndef GP_OS_PROCESS_PROCSTAT_H
#define GP_OS_PROCESS_PROCSTAT_H

#include <stdbool.h>
#include <sys/types.h>

typedef struct gp__procstat {
    bool dying;  /* it has begun to exit, or has exited without being reaped */
    bool kernel; /* it is a thread of the kernel's */
    pid_t parent;
    unsigned long long start_time; /* in ticks since boot: no two processes with one pid share it */
} gp__procstat;

/* False if the process or /proc is not there. */
bool gp__procstat_read(pid_t pid, gp__procstat *out);

/* Its real uid. Likewise. */
bool gp__procstat_user(pid_t pid, uid_t *out);

#endif
