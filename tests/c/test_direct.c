/*
 * Channels over sockets that are connected already, and connecting such sockets.
 */
#include "rpc_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/alloc.h"
#include "os/fd.h"
#include "os/reactor.h"
#include "os/socket.h"
#include "process_fixture.h"
#include "rpc/channel.h"

static int
connect_to_fixture(const fixture *it)
{
    int fd = -1;

    assert_int_equal(gp__socket_reach(&fd, "unix", it->target + 5, patience(), NULL, NULL), 0);
    return fd;
}

static gp_channel *
open_over(const fixture *it)
{
    gp_channel *channel = NULL;

    assert_int_equal(gp__channel_open_over(&channel, connect_to_fixture(it), it->target,
                                           "localhost", NULL, NULL),
                     0);
    return channel;
}

static void
close_and_unref(gp_channel *channel)
{
    gp_channel_close(channel);
    gp_channel_unref(channel);
}

/* A channel whose other end is not gRPC, but ours. */
static gp_channel *
open_pair(int *other)
{
    gp_channel *channel = NULL;
    int ends[2];

    assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
    assert_int_equal(
        gp__channel_open_over(&channel, ends[0], "the other end", "localhost", NULL, NULL), 0);
    *other = ends[1];
    return channel;
}

static gp_call *
start_on(gp_channel *channel, const char *method)
{
    gp_call_options options = options_for(method);
    gp_call *call = NULL;

    assert_int_equal(gp_call_start_unary(&call, channel, &options, text("hello"), NULL), 0);
    return call;
}

static int
outcome_on(gp_channel *channel, const char *method)
{
    gp_call *call = start_on(channel, method);
    int code = outcome(call);

    gp_call_unref(call);
    return code;
}

/* ---- Calls ---- */

static void
calls_go_through(void **state)
{
    fixture it;
    gp_channel *channel;
    gp_channel *view;
    gp_call *call;
    char *peer;

    (void)state;
    fixture_start(&it, 2, 0);
    channel = open_over(&it);
    assert_int_equal(gp_channel_state(channel, false), GP_READY);
    assert_false(gp_channel_secure(channel));
    for (int i = 0; i < 10; i++) {
        call = start_on(channel, "/t/Echo");
        assert_int_equal(outcome(call), GP_GRPC_OK);
        assert_reply(call, "hello");
        peer = gp_call_peer(call);
        assert_string_equal(peer, it.target);
        gp_call_free_peer(peer);
        gp_call_unref(call);
    }
    assert_int_equal(outcome_on(channel, "/t/Fail"), GP_GRPC_FAILED_PRECONDITION);
    assert_int_equal(gp_channel_view(&view, channel, NULL), 0);
    close_and_unref(channel);
    assert_int_equal(outcome_on(view, "/t/Echo"), GP_GRPC_OK);
    close_and_unref(view);
    fixture_stop(&it);
}

/* Expect the call to have ended with UNAVAILABLE and details that contain |part|. */
static void
expect_unavailable(gp_call *call, const char *part)
{
    const gp_call_status *status = gp_call_get_status(call);
    char *details = gp__memdup(status->details.data, status->details.len);

    assert_int_equal(status->code, GP_GRPC_UNAVAILABLE);
    assert_non_null(details);
    if (strstr(details, part) == NULL) {
        fail_msg("%s", details);
    }
    gp__free(details);
}

static void
expect_ended(gp_call *call)
{
    expect_unavailable(call, "the connection to the other end has ended, and is not made again");
}

static void
calls_end_with_the_connection(void **state)
{
    gp_channel *channel;
    gp_call *call;
    int other;

    (void)state;
    channel = open_pair(&other);
    call = start_on(channel, "/t/Echo");
    gp__fd_close(&other);
    assert_int_equal(outcome(call), GP_GRPC_UNAVAILABLE);
    expect_ended(call);
    gp_call_unref(call);
    call = start_on(channel, "/t/Echo");
    assert_int_equal(outcome(call), GP_GRPC_UNAVAILABLE);
    expect_ended(call);
    gp_call_unref(call);
    close_and_unref(channel);
}

