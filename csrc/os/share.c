#include "os/share.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/text.h"
#include "os/fd.h"

/* The file in them that is locked for as long as a process uses them. */
#define CLAIM "claim"

/* What it is called before it is locked. */
#define UNLOCKED "claim-to-be"

/* What a name's group entry may take; a longer one would have thousands of members. */
enum { GROUP_BUFFER = 64 * 1024 };

/* What mkdtemp() adds to the names of directories. */
enum { RANDOM = 6 };

/* Returns 0, GP_EINVAL or GP_ENOMEM. */
static int
find_group(gid_t *out, const char *group, gp_error *err)
{
    const gp__text text = {group, strlen(group)};
    struct group entry;
    struct group *found = NULL;
    char *buffer;
    int number;

    if (gp__text_int(text, &number) && number >= 0) {
        *out = (gid_t)number;
        return 0;
    }
    buffer = gp__malloc(GROUP_BUFFER);
    if (buffer == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory to find the group %s", group);
    }
    if (getgrnam_r(group, &entry, buffer, GROUP_BUFFER, &found) == 0 && found != NULL) {
        *out = entry.gr_gid;
    }
    gp__free(buffer);
    return found != NULL
               ? 0
               : gp_error_set(err, GP_EINVAL, "there is no group %s to give the socket to", group);
}

/*
 * Give what |fd| refers to, shown as |path|, to |group|. |fd| may be one of O_PATH. Who could put
 * something else at a path between two calls cannot do so with a descriptor.
 */
static int
share_descriptor(int fd, const char *path, const char *group, mode_t alone, mode_t shared,
                 gp_error *err)
{
    char itself[sizeof("/proc/self/fd/-2147483648")];
    gid_t gid = 0;
    int rc;

    if (group == NULL || group[0] == '\0') {
        shared = alone;
    } else if ((rc = find_group(&gid, group, err)) < 0) {
        return rc;
#if defined(AT_EMPTY_PATH)
    } else if (fchownat(fd, "", (uid_t)-1, gid, AT_EMPTY_PATH) < 0) {
#else
    } else if (fchown(fd, (uid_t)-1, gid) < 0) {
#endif
        return gp_error_set_errno(err, errno, "cannot give %s to the group %s", path, group);
    }
    /* fchmod() refuses descriptors of O_PATH, chmod() of what they refer to in /proc does not. */
    if (fchmod(fd, shared) == 0) {
        return 0;
    }
    snprintf(itself, sizeof(itself), "/proc/self/fd/%d", fd);
    return errno == EBADF && chmod(itself, shared) == 0
               ? 0
               : gp_error_set_errno(err, errno, "cannot set the mode of %s", path);
}

static bool
is_own_socket(const struct stat *file)
{
    return S_ISSOCK(file->st_mode) && file->st_uid == geteuid();
}

static int
not_ours(const char *path, const char *what, gp_error *err)
{
    static const char swapped[] = "another user has put something else in its place";

    return gp_error_set(err, GP_EOS, "%s is not the %s that was made there: %s", path, what,
                        swapped);
}

bool
gp__share_open_to_others(const struct stat *directory)
{
    if (directory->st_uid != geteuid() && directory->st_uid != 0) {
        return true;
    }
    return (directory->st_mode & (S_IWGRP | S_IWOTH)) != 0 && (directory->st_mode & S_ISVTX) == 0;
}

/*
 * Where nobody else can put anything in the place of the socket, which is how it is nearly always,
 * its name in the open directory is as good as a descriptor, and takes less time. Whether it has
 * been done.
 */
static bool
share_simply(const char *path, const char *group)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash != NULL ? (size_t)(slash - path) : 0;
    char directory[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    struct stat file;
    bool done;
    int fd;

    if ((group != NULL && group[0] != '\0') || len == 0 || len >= sizeof(directory)) {
        return false;
    }
    memcpy(directory, path, len);
    directory[len] = '\0';
    fd = open(directory, GP__O_DIRECTORY);
    done = fd >= 0 && fstat(fd, &file) == 0 && !gp__share_open_to_others(&file) &&
           fstatat(fd, slash + 1, &file, AT_SYMLINK_NOFOLLOW) == 0 && is_own_socket(&file) &&
           ((file.st_mode & 07777) == 0600 || fchmodat(fd, slash + 1, 0600, 0) == 0);
    gp__fd_close(&fd);
    return done;
}

