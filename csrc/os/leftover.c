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
#include "os/share.h"
#include "os/socket.h"

/* How long directories that the plugin has chosen may take to answer, together. */
static const int64_t patience_ms = 1000;

/* A socket to be removed, apart from the gp__leftover, which a thread may outlive. */
typedef struct task {
    uid_t uid;
    int pid;
    bool given;      /* the plugin was given |directory| for its sockets */
    char *path;      /* owned; absolute */
    char *directory; /* owned; the one that it is in */
} task;

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

/* ---- What may go ----------------------------------------------------------------------------- */

/* Whether |uid| may remove its own sockets from |directory|. */
static bool
may_remove(const task *it, const struct stat *directory)
{
    return directory->st_uid == it->uid || (it->given && (it->uid == 0 || it->uid == geteuid() ||
                                                          (directory->st_mode & S_IWOTH) != 0));
}

/* Whether nobody listens to |name| in the directory |fd|, but maybe the dead process's children. */
static bool
is_dead(const task *it, int fd, const char *name)
{
    char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    int len = snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", fd, name);

    if (len < (int)sizeof(path) && gp__socket_exists(path)) {
        return gp__socket_abandoned(path, it->pid);
    }
    /* Without a /proc. Who could swap the directory meanwhile could as well remove the socket. */
    len = snprintf(path, sizeof(path), "%s/%s", it->directory, name);
    return len < (int)sizeof(path) && gp__socket_abandoned(path, it->pid);
}

static void
remove_socket(const task *it, int fd, const char *name)
{
    struct stat file;

    if (fstatat(fd, name, &file, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(file.st_mode) &&
        file.st_uid == it->uid && is_dead(it, fd, name)) {
        unlinkat(fd, name, 0);
    }
}

/* Of the private directory |fd|, which is then closed, unless another process uses it. */
static void
remove_private(const task *it, int fd)
{
    DIR *listing = gp__share_in_use(fd) ? NULL : fdopendir(fd);
    struct dirent *entry;

    if (listing == NULL) {
        close(fd);
        return;
    }
    while ((entry = readdir(listing)) != NULL) {
        remove_socket(it, fd, entry->d_name);
    }
    gp__share_unclaim(fd);
    closedir(listing);
    rmdir(it->directory);
}

static void
run(void *ctx)
{
    const task *it = ctx;
    const char *name = gp__path_name(it->directory);
    struct stat directory;
    int fd = gp__share_open_private(AT_FDCWD, name, it->directory, it->uid);

    if (fd >= 0) {
        remove_private(it, fd);
        return;
    }
    fd = open(it->directory, GP__O_DIRECTORY);
    if (fd >= 0 && fstat(fd, &directory) == 0 && may_remove(it, &directory)) {
        remove_socket(it, fd, gp__path_name(it->path));
    }
    gp__fd_close(&fd);
}

static void
release(void *ctx)
{
    task *it = ctx;

    gp__free(it->path);
    gp__free(it->directory);
    gp__free(it);
}

/* ---- The host's side ------------------------------------------------------------------------- */

void
gp__leftover_remove(const gp__leftover *leftover, const char *path)
{
    task *it = gp__calloc(1, sizeof(*it));

    if (it == NULL) {
        return;
    }
    it->pid = gp__process_pid(leftover->process);
    it->path = gp__strdup(path);
    it->directory = gp__path_parent(path);
    if (path[0] != '/' || it->path == NULL || it->directory == NULL ||
        !gp__process_user(leftover->process, &it->uid)) {
        release(it);
        return;
    }
    for (size_t i = 0; i < leftover->count; i++) {
        it->given = it->given || strcmp(leftover->directories[i], it->directory) == 0;
    }
    if (it->given) {
        run(it); /* the host's own choice */
    } else if (gp__now() < leftover->deadline &&
               gp__offload(run, release, it, leftover->deadline, NULL, NULL) < 0) {
        return;
    }
    release(it);
}

void
gp__leftover_sweep(const gp__leftover *leftover)
{
    uid_t uid;

    if (gp__process_user(leftover->process, &uid)) {
        for (size_t i = 0; i < leftover->count; i++) {
            gp__share_sweep(leftover->directories[i], uid);
        }
    }
}
