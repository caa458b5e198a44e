#include "os/process/group.h"

#if defined(__linux__) && !defined(GP_PORTABLE)

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "os/fd.h"
#include "os/process/pidfd.h"
#include "os/process/procstat.h"

/* How long to wait, in steps, for what is between two programs. */
static const int64_t exec_ms = 100;
static const int64_t step_ns = GP__MS;

static const char detached[] = "PYGO_PLUGIN_DETACHED=";

/* A process, as it was when all were looked at. */
typedef struct candidate {
    pid_t pid;
    gp__procstat at;
    bool marked;
    bool spared;
    int pidfd; /* owned; -1 unless it is a member */
} candidate;

typedef struct census {
    candidate *all; /* owned */
    size_t count;
    size_t room;
} census;

/* ---- Environments ---------------------------------------------------------------------------- */

/*
 * Looks for an entry that begins with |text|, or is |text|, in an environment that comes in pieces.
 */
typedef struct matcher {
    const char *text; /* borrowed */
    size_t len;
    bool whole;
    size_t matched; /* of the present entry */
    bool differs;   /* the present entry does */
    bool found;
} matcher;

static void
match(matcher *self, char byte)
{
    bool over = self->matched == self->len;

    if (byte == '\0') {
        self->found = self->found || (!self->differs && over);
        self->matched = 0;
        self->differs = false;
    } else if (!over) {
        self->differs = self->differs || byte != self->text[self->matched];
        self->matched++;
    } else {
        self->differs = self->differs || self->whole;
    }
}

/* Open a file of the process's in /proc. Returns the descriptor, or -1. */
static int
open_about(pid_t pid, const char *name)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%ld/%s", (long)pid, name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/*
 * While a process goes from one program to the next, it seems to have neither arguments nor
 * environment.
 */
static bool
is_in_exec(const candidate *self)
{
    gp__procstat now;
    char byte;
    int fd = open_about(self->pid, "cmdline");
    bool empty = fd >= 0 && gp__fd_read(fd, &byte, 1) == 0;

    gp__fd_close(&fd);
    return empty && gp__procstat_read(self->pid, &now) && !now.kernel && !now.dying;
}

/*
 * What the environment says that the process was started with. It may have none, or be a
 * stranger's. Returns whether there was anything to be read.
 */
static bool
read_environment(candidate *out, const char *mark)
{
    matcher group = {.text = mark, .len = strlen(mark), .whole = true};
    matcher other = {.text = detached, .len = sizeof(detached) - 1};
    char piece[4096];
    bool any = false;
    ssize_t got = 1;
    int fd = open_about(out->pid, "environ");

    while (fd >= 0 && !group.found && got > 0) {
        got = gp__fd_read(fd, piece, sizeof(piece));
        any = any || got > 0;
        for (ssize_t i = 0; i < got; i++) {
            match(&group, piece[i]);
            match(&other, piece[i]);
        }
    }
    out->marked = group.found;
    out->spared = other.found && !group.found;
    any = any || fd < 0; /* of one that is not ours to look into */
    gp__fd_close(&fd);
    return any;
}

static void
look_into_environment(candidate *self, const char *mark, int64_t until)
{
    const struct timespec step = {.tv_nsec = step_ns};
    bool settled = false;

    /* Once more when it is in its next program, which it may have reached since it was looked at. */
    while (!read_environment(self, mark) && !settled) {
        settled = !is_in_exec(self) || gp__now() >= until;
        if (!settled) {
            nanosleep(&step, NULL);
        }
    }
}

/* ---- Who belongs to it ----------------------------------------------------------------------- */

static bool
add(census *self, candidate entry)
{
    if (self->count == self->room) {
        size_t room = self->room > 0 ? 2 * self->room : 256;
        candidate *grown = gp__realloc(self->all, room * sizeof(*grown));

        if (grown == NULL) {
            return false;
        }
        self->all = grown;
        self->room = room;
    }
    self->all[self->count++] = entry;
    return true;
}

/* Look at all processes there are, or as many as there is memory for. */
static void
take(census *self, const char *mark)
{
    int64_t until = gp_deadline_in(exec_ms);
    DIR *listing = opendir("/proc");
    const struct dirent *entry;
    candidate one = {.pidfd = -1};

    while (listing != NULL && (entry = readdir(listing)) != NULL) {
        one.pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (one.pid <= 0 || one.pid == getpid() || !gp__procstat_read(one.pid, &one.at)) {
            continue;
        }
        look_into_environment(&one, mark, until);
        if (!add(self, one)) {
            break;
        }
    }
    if (listing != NULL) {
        closedir(listing);
    }
}

static bool
has_ended(int pidfd)
{
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};

    return poll(&ended, 1, 0) != 0;
}