static const char disconnected[] = "the connection between host and plugin has ended";

/* While the connection lasts: the call in progress ends, and so does one that starts later. */
static void
disconnected_calls_end_with_the_reason(void **state)
{
    static const char killed[] = "sleep: was killed by signal 9 (SIGKILL) "
                                 "(the connection between host and plugin has ended)";
    gp_call_options options = options_for("/t/Echo");
    gp_error err = GP_ERROR_INIT;
    gp_channel *channel;
    gp_call *unary;
    gp_call *stream;
    child plugin;
    int other;

    (void)state;
    SHELL(&plugin, "exec sleep 600");
    channel = open_pair(&other);
    gp__process_set_name(plugin.process, "sleep");
    gp__channel_explain(channel, NULL, plugin.process);
    unary = start_on(channel, "/t/Echo");
    assert_int_equal(gp_call_start_stream(&stream, channel, &options, NULL, NULL), 0);
    assert_int_equal(kill(gp__process_pid(plugin.process), SIGKILL), 0);
    child_await_exit(&plugin);
    gp_channel_disconnect(channel);
    gp_channel_disconnect(channel);
    assert_int_equal(gp_channel_state(channel, true), GP_SHUTDOWN);
    assert_int_equal(outcome(unary), GP_GRPC_UNAVAILABLE);
    expect_unavailable(unary, killed);
    assert_int_equal(outcome(stream), GP_GRPC_UNAVAILABLE);
    expect_unavailable(stream, killed);
    gp_call_unref(unary);
    gp_call_unref(stream);
    options.flags = GP_CALL_WAIT_FOR_READY;
    assert_int_equal(gp_call_start_unary(&unary, channel, &options, text("x"), NULL), 0);
    assert_int_equal(outcome(unary), GP_GRPC_UNAVAILABLE);
    expect_unavailable(unary, killed);
    gp_call_unref(unary);
    gp_channel_close(channel);
    assert_int_equal(gp_call_start_unary(&unary, channel, &options, text("x"), &err), GP_ECLOSED);
    gp_error_release(&err);
    gp_channel_unref(channel);
    gp__fd_close(&other);
    child_release(&plugin);
}

/* The same for a channel that gRPC connects, at its first call. */
static void
disconnected_before_the_first_call(void **state)
{
    fixture it;
    gp_channel *channel;
    gp_channel *view;
    gp_call *call;

    (void)state;
    fixture_start(&it, 2, 0);
    assert_int_equal(gp_channel_open(&channel, it.target, NULL, NULL), 0);
    assert_int_equal(gp_channel_view(&view, channel, NULL), 0);
    gp_channel_disconnect(channel);
    call = start_on(channel, "/t/Echo");
    assert_int_equal(outcome(call), GP_GRPC_UNAVAILABLE);
    expect_unavailable(call, disconnected);
    gp_call_unref(call);
    close_and_unref(channel);
    assert_int_equal(outcome_on(view, "/t/Echo"), GP_GRPC_OK);
    close_and_unref(view);
    fixture_stop(&it);
}

/* What is closed stays so. */
static void
disconnected_after_the_close(void **state)
{
    gp_channel *channel;
    gp_call *call;
    int other;

    (void)state;
    channel = open_pair(&other);
    call = start_on(channel, "/t/Echo");
    gp_channel_close(channel);
    gp_channel_disconnect(channel);
    assert_int_equal(outcome(call), GP_GRPC_CANCELLED);
    gp_call_unref(call);
    gp_channel_unref(channel);
    gp__fd_close(&other);
}

/* What the other side has from us ends when the channel goes, though there are two descriptors. */
static void
the_peer_sees_the_end(void **state)
{
    gp_channel *channel;
    struct pollfd end;
    char bytes[4096];
    int other;

    (void)state;
    channel = open_pair(&other);
    end = (struct pollfd){.fd = other, .events = POLLIN};
    close_and_unref(channel);
    do {
        assert_int_equal(gp__fd_poll(&end, 1, patience()), 1);
    } while (read(other, bytes, sizeof(bytes)) > 0);
    gp__fd_close(&other);
}

