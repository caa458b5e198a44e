#include "gp/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/text.h"
#include "os/fd.h"
#include "os/path.h"
#include "os/share.h"
#include "os/socket_dir.h"
#include "os/tmpdir.h"

enum {
    HIGHEST_PORT = 65535,
    ATTEMPTS = 100,
    NAME = sizeof("plugin") - 1 + GP__RANDOM_NAME,
};

struct gp_place {
    char *group;     /* owned; NULL: none */
    char *directory; /* owned; absolute */
    bool made;       /* |directory| was made for this place */
    int fd;          /* owned; |directory|, until the socket has been moved there; -1: not moved */
    int private_fd;  /* owned; the private directory in |directory| to bind in; -1: none */
    char *private;   /* owned; the name of the private directory; NULL: none */
    char *path;      /* owned */
    char *bind;      /* owned */
    char *target;    /* owned */
    bool removed;
    char name[NAME + 1]; /* the socket's, in either directory */
};

/* ---- Directories ----------------------------------------------------------------------------- */

/* Find out whether the socket has to be moved to its directory (|*moved|), and then open that. */
static int
open_directory(gp_place *place, bool *moved, gp_error *err)
{
    struct stat file;
    int fd = open(place->directory, GP__O_DIRECTORY);

    if (fd < 0 || fstat(fd, &file) < 0 ||
        faccessat(AT_FDCWD, place->directory, W_OK | X_OK, 0) < 0) {
        gp_error_set_errno(err, errno, "no unix socket can be created in %s", place->directory);
        gp__fd_close(&fd);
        return GP_EOS;
    }
    *moved = place->group != NULL || gp__share_open_to_others(&file);
    if (*moved) {
        place->fd = fd;
    } else {
        gp__fd_close(&fd);
    }
    return 0;
}

/*
 * Make the private directory to bind in, and open it. The descriptor stays valid even if another
 * user replaces what is at the path.
 */
static int
make_private(gp_place *place, gp_error *err)
{
    char random[GP__RANDOM_NAME + 1];
    struct stat file;

    gp__random_name(random);
    place->private = gp__format(GP__SOCKET_DIR_PREFIX "-%s", random);
    if (place->private == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a socket");
    }
    if (mkdirat(place->fd, place->private, 0700) < 0) {
        gp_error_set_errno(err, errno, "no unix socket can be created in %s", place->directory);
        gp__free(place->private);
        place->private = NULL;
        return GP_EOS;
    }
    place->private_fd = openat(place->fd, place->private, GP__O_DIRECTORY | O_NOFOLLOW);
    if (place->private_fd < 0 || fstat(place->private_fd, &file) < 0) {
        return gp_error_set_errno(err, errno, "no unix socket can be created in %s",
                                  place->directory);
    }
    if (file.st_uid != geteuid() || (file.st_mode & 0777) != 0700) {
        return gp_error_set(err, GP_EOS,
                            "no unix socket can be created in %s: another user has replaced the "
                            "directory that was made there",
                            place->directory);
    }
    return 0;
}

/* The path in the private directory at which to bind. The caller's; NULL: out of memory. */
static char *
private_path(const gp_place *place)
{
    return access("/proc/self/fd", X_OK) == 0
               ? gp__format("/proc/self/fd/%d/%s", place->private_fd, place->name)
               : gp__format("%s/%s/%s", place->directory, place->private, place->name);
}

/* ---- Places ---------------------------------------------------------------------------------- */

/* Choose the name, and set the path. Returns 0, GP_EOS or GP_ENOMEM. */
static int
choose_name(gp_place *place, gp_error *err)
{
    struct stat file;

    for (int i = 0; i < ATTEMPTS; i++) {
        char random[GP__RANDOM_NAME + 1];

        gp__free(place->path);
        gp__random_name(random);
        snprintf(place->name, sizeof(place->name), "plugin%s", random);
        place->path = gp__format(
            "%s/%s", strcmp(place->directory, "/") != 0 ? place->directory : "", place->name);
        if (place->path == NULL) {
            return gp_error_set(err, GP_ENOMEM, "out of memory for a socket");
        }
        if (lstat(place->path, &file) < 0) {
            return errno == ENOENT
                       ? 0
                       : gp_error_set_errno(err, errno, "no unix socket can be created in %s",
                                            place->directory);
        }
    }
    return gp_error_set_errno(err, EEXIST, "no unix socket can be created in %s", place->directory);
}

