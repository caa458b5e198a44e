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
#include "gp/lock.h"
#include "os/fd.h"
#include "os/process/pidfd.h"
#include "os/process/procstat.h"

/* How long to wait, in steps, for a process that goes from one program to the next. */
static const int64_t exec_ms = 100;
static const int64_t step_ns = GP__MS;

static const char detached[] = "PYGO_PLUGIN_DETACHED=";

/* How many members are remembered. */
enum { MOST_REMEMBERED = 64 };

struct gp__group {
    char *mark;                                           /* owned */
    gp_mutex lock;                                        /* a leaf */
    int remembered[MOST_REMEMBERED] GP_GUARDED_BY(&lock); /* owned: pidfds of members */
    size_t remembered_count GP_GUARDED_BY(&lock);
};

/* A process, as it was when /proc was read. */
typedef struct entry {
    pid_t pid;
    gp__procstat stat;
    bool marked;   /* its environment has the mark */
    bool excluded; /* its environment has no mark, and says that it is detached */
    int pidfd;     /* owned; of a member that runs; else -1 */
} entry;

/* All processes of the system. */
typedef struct table {
    entry *entries; /* owned */
    size_t count;
    size_t room;
} table;

/* ---- Environments ---------------------------------------------------------------------------- */

/*
 * Looks for an entry that begins with |text|, or is |text|, in an environment that comes in pieces.
 */
typedef struct matcher {
    const char *text; /* borrowed */
    size_t len;
    bool whole;     /* the entry must be |text| */
    size_t matched; /* how many bytes of the present entry have been compared with |text| */
    bool differs;   /* the present entry is not the one that is looked for */
    bool found;
} matcher;

static void
match_byte(matcher *self, char byte)
{
    bool complete = self->matched == self->len;

    if (byte == '\0') {
        self->found = self->found || (!self->differs && complete);
        self->matched = 0;
        self->differs = false;
    } else if (!complete) {
        self->differs = self->differs || byte != self->text[self->matched];
        self->matched++;
    } else {
        self->differs = self->differs || self->whole;
    }
}

/* Open the file |name| about a process in /proc. Returns the descriptor, or -1. */
static int
open_proc_file(pid_t pid, const char *name)
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
is_in_exec(const entry *self)
{
    gp__procstat now;
    char byte;
    int fd = open_proc_file(self->pid, "cmdline");
    bool empty = fd >= 0 && gp__fd_read(fd, &byte, 1) == 0;

    gp__fd_close(&fd);
    return empty && gp__procstat_read(self->pid, &now) && !now.kernel && !now.dying;
}

/*
 * Look for the mark in the environment that the process was started with. Returns false if the
 * environment is empty, as it also seems to be while the process is in exec; true if it may not be
 * read.
 */
static bool
read_environment(entry *out, const char *mark)
{
    matcher group = {.text = mark, .len = strlen(mark), .whole = true};
    matcher other = {.text = detached, .len = sizeof(detached) - 1};
    char piece[4096];
    bool any = false;
    ssize_t got = 1;
    int fd = open_proc_file(out->pid, "environ");

    while (fd >= 0 && !group.found && got > 0) {
        got = gp__fd_read(fd, piece, sizeof(piece));
        any = any || got > 0;
        for (ssize_t i = 0; i < got; i++) {
            match_byte(&group, piece[i]);
            match_byte(&other, piece[i]);
        }
    }
    out->marked = group.found;
    out->excluded = other.found && !group.found;
    any = any || fd < 0;
    gp__fd_close(&fd);
    return any;
}

/* As read_environment(), waiting until |until| for a process that is in exec. */
static void
await_environment(entry *self, const char *mark, int64_t until)
{
    const struct timespec step = {.tv_nsec = step_ns};
    bool done = false;

    /* Read again after is_in_exec() says no: the next program may have been reached in between. */
    while (!read_environment(self, mark) && !done) {
        done = !is_in_exec(self) || gp__now() >= until;
        if (!done) {
            nanosleep(&step, NULL);
        }
    }
}

