/*
 * Layer: os. What /proc says about a process, where there is a /proc.
 */
#ifndef GP_OS_PROCESS_PROCSTAT_H
#define GP_OS_PROCESS_PROCSTAT_H

#include <stdbool.h>
#include <sys/types.h>

typedef struct gp__procstat {
    bool dying;  /* it has begun to exit, or has exited without being reaped */
    bool kernel; /* it is a kernel thread */
    pid_t parent;
    unsigned long long start_time; /* in ticks since boot: no two processes with one pid share it */
} gp__procstat;

/* Returns false if there is no such process, or no /proc. */
bool gp__procstat_read(pid_t pid, gp__procstat *out);

/* The real uid of the process. Returns false in the same cases. */
bool gp__procstat_user(pid_t pid, uid_t *out);

#endif
