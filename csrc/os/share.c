#include "os/share.h"

#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/text.h"
#include "os/socket.h"

/* What the names of such directories begin with. */
#define PREFIX "plugin-dir"

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
