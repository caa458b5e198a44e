#include "os/leftover.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "os/fd.h"
#include "os/offload.h"
#include "os/path.h"
#include "os/socket.h"
#include "os/socket_dir.h"

/* How long the file systems of directories that the plugin has named may take to answer, in all. */
static const int64_t patience_ms = 1000;

/* A socket to be removed. Not part of the gp__leftover: the removing thread may outlive that. */
typedef struct removal {
    uid_t uid;
    int pid;
    bool given;      /* the plugin was given |directory| for its sockets */
    char *path;      /* owned; absolute */
    char *directory; /* owned; the directory that |path| is in */
} removal;

void
gp__leftover_init(gp__leftover *leftover, gp__process *process)
{
    *leftover = (gp__leftover){.process = process, .deadline = gp_deadline_in(patience_ms)};
}

void
gp__leftover_add(gp__leftover *leftover, const char *directory, const char *working)
{
    char *absolute = gp__path_absolute(directory, strlen(directory), working);

    for (size_t i = 0; absolute != NULL && i < leftover->count; i++) {
        if (strcmp(leftover->directories[i], absolute) == 0) {
            gp__free(absolute);
            return;
        }
    }
    if (absolute != NULL && leftover->count < GP__LEFTOVER_DIRECTORIES) {
        leftover->directories[leftover->count++] = absolute;
    } else {
        gp__free(absolute);
    }
}

void
gp__leftover_release(gp__leftover *leftover)
{
    while (leftover->count > 0) {
        gp__free(leftover->directories[--leftover->count]);
    }
}

/* ---- Removing -------------------------------------------------------------------------------- */

/* Whether |uid| may remove its own sockets from |directory|. */
static bool
may_remove(const removal *self, const struct stat *directory)
{
    return directory->st_uid == self->uid ||
           (self->given &&
            (self->uid == 0 || self->uid == geteuid() || (directory->st_mode & S_IWOTH) != 0));
}

/*
 * Whether no process listens on the socket |name| in the directory |fd|, except perhaps children of
 * the dead process.
 */
static bool
is_dead(const removal *self, int fd, const char *name)
{
    char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    int len = snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", fd, name);

    if (len < (int)sizeof(path) && gp__socket_exists(path)) {
        return gp__socket_abandoned(path, self->pid);
    }
    /* Without a /proc. A user who can swap the directory meanwhile can also remove the socket. */
    len = snprintf(path, sizeof(path), "%s/%s", self->directory, name);
    return len < (int)sizeof(path) && gp__socket_abandoned(path, self->pid);
}

static void
remove_socket(const removal *self, int fd, const char *name)
{
    struct stat file;

    if (fstatat(fd, name, &file, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(file.st_mode) &&
        file.st_uid == self->uid && is_dead(self, fd, name)) {
        unlinkat(fd, name, 0);
    }
}

/*
 * Remove the sockets in the private directory |fd|, and the directory, unless another process uses
 * it. Closes |fd|.
 */
static void
remove_private_directory(const removal *self, int fd)
{
    DIR *listing = gp__socket_dir_in_use(fd) ? NULL : fdopendir(fd);
    struct dirent *entry;

    if (listing == NULL) {
        close(fd);
        return;
    }
    while ((entry = readdir(listing)) != NULL) {
        remove_socket(self, fd, entry->d_name);
    }
    gp__socket_dir_unclaim(fd);
    closedir(listing);
    rmdir(self->directory);
}

static void
remove_from_directory(void *ctx)
{
    const removal *self = ctx;
    const char *name = gp__path_name(self->directory);
    struct stat directory;
    int fd = gp__socket_dir_open(AT_FDCWD, name, self->directory, self->uid);

    if (fd >= 0) {
        remove_private_directory(self, fd);
        return;
    }
    fd = open(self->directory, GP__O_DIRECTORY);
    if (fd >= 0 && fstat(fd, &directory) == 0 && may_remove(self, &directory)) {
        remove_socket(self, fd, gp__path_name(self->path));
    }
    gp__fd_close(&fd);
}

static void
free_removal(void *ctx)
{
    removal *self = ctx;

    gp__free(self->path);
    gp__free(self->directory);
    gp__free(self);
}

/* ---- The host's side ------------------------------------------------------------------------- */

void
gp__leftover_remove(const gp__leftover *leftover, const char *path)
{
    removal *self = gp__calloc(1, sizeof(*self));

    if (self == NULL) {
        return;
    }
    self->pid = gp__process_pid(leftover->process);
    self->path = gp__strdup(path);
    self->directory = gp__path_parent(path);
    if (path[0] != '/' || self->path == NULL || self->directory == NULL ||
        !gp__process_user(leftover->process, &self->uid)) {
        free_removal(self);
        return;
    }
    for (size_t i = 0; i < leftover->count; i++) {
        self->given = self->given || strcmp(leftover->directories[i], self->directory) == 0;
    }
    if (self->given) {
        remove_from_directory(self); /* the host has chosen it, so it answers */
    } else if (gp__now() < leftover->deadline &&
               gp__offload(remove_from_directory, free_removal, self, leftover->deadline, NULL,
                           NULL) < 0) {
        return;
    }
    free_removal(self);
}

void
gp__leftover_sweep(const gp__leftover *leftover)
{
    uid_t uid;

    if (gp__process_user(leftover->process, &uid)) {
        for (size_t i = 0; i < leftover->count; i++) {
            gp__socket_dir_sweep(leftover->directories[i], uid);
        }
    }
}
