#include "rpc/target.h"

#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/alloc.h"
#include "base/text.h"
#include "os/fd.h"
#include "os/path.h"
#include "os/socket.h"

/*
 * Returns |prefix| and |path|, escaped for a URI. Owned by the caller. NULL when memory is short.
 */
static char *
escape_path(const char *prefix, const char *path)
{
    char *rest = gp__path_escape(path);
    char *text = rest != NULL ? gp__format("%s%s", prefix, rest) : NULL;

    gp__free(rest);
    return text;
}

/* Whether |path| can be written in a target. */
static bool
fits_target(const char *path)
{
    return strchr(path, ',') == NULL &&
           strlen(path) < sizeof(((struct sockaddr_un *)NULL)->sun_path);
}

int
gp__target_init(gp__target *out, const char *network, const char *address, gp_error *err)
{
    char quoted[GP__QUOTED];
    int rc;

    *out = (gp__target)GP__TARGET_INIT;
    if (strcmp(network, "unix") != 0) {
        /* As in Go, an address without a host is on this machine. */
        out->text = gp__format("%s%s", address[0] == ':' ? "127.0.0.1" : "", address);
    } else if (fits_target(address)) {
        /* Go writes the leading zero byte of an abstract name as an at sign. */
        out->text = address[0] == '@' ? escape_path("unix-abstract:", address + 1)
                                      : escape_path("unix:", address);
    } else if (address[0] == '@') {
        return gp_error_set(err, GP_EINVAL,
                            "gRPC cannot connect to the abstract socket %s: its name holds a comma",
                            gp__quote(quoted, address, strlen(address)));
    } else {
        char path[GP__SOCKET_BY_FD];

        if ((rc = gp__socket_open(&out->fd, path, address, err)) < 0) {
            return rc;
        }
        out->text = gp__format("unix:%s", path);
    }
    if (out->text == NULL) {
        gp__target_release(out);
        return gp_error_set(err, GP_ENOMEM, "out of memory for an address");
    }
    return 0;
}

void
gp__target_release(gp__target *target)
{
    gp__free(target->text);
    gp__fd_close(&target->fd);
    *target = (gp__target)GP__TARGET_INIT;
}
