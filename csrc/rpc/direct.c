#include "rpc/direct.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "gp/container.h"
#include "gp/list.h"
#include "gp/lock.h"
#include "os/fd.h"
#include "os/reactor.h"
#include "rpc/grpc_symbols.h"

/* A callback that waits for the end of the connection. */
typedef struct end_callback {
    gp_link link;
    gp__direct *direct; /* borrowed: outlives us */
    gp__watch *timer;   /* owned; NULL: no timeout */
    bool due;           /* taken from |direct|'s list, to be called. Guarded by |direct|'s lock */
    void (*then)(void *ctx);
    void *ctx;
} end_callback;

struct gp__direct {
    int fd; /* owned; a duplicate of gRPC's descriptor */
    gp_mutex lock;
    gp__watch *watch GP_GUARDED_BY(&lock);  /* owned; NULL until the first callback */
    gp_list callbacks GP_GUARDED_BY(&lock); /* end_callback: owned */
    char name[];
};

static grpc_channel *
make_grpc_channel(int fd, const char *name, const grpc_channel_args *args)
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
    gp_list_init(&direct->callbacks);
    memcpy(direct->name, name, size);
    direct->fd = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (direct->fd < 0) {
        rc = gp_error_set_errno(err, errno, "cannot watch a connection");
        gp_mutex_release(&direct->lock);
        goto fail;
    }
    /*
     * As gRPC does for sockets that it connects. Fails for sockets other than TCP's, which is fine.
     */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    *channel = make_grpc_channel(fd, name, args);
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

/* ---- The state ---- */

bool
gp__direct_ended(const gp__direct *direct)
{
    struct pollfd it = {.fd = direct->fd, .events = GP__POLLHUP};

    return gp__fd_poll(&it, 1, gp__now()) > 0;
}

int
gp__direct_wait(const gp__direct *direct, int64_t deadline, const gp_interrupt *interrupt)
{
    struct pollfd it = {.fd = direct->fd, .events = GP__POLLHUP};
    bool yields = interrupt != NULL && interrupt->wait != NULL; /* this thread must not block */
    int rc;

    while (gp__fd_poll(&it, 1, yields ? 0 : gp__slice(deadline, interrupt)) <= 0) {
        if (gp__now() >= deadline) {
            return GP_ETIMEOUT;
        }
        rc = yields
                 ? interrupt->wait(interrupt->ctx, -1, gp__slice(deadline, interrupt) - gp__now())
                 : gp__interrupted(interrupt);
        if (rc == GP_EUSER) {
            return rc;
        }
    }
    return 0;
}

/* ---- Callbacks ---- */

/* Call |callback|, and free it. No lock may be held. The callback may free |direct|. */
static void
run_callback(end_callback *callback)
{
    gp__reactor_remove(callback->timer);
    callback->then(callback->ctx);
    gp__free(callback);
}

static void take_callbacks_locked(gp__direct *direct, gp_list *out) GP_REQUIRES(&direct->lock);

/* Move all callbacks to |out|. */
static void
take_callbacks_locked(gp__direct *direct, gp_list *out)
{
    gp_link *link;

    gp_list_init(out);
    while ((link = gp_list_pop(&direct->callbacks)) != NULL) {
        gp_container_of(link, end_callback, link)->due = true;
        gp_list_append(out, link);
    }
}

static void
run_callbacks(gp_list *callbacks)
{
    gp_link *link;

    while ((link = gp_list_pop(callbacks)) != NULL) {
        run_callback(gp_container_of(link, end_callback, link));
    }
}

/* On the reactor's thread. */
static void
handle_socket_end(void *ctx)
{
    gp__direct *direct = ctx;
    gp_list due;

    if (!gp__direct_ended(direct)) {
        return; /* data, which arrived before the watch was limited to hang-ups */
    }
    gp_mutex_lock(&direct->lock);
    gp__reactor_want(direct->watch, 0);
    take_callbacks_locked(direct, &due);
    gp_mutex_unlock(&direct->lock);
    run_callbacks(&due);
}

/* On the reactor's thread. */
static void
handle_callback_timeout(void *ctx)
{
    end_callback *callback = ctx;
    gp__direct *direct = callback->direct;
    bool due;

    gp_mutex_lock(&direct->lock);
    due = callback->due;
    if (!due) {
        gp_link_remove(&callback->link);
    }
    gp_mutex_unlock(&direct->lock);
    if (!due) { /* otherwise gp__direct_free() waits for this function, and then calls it */
        run_callback(callback);
    }
}

static int watch_socket_locked(gp__direct *direct) GP_REQUIRES(&direct->lock);

/*
 * Watch the socket for the end of the connection, unless it is watched already. Returns: 0,
 * GP_ENOMEM, GP_EOS or GP_EFORKED.
 */
static int
watch_socket_locked(gp__direct *direct)
{
    int rc = 0;

    if (direct->watch == NULL &&
        (rc = gp__reactor_add(&direct->watch, direct->fd, handle_socket_end, direct, NULL)) == 0) {
        gp__reactor_want(direct->watch, GP__WATCH_HANGUP);
    }
    return rc;
}

int
gp__direct_then(gp__direct *direct, bool until_end, int64_t timeout_ms, void (*then)(void *ctx),
                void *ctx)
{
    end_callback *added = gp__calloc(1, sizeof(*added));
    bool ended = false;
    int rc = 0;

    if (added == NULL) {
        return GP_ENOMEM;
    }
    *added = (end_callback){.direct = direct, .then = then, .ctx = ctx};
    gp_mutex_lock(&direct->lock);
    if (until_end) {
        rc = watch_socket_locked(direct);
        /*
         * Checked after the watch exists, which reports the end only once: maybe before this
         * callback was added.
         */
        ended = rc == 0 && gp__direct_ended(direct);
    }
    if (rc == 0 && !ended && timeout_ms >= 0) {
        rc = gp__reactor_every(&added->timer, timeout_ms > 0 ? timeout_ms : 1,
                               handle_callback_timeout, added, NULL);
    }
    if (rc == 0 && !ended) {
        gp_list_append(&direct->callbacks, &added->link);
    }
    gp_mutex_unlock(&direct->lock);
    if (rc < 0) {
        gp__free(added);
    } else if (ended) {
        run_callback(added);
    }
    return rc;
}

void
gp__direct_free(gp__direct *direct)
{
    gp__watch *watch;
    gp_list due;

    if (direct == NULL) {
        return;
    }
    gp_mutex_lock(&direct->lock);
    watch = direct->watch;
    gp_mutex_unlock(&direct->lock);
    gp__reactor_remove(watch); /* waits for handle_socket_end(), which takes the lock */
    gp_mutex_lock(&direct->lock);
    take_callbacks_locked(direct, &due);
    gp_mutex_unlock(&direct->lock);
    run_callbacks(&due);
    gp__fd_close(&direct->fd);
    gp_mutex_release(&direct->lock);
    gp__free(direct);
}