#if defined(O_PATH) && !defined(GP_PORTABLE)
int
gp__share_socket(const char *path, const char *group, gp_error *err)
{
    struct stat file;
    int fd;
    int rc;

    if (share_simply(path, group)) {
        return 0;
    }
    fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &file) < 0) {
        rc = gp_error_set_errno(err, errno, "cannot set the mode of %s", path);
    } else if (!is_own_socket(&file)) {
        rc = not_ours(path, "socket", err);
    } else {
        rc = share_descriptor(fd, path, group, 0600, 0660, err);
    }
    gp__fd_close(&fd);
    return rc;
}
#else
int
gp__share_socket(const char *path, const char *group, gp_error *err)
{
    const bool grouped = group != NULL && group[0] != '\0';
    struct stat file;
    gid_t gid = 0;
    int rc;

    if (share_simply(path, group)) {
        return 0;
    }
    /* A path can be checked, but not held: only what is swapped after this is not noticed. */
    if (lstat(path, &file) < 0) {
        return gp_error_set_errno(err, errno, "cannot set the mode of %s", path);
    }
    if (!is_own_socket(&file)) {
        return not_ours(path, "socket", err);
    }
    if (grouped && (rc = find_group(&gid, group, err)) < 0) {
        return rc;
    }
    if (grouped && fchownat(AT_FDCWD, path, (uid_t)-1, gid, AT_SYMLINK_NOFOLLOW) < 0) {
        return gp_error_set_errno(err, errno, "cannot give %s to the group %s", path, group);
    }
    return fchmodat(AT_FDCWD, path, grouped ? 0660 : 0600, AT_SYMLINK_NOFOLLOW) == 0
               ? 0
               : gp_error_set_errno(err, errno, "cannot set the mode of %s", path);
}
#endif

/* ---- Directories ----------------------------------------------------------------------------- */

