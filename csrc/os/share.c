#include "os/share.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/text.h"
#include "os/fd.h"
#include "os/socket.h"

/* What the names of such directories begin with. */
#define PREFIX "plugin-dir"

/* The file in them that is locked for as long as a process uses them. */
#define CLAIM "claim"

enum { ATTEMPTS = 10 };

/* What a name's group entry may take; a longer one would have thousands of members. */
enum { GROUP_BUFFER = 64 * 1024 };

/* What mkdtemp() adds to it. */
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

int
gp__share(const char *path, const char *group, mode_t alone, mode_t shared, gp_error *err)
{
    gid_t gid = 0;
    int rc;

    if (group == NULL || group[0] == '\0') {
        shared = alone;
    } else if ((rc = find_group(&gid, group, err)) < 0) {
        return rc;
    } else if (chown(path, (uid_t)-1, gid) < 0) {
        return gp_error_set_errno(err, errno, "cannot give %s to the group %s", path, group);
    }
    return chmod(path, shared) == 0
               ? 0
               : gp_error_set_errno(err, errno, "cannot set the mode of %s", path);
}

int
gp__share_directory(char **out, const char *base, const char *group, gp_error *err)
{
    const char *slash = base[0] != '\0' && base[strlen(base) - 1] == '/' ? "" : "/";
    char *path = gp__format("%s%s" PREFIX "XXXXXX", base, slash);
    int rc;

    if (path == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a directory for sockets");
    }
    if (mkdtemp(path) == NULL) { /* for this user alone, whatever the umask */
        rc = gp_error_set_errno(err, errno, "no directory for sockets can be made in %s", base);
        gp__free(path);
        return rc;
    }
    rc = gp__share(path, group, 0700, 0770, err);
    if (rc < 0) {
        rmdir(path);
        gp__free(path);
        return rc;
    }
    *out = path;
    return 0;
}

/* Whether gp__share_directory() has made it, for this user alone. |name| is the end of |path|. */
static bool
is_private(const char *path, const char *name)
{
    struct stat file;

    return strncmp(name, PREFIX, sizeof(PREFIX) - 1) == 0 &&
           strlen(name) == sizeof(PREFIX) - 1 + RANDOM && lstat(path, &file) == 0 &&
           S_ISDIR(file.st_mode) && (file.st_mode & 0777) == 0700 && file.st_uid == geteuid();
}

/* The file by which a directory is claimed, and nothing else that has its name. |path| is it. */
static void
remove_claim(const char *path)
{
    struct stat file;

    if (lstat(path, &file) == 0 && S_ISREG(file.st_mode) && file.st_size == 0 &&
        file.st_uid == geteuid()) {
        unlink(path);
    }
}

/* |deep|: such directories in this one go, too. They have none in them. */
static void
remove_all(const char *directory, bool deep)
{
    DIR *listing = opendir(directory);
    struct dirent *entry;

    while (listing != NULL && (entry = readdir(listing)) != NULL) {
        char *path = gp__format("%s/%s", directory, entry->d_name);

        if (path != NULL && deep && is_private(path, entry->d_name)) {
            remove_all(path, false);
        } else if (path != NULL && strcmp(entry->d_name, CLAIM) == 0) {
            remove_claim(path);
        } else if (path != NULL) {
            gp__socket_remove_stale(path);
        }
        gp__free(path);
    }
    if (listing != NULL) {
        closedir(listing);
    }
    rmdir(directory);
}

void
gp__share_remove(const char *directory)
{
    remove_all(directory, true);
}

void
gp__share_remove_socket(const char *path, bool multiplexed)
{
    const char *slash = multiplexed ? strrchr(path, '/') : NULL;
    char *directory = slash != NULL ? gp__memdup(path, (size_t)(slash - path)) : NULL;
    const char *name = directory != NULL ? strrchr(directory, '/') : NULL;

    gp__socket_remove_stale(path);
    if (name != NULL && is_private(directory, name + 1)) {
        remove_all(directory, false);
    }
    gp__free(directory);
}

/* ---- Claims ---------------------------------------------------------------------------------- */

/*
 * Lock |directory|. Returns the descriptor, -1 where that cannot be (then nobody takes it for the place of
 * a dead process), or -2: somebody has taken it for one before it was locked, and removes it.
 */
static int
claim(const char *directory)
{
    char *path = gp__format("%s/" CLAIM, directory);
    struct stat file;
    int fd = -1;
    bool lost = false;

    if (path != NULL) {
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    }
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
        lost = errno == EWOULDBLOCK;
        if (!lost) {
            unlink(path);
        }
        gp__fd_close(&fd);
    } else if (fd >= 0 && (fstat(fd, &file) < 0 || file.st_nlink == 0)) {
        lost = true;
        gp__fd_close(&fd);
    }
    gp__free(path);
    return lost ? -2 : fd;
}

int
gp__share_claim(char **out, int *held, const char *base, gp_error *err)
{
    int rc = 0;

    for (int i = 0; i < ATTEMPTS; i++) {
        rc = gp__share_directory(out, base, NULL, err);
        if (rc < 0 || (*held = claim(*out)) > -2) {
            return rc;
        }
        gp__free(*out);
    }
    return gp_error_set(err, GP_EOS, "no directory for sockets stays in %s", base);
}

/* Remove |directory| if it was claimed, and whoever did so is dead. */
static void
sweep(const char *directory)
{
    char *path = gp__format("%s/" CLAIM, directory);
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;

    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
        remove_all(directory, true);
    }
    gp__fd_close(&fd);
    gp__free(path);
}

void
gp__share_sweep(const char *base)
{
    DIR *listing = opendir(base);
    struct dirent *entry;

    while (listing != NULL && (entry = readdir(listing)) != NULL) {
        char *path;

        if (strncmp(entry->d_name, PREFIX, sizeof(PREFIX) - 1) == 0 &&
            (path = gp__format("%s/%s", base, entry->d_name)) != NULL) {
            if (is_private(path, entry->d_name)) {
                sweep(path);
            }
            gp__free(path);
        }
    }
    if (listing != NULL) {
        closedir(listing);
    }
}