/* ---- The state ---- */

static void
waiting_for_the_end(void **state)
{
    gp_channel *channel;
    int other;

    (void)state;
    channel = open_pair(&other);
    assert_int_equal(gp_channel_state(channel, true), GP_READY);
    assert_int_equal(gp_channel_wait_state(channel, GP_IDLE, -1, NULL), GP_READY);
    assert_int_equal(gp_channel_wait_state(channel, GP_READY, 1, NULL), GP_ETIMEOUT);
    assert_int_equal(gp_channel_wait_state(channel, GP_READY, -1, &interrupt_now), GP_EUSER);
    gp__fd_close(&other);
    assert_int_equal(gp_channel_wait_state(channel, GP_READY, PATIENCE_MS, NULL), GP_SHUTDOWN);
    assert_int_equal(gp_channel_state(channel, true), GP_SHUTDOWN);
    assert_int_equal(gp_channel_wait_state(channel, GP_SHUTDOWN, -1, NULL), GP_SHUTDOWN);
    close_and_unref(channel);
}

static void
the_end_calls_back(void **state)
{
    gp_channel *channel;
    completions it;
    int other;

    (void)state;
    completions_init(&it);
    channel = open_pair(&other);
    assert_int_equal(gp_channel_watch_state(channel, GP_READY, -1, on_completed, &it), 0);
    assert_int_equal(gp_channel_watch_state(channel, GP_READY, PATIENCE_MS, on_completed, &it), 0);
    /* Data are no end. */
    assert_int_equal(write(other, "x", 1), 1);
    assert_int_equal(gp_channel_watch_state(channel, GP_READY, 1, on_completed, &it), 0);
    await_completions(&it, 1);
    gp__fd_close(&other);
    await_completions(&it, 3);
    /* It is known. */
    assert_int_equal(gp_channel_watch_state(channel, GP_READY, -1, on_completed, &it), 0);
    assert_int_equal(it.times, 4);
    /* Nothing comes after that, until the channel goes. */
    assert_int_equal(gp_channel_watch_state(channel, GP_SHUTDOWN, -1, on_completed, &it), 0);
    assert_int_equal(it.times, 4);
    close_and_unref(channel);
    assert_int_equal(it.times, 5);
    completions_release(&it);
}

static void
another_state_than_ready_calls_back_at_once(void **state)
{
    gp_channel *channel;
    completions it;
    int other;

    (void)state;
    completions_init(&it);
    channel = open_pair(&other);
    assert_int_equal(gp_channel_watch_state(channel, GP_CONNECTING, -1, on_completed, &it), 0);
    assert_int_equal(it.times, 1);
    close_and_unref(channel);
    gp__fd_close(&other);
    completions_release(&it);
}

static void
closing_the_channel_calls_back(void **state)
{
    gp_channel *channel;
    completions it;
    int other;

    (void)state;
    completions_init(&it);
    channel = open_pair(&other);
    assert_int_equal(gp_channel_watch_state(channel, GP_READY, -1, on_completed, &it), 0);
    assert_int_equal(gp_channel_watch_state(channel, GP_READY, PATIENCE_MS, on_completed, &it), 0);
    close_and_unref(channel);
    assert_int_equal(it.times, 2);
    gp__fd_close(&other);
    completions_release(&it);
}

typedef struct dropping {
    completions completions;
    gp_channel *channel;
} dropping;

static void
drop_it(void *ctx)
{
    dropping *it = ctx;

    close_and_unref(it->channel);
    count_completion(&it->completions);
}

