#include "os/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "os/fd.h"

static int
unreachable(gp_error *err, const char *network, const char *address, const char *why)
{
    return gp_error_set(err, GP_EREATTACH, "process not found: nothing answers at %s %s: %s",
                        network, address, why);
}

static int
unreachable_errno(gp_error *err, const char *network, const char *address, int errnum)
{
    gp_error_set_errno(err, errnum, "process not found: nothing answers at %s %s", network,
                       address);
    if (err != NULL) {
        err->code = GP_EREATTACH;
    }
    return GP_EREATTACH;
}

static int
open_socket(int family)
{
    int fd = socket(family, SOCK_STREAM, 0);

    if (fd >= 0) {
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        gp__fd_set_nonblocking(fd);
    }
    return fd;
}

/* Wait for a connection under way. Returns 0, GP_ETIMEOUT, GP_EUSER, or errno as a positive number. */
static int
await_connection(int fd, int64_t deadline, const gp_interrupt *interrupt)
{
    struct pollfd connecting = {.fd = fd, .events = POLLOUT};
    int failed = 0;
    socklen_t size = sizeof(failed);

    for (;;) {
        int rc;

        if (gp__fd_poll(&connecting, 1, gp__slice(deadline, interrupt)) != 0) {
            return getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &size) < 0 ? errno : failed;
        }
        if (gp__now() >= deadline) {
            return GP_ETIMEOUT;
        }
        if ((rc = gp__interrupted(interrupt)) < 0) {
            return rc;
        }
    }
}

/* Returns as await_connection. */
static int
try_connect(const struct sockaddr *to, socklen_t size, int64_t deadline,
            const gp_interrupt *interrupt)
{
    int fd = open_socket(to->sa_family);
    int rc = fd < 0 || connect(fd, to, size) < 0 ? errno : 0;

    if (fd >= 0 && rc == EINPROGRESS) {
        rc = await_connection(fd, deadline, interrupt);
    }
    gp__fd_close(&fd);
    /* A listener whose backlog is full is a listener. */
    return rc == EAGAIN ? 0 : rc;
}

static int
probe_unix(const char *path, int64_t deadline, const gp_interrupt *interrupt)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t len = strlen(path);

    if (len >= sizeof(to.sun_path)) {
        return ENAMETOOLONG;
    }
    memcpy(to.sun_path, path, len);
    if (path[0] == '@') {
        to.sun_path[0] = '\0';
    }
    return try_connect(
        (const struct sockaddr *)&to,
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (path[0] == '@' ? 0 : 1)),
        deadline, interrupt);
}

/* Resolve "host:port", brackets around the host or not. Returns getaddrinfo()'s result. */
static int
resolve(struct addrinfo **out, const char *address)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    const char *colon = strrchr(address, ':');
    size_t len = colon != NULL ? (size_t)(colon - address) : 0;
    char *host;
    int rc;

    if (len > 2 && address[0] == '[' && address[len - 1] == ']') {
        address++;
        len -= 2;
    }
    host = colon != NULL ? gp__memdup(address, len) : NULL;
    if (host == NULL) {
        return colon != NULL ? EAI_MEMORY : EAI_NONAME;
    }
    rc = getaddrinfo(host, colon + 1, &hints, out);
    gp__free(host);
    return rc;
}

int
gp__socket_probe(const char *network, const char *address, int64_t deadline,
                 const gp_interrupt *interrupt, gp_error *err)
{
    struct addrinfo *found = NULL;
    int rc = ECONNREFUSED;

    if (strcmp(network, "unix") == 0) {
        rc = probe_unix(address, deadline, interrupt);
    } else {
        int failed = resolve(&found, address);

        if (failed != 0) {
            return unreachable(err, network, address, gai_strerror(failed));
        }
        for (const struct addrinfo *at = found; at != NULL && rc > 0; at = at->ai_next) {
            rc = try_connect(at->ai_addr, at->ai_addrlen, deadline, interrupt);
        }
        freeaddrinfo(found);
    }
    if (rc > 0) {
        return unreachable_errno(err, network, address, rc);
    }
    if (rc == GP_ETIMEOUT) {
        return unreachable(err, network, address, "timed out");
    }
    return rc < 0 ? gp_error_set(err, rc, "reattaching was interrupted") : 0;
}

void
gp__socket_remove_stale(const char *path)
{
    struct stat file;

    if (path[0] != '@' && lstat(path, &file) == 0 && S_ISSOCK(file.st_mode) &&
        file.st_uid == geteuid()) {
        unlink(path);
    }
}
