#include "plugin/launch.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "base/utf8.h"
#include "os/fd.h"
#include "os/path.h"
#include "os/process/group.h"
#include "os/reactor.h"
#include "os/socket.h"
#include "os/tmpdir.h"
#include "plugin/environment.h"
#include "plugin/launch_report.h"
#include "plugin/sockets.h"
#include "plugin/verify.h"
#include "wire/handshake.h"

/* How long a process may take to end once it was killed or has begun to exit. */
static const int64_t dying_ms = 10000;
/* How often to look whether the process lives, where no descriptor reports its end. */
static const int64_t look_ns = 20 * GP__MS;
/* How long the relays of a detached plugin may take to pass on what it wrote last. */
static const int64_t relay_ms = 1000;
/* How long a failed start waits until the rest of the plugin's stderr has reached the log. */
static const int64_t flush_ms = 1000;

static void
kill_and_reap(const gp__launch *launch)
{
    gp__process_kill(launch->process);
    gp__process_wait(launch->process, gp_deadline_in(dying_ms), NULL);
}

/* Kill the process, and read what is left in its pipes. */
static void
kill_and_finish(gp__launch *launch)
{
    kill_and_reap(launch);
    gp__launch_finish(launch);
}

static int
start_process(gp__launch *launch, const char *const *env, const char *group, int *err_fd,
              const gp_interrupt *interrupt, gp_error *err)
{
    const gp_client_options *options = launch->options;
    gp__process_spec spec = {.argv = options->argv,
                             .env = env,
                             .directory = options->directory,
                             .detached = options->detach,
                             .group = group,
                             .tmpl = options->tmpl};
    int rc;

    if (options->runner.start != NULL) {
        rc = gp__process_run(&launch->process, &options->runner, env, &launch->out_fd, err_fd, err);
        launch->deadline = gp_deadline_in(options->start_timeout_ms);
        return rc;
    }
    launch->deadline = gp_deadline_in(options->start_timeout_ms);
    if (options->checksum_hash != NULL) {
        rc = gp__verify(&launch->image, options, env, launch->deadline, interrupt, err);
        if (rc < 0) {
            return rc;
        }
        spec.image = &launch->image;
    }
    rc = gp__process_spawn(&launch->process, &spec, &launch->out_fd, err_fd, err);
    if (rc < 0) {
        gp__sealed_release(&launch->image);
    }
    return rc;
}

/*
 * The environment entry that marks this launch's group: the prefix of the options, and a random
 * name. Owned by the caller; NULL if the options have no prefix, or memory is short.
 */
static char *
make_group(const gp_client_options *options)
{
    char name[GP__RANDOM_NAME + 1];

    if (options->kill_group == NULL) {
        return NULL;
    }
    gp__random_name(name);
    return gp__format("%s=%s.%s", GP__GROUP_VARIABLE, options->kill_group, name);
}

int
gp__launch_spawn(gp__launch *launch, const gp_client_options *options, gp_tls *tls,
                 const char *socket_dir, const gp_interrupt *interrupt, gp_error *err)
{
    char *group = make_group(options);
    char **env = group != NULL || options->kill_group == NULL
                     ? gp__environment_make(options, tls, socket_dir, group)
                     : NULL;
    int err_fd;
    int rc;

    *launch = (gp__launch){.options = options, .tls = tls, .image = GP__SEALED_INIT, .out_fd = -1};
    launch->skipped.most = options->skip_output;
    if (env == NULL) {
        if (options->runner.start != NULL) {
            options->runner.release(options->runner.ctx);
        }
        gp__free(group);
        return gp_error_set(err, GP_ENOMEM, "out of memory for the plugin's environment");
    }
    rc = start_process(launch, (const char *const *)env, group, &err_fd, interrupt, err);
    gp__environment_free(env);
    gp__free(group);
    if (rc < 0) {
        return rc;
    }
    if ((rc = gp__process_watch(launch->process, NULL, NULL, err)) < 0 ||
        (rc = gp__mirror_open(&launch->mirror, err_fd, gp__process_tail(launch->process),
                              &options->log, options->log_buffer_size, err)) < 0) {
        gp__fd_close(&err_fd);
        kill_and_reap(launch);
        gp__launch_release(launch);
    }
    return rc;
}

/* ---- Waiting for the line -------------------------------------------------------------------- */

enum { MORE_TO_COME, WHOLE_LINE, END_OF_OUTPUT, MORE_TO_READ };

/* How often to read before looking at the clock: a process may print faster than the host reads. */
enum { MOST_READS = 64 };

/*
 * Read the output that there is, with at most MOST_READS reads. Returns one of the above or a GP_E*
 * code.
 */
