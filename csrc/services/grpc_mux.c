#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/text.h"
#include "base/thread.h"
#include "os/fd.h"
#include "os/path.h"
#include "os/socket.h"
#include "os/socket_dir.h"
#include "os/tmpdir.h"
#include "services/grpc_mux_state.h"

enum {
    TICK_MS = 1000,
    KEEPALIVE_MS = 30000,
    TIMEOUT_MS = 10000,
    LINGER_MS = 1000,  /* for what a plugin has said last */
    LONGEST_NAME = 40, /* of a socket after the base: "plugin-dirXXXXXX/plugin", and 16 more */
};

/* ---- Making and freeing ---------------------------------------------------------------------- */

/*
 * Where private directories are made: in |base| (NULL: the usual one) unless sockets there would be
 * at paths that are too long, or with a comma, which gRPC takes for the end of one. Owned; NULL:
 * out of memory.
 */
static char *
choose_base(const char *base)
{
    const char *where = gp__socket_base(base);
    char *absolute = gp__path_absolute(where, strlen(where), NULL);

    if (absolute != NULL &&
        (strchr(absolute, ',') != NULL || gp__socket_misfit(absolute, LONGEST_NAME) != NULL)) {
        gp__free(absolute);
        absolute = gp__strdup(GP__SHORT_TMPDIR);
    }
    return absolute;
}

static int
make_directory(gp_grpc_mux *mux, const char *base, gp_error *err)
{
    char *where = choose_base(base);
    int rc = where != NULL
                 ? gp__socket_dir_make_claimed(&mux->directory, &mux->claim, where, err)
                 : gp_error_set(err, GP_ENOMEM, "out of memory for a directory for sockets");

    gp__free(where);
    return rc;
}

void
gp__grpc_mux_sweep(const char *base)
{
    char *where = choose_base(base);

    if (where != NULL) {
        gp__socket_dir_sweep(where, geteuid());
    }
    gp__free(where);
}

static int
make_paths(gp_grpc_mux *mux, gp_error *err)
{
    char *escaped;

    snprintf(mux->main_path, sizeof(mux->main_path), "%s/main", mux->directory);
    escaped = gp__path_escape(mux->main_path);
    mux->target = escaped != NULL ? gp__format("unix:%s", escaped) : NULL;
    gp__free(escaped);
    return mux->target != NULL
               ? 0
               : gp_error_set(err, GP_ENOMEM, "out of memory for a multiplexed connection");
}

int
gp_grpc_mux_new(gp_grpc_mux **out, const char *base, gp_error *err)
{
    gp_grpc_mux *mux;
    int rc;

    if (gp_runtime_forked()) {
        return gp_runtime_refuse_fork(err);
    }
    mux = gp__calloc(1, sizeof(*mux));
    if (mux == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a multiplexed connection");
    }
    if ((rc = make_directory(mux, base, err)) < 0) {
        goto fail_directory;
    }
    if ((rc = make_paths(mux, err)) < 0) {
        goto fail_path;
    }
    gp_mutex_init(&mux->lock);
    gp_cond_init(&mux->changed);
    atomic_init(&mux->refs, 1);
    mux->listener = -1;
    mux->log = -1;
    mux->queue_end = &mux->queue;
    *out = mux;
    return 0;

fail_path:
    gp__socket_dir_remove(mux->directory);
    gp__fd_close(&mux->claim);
    gp__free(mux->directory);
fail_directory:
    gp_cond_release(&mux->changed);
    gp__free(mux);
    return rc;
}

gp_grpc_mux *
gp_grpc_mux_ref(gp_grpc_mux *mux)
{
    atomic_fetch_add(&mux->refs, 1);
    return mux;
}

void
gp_grpc_mux_unref(gp_grpc_mux *mux)
{
    if (mux == NULL || gp_runtime_forked() || atomic_fetch_sub(&mux->refs, 1) != 1) {
        return;
    }
    gp_grpc_mux_close(mux);
    gp_cond_release(&mux->changed);
    gp_mutex_release(&mux->lock);
    gp_error_release(&mux->why);
    gp__fd_close(&mux->log);
    gp__fd_close(&mux->claim);
    gp__free(mux->directory);
    gp__free(mux->target);
    gp__free(mux);
}