/* ---- Members --------------------------------------------------------------------------------- */

static bool
append_entry(table *self, entry added)
{
    if (self->count == self->room) {
        size_t room = self->room > 0 ? 2 * self->room : 256;
        entry *grown = gp__realloc(self->entries, room * sizeof(*grown));

        if (grown == NULL) {
            return false;
        }
        self->entries = grown;
        self->room = room;
    }
    self->entries[self->count++] = added;
    return true;
}

/* List all processes except this one, or as many as there is memory for. */
static void
list_processes(table *self, const char *mark)
{
    int64_t until = gp_deadline_in(exec_ms);
    DIR *listing = opendir("/proc");
    const struct dirent *file;
    entry found = {.pidfd = -1};

    while (listing != NULL && (file = readdir(listing)) != NULL) {
        found.pid = (pid_t)strtol(file->d_name, NULL, 10);
        if (found.pid <= 0 || found.pid == getpid() || !gp__procstat_read(found.pid, &found.stat)) {
            continue;
        }
        await_environment(&found, mark, until);
        if (!append_entry(self, found)) {
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

/* Open a pidfd for the process that was listed, unless it has ended. */
static void
open_member(entry *self)
{
    gp__procstat now;
    int pidfd = gp__pidfd_open(self->pid);

    if (pidfd >= 0 && gp__procstat_read(self->pid, &now) &&
        now.start_time == self->stat.start_time && !has_ended(pidfd)) {
        self->pidfd = pidfd;
    } else {
        gp__fd_close(&pidfd);
    }
}

/*
 * Open pidfds for the children of |pid|. If |pidfd| shows that the process still runs, |pid| has
 * been its pid since the children were listed. Returns whether any child was not open before.
 */
static bool
open_children(table *self, pid_t pid, int pidfd)
{
    bool any = false;

    for (size_t i = 0; i < self->count; i++) {
        entry *child = &self->entries[i];

        if (child->stat.parent == pid && child->pidfd < 0 && !child->excluded &&
            !has_ended(pidfd)) {
            open_member(child);
            any = any || child->pidfd >= 0;
        }
    }
    return any;
}

/* List all processes, and open those that are members. */
static void
find_members(table *self, const char *mark, pid_t root, int pidfd)
{
    bool more = true;

    list_processes(self, mark);
    for (size_t i = 0; i < self->count; i++) {
        if (self->entries[i].marked) {
            open_member(&self->entries[i]);
        }
    }
    if (pidfd >= 0) {
        open_children(self, root, pidfd);
    }
    while (more) {
        more = false;
        for (size_t i = 0; i < self->count; i++) {
            const entry *parent = &self->entries[i];

            if (parent->pidfd >= 0) {
                more = open_children(self, parent->pid, parent->pidfd) || more;
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

/*
 * Remember the members of a table, which owned their pidfds until now; those that there is no room
 * for are forgotten.
 */
static void
remember_members(gp__group *group, table *processes, pid_t root)
{
    gp_mutex_lock(&group->lock);
    for (size_t i = 0; i < processes->count; i++) {
        entry *member = &processes->entries[i];

        if (member->pidfd >= 0 && member->pid != root &&
            group->remembered_count < MOST_REMEMBERED) {
            group->remembered[group->remembered_count++] = member->pidfd;
            member->pidfd = -1;
        } else {
            gp__fd_close(&member->pidfd);
        }
    }
    gp_mutex_unlock(&group->lock);
}

/*
 * Kill those that are members now, and wait for their end until |deadline|; 0: remember them
 * instead. Returns whether there were any.
 */
static bool
kill_members(gp__group *group, pid_t root, int pidfd, int64_t deadline)
{
    table processes = {0};
    bool any = false;

    find_members(&processes, group->mark, root, pidfd);
    if (pidfd >= 0) {
        gp__pidfd_kill(pidfd, SIGKILL);
    }
    for (size_t i = 0; i < processes.count; i++) {
        if (processes.entries[i].pidfd >= 0) {
            gp__pidfd_kill(processes.entries[i].pidfd, SIGKILL);
            any = true;
        }
    }
    if (deadline == 0) {
        remember_members(group, &processes, root);
    }
    for (size_t i = 0; i < processes.count; i++) {
        if (processes.entries[i].pidfd >= 0) {
            await_end(processes.entries[i].pidfd, deadline);
            gp__fd_close(&processes.entries[i].pidfd);
        }
    }
    gp__free(processes.entries);
    return any;
}

static void
kill_remembered(gp__group *group, int64_t deadline)
{
    int pidfds[MOST_REMEMBERED];
    size_t count;

    gp_mutex_lock(&group->lock);
    count = group->remembered_count;
    memcpy(pidfds, group->remembered, count * sizeof(*pidfds));
    group->remembered_count = 0;
    gp_mutex_unlock(&group->lock);
    for (size_t i = 0; i < count; i++) {
        gp__pidfd_kill(pidfds[i], SIGKILL);
    }
    for (size_t i = 0; i < count; i++) {
        await_end(pidfds[i], deadline);
        gp__fd_close(&pidfds[i]);
    }
}

/*
 * Kill those that are remembered, without waiting. They stay remembered, so that another thread can
 * wait for their end: without their parent they may not be recognised as members any more.
 */
static void
signal_remembered(gp__group *group)
{
    gp_mutex_lock(&group->lock);
    for (size_t i = 0; i < group->remembered_count; i++) {
        gp__pidfd_kill(group->remembered[i], SIGKILL);
    }
    gp_mutex_unlock(&group->lock);
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

int
gp__group_new(gp__group **out, const char *mark, gp_error *err)
{
    gp__group *group = gp__calloc(1, sizeof(*group));

    if (group == NULL || (group->mark = gp__strdup(mark)) == NULL) {
        gp__free(group);
        return gp_error_set(err, GP_ENOMEM, "out of memory for a group of processes");
    }
    gp_mutex_init(&group->lock);
    *out = group;
    return 0;
}

void
gp__group_free(gp__group *group)
{
    if (group != NULL) {
        gp_mutex_lock(&group->lock);
        for (size_t i = 0; i < group->remembered_count; i++) {
            gp__fd_close(&group->remembered[i]);
        }
        gp_mutex_unlock(&group->lock);
        gp_mutex_release(&group->lock);
        gp__free(group->mark);
        gp__free(group);
    }
}

void
gp__group_kill(gp__group *group, pid_t root, int pidfd, int64_t patience_ms)
{
    int64_t deadline = gp_deadline_in(patience_ms);

    if (patience_ms <= 0) {
        kill_members(group, root, pidfd, 0);
        signal_remembered(group);
        return;
    }
    while (kill_members(group, root, pidfd, deadline) && gp__now() < deadline) {
    }
    kill_remembered(group, gp_deadline_in(patience_ms));
}

void
gp__group_remember(gp__group *group, pid_t root, int pidfd)
{
    table processes = {0};

    find_members(&processes, group->mark, root, pidfd);
    remember_members(group, &processes, root);
    gp__free(processes.entries);
}

#else

#include "base/alloc.h"

/* Without pidfds and /proc, a group has no members: gp__process_kill() kills the root alone. */
struct gp__group {
    char unused;
};

bool
gp__group_supported(void)
{
    return false;
}

int
gp__group_new(gp__group **out, const char *mark, gp_error *err)
{
    (void)mark;
    *out = gp__calloc(1, sizeof(**out));
    return *out != NULL ? 0
                        : gp_error_set(err, GP_ENOMEM, "out of memory for a group of processes");
}

void
gp__group_free(gp__group *group)
{
    gp__free(group);
}

void
gp__group_kill(gp__group *group, pid_t root, int pidfd, int64_t patience_ms)
{
    (void)group;
    (void)root;
    (void)pidfd;
    (void)patience_ms;
}

void
gp__group_remember(gp__group *group, pid_t root, int pidfd)
{
    (void)group;
    (void)root;
    (void)pidfd;
}

#endif
