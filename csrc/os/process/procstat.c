#include "os/process/procstat.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Two of Linux's task flags. The first is set before an exiting process closes any descriptor. */
enum { TASK_EXITING = 0x4, TASK_KERNEL = 0x200000 };

enum { TEXT = 1024 };

/* Read the beginning of the file |name| about |pid|, as text. Returns false if there is none. */
static bool
read_proc_file(char out[TEXT], pid_t pid, const char *name)
{
    char path[40];
    ssize_t len;
    int fd;

    snprintf(path, sizeof(path), "/proc/%ld/%s", (long)pid, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    len = read(fd, out, TEXT - 1);
    close(fd);
    out[len > 0 ? len : 0] = '\0';
    return len > 0;
}

bool
gp__procstat_user(pid_t pid, uid_t *out)
{
    char text[TEXT];
    const char *line;
    unsigned real;

    if (!read_proc_file(text, pid, "status") || (line = strstr(text, "\nUid:")) == NULL ||
        sscanf(line, " Uid: %u", &real) != 1) {
        return false;
    }
    *out = (uid_t)real;
    return true;
}

bool
gp__procstat_read(pid_t pid, gp__procstat *out)
{
    char text[TEXT];
    const char *rest;
    char state;
    unsigned flags;
    int parent;

    if (!read_proc_file(text, pid, "stat")) {
        return false;
    }
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
    out->kernel = (flags & TASK_KERNEL) != 0;
    return true;
}