static int
read_output(gp__launch *launch, gp_error *err)
{
    char chunk[4096];
    ssize_t got;

    for (int i = 0; i < MOST_READS; i++) {
        int rc;

        got = gp__fd_read(launch->out_fd, chunk, sizeof(chunk));
        if (got < 0 && errno == EAGAIN) {
            return MORE_TO_COME;
        }
        if (got <= 0) {
            return END_OF_OUTPUT;
        }
        if ((rc = gp__buf_append(&launch->line, chunk, (size_t)got)) < 0) {
            return gp_error_set(err, rc, "out of memory for the plugin's handshake");
        }
        if ((rc = gp__preamble_skip(&launch->skipped, &launch->line, err)) != 0) {
            return rc < 0 ? rc : WHOLE_LINE;
        }
    }
    return MORE_TO_READ;
}

/* Wait for output, the process's end, or the end of the slice. */
static void
wait_for_output(const gp__launch *launch, int64_t slice)
{
    struct pollfd fds[2] = {
        {.fd = launch->out_fd, .events = POLLIN},
        {.fd = gp__process_pidfd(launch->process), .events = POLLIN},
    };
    int64_t look = gp__now() + look_ns;

    if (fds[1].fd < 0 && look < slice) {
        slice = look;
    }
    if (gp__fd_poll(fds, 2, slice) > 0 && fds[0].revents == 0 &&
        !gp__process_gone(launch->process)) {
        /* It has ended, but it cannot be reaped before the process that traces it has let it go. */
        gp__fd_poll(fds, 1, look < slice ? look : slice);
    }
}

/*
 * Wait until the line is there, or will never come.
 *
 * Returns: WHOLE_LINE, END_OF_OUTPUT (the process is gone, or stdout is closed), GP_ESTARTTIMEOUT,
 * GP_EUSER, or as read_output().
 */
static int
await_line(gp__launch *launch, const gp_interrupt *interrupt, gp_error *err)
{
    for (;;) {
        /* Checked before reading: if the process is gone, all of its output is there to be read. */
        bool gone = gp__process_gone(launch->process);
        int rc;

        if (gone) {
            gp__process_await_relays(launch->process, gp_deadline_in(relay_ms));
        }
        rc = read_output(launch, err);
        if (rc != MORE_TO_COME && rc != MORE_TO_READ) {
            return rc;
        }
        if (gone && rc == MORE_TO_COME) {
            return END_OF_OUTPUT;
        }
        if (gp__now() >= launch->deadline) {
            return GP_ESTARTTIMEOUT;
        }
        if (rc == MORE_TO_COME) {
            wait_for_output(launch, gp__slice(launch->deadline, interrupt));
        }
        if ((rc = gp__interrupted(interrupt)) < 0) {
            return rc;
        }
    }
}

/* ---- After the line -------------------------------------------------------------------------- */

/*
 * The path at which the plugin listens according to the line, even if the line is wrong in other
 * ways. Owned by the caller; NULL if there is none.
 */
static char *
announced_path(const gp__launch *launch)
{
    gp__handshake_rules rules = {.versions = launch->options->versions,
                                 .versions_count = launch->options->versions_count,
                                 .protocols = GP_PROTOCOL_GRPC | GP_PROTOCOL_NETRPC};
    gp__text line = gp__preamble_first_line(&launch->line);
    gp_error err = GP_ERROR_INIT;
    gp__handshake handshake;
    int version;
    int rc;

    rc = gp__handshake_parse(&handshake, line.data, line.len, &rules, &err);
    if (rc == GP_EVERSION) {
        version = err.number;
        rules.versions = &version;
        rules.versions_count = 1;
        rc = gp__handshake_parse(&handshake, line.data, line.len, &rules, NULL);
    }
    gp_error_release(&err);
    return rc == 0 && strcmp(handshake.network, "unix") == 0
               ? gp__path_absolute(handshake.address.data, handshake.address.len,
                                   launch->options->directory)
               : NULL;
}

/* Remove the sockets of a plugin that has died before the host could connect to it. */
static void
remove_sockets(const gp__launch *launch)
{
    char *path = launch->line.len > 0 ? announced_path(launch) : NULL;
    gp__leftover left;

    gp__sockets_left(&left, launch->options, launch->process);
    if (path != NULL) {
        gp__leftover_remove(&left, path);
    }
    if (launch->options->multiplex) {
        gp__leftover_sweep(&left);
    }
    gp__leftover_release(&left);
    gp__free(path);
}

