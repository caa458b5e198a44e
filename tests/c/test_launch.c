#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/socket.h"
#include "plugin/environment.h"
#include "plugin/launch.h"
#include "support.h"

extern char **environ;

static const int versions[] = {1, 3};

/* A launch of a shell script, and the log records of its stderr. */
typedef struct launched {
    const char *argv[4];
    gp_client_options options;
    gp__launch launch;
    gp__endpoint endpoint;
    recorder rec;
    gp_error err;
} launched;

static void
prepare(launched *it, const char *script)
{
    *it = (launched){.argv = {"/bin/sh", "-c", script, NULL}, .err = GP_ERROR_INIT};
    recorder_init(&it->rec, GP_TRACE);
    it->options = (gp_client_options){
        .argv = it->argv,
        .env = (const char *const *)environ,
        .cookie_key = "COOKIE",
        .cookie_value = "chocolate",
        .versions = versions,
        .versions_count = 2,
        .protocols = GP_PROTOCOL_GRPC,
        .min_port = 10000,
        .max_port = 25000,
        .start_timeout_ms = PATIENCE_MS,
        .log = recorder_sink(&it->rec, false),
    };
}

static int
launch_until(launched *it, const gp_interrupt *interrupt)
{
    int rc = gp__launch_spawn(&it->launch, &it->options, NULL, NULL, NULL, &it->err);

    if (rc == 0) {
        rc = gp__launch_handshake(&it->launch, &it->endpoint, interrupt, &it->err);
    }
    return rc;
}

static void
done(launched *it)
{
    bool spawned = it->launch.process != NULL;

    if (spawned) {
        gp__process_kill(it->launch.process);
        assert_int_equal(gp__process_wait(it->launch.process, patience(), NULL), 0);
    }
    gp__launch_release(&it->launch);
    gp__endpoint_release(&it->endpoint);
    if (spawned) {
        recorder_await_released(&it->rec);
    }
    recorder_release(&it->rec);
    gp_error_release(&it->err);
}

static void
succeed(launched *it, const char *script)
{
    prepare(it, script);
    if (launch_until(it, NULL) < 0) {
        fail_msg("%s", gp_error_message(&it->err));
    }
}

/* It fails with |code| and |words| in the message, and the process is dead and reaped. */
static void
refused(launched *it, int code, const char *words)
{
    int rc = launch_until(it, NULL);

    if (rc != code || strstr(gp_error_message(&it->err), words) == NULL) {
        fail_msg("%d instead of %d, no \"%s\" in: %s", rc, code, words, gp_error_message(&it->err));
    }
    assert_int_equal(it->err.code, code);
    assert_true(gp__process_gone(it->launch.process));
    assert_int_equal(kill(gp__process_pid(it->launch.process), 0), -1);
}

static void
fail_with(const char *script, int code, const char *words)
{
    launched it;

    prepare(&it, script);
    refused(&it, code, words);
    done(&it);
}

/* ---- Success ---- */

static void
the_handshake_is_read(void **state)
{
    launched it;

    (void)state;
    succeed(&it, "echo log >&2; echo '1|3|unix|/tmp/some socket%|grpc'; exec sleep 1000");
    assert_string_equal(it.endpoint.view.network, "unix");
    assert_string_equal(it.endpoint.view.address, "/tmp/some socket%");
    assert_string_equal(it.endpoint.view.target, "unix:/tmp/some%20socket%25");
    assert_string_equal(it.endpoint.view.protocol, "grpc");
    assert_int_equal(it.endpoint.view.version, 3);
    recorder_await_count(&it.rec, 1);
    done(&it);
}

static void
the_handshake_may_come_in_any_chunks(void **state)
{
    launched it;

    (void)state;
    succeed(&it, "for c in 1 '|' 1 '|' t c p '|' 127.0.0.1 : 1 2 '|' grpc; do printf %s $c; done;"
                 "echo; exec sleep 1000");
    assert_string_equal(it.endpoint.view.target, "127.0.0.1:12");
    done(&it);
}

