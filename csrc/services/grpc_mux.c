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
    LINGER_MS = 1000,  /* for the last bytes that a plugin sends */
    LONGEST_NAME = 40, /* of a socket, after the base: "plugin-dirXXXXXX/plugin" and 16 bytes */
};

/* ---- Making and freeing ---------------------------------------------------------------------- */

/*
 * The directory in which private directories are made: |base| (NULL: the usual one), unless sockets
 * there would have paths that are too long, or that have a comma, which ends a path for gRPC. Owned
 * by the caller; NULL when memory is short.
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
    gp_mutex_lock(&mux->lock);
    mux->listener = -1;
    mux->log = -1;
    gp_list_init(&mux->dials);
    gp_list_init(&mux->queue);
    gp_list_init(&mux->targets);
    gp_mutex_unlock(&mux->lock);
    *out = mux;
    return 0;

fail_path:
    gp__socket_dir_remove(mux->directory);
    gp__fd_close(&mux->claim);
    gp__free(mux->directory);
fail_directory:
    gp__free(mux);
    return rc;
}

gp_grpc_mux *
gp_grpc_mux_ref(gp_grpc_mux *mux)
{
    atomic_fetch_add(&mux->refs, 1);
    return mux;
}

/* The last reference is gone, so no other thread uses the mux. */
static void free_mux(gp_grpc_mux *mux) GP_NO_THREAD_SAFETY_ANALYSIS;

static void
free_mux(gp_grpc_mux *mux)
{
    gp_cond_release(&mux->changed);
    gp_mutex_release(&mux->lock);
    gp_error_release(&mux->why);
    gp__fd_close(&mux->log);
    gp__fd_close(&mux->claim);
    gp__free(mux->directory);
    gp__free(mux->target);
    gp__free(mux);
}