/* On the reactor's thread. */
static void
log_skipped(void *ctx)
{
    const gp__launch *launch = ctx;
    char *lines = gp__preamble_describe(&launch->skipped);
    char *message = gp__format("the plugin printed %s; they were skipped (skip_output)",
                               lines != NULL ? lines : "some lines");

    if (message != NULL) {
        gp__mirror_add(launch->mirror, message);
    }
    gp__free(message);
    gp__free(lines);
}

/*
 * stdout is at its end: the process has exited, is about to exit, or has closed it on purpose.
 * Returns whether it has exited. A process that dies closes its descriptors some moments before it
 * can be reaped, so this waits for it.
 */
static bool
is_exiting(const gp__launch *launch)
{
    static const int64_t moment_ms = 100;

    gp__process_wait(launch->process, gp_deadline_in(moment_ms), NULL);
    if (gp__process_inspect(launch->process) == GP__PROCESS_DYING) {
        gp__process_wait(launch->process, gp_deadline_in(dying_ms), NULL);
    }
    return gp__process_gone(launch->process);
}

/* stdout has ended before a line came. Returns the code of the error that is set. */
static int
report_no_line(gp__launch *launch, gp_error *err)
{
    if (is_exiting(launch)) {
        gp__launch_finish(launch);
        return gp__launch_report_exit(launch, err);
    }
    kill_and_finish(launch);
    return gp__launch_report_closed_output(launch, err);
}

/* With AutoMTLS, trust the certificate in the plugin's line (protocol.md 2), and no other. */
static int
trust_certificate(const gp__launch *launch, const gp__handshake *handshake, gp_error *err)
{
    if (launch->tls == NULL || gp_tls_field(launch->tls) == NULL) {
        return 0;
    }
    if (handshake->cert.len == 0) {
        gp_error_set(
            err, GP_ETLS,
            "the plugin's handshake holds no certificate, and the host insists on AutoMTLS; "
            "the plugin does not support AutoMTLS, or configures TLS by itself");
        gp_error_set_detail(err, GP_TLS_NO_CERTIFICATE, strlen(GP_TLS_NO_CERTIFICATE));
        return GP_ETLS;
    }
    return gp_tls_trust_field(launch->tls, handshake->cert.data, handshake->cert.len, err);
}

/* Have the runner translate the plugin's address into one that the host can use. */
static int
init_translated(const gp__launch *launch, gp__endpoint *out, const gp__handshake *handshake,
                gp_error *err)
{
    const gp_runner *runner = gp__process_runner(launch->process);
    gp_runner_address at;
    int rc;

    if (handshake->address.len >= sizeof(at.address)) {
        return gp_error_set(err, GP_EHANDSHAKE, "the plugin's address is too long");
    }
    snprintf(at.network, sizeof(at.network), "%s", handshake->network);
    snprintf(at.address, sizeof(at.address), "%.*s", (int)handshake->address.len,
             handshake->address.data);
    rc = runner->plugin_to_host(runner->ctx, &at, err);
    if (rc < 0) {
        return rc;
    }
    if (strcmp(at.network, "unix") != 0 && strcmp(at.network, "tcp") != 0) {
        return gp_error_set(err, GP_EHANDSHAKE, "the runner gave the network %s, not unix or tcp",
                            at.network);
    }
    return gp__endpoint_init(out, strcmp(at.network, "unix") == 0 ? "unix" : "tcp",
                             (gp__text){at.address, strlen(at.address)}, NULL, handshake->protocol,
                             handshake->version, err);
}

/*
 * Check that the path is UTF-8, or that there is a socket of that name. Paths may have any bytes,
 * but a path that is not text is probably garbled.
 */
static int
check_path(const gp__launch *launch, const gp__endpoint *at, gp_error *err)
{
    gp__text line = gp__preamble_first_line(&launch->line);
    const char *path = at->address;
    char quoted[GP__QUOTED];

    if (strcmp(at->view.network, "unix") != 0 || gp__utf8_valid(path, strlen(path)) ||
        path[0] == '@' || gp__socket_exists(path)) {
        return 0;
    }
    gp_error_set(
        err, GP_EHANDSHAKE,
        "the unix address %s of the plugin's handshake (field 4) is not UTF-8, and there is no "
        "socket of that name: the line is garbled, or the plugin cannot create its socket",
        gp__quote(quoted, path, strlen(path)));
    gp_error_set_detail(err, line.data, line.len);
    return GP_EHANDSHAKE;
}