static void
the_end_of_output_ends_the_line(void **state)
{
    launched it;

    (void)state;
    succeed(&it, "printf '1|1|tcp|127.0.0.1:12|grpc'; exec sleep 1000 >/dev/null");
    assert_int_equal(it.endpoint.view.version, 1);
    done(&it);
}

static void
abstract_sockets_are_accepted(void **state)
{
    launched it;

    (void)state;
    succeed(&it, "echo '1|1|unix|@name|grpc'; exec sleep 1000");
    assert_string_equal(it.endpoint.view.target, "unix-abstract:name");
    done(&it);
}

static void
the_protocols_variables_are_set(void **state)
{
    launched it;

    (void)state;
    setenv("PLUGIN_CLIENT_CERT", "the host's own", 1);
    setenv("PLUGIN_MULTIPLEX_GRPC", "true", 1);
    setenv("PLUGIN_MIN_PORT", "1", 1);
    succeed(&it, "for v in COOKIE PLUGIN_MIN_PORT PLUGIN_MAX_PORT PLUGIN_PROTOCOL_VERSIONS "
                 "PLUGIN_CLIENT_CERT PLUGIN_MULTIPLEX_GRPC; do eval echo $v=\\$$v; done >&2;"
                 "echo '1|1|unix|/s|grpc'; exec sleep 1000");
    recorder_await_count(&it.rec, 6);
    assert_string_equal(it.rec.records[0].message, "COOKIE=chocolate");
    assert_string_equal(it.rec.records[1].message, "PLUGIN_MIN_PORT=10000");
    assert_string_equal(it.rec.records[2].message, "PLUGIN_MAX_PORT=25000");
    assert_string_equal(it.rec.records[3].message, "PLUGIN_PROTOCOL_VERSIONS=1,3");
    assert_string_equal(it.rec.records[4].message, "PLUGIN_CLIENT_CERT=");
    assert_string_equal(it.rec.records[5].message, "PLUGIN_MULTIPLEX_GRPC=");
    unsetenv("PLUGIN_CLIENT_CERT");
    unsetenv("PLUGIN_MULTIPLEX_GRPC");
    unsetenv("PLUGIN_MIN_PORT");
    done(&it);
}

static void
environments(void **state)
{
    static const char *const given[] = {"A=1", "B=2", "A=3", "COOKIE=raisin", "odd", "A", NULL};
    static const char *const expected[] = {"B=2",
                                           "odd",
                                           "A",
                                           "COOKIE=chocolate",
                                           "PLUGIN_MIN_PORT=10000",
                                           "PLUGIN_MAX_PORT=25000",
                                           "PLUGIN_PROTOCOL_VERSIONS=1,3",
                                           NULL};
    launched it;
    char **env;

    (void)state;
    prepare(&it, "");
    it.options.env = given;
    env = gp__environment_make(&it.options, NULL, NULL, NULL);
    assert_non_null(env);
    for (size_t i = 0; expected[i] != NULL; i++) {
        assert_non_null(env[i]);
        assert_string_equal(env[i], expected[i]);
    }
    assert_null(env[7]);
    gp__environment_free(env);
    it.options.env = NULL;
    it.options.cookie_key = "";
    env = gp__environment_make(&it.options, NULL, NULL, NULL);
    assert_string_equal(env[0], "PLUGIN_MIN_PORT=10000");
    gp__environment_free(env);
    done(&it);
}

static void
stdout_is_drained(void **state)
{
    launched it;

    (void)state;
    /* Ten times as much as fits into a pipe, and then a line on stderr. */
    succeed(&it,
            "echo '1|1|unix|/s|grpc'; head -c 700000 /dev/zero; echo done >&2; exec sleep 1000");
    recorder_await_count(&it.rec, 1);
    done(&it);
}

/* ---- Failures ---- */