/* The callback may give back the last reference. */
static void
a_callback_closes_the_channel(void **state)
{
    dropping it;
    int other;

    (void)state;
    completions_init(&it.completions);
    it.channel = open_pair(&other);
    assert_int_equal(gp_channel_watch_state(it.channel, GP_READY, -1, drop_it, &it), 0);
    gp__fd_close(&other);
    await_completions(&it.completions, 1);
    completions_release(&it.completions);
}

/* ---- What fails ---- */

static int
count_descriptors(void)
{
    DIR *all = opendir("/proc/self/fd");
    int count = 0;

    if (all == NULL) {
        return 0;
    }
    while (readdir(all) != NULL) {
        count++;
    }
    closedir(all);
    return count;
}

static void
nothing(void *ctx)
{
    (void)ctx;
}

/* Returns 0 or |failure|: it cannot be watched. */
static int
watched_and_dropped(gp_channel *channel, int failure)
{
    completions heard;
    int rc;

    completions_init(&heard);
    rc = gp_channel_watch_state(channel, GP_READY, PATIENCE_MS, on_completed, &heard);
    close_and_unref(channel);
    assert_true(rc == 0 || rc == failure);
    assert_int_equal(heard.times, rc == 0 ? 1 : 0);
    completions_release(&heard);
    return rc;
}

/* Channels are freed by another thread than the one that lets go of them. */
static void
await_closed(int fd)
{
    int64_t deadline = gp_deadline_in(PATIENCE_MS);

    while (fcntl(fd, F_GETFD) >= 0) {
        assert_true(gp__now() < deadline);
        usleep(1000);
    }
}

static void
await_descriptors(int most)
{
    int64_t deadline = gp_deadline_in(PATIENCE_MS);

    while (count_descriptors() > most) {
        assert_true(gp__now() < deadline);
        usleep(1000);
    }
}

static void
memory_runs_out(void **state)
{
    fixture it;
    int before;

    (void)state;
    fixture_start(&it, 1, 0);
    watched_and_dropped(open_over(&it), 0); /* allocates what the process keeps */
    before = count_descriptors();
    for (long failing = 0;; failing++) {
        gp_channel *channel = NULL;
        gp_error err = GP_ERROR_INIT;
        int fd = connect_to_fixture(&it);
        int rc;

        alloc_begin(failing);
        rc = gp__channel_open_over(&channel, fd, "x", "localhost", NULL, &err);
        if (rc == 0) {
            rc = watched_and_dropped(channel, GP_ENOMEM);
        } else {
            await_closed(fd);
        }
        assert_true(rc == 0 || rc == GP_ENOMEM);
        gp_error_release(&err);
        /* Watches that are removed are freed on the reactor's next round. */
        assert_int_equal(gp__reactor_call(nothing, NULL, NULL), 0);
        alloc_end();
        if (alloc_failures() == 0) {
            break;
        }
    }
    fixture_stop(&it);
    await_descriptors(before);
}

