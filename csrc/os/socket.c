#include "os/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "os/fd.h"
#include "os/offload.h"
#include "os/share.h"

/* How long to wait before the next attempt if a listener's queue is full. */
static const int64_t full_ns = 5 * GP__MS;
/* How long to look up a name to listen at. */
static const int64_t listen_ms = 5000;

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

/*
 * Wait for a connection under way. Returns 0, GP_ETIMEOUT, GP_EUSER, or errno as a positive number.
 */
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

/*
 * The pid of the process that made the other end listen; 0: unknown, or of another pid namespace.
 */
static int
listener_of(int fd)
{
#if defined(SO_PEERCRED) && !defined(GP_PORTABLE)
    struct ucred peer = {.pid = 0};
    socklen_t size = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? (int)peer.pid : 0;
#else
    (void)fd;
    return 0;
#endif
}

/* Returns as await_connection. */
static int
try_connect(int *out, const struct sockaddr *to, socklen_t size, int64_t deadline,
            const gp_interrupt *interrupt)
{
    int fd = gp__fd_socket(to->sa_family);
    int rc = fd < 0 || connect(fd, to, size) < 0 ? errno : 0;

    if (fd >= 0 && rc == EINPROGRESS) {
        rc = await_connection(fd, deadline, interrupt);
    }
    if (rc != 0) {
        gp__fd_close(&fd);
    }
    *out = fd;
    return rc;
}

static int connect_unix(int *out, const char *path, int64_t deadline,
                        const gp_interrupt *interrupt);

#if defined(O_PATH) && !defined(GP_PORTABLE)
int
gp__socket_open(int *fd, char out[GP__SOCKET_BY_FD], const char *path, gp_error *err)
{
    struct stat file;

    *fd = open(path, O_PATH | O_CLOEXEC);
    if (*fd < 0) {
        return gp_error_set_errno(err, errno, "cannot connect to %s", path);
    }
    snprintf(out, GP__SOCKET_BY_FD, "/proc/self/fd/%d", *fd);
    if (stat(out, &file) < 0) {
        gp__fd_close(fd);
        return gp_error_set(
            err, GP_EOS,
            "cannot connect to %s: the path holds a comma or is too long, and there is no /proc "
            "to avoid that",
            path);
    }
    return 0;
}
#else
int
gp__socket_open(int *fd, char out[GP__SOCKET_BY_FD], const char *path, gp_error *err)
{
    *fd = -1;
    out[0] = '\0';
    return gp_error_set(err, GP_EOS, "cannot connect to %s: the path holds a comma or is too long",
                        path);
}
#endif

/* Connect to a path that does not fit into a sockaddr_un. Returns as await_connection(). */
static int
connect_long(int *out, const char *path, int64_t deadline, const gp_interrupt *interrupt)
{
    char shorter[GP__SOCKET_BY_FD];
    int file;
    int rc;

    if (path[0] == '@' || gp__socket_open(&file, shorter, path, NULL) < 0) {
        return path[0] != '@' && !gp__socket_exists(path) ? ENOENT : ENAMETOOLONG;
    }
    rc = connect_unix(out, shorter, deadline, interrupt);
    gp__fd_close(&file);
    return rc;
}

static int
connect_unix(int *out, const char *path, int64_t deadline, const gp_interrupt *interrupt)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t len = strlen(path);

    if (len >= sizeof(to.sun_path)) {
        return connect_long(out, path, deadline, interrupt);
    }
    memcpy(to.sun_path, path, len);
    if (path[0] == '@') {
        to.sun_path[0] = '\0';
    }
    return try_connect(
        out, (const struct sockaddr *)&to,
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (path[0] == '@' ? 0 : 1)),
        deadline, interrupt);
}

/* ---- Names of hosts -------------------------------------------------------------------------- */

/* A look-up, which occupies a thread for as long as it takes. */
typedef struct lookup {
    char *host; /* owned; "" is this machine */
    char *port; /* owned */
    int flags;
    struct addrinfo *found; /* owned */
    int rc;                 /* what getaddrinfo() said */
} lookup;

static void
run_lookup(void *ctx)
{
    lookup *it = ctx;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICSERV | it->flags};

    it->rc = getaddrinfo(it->host[0] != '\0' ? it->host : NULL, it->port, &hints, &it->found);
}