static void
early_exits_are_reported(void **state)
{
    launched it;

    (void)state;
    fail_with("exit 0", GP_EEXITED, "exited with status 0 before its handshake");
    fail_with("ulimit -c 0; kill -SEGV $$", GP_EEXITED, "was killed by signal 11");
    prepare(&it, "echo first >&2; echo 'what went wrong' >&2; exit 3");
    refused(&it, GP_EEXITED, "exited with status 3 before its handshake");
    assert_int_equal(it.err.number, 3);
    assert_string_equal(it.err.detail, "first\nwhat went wrong");
    assert_non_null(strstr(gp_error_message(&it.err), "what went wrong"));
    assert_int_equal(it.rec.count, 2); /* logged before the error is reported */
    done(&it);
}

static void
only_the_tail_of_stderr_is_quoted(void **state)
{
    launched it;

    (void)state;
    prepare(&it, "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done >&2; exit 1");
    refused(&it, GP_EEXITED, "line 1999");
    assert_true(it.err.detail_len <= 4096 && it.err.detail_len > 4000);
    recorder_await_count(&it.rec, 2000); /* the error waits for them, but no longer than a second */
    assert_int_equal(it.rec.count, 2000);
    done(&it);
}

static void
a_level_filter_hides_nothing_from_the_error(void **state)
{
    launched it;

    (void)state;
    prepare(&it, "echo reason >&2; exit 1");
    it.options.log.level = GP_ERROR + 1;
    refused(&it, GP_EEXITED, "reason");
    done(&it);
}

static void
grandchildren_may_hold_the_pipes(void **state)
{
    char fifo[200];
    char script[300];
    launched it;
    int fd;

    (void)state;
    snprintf(fifo, sizeof(fifo), "%s/fifo", make_directory());
    snprintf(script, sizeof(script), "echo parting >&2; (read go < %s) & exit 4", fifo);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    prepare(&it, script);
    refused(&it, GP_EEXITED, "exited with status 4");
    assert_string_equal(it.err.detail, "parting");
    done(&it);
    fd = open(fifo, O_WRONLY); /* ends the grandchild, which reads the end of the file */
    assert_true(fd >= 0);
    close(fd);
}

static void
timeouts_are_reported(void **state)
{
    launched it;

    (void)state;
    prepare(&it, "echo waiting >&2; printf '1|1|unix'; exec sleep 1000");
    it.options.start_timeout_ms = 300;
    refused(&it, GP_ESTARTTIMEOUT, "within 0.3 s");
    done(&it);
}

static void
lines_that_are_no_handshake_are_refused(void **state)
{
    launched it;

    (void)state;
    prepare(&it, "echo 'Usage: me'; exec sleep 1000");
    refused(&it, GP_EHANDSHAKE, "\"Usage: me\"");
    assert_string_equal(it.err.detail, "Usage: me");
    assert_null(strstr(gp_error_message(&it.err), "has mode")); /* it could be executed */
    done(&it);
    fail_with("echo; exec sleep 1000", GP_EHANDSHAKE, "it is empty");
    fail_with("head -c 100000 /dev/zero; exec sleep 1000", GP_EHANDSHAKE,
              "longer than 65536 bytes");
    fail_with("cat /dev/zero", GP_EHANDSHAKE, "longer than 65536 bytes");
    fail_with("echo '2|1|unix|/s|grpc'; exec sleep 1000", GP_EHANDSHAKE, "core version 2");
    fail_with("echo '1|1|unix|/s'; exec sleep 1000", GP_EHANDSHAKE, "only gRPC");
    prepare(&it, "echo '1|2|unix|/s|grpc'; exec sleep 1000");
    refused(&it, GP_EVERSION, "version 2");
    assert_int_equal(it.err.number, 2);
    done(&it);
}