const char *
gp_grpc_mux_path(const gp_grpc_mux *mux)
{
    return mux->main_path;
}

const char *
gp_grpc_mux_target(const gp_grpc_mux *mux)
{
    return mux->target;
}

const char *
gp_grpc_mux_directory(const gp_grpc_mux *mux)
{
    return mux->directory;
}

/* ---- Saying ---------------------------------------------------------------------------------- */

void
gp__grpc_mux_set_post(gp_grpc_mux *mux, const gp__grpc_mux_post *post)
{
    gp_mutex_lock(&mux->lock);
    mux->post = post != NULL ? *post : (gp__grpc_mux_post){NULL, NULL, NULL, NULL, NULL};
    gp_mutex_unlock(&mux->lock);
}

bool
gp__grpc_mux_write(gp_grpc_mux *mux, gp__grpc_mux_letter letter)
{
    if (mux->letters_count == GP__GRPC_MUX_LETTERS) {
        return false;
    }
    mux->letters[(mux->letters_at + mux->letters_count++) % GP__GRPC_MUX_LETTERS] = letter;
    return true;
}

/* |post| is empty once the broker is closed. */
static int
say_one(const gp__grpc_mux_post *post, gp__grpc_mux_letter letter)
{
    if (post->ref == NULL) {
        return GP_EBROKER;
    }
    return letter.answer == NULL
               ? post->knock(post->ctx, letter.knock.id, letter.knock.mark)
               : post->answer(post->ctx, letter.knock.id, letter.knock.mark, letter.answer);
}

/* With the lock held, which is released while something is said. */
static void
say_all(gp_grpc_mux *mux, const gp__grpc_mux_post *post)
{
    while (mux->letters_count > 0) {
        const gp__grpc_mux_letter letter = mux->letters[mux->letters_at];
        int rc;

        mux->letters_at = (mux->letters_at + 1) % GP__GRPC_MUX_LETTERS;
        mux->letters_count--;
        gp_mutex_unlock(&mux->lock);
        rc = say_one(post, letter);
        gp_mutex_lock(&mux->lock);
        if (rc != 0 && letter.answer == NULL) {
            gp__grpc_mux_unsaid(mux, letter.knock);
        } else if (rc != 0) {
            gp__grpc_mux_unanswered(mux, letter.knock);
        }
    }
}

void
gp__grpc_mux_say(gp_grpc_mux *mux)
{
    gp__grpc_mux_post post;

    gp_mutex_lock(&mux->lock);
    if (mux->saying || mux->letters_count == 0) {
        /* Whoever is at it says that, too: it is to keep its place. */
        gp_mutex_unlock(&mux->lock);
        return;
    }
    mux->saying = true;
    /* While there is a post, there is a broker, which has a reference to us: until it lets go. */
    post = mux->post;
    if (post.ref != NULL) {
        post.ref(post.ctx);
        gp_grpc_mux_ref(mux);
    }
    say_all(mux, &post);
    mux->saying = false;
    gp_mutex_unlock(&mux->lock);
    if (post.ref != NULL) {
        post.unref(post.ctx);
        gp_grpc_mux_unref(mux);
    }
}

/* ---- The connection -------------------------------------------------------------------------- */

/* With the lock held: a line for the host's log, which may not read it. */
static void
log_why(gp_grpc_mux *mux, const char *why)
{
    struct pollfd ready = {.fd = mux->log, .events = POLLOUT};
    char line[GP__GRPC_MUX_REASON];
    int len = snprintf(line, sizeof(line),
                       "[WARN] plugin: the connection to the host has ended: %s\n", why);

    /* A pipe that can be written to takes that much. */
    if (len > 0 && len < (int)sizeof(line) && poll(&ready, 1, 0) == 1 &&
        write(mux->log, line, (size_t)len) < 0) {
        return; /* nobody to complain to */
    }
}