static void
free_lookup(void *ctx)
{
    lookup *it = ctx;

    if (it->found != NULL) {
        freeaddrinfo(it->found);
    }
    gp__free(it->host);
    gp__free(it->port);
    gp__free(it);
}

/* NULL: out of memory. */
static lookup *
make_lookup(const char *address, const char *colon)
{
    lookup *it = gp__calloc(1, sizeof(*it));
    size_t len = (size_t)(colon - address);

    if (it == NULL) {
        return NULL;
    }
    if (len > 2 && address[0] == '[' && address[len - 1] == ']') {
        address++;
        len -= 2;
    }
    it->host = gp__memdup(address, len);
    it->port = gp__strdup(colon + 1);
    if (it->host == NULL || it->port == NULL) {
        free_lookup(it);
        return NULL;
    }
    return it;
}

/*
 * Resolve "host:port", brackets around the host or not. Numbers take no time. A name
 * that another service has to resolve, such as a name server, is looked up by a thread of its own,
 * for which the caller waits until |deadline| at most.
 *
 * Returns: 0, GP_EINVAL with |*unknown|, why it is no address, GP_ETIMEOUT, GP_EUSER, or an errno.
 */
static int
resolve(struct addrinfo **out, const char *address, int64_t deadline, const gp_interrupt *interrupt,
        const char **unknown)
{
    const char *colon = strrchr(address, ':');
    lookup *it = colon != NULL ? make_lookup(address, colon) : NULL;
    int rc = 0;

    if (it == NULL) {
        *unknown = gai_strerror(EAI_NONAME);
        return colon == NULL ? GP_EINVAL : ENOMEM;
    }
    it->flags = AI_NUMERICHOST;
    run_lookup(it);
    if (it->rc == EAI_NONAME) {
        it->flags = 0;
        rc = gp__offload(run_lookup, free_lookup, it, deadline, interrupt, NULL);
    }
    if (rc < 0) {
        return rc == GP_ETIMEOUT || rc == GP_EUSER ? rc : EBUSY; /* too many are under way */
    }
    if (it->rc != 0) {
        *unknown = gai_strerror(it->rc);
        rc = GP_EINVAL;
    }
    *out = it->found;
    it->found = NULL;
    free_lookup(it);
    return rc;
}

/* ---- Connecting ------------------------------------------------------------------------------ */

/* Returns as await_connection; or GP_EINVAL with |*unknown|, why the address means nothing. */
static int
try_address(int *out, const char *network, const char *address, int64_t deadline,
            const gp_interrupt *interrupt, const char **unknown)
{
    struct addrinfo *found = NULL;
    int rc;

    *out = -1;
    if (strcmp(network, "unix") == 0) {
        return connect_unix(out, address, deadline, interrupt);
    }
    if ((rc = resolve(&found, address, deadline, interrupt, unknown)) != 0) {
        return rc;
    }
    rc = ECONNREFUSED;
    for (const struct addrinfo *at = found; at != NULL && rc > 0; at = at->ai_next) {
        rc = try_connect(out, at->ai_addr, at->ai_addrlen, deadline, interrupt);
    }
    freeaddrinfo(found);
    return rc;
}

int
gp__socket_reach(int *out, const char *network, const char *address, int64_t deadline,
                 const gp_interrupt *interrupt, gp_error *why)
{
    const char *unknown = "";
    int rc;

    while ((rc = try_address(out, network, address, deadline, interrupt, &unknown)) == EAGAIN) {
        /* The listener's queue is full, and the system does not report when it has room. */
        int64_t soon = gp__now() + full_ns;

        if (soon > deadline) {
            rc = GP_ETIMEOUT;
            break;
        }
        gp__fd_poll(NULL, 0, soon);
        if ((rc = gp__interrupted(interrupt)) < 0) {
            break;
        }
    }
    if (rc > 0) {
        return gp_error_set_errno(why, rc, "cannot connect to %s", address);
    }
    return rc == 0 ? 0
                   : gp_error_set(why, rc, "cannot connect to %s: %s", address,
                                  rc == GP_EINVAL     ? unknown
                                  : rc == GP_ETIMEOUT ? "timed out"
                                                      : "interrupted");
}

