#include "os/share.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/text.h"
#include "os/fd.h"

/* Room for the entry of a group; a longer one would have thousands of members. */
enum { GROUP_BUFFER = 64 * 1024 };

/* The id of the group |group|, a name or a number. Returns 0, GP_EINVAL or GP_ENOMEM. */
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

int
gp__share_descriptor(int fd, const char *path, const char *group, mode_t alone, mode_t shared,
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
    /*
     * fchmod() refuses descriptors that are open with O_PATH; chmod() of their path in /proc works.
     */
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

int
gp__share_not_ours(const char *path, const char *what, gp_error *err)
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
 * Set the mode of the socket by its name in its directory, if no other user can replace it there.
 * That is nearly always so, and takes less time than opening the socket. Returns whether it was
 * done.
 */
static bool
share_by_name(const char *path, const char *group)
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

    if (share_by_name(path, group)) {
        return 0;
    }
    fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &file) < 0) {
        rc = gp_error_set_errno(err, errno, "cannot set the mode of %s", path);
    } else if (!is_own_socket(&file)) {
        rc = gp__share_not_ours(path, "socket", err);
    } else {
        rc = gp__share_descriptor(fd, path, group, 0600, 0660, err);
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

    if (share_by_name(path, group)) {
        return 0;
    }
    /* A path can be checked but not held open: a replacement after this check is not noticed. */
    if (lstat(path, &file) < 0) {
        return gp_error_set_errno(err, errno, "cannot set the mode of %s", path);
    }
    if (!is_own_socket(&file)) {
        return gp__share_not_ours(path, "socket", err);
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