/* Get hold of the process that was looked at, unless it has ended. */
static void
enlist(candidate *self)
{
    gp__procstat now;
    int pidfd = gp__pidfd_open(self->pid);

    if (pidfd >= 0 && gp__procstat_read(self->pid, &now) && now.start_time == self->at.start_time &&
        !has_ended(pidfd)) {
        self->pidfd = pidfd;
    } else {
        gp__fd_close(&pidfd);
    }
}

/*
 * Enlist the children of |pid|, whose pid it has been all the time if |pidfd| says that it lives.
 */
static bool
enlist_children(census *self, pid_t pid, int pidfd)
{
    bool any = false;

    for (size_t i = 0; i < self->count; i++) {
        candidate *child = &self->all[i];

        if (child->at.parent == pid && child->pidfd < 0 && !child->spared && !has_ended(pidfd)) {
            enlist(child);
            any = any || child->pidfd >= 0;
        }
    }
    return any;
}

/* The members among all processes get their pidfd. */
static void
choose(census *self, pid_t root, int pidfd)
{
    bool more = true;

    for (size_t i = 0; i < self->count; i++) {
        if (self->all[i].marked) {
            enlist(&self->all[i]);
        }
    }
    if (pidfd >= 0) {
        enlist_children(self, root, pidfd);
    }
    while (more) {
        more = false;
        for (size_t i = 0; i < self->count; i++) {
            const candidate *parent = &self->all[i];

            if (parent->pidfd >= 0) {
                more = enlist_children(self, parent->pid, parent->pidfd) || more;
            }
        }
    }
}

/* ---- Killing --------------------------------------------------------------------------------- */

static void
await_end(int pidfd, int64_t deadline)
{
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};

    gp__fd_poll(&ended, 1, deadline);
}

/* One round. Returns whether there was anybody. */
static bool
kill_all(pid_t root, int pidfd, const char *mark, int64_t deadline)
{
    census processes = {0};
    bool any = false;

    take(&processes, mark);
    choose(&processes, root, pidfd);
    if (pidfd >= 0) {
        gp__pidfd_kill(pidfd, SIGKILL);
    }
    for (size_t i = 0; i < processes.count; i++) {
        if (processes.all[i].pidfd >= 0) {
            gp__pidfd_kill(processes.all[i].pidfd, SIGKILL);
            any = true;
        }
    }
    for (size_t i = 0; i < processes.count; i++) {
        if (processes.all[i].pidfd >= 0) {
            await_end(processes.all[i].pidfd, deadline);
            gp__fd_close(&processes.all[i].pidfd);
        }
    }
    gp__free(processes.all);
    return any;
}

bool
gp__group_supported(void)
{
    gp__procstat own;
    int pidfd = gp__pidfd_open(getpid());
    bool supported = pidfd >= 0 && gp__procstat_read(getpid(), &own);

    gp__fd_close(&pidfd);
    return supported;
}

void
gp__group_kill(pid_t root, int pidfd, const char *mark, int64_t patience_ms)
{
    int64_t deadline = gp_deadline_in(patience_ms);

    while (kill_all(root, pidfd, mark, deadline) && gp__now() < deadline) {
    }
}

size_t
gp__group_find(pid_t root, int pidfd, const char *mark, int *out, size_t room)
{
    census processes = {0};
    size_t count = 0;

    take(&processes, mark);
    choose(&processes, root, pidfd);
    for (size_t i = 0; i < processes.count; i++) {
        candidate *member = &processes.all[i];

        if (member->pidfd >= 0 && member->pid != root && count < room) {
            out[count++] = member->pidfd;
        } else {
            gp__fd_close(&member->pidfd);
        }
    }
    gp__free(processes.all);
    return count;
}

void
gp__group_kill_found(int *found, size_t count, int64_t patience_ms)
{
    int64_t deadline = gp_deadline_in(patience_ms);

    for (size_t i = 0; i < count; i++) {
        gp__pidfd_kill(found[i], SIGKILL);
    }
    for (size_t i = 0; i < count; i++) {
        await_end(found[i], deadline);
        gp__fd_close(&found[i]);
    }
}

#else

bool
gp__group_supported(void)
{
    return false;
}

void
gp__group_kill(pid_t root, int pidfd, const char *mark, int64_t patience_ms)
{
    (void)root;
    (void)pidfd;
    (void)mark;
    (void)patience_ms;
}

size_t
gp__group_find(pid_t root, int pidfd, const char *mark, int *out, size_t room)
{
    (void)root;
    (void)pidfd;
    (void)mark;
    (void)out;
    (void)room;
    return 0;
}

void
gp__group_kill_found(int *found, size_t count, int64_t patience_ms)
{
    (void)found;
    (void)count;
    (void)patience_ms;
}

#endif