void
gp_grpc_mux_unref(gp_grpc_mux *mux)
{
    if (mux != NULL && !gp_runtime_forked() && atomic_fetch_sub(&mux->refs, 1) == 1) {
        gp_grpc_mux_close(mux);
        free_mux(mux);
    }
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

/* ---- Messages -------------------------------------------------------------------------------- */

static const gp__grpc_mux_sender no_sender;

static void send_queued_locked(gp_grpc_mux *mux, const gp__grpc_mux_sender *sender)
    GP_REQUIRES(&mux->lock);

void
gp__grpc_mux_set_sender(gp_grpc_mux *mux, const gp__grpc_mux_sender *sender)
{
    gp_mutex_lock(&mux->lock);
    mux->sender = sender != NULL ? *sender : no_sender;
    gp_mutex_unlock(&mux->lock);
}

bool
gp__grpc_mux_queue_message_locked(gp_grpc_mux *mux, gp__grpc_mux_message message)
{
    if (mux->messages_count == GP__GRPC_MUX_MESSAGES) {
        return false;
    }
    mux->messages[(mux->messages_at + mux->messages_count++) % GP__GRPC_MUX_MESSAGES] = message;
    return true;
}

/* Send |message|. |sender| is empty once the broker is closed. */
static int
send_message(const gp__grpc_mux_sender *sender, gp__grpc_mux_message message)
{
    const gp__accept_request *request = &message.request;

    if (sender->ref == NULL) {
        return GP_EBROKER;
    }
    return message.answer == NULL
               ? sender->send_request(sender->ctx, request->id, request->serial)
               : sender->send_answer(sender->ctx, request->id, request->serial, message.answer);
}

/* Send all queued messages. Releases and re-acquires the lock while each message is sent. */
static void
send_queued_locked(gp_grpc_mux *mux, const gp__grpc_mux_sender *sender)
{
    while (mux->messages_count > 0) {
        const gp__grpc_mux_message message = mux->messages[mux->messages_at];
        int rc;

        mux->messages_at = (mux->messages_at + 1) % GP__GRPC_MUX_MESSAGES;
        mux->messages_count--;
        gp_mutex_unlock(&mux->lock);
        rc = send_message(sender, message);
        gp_mutex_lock(&mux->lock);
        if (rc != 0 && message.answer == NULL) {
            gp__grpc_mux_request_unsent_locked(mux, message.request);
        } else if (rc != 0) {
            gp__grpc_mux_answer_unsent_locked(mux, message.request);
        }
    }
}

void
gp__grpc_mux_send_messages(gp_grpc_mux *mux)
{
    gp__grpc_mux_sender sender;

    gp_mutex_lock(&mux->lock);
    if (mux->sending || mux->messages_count == 0) {
        /*
         * The thread that is sending sends all messages that are queued, which keeps them in order.
         */
        gp_mutex_unlock(&mux->lock);
        return;
    }
    mux->sending = true;
    /*
     * A sender is part of a broker, which has a reference to the mux: unless we take one, too, the
     * broker may drop the last one meanwhile.
     */
    sender = mux->sender;
    if (sender.ref != NULL) {
        sender.ref(sender.ctx);
        gp_grpc_mux_ref(mux);
    }
    send_queued_locked(mux, &sender);
    mux->sending = false;
    gp_mutex_unlock(&mux->lock);
    if (sender.ref != NULL) {
        sender.unref(sender.ctx);
        gp_grpc_mux_unref(mux);
    }
}

/* ---- The connection -------------------------------------------------------------------------- */

/* Write a line for the host's log, unless the host does not read it. */
static void log_failure_locked(gp_grpc_mux *mux, const char *why) GP_REQUIRES(&mux->lock);

static void
log_failure_locked(gp_grpc_mux *mux, const char *why)
{
    struct pollfd ready = {.fd = mux->log, .events = POLLOUT};
    char line[GP__GRPC_MUX_REASON];
    int len = snprintf(line, sizeof(line),
                       "[WARN] plugin: the connection to the host has ended: %s\n", why);

    /* A pipe that is writable has room for so many bytes. */
    if (len > 0 && len < (int)sizeof(line) && poll(&ready, 1, 0) == 1 &&
        write(mux->log, line, (size_t)len) < 0) {
        return; /* there is no other place to report that */
    }
}

/* The pump's |over|. */
static void
session_over(void *ctx, const gp_error *why)
{
    gp_grpc_mux *mux = ctx;

    gp_mutex_lock(&mux->lock);
    mux->over = true;
    if (mux->pump != NULL && gp__pump_why(mux->pump, &mux->why) < 0) {
        if (mux->report != NULL) {
            mux->report(mux->report_ctx, gp_error_message(why));
        }
        if (mux->log >= 0) {
            log_failure_locked(mux, gp_error_message(why));
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
        code = gp__pump_why(mux->pump, why); /* before session_over() has been called */
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
gp__grpc_mux_reason_locked(const gp_grpc_mux *mux, char out[GP__GRPC_MUX_REASON])
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
gp__grpc_mux_on_failure(gp_grpc_mux *mux, void (*report)(void *ctx, const char *why), void *ctx)
{
    gp_mutex_lock(&mux->lock);
    mux->report = report;
    mux->report_ctx = ctx;
    gp_mutex_unlock(&mux->lock);
}

void
gp__grpc_mux_tick(void *ctx)
{
    gp_grpc_mux *mux = ctx;

    gp_mutex_lock(&mux->lock);
    if (mux->paused && mux->listener_watch != NULL) {
        mux->paused = false;
        gp__reactor_enable(mux->listener_watch, true);
    }
    gp__grpc_mux_dial_tick_locked(mux);
    gp_mutex_unlock(&mux->lock);
    gp__grpc_mux_send_messages(mux);
}

/* The pump's |answered|: the next request may have waited for an answer. */
static void
streams_answered(void *ctx)
{
    gp_grpc_mux *mux = ctx;

    gp_mutex_lock(&mux->lock);
    gp__grpc_mux_advance_locked(mux);
    gp_mutex_unlock(&mux->lock);
    gp__grpc_mux_send_messages(mux);
}

/* Start the session over |fd|, which is owned by it, and closed if this fails. */
static int
start_session(gp_grpc_mux *mux, int fd, bool client, gp_error *err)
{
    const gp__pump_options options = {
        .session = {.client = client,
                    .keepalive = KEEPALIVE_MS * GP__MS,
                    .timeout = TIMEOUT_MS * GP__MS},
        .accept = gp__grpc_mux_accept_stream,
        .answered = streams_answered,
        .over = session_over,
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
        gp__grpc_mux_advance_locked(mux);
    }
    gp_mutex_unlock(&mux->lock);
    gp__grpc_mux_send_messages(mux);
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
    if (rc < 0 || (rc = start_session(mux, fd, true, err)) < 0) {
        return rc;
    }
    return gp__grpc_mux_listen_main(mux, err);
}

/* Called on the reactor's thread: the host connects. */
static void
listener_ready(void *ctx)
{
    gp_grpc_mux *mux = ctx;
    int listener;
    int fd;

    gp_mutex_lock(&mux->lock);
    listener = mux->listener; /* open until this callback has ended, see gp_grpc_mux_close() */
    gp_mutex_unlock(&mux->lock);
    fd = accept(listener, NULL, NULL);
    if (fd >= 0) {
        gp__fd_prepare(fd);
        /* A process that connects later is not the host, and start_session() refuses it. */
        start_session(mux, fd, false, NULL);
    } else if (gp__fd_exhausted(errno)) {
        gp_mutex_lock(&mux->lock);
        if (mux->listener_watch != NULL) {
            mux->paused = true;
            gp__reactor_enable(mux->listener_watch, false);
        }
        gp_mutex_unlock(&mux->lock);
    }
}

int
gp_grpc_mux_listen(gp_grpc_mux *mux, const char *network, const char *address, int *port,
                   gp_error *err)
{
    int listener;
    int rc = gp__socket_listen(&listener, network, address, port, err);

    if (rc < 0) {
        return rc;
    }
    gp_mutex_lock(&mux->lock);
    mux->listener = listener;
    if (mux->closed) {
        rc = gp_error_set(err, GP_ECLOSED, "the connection is closed");
    } else if (mux->ticks == NULL) {
        rc = gp__reactor_every(&mux->ticks, TICK_MS, gp__grpc_mux_tick, mux, err);
    }
    if (rc == 0) {
        rc = gp__reactor_add(&mux->listener_watch, listener, listener_ready, mux, err);
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
    gp__watch *listener_watch;
    gp__watch *ticks;
    gp__pump *pump;
    bool client;

    if (mux == NULL || gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&mux->lock);
    mux->closed = true;
    mux->sender = no_sender;
    listener_watch = mux->listener_watch;
    ticks = mux->ticks;
    mux->listener_watch = NULL;
    mux->ticks = NULL;
    mux->paused = false;
    gp_cond_broadcast(&mux->changed);
    gp_mutex_unlock(&mux->lock);
    /* From now on the reactor's callbacks start nothing new. */
    gp__reactor_remove(listener_watch);
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