/* The socket was there, and there is no second descriptor for it. */
static void
descriptors_run_out(void **state)
{
    struct rlimit before;
    struct rlimit few;
    gp_channel *channel = NULL;
    gp_error err = GP_ERROR_INIT;
    int ends[2];
    int rc;

    (void)state;
    assert_int_equal(gp__fd_socketpair(ends, NULL), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = (struct rlimit){(rlim_t)(STDERR_FILENO + 1), before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    rc = gp__channel_open_over(&channel, ends[0], "x", "localhost", NULL, &err);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(rc, GP_EOS);
    assert_non_null(strstr(gp_error_message(&err), "cannot watch a connection"));
    assert_int_equal(fcntl(ends[0], F_GETFD), -1);
    gp__fd_close(&ends[1]);
    gp_error_release(&err);
}

/* ---- Sockets ---- */

static void
expect_unreachable(const char *network, const char *address, int code, const char *reason)
{
    gp_error why = GP_ERROR_INIT;
    int fd = 0;

    assert_int_equal(gp__socket_reach(&fd, network, address, patience(), NULL, &why), code);
    assert_int_equal(fd, -1);
    if (strstr(gp_error_message(&why), reason) == NULL) {
        fail_msg("%s", gp_error_message(&why));
    }
    gp_error_release(&why);
}

static void
what_cannot_be_reached(void **state)
{
    char address[32];
    char longest[200];
    int port;
    int fd;

    (void)state;
    expect_unreachable("unix", "/nonexistent/socket", GP_EOS,
                       "cannot connect to /nonexistent/socket: No such file or directory");
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    expect_unreachable("unix", longest, GP_EOS, "No such file or directory");
    expect_unreachable("tcp", "no port", GP_EINVAL, "cannot connect to no port: ");
    /* A port that was free a moment ago. */
    assert_int_equal(gp__socket_listen(&fd, "tcp", "127.0.0.1:0", &port, NULL), 0);
    gp__fd_close(&fd);
    snprintf(address, sizeof(address), "127.0.0.1:%d", port);
    expect_unreachable("tcp", address, GP_EOS, ": Connection refused");
}

/* A listener with room for one connection, which is taken. */
static int
full_listener(struct sockaddr_un *at, int *taken)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    *at = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(at->sun_path, sizeof(at->sun_path), "%s/full", make_directory());
    unlink(at->sun_path);
    assert_int_equal(bind(fd, (const struct sockaddr *)at, sizeof(*at)), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(gp__socket_reach(taken, "unix", at->sun_path, patience(), NULL, NULL), 0);
    return fd;
}

/* Has the queue's only place free when it is asked whether to go on. */
static int
make_room(void *ctx)
{
    int *fds = ctx;

    if (fds[1] < 0) {
        fds[1] = accept(fds[0], NULL, NULL);
        assert_true(fds[1] >= 0);
    }
    return 0;
}

static void
waiting_for_room_in_the_queue_of_a_listener(void **state)
{
    struct sockaddr_un at;
    gp_error why = GP_ERROR_INIT;
    int first;
    int second;
    int fds[2] = {-1, -1};
    const gp_interrupt room = {.check = make_room, .ctx = fds};

    (void)state;
    fds[0] = full_listener(&at, &first);
    assert_int_equal(gp__socket_reach(&second, "unix", at.sun_path, gp_deadline_in(20), NULL, &why),
                     GP_ETIMEOUT);
    assert_non_null(strstr(gp_error_message(&why), "/full: timed out"));
    gp_error_release(&why);
    assert_int_equal(
        gp__socket_reach(&second, "unix", at.sun_path, patience(), &interrupt_now, &why), GP_EUSER);
    gp_error_release(&why);
    assert_int_equal(gp__socket_reach(&second, "unix", at.sun_path, patience(), &room, NULL), 0);
    assert_true((fcntl(second, F_GETFD) & FD_CLOEXEC) != 0);
    assert_true((fcntl(second, F_GETFL) & O_NONBLOCK) != 0);
    gp__fd_close(&second);
    gp__fd_close(&first);
    gp__fd_close(&fds[0]);
    gp__fd_close(&fds[1]);
    unlink(at.sun_path);
}

static int
tear_down(void **state)
{
    (void)state;
    gp__reactor_stop();
    remove_directory();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_go_through),
        cmocka_unit_test(calls_end_with_the_connection),
        cmocka_unit_test(disconnected_calls_end_with_the_reason),
        cmocka_unit_test(disconnected_before_the_first_call),
        cmocka_unit_test(disconnected_after_the_close),
        cmocka_unit_test(the_peer_sees_the_end),
        cmocka_unit_test(waiting_for_the_end),
        cmocka_unit_test(the_end_calls_back),
        cmocka_unit_test(another_state_than_ready_calls_back_at_once),
        cmocka_unit_test(closing_the_channel_calls_back),
        cmocka_unit_test(a_callback_closes_the_channel),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(descriptors_run_out),
        cmocka_unit_test(what_cannot_be_reached),
        cmocka_unit_test(waiting_for_room_in_the_queue_of_a_listener),
    };

    return cmocka_run_group_tests(tests, NULL, tear_down);
}