int
gp_place_new(gp_place **out, const char *directory, const char *group, gp_error *err)
{
    gp_place *place = gp__calloc(1, sizeof(*place));
    char *escaped;
    bool moved = false;
    int rc;

    if (place == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a socket");
    }
    place->fd = place->private_fd = -1;
    rc = gp__socket_directory(&place->directory, &place->made, directory, group, NAME, err);
    if (rc == 0 && group != NULL && group[0] != '\0' &&
        (place->group = gp__strdup(group)) == NULL) {
        rc = gp_error_set(err, GP_ENOMEM, "out of memory for a socket");
    }
    if (rc < 0 || (rc = open_directory(place, &moved, err)) < 0 ||
        (rc = choose_name(place, err)) < 0 || (moved && (rc = make_private(place, err)) < 0)) {
        gp_place_remove(place);
        gp_place_release(place);
        return rc;
    }
    place->bind = moved ? private_path(place) : gp__strdup(place->path);
    escaped = place->bind != NULL ? gp__path_escape(place->bind) : NULL;
    place->target = escaped != NULL ? gp__format("unix:%s", escaped) : NULL;
    gp__free(escaped);
    if (place->target == NULL) {
        gp_place_remove(place);
        gp_place_release(place);
        return gp_error_set(err, GP_ENOMEM, "out of memory for a socket");
    }
    *out = place;
    return 0;
}

const char *
gp_place_path(const gp_place *place)
{
    return place->path;
}

const char *
gp_place_bind(const gp_place *place)
{
    return place->bind;
}

const char *
gp_place_target(const gp_place *place)
{
    return place->target;
}

const char *
gp_place_directory(const gp_place *place)
{
    return place->made ? place->directory : NULL;
}

/* Remove and close the private directory. */
static void
remove_private(gp_place *place)
{
    if (place->private != NULL) {
        if (place->private_fd >= 0) {
            unlinkat(place->private_fd, place->name, 0);
        }
        unlinkat(place->fd, place->private, AT_REMOVEDIR);
        gp__free(place->private);
        place->private = NULL;
    }
    gp__fd_close(&place->private_fd);
    gp__fd_close(&place->fd);
}

int
gp_place_publish(gp_place *place, gp_error *err)
{
    int rc = gp__share_socket(place->bind, place->group, err);

    if (rc == 0 && place->private != NULL &&
        renameat(place->private_fd, place->name, place->fd, place->name) < 0) {
        rc =
            gp_error_set_errno(err, errno, "no unix socket can be created in %s", place->directory);
    }
    remove_private(place);
    return rc;
}

void
gp_place_remove(gp_place *place)
{
    remove_private(place);
    if (!place->removed && place->path != NULL) {
        unlink(place->path);
    }
    if (!place->removed && place->made) {
        rmdir(place->directory);
    }
    place->removed = true;
}

void
gp_place_release(gp_place *place)
{
    if (place != NULL) {
        gp__fd_close(&place->private_fd);
        gp__fd_close(&place->fd);
        gp__free(place->private);
        gp__free(place->group);
        gp__free(place->directory);
        gp__free(place->path);
        gp__free(place->bind);
        gp__free(place->target);
        gp__free(place);
    }
}

int
gp_listen_directory(char out[GP_LISTEN_PATH], const char *group, gp_error *err)
{
    enum { ROOM = sizeof(GP__SOCKET_DIR_PREFIX "XXXXXX/") - 1 + NAME };
    const char *temporary = gp__tmpdir();
    char *base = gp__path_absolute(temporary, strlen(temporary), NULL);
    char *made;
    int rc;

    if (base == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a directory for sockets");
    }
    rc = gp__socket_dir_make(&made, gp__socket_misfit(base, ROOM) == NULL ? base : GP__SHORT_TMPDIR,
                             group, err);
    if (rc == 0) {
        snprintf(out, GP_LISTEN_PATH, "%s", made);
        gp__free(made);
    }
    gp__free(base);
    return rc;
}

/*
 * Whether the port can be bound, without SO_REUSEADDR: a port on which an old connection lingers is
 * not given to a new server.
 */
static bool
is_free_port(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int fd = gp__fd_socket(AF_INET);
    bool bound;

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bound = fd >= 0 && bind(fd, (const struct sockaddr *)&to, sizeof(to)) == 0;
    gp__fd_close(&fd);
    return bound;
}

int
gp_listen_port(int min, int max, gp_error *err)
{
    unsigned count;
    unsigned start;

    if (min > max) {
        return gp_error_set(
            err, GP_EINVAL,
            "PLUGIN_MIN_PORT value of %d is greater than PLUGIN_MAX_PORT value of %d", min, max);
    }
    if (min < 1 || max > HIGHEST_PORT) {
        return gp_error_set(err, GP_EINVAL, "%d to %d is not a range of TCP ports", min, max);
    }
    count = (unsigned)(max - min) + 1;
    start = gp__random_number() % count;
    for (unsigned i = 0; i < count; i++) {
        int port = min + (int)((start + i) % count);

        if (is_free_port(port)) {
            return port;
        }
    }
    return gp_error_set_errno(err, EADDRINUSE, "no free TCP port from %d to %d", min, max);
}
