#include "os/procstat.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* PF_EXITING of Linux's task flags: set before a dying process closes its first descriptor. */
enum { TASK_EXITING = 0x4 };

bool
gp__procstat_read(pid_t pid, gp__procstat *out)
{
    char path[40];
    char text[1024];
    const char *rest;
    char state;
    unsigned flags;
    int parent;
    ssize_t len;
    int fd;

    snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    len = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (len <= 0) {
        return false;
    }
    text[len] = '\0';
    /* The second field is the program's name in parentheses, which may itself hold some. */
    rest = strrchr(text, ')');
    if (rest == NULL ||
        sscanf(rest + 1,
               " %c %d %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
               &state, &parent, &flags, &out->start_time) != 4) {
        return false;
    }
    out->parent = (pid_t)parent;
    out->dying = state == 'Z' || state == 'X' || (flags & TASK_EXITING) != 0;
    return true;
}
