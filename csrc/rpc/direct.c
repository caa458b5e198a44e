#include "rpc/direct.h"

#include <errno.h>
#include <fcntl.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "gp/lock.h"
#include "os/fd.h"
#include "os/reactor.h"

/* Somebody who wants to know. */
typedef struct notice {
    struct notice *next;
    gp__direct *direct; /* borrowed: outlives us */
    gp__watch *timer;   /* owned; NULL: there is no hurry */
    void (*then)(void *ctx);
    void *ctx;
} notice;

struct gp__direct {
    int fd;           /* owned: gRPC has another one */
    gp_mutex lock;    /* guards what follows */
    gp__watch *watch; /* owned; NULL before anybody wanted to know */
    notice *notices;  /* owned */
    char name[];
};

static grpc_channel *
make_channel(int fd, const char *name, const grpc_channel_args *args)
{
    grpc_channel_credentials *insecure = grpc_insecure_credentials_create();
    grpc_channel *channel = grpc_channel_create_from_fd(name, fd, insecure, args);

    grpc_channel_credentials_release(insecure);
    return channel;
}

int
gp__direct_open(gp__direct **out, grpc_channel **channel, int fd, const char *name,
                const grpc_channel_args *args, gp_error *err)
{
    const int yes = 1;
    size_t size = strlen(name) + 1;
    gp__direct *direct = gp__calloc(1, sizeof(*direct) + size);
    int rc;

    if (direct == NULL) {
        rc = gp_error_set(err, GP_ENOMEM, "out of memory for a connection");
        goto fail;
    }
    gp_mutex_init(&direct->lock);
    memcpy(direct->name, name, size);
    direct->fd = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (direct->fd < 0) {
        rc = gp_error_set_errno(err, errno, "cannot watch a connection");
        gp_mutex_release(&direct->lock);
        goto fail;
    }
    /* As gRPC has it for the sockets that it connects. Fails for those that are not TCP's. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    *channel = make_channel(fd, name, args);
    *out = direct;
    return 0;

fail:
    gp__free(direct);
    gp__fd_close(&fd);
    return rc;
}

const char *
gp__direct_name(const gp__direct *direct)
{
    return direct->name;
}

/* ---- Asking ---------------------------------------------------------------------------------- */

bool
gp__direct_over(const gp__direct *direct)
{
    struct pollfd it = {.fd = direct->fd, .events = GP__POLLHUP};

    return gp__fd_poll(&it, 1, gp__now()) > 0;
}

int
gp__direct_wait(const gp__direct *direct, int64_t deadline, const gp_interrupt *interrupt)
{
    struct pollfd it = {.fd = direct->fd, .events = GP__POLLHUP};
    bool shares = interrupt != NULL && interrupt->wait != NULL; /* its thread with others */
    int rc;

    while (gp__fd_poll(&it, 1, shares ? 0 : gp__slice(deadline, interrupt)) <= 0) {
        if (gp__now() >= deadline) {
            return GP_ETIMEOUT;
        }
        rc = shares
                 ? interrupt->wait(interrupt->ctx, -1, gp__slice(deadline, interrupt) - gp__now())
                 : gp__interrupted(interrupt);
        if (rc == GP_EUSER) {
            return rc;
        }
    }
    return 0;
}

/* ---- Being told ------------------------------------------------------------------------------ */

/* Without the lock. What is told may be the end of |direct|. */
static void
tell(notice *told)
{
    while (told != NULL) {
        notice *next = told->next;

        gp__reactor_remove(told->timer);
        told->then(told->ctx);
        gp__free(told);
        told = next;
    }
}

/* On the reactor's thread. */
static void
hung_up(void *ctx)
{
    gp__direct *direct = ctx;
    notice *due;

    if (!gp__direct_over(direct)) {
        return; /* data, from before the watch knew what to look for */
    }
    gp_mutex_lock(&direct->lock);
    gp__reactor_want(direct->watch, 0);
    due = direct->notices;
    direct->notices = NULL;
    gp_mutex_unlock(&direct->lock);
    tell(due);
}

/* On the reactor's thread. */
static void
overdue(void *ctx)
{
    notice *late = ctx;
    gp__direct *direct = late->direct;
    notice **at = &direct->notices;

    gp_mutex_lock(&direct->lock);
    while (*at != NULL && *at != late) {
        at = &(*at)->next;
    }
    if (*at == NULL) {
        late = NULL; /* gp__direct_free() has it, and waits for us to return */
    } else {
        *at = late->next;
        late->next = NULL;
    }
    gp_mutex_unlock(&direct->lock);
    tell(late);
}

/* With the lock held. */
static int
watch(gp__direct *direct)
{
    int rc = 0;

    if (direct->watch == NULL &&
        (rc = gp__reactor_add(&direct->watch, direct->fd, hung_up, direct, NULL)) == 0) {
        gp__reactor_want(direct->watch, GP__WATCH_HANGUP);
    }
    return rc;
}

int
gp__direct_then(gp__direct *direct, bool changed, int64_t timeout_ms, void (*then)(void *ctx),
                void *ctx)
{
    notice *added = gp__calloc(1, sizeof(*added));
    int rc = 0;

    if (added == NULL) {
        return GP_ENOMEM;
    }
    *added = (notice){NULL, direct, NULL, then, ctx};
    gp_mutex_lock(&direct->lock);
    if (changed) {
        /* One that has told of the end looks no more: this is for after. */
        rc = watch(direct);
        changed = rc == 0 && gp__direct_over(direct);
    }
    if (rc == 0 && !changed && timeout_ms >= 0) {
        rc =
            gp__reactor_every(&added->timer, timeout_ms > 0 ? timeout_ms : 1, overdue, added, NULL);
    }
    if (rc == 0 && !changed) {
        added->next = direct->notices;
        direct->notices = added;
    }
    gp_mutex_unlock(&direct->lock);
    if (rc < 0) {
        gp__free(added);
    } else if (changed) {
        tell(added);
    }
    return rc;
}

void
gp__direct_free(gp__direct *direct)
{
    notice *due;

    if (direct == NULL) {
        return;
    }
    gp__reactor_remove(direct->watch);
    gp_mutex_lock(&direct->lock);
    due = direct->notices;
    direct->notices = NULL;
    gp_mutex_unlock(&direct->lock);
    tell(due);
    gp__fd_close(&direct->fd);
    gp_mutex_release(&direct->lock);
    gp__free(direct);
}
