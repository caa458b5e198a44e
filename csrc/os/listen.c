#include "gp/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "os/fd.h"
#include "os/share.h"
#include "os/socket.h"
#include "os/tmpdir.h"

enum { HIGHEST_PORT = 65535, ATTEMPTS = 100 };

static int
check_directory(const char *directory, gp_error *err)
{
    struct stat file;

    if (stat(directory, &file) < 0) {
        return gp_error_set_errno(err, errno, "no unix socket can be created in %s", directory);
    }
    if (!S_ISDIR(file.st_mode)) {
        return gp_error_set_errno(err, ENOTDIR, "no unix socket can be created in %s", directory);
    }
    if (access(directory, W_OK | X_OK) < 0) {
        return gp_error_set_errno(err, errno, "no unix socket can be created in %s", directory);
    }
    return 0;
}

int
gp_listen_path(char out[GP_LISTEN_PATH], const char *directory, gp_error *err)
{
    const size_t room = sizeof(((struct sockaddr_un *)NULL)->sun_path);
    const char *where = gp__socket_base(directory);
    const char *slash = where[strlen(where) - 1] == '/' ? "" : "/";
    int rc = check_directory(where, err);

    for (int i = 0; i < ATTEMPTS && rc == 0; i++) {
        char name[GP__RANDOM_NAME + 1];
        struct stat file;
        int len;

        gp__random_name(name);
        len = snprintf(out, GP_LISTEN_PATH, "%s%splugin%s", where, slash, name);
        if (len < 0 || (size_t)len >= room || (size_t)len >= GP_LISTEN_PATH) {
            return gp_error_set(
                err, GP_EINVAL,
                "the directory %s is too long for a unix socket: its path would have "
                "%d bytes and may have %zu; set PLUGIN_UNIX_SOCKET_DIR or TMPDIR to "
                "a shorter one",
                where, len, room - 1);
        }
        if (lstat(out, &file) < 0) {
            return errno == ENOENT ? 0
                                   : gp_error_set_errno(
                                         err, errno, "no unix socket can be created in %s", where);
        }
    }
    return rc < 0 ? rc
                  : gp_error_set_errno(err, EEXIST, "no unix socket can be created in %s", where);
}

int
gp_listen_protect(const char *path, const char *group, gp_error *err)
{
    return gp__share_socket(path, group, err);
}

/*
 * Returns 1 if the port can be bound, 0 if not. No SO_REUSEADDR: a port that some connection still
 * lingers on is none to give to a new server.
 */
static int
is_free(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int fd = gp__fd_socket(AF_INET);
    int free_port;

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    free_port = fd >= 0 && bind(fd, (const struct sockaddr *)&to, sizeof(to)) == 0;
    gp__fd_close(&fd);
    return free_port;
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
        return gp_error_set(err, GP_EINVAL, "%d to %d is no range of TCP ports", min, max);
    }
    count = (unsigned)(max - min) + 1;
    start = gp__random_number() % count;
    for (unsigned i = 0; i < count; i++) {
        int port = min + (int)((start + i) % count);

        if (is_free(port)) {
            return port;
        }
    }
    return gp_error_set_errno(err, EADDRINUSE, "no free TCP port from %d to %d", min, max);
}