static int
parse_line(gp__launch *launch, gp__endpoint *out, gp_error *err)
{
    const gp_client_options *options = launch->options;
    const gp__handshake_rules rules = {
        .versions = options->versions,
        .versions_count = options->versions_count,
        .protocols = options->protocols,
    };
    gp__text line = gp__preamble_first_line(&launch->line);
    gp__handshake handshake;
    int rc = gp__handshake_parse(&handshake, line.data, line.len, &rules, err);

    if (rc < 0) {
        return rc;
    }
    if (options->multiplex && handshake.multiplex != GP__MUX_YES) {
        rc = gp_error_set(err, GP_EHANDSHAKE,
                          "the plugin cannot multiplex: the host has set broker_multiplex, and the "
                          "plugin's handshake does not end with \"|true\". Use a newer library in "
                          "the plugin, or do not set broker_multiplex");
        gp_error_set_detail(err, line.data, line.len);
        return rc;
    }
    if (gp__process_runner(launch->process) != NULL) {
        rc = init_translated(launch, out, &handshake, err);
    } else {
        rc = gp__endpoint_init(out, handshake.network, handshake.address, options->directory,
                               handshake.protocol, handshake.version, err);
    }
    if (rc == GP_EHANDSHAKE) {
        gp_error_set_detail(err, line.data, line.len);
    }
    if (rc < 0) {
        return rc;
    }
    if ((rc = check_path(launch, out, err)) < 0 ||
        (rc = trust_certificate(launch, &handshake, err)) < 0) {
        gp__endpoint_release(out);
    }
    return rc;
}

/* The handshake is over: from now on stdout is read and discarded. */
static int
drain_output(gp__launch *launch, gp_error *err)
{
    int rc = gp__drain_open(&launch->drain, launch->out_fd, err);

    if (rc == 0) {
        launch->out_fd = -1;
        gp__buf_release(&launch->line);
    }
    return rc;
}

/* Wait for the handshake, as gp__launch_handshake(); but on failure the process may still run. */
static int
shake_hands(gp__launch *launch, gp__endpoint *out, const gp_interrupt *interrupt, gp_error *err)
{
    int rc = await_line(launch, interrupt, err);

    if (rc == GP_ESTARTTIMEOUT) {
        kill_and_finish(launch);
        return gp__launch_report_timeout(launch, err);
    }
    if (rc == GP_EUSER) {
        return gp_error_set(err, rc, "the start was interrupted");
    }
    if (rc == END_OF_OUTPUT && launch->line.len == 0) {
        return report_no_line(launch, err);
    }
    if (launch->skipped.lines > 0) {
        gp__reactor_call(log_skipped, launch, NULL); /* the mirror is used on its thread */
    }
    if (rc >= 0) {
        /* At the end of output a line without its newline counts, as it does for go-plugin. */
        rc = parse_line(launch, out, err);
        if (rc == 0 && (rc = drain_output(launch, err)) < 0) {
            gp__endpoint_release(out);
        }
    }
    if (rc == GP_EHANDSHAKE) {
        gp__launch_explain_handshake(launch, err);
    } else if (rc == GP_EVERSION) {
        kill_and_finish(launch);
        gp__launch_explain_version(launch, err);
    }
    return rc;
}

int
gp__launch_handshake(gp__launch *launch, gp__endpoint *out, const gp_interrupt *interrupt,
                     gp_error *err)
{
    int rc = shake_hands(launch, out, interrupt, err);

    gp__sealed_release(&launch->image);
    if (rc < 0) {
        kill_and_reap(launch);
        remove_sockets(launch);
        gp__launch_finish(launch);
        gp__mirror_flush(launch->mirror, gp_deadline_in(flush_ms), NULL);
        gp__launch_close_log(launch);
    }
    return rc;
}

void
gp__launch_close_log(gp__launch *launch)
{
    gp__mirror_close(launch->mirror);
    launch->mirror = NULL;
}

void
gp__launch_finish(gp__launch *launch)
{
    if (launch->mirror != NULL) {
        if (gp__process_gone(launch->process)) {
            gp__process_await_relays(launch->process, gp_deadline_in(relay_ms));
        }
        gp__mirror_finish(launch->mirror);
    }
    gp__drain_close(launch->drain);
    launch->drain = NULL;
    gp__fd_close(&launch->out_fd);
}

void
gp__launch_release(gp__launch *launch)
{
    gp__launch_finish(launch);
    gp__launch_close_log(launch);
    if (launch->process != NULL) {
        gp__process_unwatch(launch->process);
        if (!gp__process_gone(launch->process)) {
            gp__process_watch(launch->process, NULL, NULL, NULL); /* so that it is reaped */
        }
    }
    gp__process_unref(launch->process);
    gp__sealed_release(&launch->image);
    gp__buf_release(&launch->line);
    gp__preamble_release(&launch->skipped);
    launch->process = NULL;
}
