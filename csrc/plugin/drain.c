#include "plugin/drain.h"

#include <errno.h>
#include <unistd.h>

#include "base/alloc.h"
#include "os/fd.h"
#include "os/reactor.h"

struct gp__drain {
    int fd;           /* owned */
    gp__watch *watch; /* owned; written before its first callback */
};

/* On the reactor's thread. */
static void
discard_output(void *ctx)
{
    gp__drain *drain = ctx;
    char chunk[16 * 1024];
    ssize_t got = read(drain->fd, chunk, sizeof(chunk));

    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        gp__reactor_enable(drain->watch, false);
    }
}

int
gp__drain_open(gp__drain **out, int fd, gp_error *err)
{
    gp__drain *drain = gp__malloc(sizeof(*drain));
    int rc;

    if (drain == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a plugin's stdout");
    }
    drain->fd = fd;
    rc = gp__reactor_add(&drain->watch, fd, discard_output, drain, err);
    if (rc < 0) {
        gp__free(drain);
        return rc;
    }
    *out = drain;
    return 0;
}

void
gp__drain_close(gp__drain *drain)
{
    if (drain != NULL) {
        gp__reactor_remove(drain->watch);
        gp__fd_close(&drain->fd);
        gp__free(drain);
    }
}