int
gp__socket_connect(int *out, const char *network, const char *address, int64_t deadline,
                   const gp_interrupt *interrupt, gp_error *err)
{
    const char *unknown = "";
    int rc = try_address(out, network, address, deadline, interrupt, &unknown);

    if (rc == GP_EINVAL) {
        return unreachable(err, network, address, unknown);
    }
    if (rc == EAGAIN) {
        return 0; /* its queue is full, so there is a listener */
    }
    if (rc > 0) {
        return unreachable_errno(err, network, address, rc);
    }
    if (rc == GP_ETIMEOUT) {
        return unreachable(err, network, address, "timed out");
    }
    return rc < 0 ? gp_error_set(err, rc, "reattaching was interrupted") : 0;
}

/* "1.2.3.4:5" or "[::1]:5" into |out|; "" if it does not fit, or is not known. */
static void
name_peer(int fd, char *out, size_t size)
{
    struct sockaddr_storage at;
    socklen_t at_size = sizeof(at);
    char host[NI_MAXHOST];
    char port[NI_MAXSERV];
    int len = -1;

    if (getpeername(fd, (struct sockaddr *)&at, &at_size) == 0 &&
        getnameinfo((const struct sockaddr *)&at, at_size, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
        len = snprintf(out, size, strchr(host, ':') != NULL ? "[%s]:%s" : "%s:%s", host, port);
    }
    if (len < 0 || (size_t)len >= size) {
        out[0] = '\0';
    }
}

int
gp__socket_probe(const char *network, const char *address, gp__socket_found *found,
                 int64_t deadline, const gp_interrupt *interrupt, gp_error *err)
{
    int fd;
    int rc = gp__socket_connect(&fd, network, address, deadline, interrupt, err);
    bool local = strcmp(network, "unix") == 0;

    if (found != NULL) {
        *found = (gp__socket_found){.listener = 0};
    }
    if (found != NULL && rc == 0 && fd >= 0 && local) {
        found->listener = listener_of(fd);
    } else if (found != NULL && rc == 0 && fd >= 0) {
        name_peer(fd, found->peer, sizeof(found->peer));
    }
    gp__fd_close(&fd);
    return rc;
}

static int
listen_unix(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd;

    if (strlen(path) >= sizeof(to.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(to.sun_path, path, strlen(path));
    fd = gp__fd_socket(AF_UNIX);
    if (fd >= 0) {
        fchmod(fd,
               0600); /* on Linux, what bind() makes has the mode of the socket, less the umask */
    }
    if (fd >= 0 && (bind(fd, (const struct sockaddr *)&to, sizeof(to)) < 0 ||
                    gp__share_socket(path, NULL, NULL) < 0 || listen(fd, SOMAXCONN) < 0)) {
        gp__fd_close(&fd);
    }
    return fd;
}

static int
listen_tcp(const char *address, int *port)
{
    struct addrinfo *found = NULL;
    struct sockaddr_in bound = {.sin_family = AF_INET};
    socklen_t size = sizeof(bound);
    const char *unknown;
    int fd;

    if (resolve(&found, address, gp_deadline_in(listen_ms), NULL, &unknown) != 0) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    fd = gp__fd_socket(found->ai_family);
    if (fd >= 0 && (bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, SOMAXCONN) < 0 ||
                    getsockname(fd, (struct sockaddr *)&bound, &size) < 0)) {
        gp__fd_close(&fd);
    }
    freeaddrinfo(found);
    if (port != NULL) {
        *port = ntohs(bound.sin_port); /* where IPv6 has it, too */
    }
    return fd;
}

int
gp__socket_listen(int *out, const char *network, const char *address, int *port, gp_error *err)
{
    *out = strcmp(network, "unix") == 0 ? listen_unix(address) : listen_tcp(address, port);
    return *out < 0 ? gp_error_set_errno(err, errno, "cannot listen on %s", address) : 0;
}

bool
gp__socket_exists(const char *path)
{
    struct stat file;

    return lstat(path, &file) == 0 && S_ISSOCK(file.st_mode);
}

bool
gp__socket_abandoned(const char *path, int pid)
{
    int fd = -1;
    int rc = connect_unix(&fd, path, gp__now(), NULL);
    bool abandoned = rc == ECONNREFUSED || (rc == 0 && pid > 0 && listener_of(fd) == pid);

    gp__fd_close(&fd);
    return abandoned;
}