static void
over(void *ctx, const gp_error *why)
{
    gp_grpc_mux *mux = ctx;

    gp_mutex_lock(&mux->lock);
    mux->over = true;
    if (mux->pump != NULL && gp__pump_why(mux->pump, &mux->why) < 0) {
        if (mux->tell != NULL) {
            mux->tell(mux->tell_ctx, gp_error_message(why));
        }
        if (mux->log >= 0) {
            log_why(mux, gp_error_message(why));
        }
    }
    gp_cond_broadcast(&mux->changed);
    gp_mutex_unlock(&mux->lock);
}

int
gp_grpc_mux_why(gp_grpc_mux *mux, gp_error *why)
{
    int code = 0;

    gp_mutex_lock(&mux->lock);
    if (mux->why.code < 0) {
        code = gp_error_set(why, mux->why.code, "%s", gp_error_message(&mux->why));
    } else if (mux->pump != NULL) {
        code = gp__pump_why(mux->pump, why); /* before over() has been called */
    }
    gp_mutex_unlock(&mux->lock);
    return code;
}

static int
carrier_why(void *mux, gp_error *why)
{
    return gp_grpc_mux_why(mux, why);
}

static void
carrier_unref(void *mux)
{
    gp_grpc_mux_unref(mux);
}

void
gp__grpc_mux_explain(gp_grpc_mux *mux, gp_channel *channel, gp__process *process)
{
    if (mux == NULL) {
        gp__channel_explain(channel, NULL, process);
    } else {
        const gp__carrier carrier = {carrier_why, carrier_unref, gp_grpc_mux_ref(mux)};

        gp__channel_explain(channel, &carrier, process);
    }
}

const char *
gp__grpc_mux_reason(const gp_grpc_mux *mux, char out[GP__GRPC_MUX_REASON])
{
    out[0] = '\0';
    if (mux->why.code < 0) {
        snprintf(out, GP__GRPC_MUX_REASON, ": %s", gp_error_message(&mux->why));
    }
    return out;
}

int
gp_grpc_mux_log_to(gp_grpc_mux *mux, int fd, gp_error *err)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

    if (copy < 0) {
        return gp_error_set_errno(err, errno, "descriptor %d cannot be logged to", fd);
    }
    gp_mutex_lock(&mux->lock);
    gp__fd_close(&mux->log);
    mux->log = copy;
    gp_mutex_unlock(&mux->lock);
    return 0;
}

void
gp__grpc_mux_on_why(gp_grpc_mux *mux, void (*tell)(void *ctx, const char *why), void *ctx)
{
    gp_mutex_lock(&mux->lock);
    mux->tell = tell;
    mux->tell_ctx = ctx;
    gp_mutex_unlock(&mux->lock);
}

void
gp__grpc_mux_tick(void *ctx)
{
    gp_grpc_mux *mux = ctx;

    gp_mutex_lock(&mux->lock);
    if (mux->resting && mux->knocker != NULL) {
        mux->resting = false;
        gp__reactor_enable(mux->knocker, true);
    }
    gp__grpc_mux_dial_tick(mux);
    gp_mutex_unlock(&mux->lock);
    gp__grpc_mux_say(mux);
}

/* On the reactor's thread: the next knock may have waited for that. */
static void
answered(void *ctx)
{
    gp_grpc_mux *mux = ctx;

    gp_mutex_lock(&mux->lock);
    gp__grpc_mux_advance(mux);
    gp_mutex_unlock(&mux->lock);
    gp__grpc_mux_say(mux);
}

/* Takes |fd| over. */
static int
attach(gp_grpc_mux *mux, int fd, bool client, gp_error *err)
{
    const gp__pump_options options = {
        .session = {.client = client,
                    .keepalive = KEEPALIVE_MS * GP__MS,
                    .timeout = TIMEOUT_MS * GP__MS},
        .accept = gp__grpc_mux_opened,
        .answered = answered,
        .over = over,
        .ctx = mux,
    };
    gp__stream *stream = NULL;
    int rc = gp__stream_socket_new(&stream, fd, err);

    if (rc < 0) {
        return rc;
    }
    gp_mutex_lock(&mux->lock);
    mux->client = client;
    if (mux->closed || mux->pump != NULL) {
        rc = gp_error_set(err, GP_ECLOSED, "the connection is closed");
    } else if (mux->ticks == NULL) {
        rc = gp__reactor_every(&mux->ticks, TICK_MS, gp__grpc_mux_tick, mux, err);
    }
    if (rc < 0) {
        gp__stream_close(stream);
    } else if ((rc = gp__pump_open(&mux->pump, stream, &options, err)) == 0) {
        gp__grpc_mux_advance(mux);
    }
    gp_mutex_unlock(&mux->lock);
    gp__grpc_mux_say(mux);
    return rc;
}