/* The directory |name| in |at| itself, and none that a link there leads to. -1 with errno. */
static int
open_directory(int at, const char *name)
{
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/*
 * Share the directory that mkdtemp() has just made, unless another user has put another one in its
 * place.
 */
static int
share_made(const char *path, const char *group, gp_error *err)
{
    int fd = open_directory(AT_FDCWD, path);
    struct stat file;
    int rc;

    if (fd < 0 || fstat(fd, &file) < 0) {
        rc = gp_error_set_errno(err, errno, "cannot set the mode of %s", path);
    } else if (file.st_uid != geteuid() || (file.st_mode & 07777 & ~S_ISGID) != 0700) {
        rc = not_ours(path, "directory", err);
    } else if (group == NULL || group[0] == '\0') {
        rc = 0; /* it has the mode already */
    } else {
        rc = share_descriptor(fd, path, group, 0700, 0770, err);
    }
    gp__fd_close(&fd);
    return rc;
}

int
gp__share_directory(char **out, const char *base, const char *group, gp_error *err)
{
    const char *slash = base[0] != '\0' && base[strlen(base) - 1] == '/' ? "" : "/";
    char *path = gp__format("%s%s" GP__SHARE_PREFIX "XXXXXX", base, slash);
    int rc;

    if (path == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a directory for sockets");
    }
    if (mkdtemp(path) == NULL) { /* for this user alone, whatever the umask */
        rc = gp_error_set_errno(err, errno, "no directory for sockets can be made in %s", base);
        gp__free(path);
        return rc;
    }
    rc = share_made(path, group, err);
    if (rc < 0) {
        rmdir(path);
        gp__free(path);
        return rc;
    }
    *out = path;
    return 0;
}

bool
gp__share_is_name(const char *name)
{
    return strncmp(name, GP__SHARE_PREFIX, sizeof(GP__SHARE_PREFIX) - 1) == 0 &&
           strlen(name) == sizeof(GP__SHARE_PREFIX) - 1 + RANDOM;
}

int
gp__share_open_private(int at, const char *name, const char *path, uid_t uid)
{
    struct stat file;
    int fd = gp__share_is_name(name) ? open_directory(at, path) : -1;

    if (fd >= 0 && (fstat(fd, &file) < 0 || (file.st_mode & 0777) != 0700 || file.st_uid != uid)) {
        gp__fd_close(&fd);
    }
    return fd;
}

/*
 * Whether |name| in |at| is the file by which a directory is claimed, and nothing else of that
 * name.
 */
static bool
is_claim(int at, const char *name)
{
    struct stat file;

    return strcmp(name, CLAIM) == 0 && fstatat(at, name, &file, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(file.st_mode) && file.st_size == 0;
}

static bool
is_socket(int at, const char *name)
{
    struct stat file;

    return fstatat(at, name, &file, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(file.st_mode);
}

/*
 * Empty the directory |fd|, which is then closed, of sockets and of its claim. With |deep| private
 * directories in it go, too, which have none in them, whosever they are.
 */
static void
empty(int fd, bool deep)
{
    DIR *listing = fdopendir(fd);
    struct dirent *entry;

    if (listing == NULL) {
        close(fd);
        return;
    }
    while ((entry = readdir(listing)) != NULL) {
        const char *name = entry->d_name;
        int inner = deep && gp__share_is_name(name) ? open_directory(fd, name) : -1;

        if (inner >= 0) {
            empty(inner, false);
            unlinkat(fd, name, AT_REMOVEDIR);
        } else if (is_socket(fd, name) || is_claim(fd, name)) {
            unlinkat(fd, name, 0);
        }
    }
    closedir(listing);
}

void
gp__share_remove(const char *directory)
{
    int fd = open_directory(AT_FDCWD, directory);
    struct stat file;

    if (fd >= 0 && fstat(fd, &file) == 0 && file.st_uid == geteuid()) {
        empty(fd, true);
    } else if (fd >= 0) {
        close(fd);
    }
    rmdir(directory);
}

/* ---- Claims ---------------------------------------------------------------------------------- */

/*
 * Lock |directory|. Returns the descriptor, or -1 where that cannot be: then nobody takes it for
 * the place of a dead process. The file has its name only once it is locked, so that a sweep never
 * finds it without.
 */
static int
claim(const char *directory)
{
    int at = open_directory(AT_FDCWD, directory);
    int fd = -1;

    if (at >= 0) {
        fd = openat(at, UNLOCKED, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    }
    if (fd >= 0 && (flock(fd, LOCK_EX | LOCK_NB) < 0 || renameat(at, UNLOCKED, at, CLAIM) < 0)) {
        unlinkat(at, UNLOCKED, 0);
        gp__fd_close(&fd);
    }
    gp__fd_close(&at);
    return fd;
}

int
gp__share_claim(char **out, int *held, const char *base, gp_error *err)
{
    int rc = gp__share_directory(out, base, NULL, err);

    if (rc == 0) {
        *held = claim(*out);
    }
    return rc;
}

/*
 * Whether a process that lives has claimed the directory |fd|; |*claimed|: whether there is a claim
 * at all.
 */
static bool
in_use(int fd, bool *claimed, int *held)
{
    *held = openat(fd, CLAIM, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    *claimed = *held >= 0;
    return *held >= 0 && flock(*held, LOCK_EX | LOCK_NB) < 0;
}

bool
gp__share_in_use(int fd)
{
    bool claimed;
    int held;
    bool used = in_use(fd, &claimed, &held);

    gp__fd_close(&held);
    return used;
}

void
gp__share_unclaim(int fd)
{
    if (is_claim(fd, CLAIM)) {
        unlinkat(fd, CLAIM, 0);
    }
}

/*
 * Remove the private directory |path|, open as |fd|, if it was claimed by a process that is dead.
 */
static void
sweep(int fd, const char *path)
{
    bool claimed;
    int held;

    if (!in_use(fd, &claimed, &held) && claimed) {
        empty(fd, true);
        rmdir(path);
    } else {
        close(fd);
    }
    gp__fd_close(&held);
}

void
gp__share_sweep(const char *base, uid_t uid)
{
    DIR *listing = opendir(base);
    struct dirent *entry;

    while (listing != NULL && (entry = readdir(listing)) != NULL) {
        char *path;

        if (gp__share_is_name(entry->d_name) &&
            (path = gp__format("%s/%s", base, entry->d_name)) != NULL) {
            int fd = gp__share_open_private(AT_FDCWD, entry->d_name, path, uid);

            if (fd >= 0) {
                sweep(fd, path);
            }
            gp__free(path);
        }
    }
    if (listing != NULL) {
        closedir(listing);
    }
}