/* The plugin listens already when it is refused, and is killed before it can remove its socket. */
static void
sockets_of_refused_plugins_are_removed(void **state)
{
    /* An unknown version, a protocol that is not allowed, and two plugins that cannot multiplex. */
    static const char *const lines[][2] = {
        {"1|2", "grpc"}, {"1|1", "netrpc"}, {"1|1", "grpc"}, {"1|1", "grpc||false"}};
    struct stat status;
    char script[400];
    char path[200];
    launched it;
    int fd;

    (void)state;
    snprintf(path, sizeof(path), "%s/refused", make_directory());
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        assert_int_equal(gp__socket_listen(&fd, "unix", path, NULL, NULL), 0);
        close(fd);
        snprintf(script, sizeof(script), "echo '%s|unix|%s|%s'; exec sleep 1000", lines[i][0], path,
                 lines[i][1]);
        prepare(&it, script);
        it.options.multiplex = true;
        assert_true(launch_until(&it, NULL) < 0);
        assert_true(lstat(path, &status) < 0);
        done(&it);
    }
}

static void
a_closed_stdout_is_reported(void **state)
{
    (void)state;
    fail_with("echo complaint >&2; exec sleep 1000 >&-", GP_EHANDSHAKE, "closed its stdout");
}

static void
a_launch_can_be_interrupted(void **state)
{
    launched it;

    (void)state;
    prepare(&it, "exec sleep 1000");
    assert_int_equal(launch_until(&it, &interrupt_now), GP_EUSER);
    assert_true(gp__process_gone(it.launch.process));
    done(&it);
}

static void
programs_that_do_not_start_are_reported(void **state)
{
    launched it;

    (void)state;
    prepare(&it, "");
    it.argv[0] = "/nonexistent/plugin";
    assert_int_equal(launch_until(&it, NULL), GP_ESTART);
    assert_null(it.launch.process);
    assert_int_equal(it.rec.released, 0);
    done(&it);
}

/* ---- Allocation ---- */

static void
every_allocation_may_fail(void **state)
{
    static const char *const scripts[] = {
        "echo log >&2; echo '1|1|unix|/s|grpc'; exec sleep 1000",
        "echo log >&2; exit 3",
        "echo nonsense; exec sleep 1000",
    };

    (void)state;
    gp_log_shutdown();
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        long failing = 0;
        bool failed;

        do {
            launched it;
            bool spawned;

            prepare(&it, scripts[i]);
            alloc_begin(failing++);
            launch_until(&it, NULL);
            spawned = it.launch.process != NULL;
            if (spawned) {
                gp__process_kill(it.launch.process);
                assert_int_equal(gp__process_wait(it.launch.process, patience(), NULL), 0);
            }
            gp__launch_release(&it.launch);
            gp__endpoint_release(&it.endpoint);
            gp_error_release(&it.err);
            gp_log_shutdown();
            failed = alloc_failures() > 0;
            alloc_end();
            recorder_release(&it.rec);
        } while (failed);
    }
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static int
finish(void **state)
{
    (void)state;
    gp_log_shutdown();
    remove_directory();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_handshake_is_read),
        cmocka_unit_test(the_handshake_may_come_in_any_chunks),
        cmocka_unit_test(the_end_of_output_ends_the_line),
        cmocka_unit_test(abstract_sockets_are_accepted),
        cmocka_unit_test(sockets_of_refused_plugins_are_removed),
        cmocka_unit_test(the_protocols_variables_are_set),
        cmocka_unit_test(environments),
        cmocka_unit_test(stdout_is_drained),
        cmocka_unit_test(early_exits_are_reported),
        cmocka_unit_test(only_the_tail_of_stderr_is_quoted),
        cmocka_unit_test(a_level_filter_hides_nothing_from_the_error),
        cmocka_unit_test(grandchildren_may_hold_the_pipes),
        cmocka_unit_test(timeouts_are_reported),
        cmocka_unit_test(lines_that_are_no_handshake_are_refused),
        cmocka_unit_test(a_closed_stdout_is_reported),
        cmocka_unit_test(a_launch_can_be_interrupted),
        cmocka_unit_test(programs_that_do_not_start_are_reported),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, finish);
}