int
gp_grpc_mux_connect(gp_grpc_mux *mux, const char *network, const char *address, int64_t timeout_ms,
                    const gp_interrupt *interrupt, gp_error *err)
{
    int fd;
    int rc = gp__socket_connect(&fd, network, address, gp_deadline_in(timeout_ms), interrupt, err);

    if (rc == 0 && fd < 0) {
        rc = gp_error_set(err, GP_EOS, "%s %s takes no connections", network, address);
    }
    if (rc < 0 || (rc = attach(mux, fd, true, err)) < 0) {
        return rc;
    }
    return gp__grpc_mux_add_main(mux, err);
}

/* On the reactor's thread: the host. */
static void
host_ready(void *ctx)
{
    gp_grpc_mux *mux = ctx;
    int fd = accept(mux->listener, NULL, NULL);

    if (fd >= 0) {
        gp__fd_prepare(fd);
        /* Whoever comes later is not the host, and finds nobody. */
        attach(mux, fd, false, NULL);
    } else if (gp__grpc_mux_exhausted(errno)) {
        gp_mutex_lock(&mux->lock);
        if (mux->knocker != NULL) {
            mux->resting = true;
            gp__reactor_enable(mux->knocker, false);
        }
        gp_mutex_unlock(&mux->lock);
    }
}

int
gp_grpc_mux_listen(gp_grpc_mux *mux, const char *network, const char *address, int *port,
                   gp_error *err)
{
    int rc = gp__socket_listen(&mux->listener, network, address, port, err);

    if (rc < 0) {
        return rc;
    }
    gp_mutex_lock(&mux->lock);
    if (mux->closed) {
        rc = gp_error_set(err, GP_ECLOSED, "the connection is closed");
    } else if (mux->ticks == NULL) {
        rc = gp__reactor_every(&mux->ticks, TICK_MS, gp__grpc_mux_tick, mux, err);
    }
    if (rc == 0) {
        rc = gp__reactor_add(&mux->knocker, mux->listener, host_ready, mux, err);
    }
    if (rc < 0) {
        gp__fd_close(&mux->listener);
    }
    gp_mutex_unlock(&mux->lock);
    return rc;
}

void
gp_grpc_mux_remove(gp_grpc_mux *mux)
{
    if (!gp_runtime_forked()) {
        gp__socket_dir_remove(mux->directory);
    }
}

void
gp_grpc_mux_close(gp_grpc_mux *mux)
{
    gp__watch *knocker;
    gp__watch *ticks;
    gp__pump *pump;
    bool client;

    if (mux == NULL || gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&mux->lock);
    mux->closed = true;
    mux->post = (gp__grpc_mux_post){NULL, NULL, NULL, NULL, NULL};
    knocker = mux->knocker;
    ticks = mux->ticks;
    mux->knocker = NULL;
    mux->ticks = NULL;
    mux->resting = false;
    gp_cond_broadcast(&mux->changed);
    gp_mutex_unlock(&mux->lock);
    /* The reactor's callbacks see that it is closed, and start nothing new. */
    gp__reactor_remove(knocker);
    gp__reactor_remove(ticks);
    gp_mutex_lock(&mux->lock);
    gp__fd_close(&mux->listener);
    pump = mux->pump;
    client = mux->client;
    mux->pump = NULL;
    gp_mutex_unlock(&mux->lock);
    gp__pump_close(pump, client ? 0 : LINGER_MS);
    gp__grpc_mux_dial_close(mux);
    gp__grpc_mux_accept_close(mux);
    gp_grpc_mux_remove(mux);
}
