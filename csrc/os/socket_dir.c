#include "os/socket_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/alloc.h"
#include "os/fd.h"
#include "os/share.h"

/* The claim: a file in a directory that is locked for as long as a process uses the directory. */
#define CLAIM "claim"

/* The name of a claim before it is locked. */
#define UNLOCKED "claim-to-be"

/* How many characters mkdtemp() adds to the names of directories. */
enum { RANDOM = 6 };

/* Open the directory |name| in |at|, following no symbolic link. Returns -1 with errno. */
static int
open_directory(int at, const char *name)
{
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/*
 * Share the directory that mkdtemp() has just made, unless another user has replaced it. Returns as
 * gp__share_socket().
 */
static int
share_new_directory(const char *path, const char *group, gp_error *err)
{
    int fd = open_directory(AT_FDCWD, path);
    struct stat file;
    int rc;

    if (fd < 0 || fstat(fd, &file) < 0) {
        rc = gp_error_set_errno(err, errno, "cannot set the mode of %s", path);
    } else if (file.st_uid != geteuid() || (file.st_mode & 07777 & ~S_ISGID) != 0700) {
        rc = gp__share_not_ours(path, "directory", err);
    } else if (group == NULL || group[0] == '\0') {
        rc = 0; /* it has the mode already */
    } else {
        rc = gp__share_descriptor(fd, path, group, 0700, 0770, err);
    }
    gp__fd_close(&fd);
    return rc;
}

int
gp__socket_dir_make(char **out, const char *base, const char *group, gp_error *err)
{
    const char *slash = base[0] != '\0' && base[strlen(base) - 1] == '/' ? "" : "/";
    char *path = gp__format("%s%s" GP__SOCKET_DIR_PREFIX "XXXXXX", base, slash);
    int rc;

    if (path == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a directory for sockets");
    }
    if (mkdtemp(path) == NULL) { /* for this user alone, whatever the umask */
        rc = gp_error_set_errno(err, errno, "no directory for sockets can be made in %s", base);
        gp__free(path);
        return rc;
    }
    rc = share_new_directory(path, group, err);
    if (rc < 0) {
        rmdir(path);
        gp__free(path);
        return rc;
    }
    *out = path;
    return 0;
}

bool
gp__socket_dir_is_name(const char *name)
{
    return strncmp(name, GP__SOCKET_DIR_PREFIX, sizeof(GP__SOCKET_DIR_PREFIX) - 1) == 0 &&
           strlen(name) == sizeof(GP__SOCKET_DIR_PREFIX) - 1 + RANDOM;
}

int
gp__socket_dir_open(int at, const char *name, const char *path, uid_t uid)
{
    struct stat file;
    int fd = gp__socket_dir_is_name(name) ? open_directory(at, path) : -1;

    if (fd >= 0 && (fstat(fd, &file) < 0 || (file.st_mode & 0777) != 0700 || file.st_uid != uid)) {
        gp__fd_close(&fd);
    }
    return fd;
}

/* Whether |name| in |at| is the claim of a directory: an empty regular file. */
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
 * Remove all sockets and the claim from the directory |fd|. With |deep|, do so in the private
 * directories in it, of any user, as well, and remove those. Closes |fd|.
 */
static void
remove_contents(int fd, bool deep)
{
    DIR *listing = fdopendir(fd);
    struct dirent *entry;

    if (listing == NULL) {
        close(fd);
        return;
    }
    while ((entry = readdir(listing)) != NULL) {
        const char *name = entry->d_name;
        int inner = deep && gp__socket_dir_is_name(name) ? open_directory(fd, name) : -1;

        if (inner >= 0) {
            remove_contents(inner, false);
            unlinkat(fd, name, AT_REMOVEDIR);
        } else if (is_socket(fd, name) || is_claim(fd, name)) {
            unlinkat(fd, name, 0);
        }
    }
    closedir(listing);
}

void
gp__socket_dir_remove(const char *directory)
{
    int fd = open_directory(AT_FDCWD, directory);
    struct stat file;

    if (fd >= 0 && fstat(fd, &file) == 0 && file.st_uid == geteuid()) {
        remove_contents(fd, true);
    } else if (fd >= 0) {
        close(fd);
    }
    rmdir(directory);
}

/* ---- Claims ---------------------------------------------------------------------------------- */

/*
 * Claim |directory|. Returns the locked descriptor, or -1 where files cannot be locked: without a
 * claim no sweep removes the directory. The file gets its name once it is locked, so that a sweep
 * never finds it unlocked while we live.
 */
static int
claim_directory(const char *directory)
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
gp__socket_dir_make_claimed(char **out, int *held, const char *base, gp_error *err)
{
    int rc = gp__socket_dir_make(out, base, NULL, err);

    if (rc == 0) {
        *held = claim_directory(*out);
    }
    return rc;
}

/*
 * Whether a running process has claimed the directory |fd|. |*claimed|: whether there is a claim.
 * |*held|: the claim's descriptor, the caller's, or -1.
 */
static bool
is_in_use(int fd, bool *claimed, int *held)
{
    *held = openat(fd, CLAIM, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    *claimed = *held >= 0;
    return *held >= 0 && flock(*held, LOCK_EX | LOCK_NB) < 0;
}

bool
gp__socket_dir_in_use(int fd)
{
    bool claimed;
    int held;
    bool used = is_in_use(fd, &claimed, &held);

    gp__fd_close(&held);
    return used;
}

void
gp__socket_dir_unclaim(int fd)
{
    if (is_claim(fd, CLAIM)) {
        unlinkat(fd, CLAIM, 0);
    }
}

/*
 * Remove the private directory |path|, open as |fd|, if the process that has claimed it has ended.
 * Closes |fd|.
 */
static void
remove_if_abandoned(int fd, const char *path)
{
    bool claimed;
    int held;

    if (!is_in_use(fd, &claimed, &held) && claimed) {
        remove_contents(fd, true);
        rmdir(path);
    } else {
        close(fd);
    }
    gp__fd_close(&held);
}

void
gp__socket_dir_sweep(const char *base, uid_t uid)
{
    DIR *listing = opendir(base);
    struct dirent *entry;

    while (listing != NULL && (entry = readdir(listing)) != NULL) {
        char *path;

        if (gp__socket_dir_is_name(entry->d_name) &&
            (path = gp__format("%s/%s", base, entry->d_name)) != NULL) {
            int fd = gp__socket_dir_open(AT_FDCWD, entry->d_name, path, uid);

            if (fd >= 0) {
                remove_if_abandoned(fd, path);
            }
            gp__free(path);
        }
    }
    if (listing != NULL) {
        closedir(listing);
    }
}
