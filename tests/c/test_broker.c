#include "rpc_fixture.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "idle_runner.h"
#include "services/broker.h"
#include "services/broker_state.h"

enum { LONG = 60000 };

typedef struct brokered {
    fixture rpc;
    gp_broker *host;
    gp_broker *plugin; /* the fixture's */
} brokered;

static void
begin(brokered *it)
{
    fixture_start(&it->rpc, 2, 0);
    it->plugin = it->rpc.broker;
    assert_int_equal(gp__broker_open(&it->host, it->rpc.channel, NULL, NULL, NULL, NULL, NULL), 0);
}

static void
end(brokered *it)
{
    gp_broker_close(it->host);
    gp_broker_unref(it->host);
    fixture_stop(&it->rpc);
}

/* Dial |id|, and make a call there. */
static void
call_under(gp_broker *broker, uint32_t id)
{
    gp_call_options options = options_for("/t/Echo");
    gp_channel *channel;
    gp_call *call;

    assert_int_equal(gp_broker_dial(broker, id, LONG, NULL, &channel, NULL), 0);
    assert_int_equal(gp_call_start_unary(&call, channel, &options, text("hello"), NULL), 0);
    assert_int_equal(outcome(call), 0);
    assert_reply(call, "hello");
    gp_call_unref(call);
    gp_channel_close(channel);
    gp_channel_unref(channel);
}

/* |from| announces the fixture's own server, |to| dials it and makes a call. */
static void
announce_and_dial(brokered *it, gp_broker *from, gp_broker *to)
{
    uint32_t id = gp_broker_next_id(from);
    gp_channel *channel;

    assert_int_equal(gp_broker_announce(from, id, "unix", it->rpc.target + 5, NULL), 0);
    call_under(to, id);
    /* It has been claimed. */
    assert_int_equal(gp_broker_dial(to, id, 1, NULL, &channel, NULL), GP_EBROKER);
}

static void
either_side_announces(void **state)
{
    brokered it;

    (void)state;
    begin(&it);
    for (int i = 0; i < 20; i++) {
        announce_and_dial(&it, it.host, it.plugin);
        announce_and_dial(&it, it.plugin, it.host);
    }
    assert_null(gp_broker_tls(it.host));
    end(&it);
}

static void
ids_are_different(void **state)
{
    brokered it;

    (void)state;
    begin(&it);
    for (uint32_t id = 1; id < 100; id++) {
        assert_int_equal(gp_broker_next_id(it.host), id);
    }
    end(&it);
}

static void
expect_failure(int rc, gp_error *err, const char *reason)
{
    assert_int_equal(rc, GP_EBROKER);
    if (strstr(gp_error_message(err), reason) == NULL) {
        fail_msg("%s", gp_error_message(err));
    }
    gp_error_release(err);
}

static void
what_cannot_be_dialled(void **state)
{
    brokered it;
    gp_channel *channel;
    gp_error err = GP_ERROR_INIT;

    (void)state;
    begin(&it);
    expect_failure(gp_broker_dial(it.host, 7, 10, NULL, &channel, &err), &err,
                   "connection 7 was dialled, and the plugin did not announce within 0.01 s");
    expect_failure(gp_broker_dial(it.plugin, 8, 10, NULL, &channel, &err), &err,
                   "connection 8 was dialled, and the host did not");
    assert_int_equal(gp_broker_announce(it.plugin, 9, "carrier pigeon", "coop 3", NULL), 0);
    expect_failure(gp_broker_dial(it.host, 9, LONG, NULL, &channel, &err), &err,
                   "of network \"carrier pigeon\"; expected unix or tcp");
    assert_int_equal(gp_broker_dial(it.host, 7, LONG, &interrupt_now, &channel, NULL), GP_EUSER);
    end(&it);
}

/* With the broker's lock held: how many announcements have not been dialled. */
static size_t
count_announcements(const gp_broker *broker)
{
    size_t count = 0;

    for (const gp_link *at = gp_list_first(&broker->announcements); at != NULL;
         at = gp_list_next(&broker->announcements, at)) {
        count++;
    }
    return count;
}

/* Wait until |count| announcements have not been dialled. */
static void
await_announcements(gp_broker *broker, size_t count)
{
    int64_t deadline = patience();
    bool there = false;

    while (!there) {
        assert_true(gp__now() < deadline);
        usleep(1000);
        gp_mutex_lock(&broker->lock);
        there = count_announcements(broker) == count;
        gp_mutex_unlock(&broker->lock);
    }
}

static void
what_is_not_dialled_is_dropped(void **state)
{
    brokered it;
    gp_channel *channel;
    gp_error err = GP_ERROR_INIT;

    gp__announcement *announced;

    (void)state;
    begin(&it);
    assert_int_equal(gp_broker_announce(it.plugin, 5, "unix", it.rpc.target + 5, NULL), 0);
    await_announcements(it.host, 1);
    gp_mutex_lock(&it.host->lock);
    announced = gp_list_first_entry(&it.host->announcements, gp__announcement, link);
    assert_in_range(announced->expires - gp__now(), 1, 5000 * GP__MS);
    announced->expires = gp__now(); /* the five seconds are over */
    gp_mutex_unlock(&it.host->lock);
    expect_failure(gp_broker_dial(it.host, 5, 0, NULL, &channel, &err), &err,
                   "an announcement that is not dialled is dropped after 5 s");
    assert_int_equal(gp_broker_announce(it.plugin, 6, "unix", it.rpc.target + 5, NULL), 0);
    assert_int_equal(gp_broker_dial(it.host, 6, LONG, NULL, &channel, NULL), 0);
    gp_channel_close(channel);
    gp_channel_unref(channel);
    await_announcements(it.host, 0);
    end(&it);
}

static void
announcements_without_end(void **state)
{
    enum { MOST = 4096 };
    brokered it;
    gp_channel *channel;
    char *endless = gp__malloc(100000);

    (void)state;
    begin(&it);
    memset(endless, 'x', 99999);
    endless[99999] = '\0';
    assert_int_equal(gp_broker_announce(it.plugin, 1, "unix", endless, NULL), 0);
    for (uint32_t id = 2; id < MOST + 10; id++) {
        assert_int_equal(gp_broker_announce(it.plugin, id, "unix", it.rpc.target + 5, NULL), 0);
    }
    assert_int_equal(gp_broker_dial(it.host, MOST + 9, LONG, NULL, &channel, NULL), 0);
    gp_channel_close(channel);
    gp_channel_unref(channel);
    gp_mutex_lock(&it.host->lock);
    assert_true(count_announcements(it.host) < MOST);
    gp_mutex_unlock(&it.host->lock);
    assert_int_equal(gp_broker_dial(it.host, 1, 0, NULL, &channel, NULL), GP_EBROKER);
    gp__free(endless);
    end(&it);
}

static void
plugins_without_a_broker(void **state)
{
    fixture rpc;
    gp_broker *host;
    gp_channel *other;
    gp_channel *channel;
    gp_error err = GP_ERROR_INIT;
    gp_server *server;
    char target[80];
    gp_server_options options = {.max_workers = 1};

    (void)state;
    fixture_start(&rpc, 1, 0);
    options.handler = (gp_server_handler){.begin = fixture_begin, .run = fixture_run};
    options.handler_ctx = &rpc;
    assert_int_equal(gp_server_new(&server, &options, NULL), 0);
    snprintf(target, sizeof(target), "%s-2", rpc.target);
    assert_int_equal(gp_server_listen(server, target, NULL, NULL), 0);
    assert_int_equal(gp_server_start(server, NULL), 0);
    assert_int_equal(gp_channel_open(&other, target, NULL, NULL), 0);
    assert_int_equal(gp__broker_open(&host, other, NULL, NULL, NULL, NULL, NULL), 0);
    expect_failure(gp_broker_dial(host, 1, LONG, NULL, &channel, &err), &err,
                   "the plugin has no broker service");
    expect_failure(gp_broker_announce(host, 1, "unix", "/x", &err), &err,
                   "the plugin has no broker service");
    gp_broker_close(host);
    gp_broker_unref(host);
    gp_channel_close(other);
    gp_channel_unref(other);
    gp_server_stop(server, 0);
    assert_int_equal(gp_server_join(server, LONG, NULL), 0);
    gp_server_release(server);
    fixture_stop(&rpc);
}

/* ---- The end ---- */

typedef struct gone_count {
    atomic_int gone;
    atomic_int released;
} gone_count;

static void
count_gone(void *ctx)
{
    atomic_fetch_add(&((gone_count *)ctx)->gone, 1);
}

static void
count_released(void *ctx)
{
    atomic_fetch_add(&((gone_count *)ctx)->released, 1);
}

typedef struct dialling {
    gp_broker *broker;
    int rc;
    gp_error err;
} dialling;

static void *
dial(void *arg)
{
    dialling *it = arg;
    gp_channel *channel;

    it->rc = gp_broker_dial(it->broker, 99, LONG, NULL, &channel, &it->err);
    return NULL;
}

/* Threads that wait are woken before the callback is called. */
static void
await_one(atomic_int *count)
{
    for (int64_t deadline = gp_deadline_in(LONG); atomic_load(count) == 0;) {
        assert_true(gp__now() < deadline);
        sched_yield();
    }
    assert_int_equal(atomic_load(count), 1);
}

static void
the_other_side_goes(void **state)
{
    /* Not on the stack: a release is counted by the server's last thread, which is not joined. */
    static gone_count counts[2];
    brokered it;
    dialling waiting;
    pthread_t thread;

    (void)state;
    begin(&it);
    assert_true(gp_broker_on_gone(it.host, count_gone, count_released, &counts[0]));
    assert_true(gp_broker_on_gone(it.plugin, count_gone, count_released, &counts[1]));
    announce_and_dial(&it, it.host, it.plugin); /* the stream is there */
    waiting = (dialling){it.host, 0, GP_ERROR_INIT};
    assert_int_equal(pthread_create(&thread, NULL, dial, &waiting), 0);
    gp_server_stop(it.rpc.server, 0);
    pthread_join(thread, NULL);
    expect_failure(waiting.rc, &waiting.err,
                   "connection 99 cannot be dialled: the plugin has gone");
    await_one(&counts[0].gone);
    assert_int_equal(atomic_load(&counts[0].released), 0);
    end(&it);
    await_one(&counts[1].gone);
}

/* A thread that dials polls, and has to be woken if another thread closes the broker. */
static void
closed_while_a_thread_waits(void **state)
{
    brokered it;
    dialling waiting;
    pthread_t thread;
    bool dials = false;

    (void)state;
    begin(&it);
    announce_and_dial(&it, it.host, it.plugin); /* the stream is there */
    waiting = (dialling){it.host, 0, GP_ERROR_INIT};
    assert_int_equal(pthread_create(&thread, NULL, dial, &waiting), 0);
    while (!dials) {
        usleep(1000);
        gp_mutex_lock(&it.host->lock);
        dials = !gp_list_is_empty(&it.host->diallers);
        gp_mutex_unlock(&it.host->lock);
    }
    gp_broker_close(it.host);
    gp_broker_close(it.host);
    pthread_join(thread, NULL);
    expect_failure(waiting.rc, &waiting.err, "the connection to the plugin has been closed");
    end(&it);
}

/* What a host does when its plugin is dead. */
static void
remove_left(gp_broker *host)
{
    const gp__process_spec spec = {.argv = (const char *const[]){"/bin/true", NULL}};
    gp__leftover left;
    gp__process *process;
    int out;
    int err;

    assert_int_equal(gp__process_spawn(&process, &spec, &out, &err, NULL), 0);
    assert_int_equal(gp__process_wait(process, patience(), NULL), 0);
    gp__leftover_init(&left, process);
    gp__broker_remove_sockets(host, &left);
    gp__leftover_release(&left);
    gp__process_unref(process);
    close(out);
    close(err);
}

/* The sockets that a plugin leaves behind are removed, and nothing else is. */
static void
sockets_left_behind(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *file = make_file("precious", "text", 0600);
    gp_error err = GP_ERROR_INIT;
    gp_channel *channel;
    struct stat status;
    brokered it;
    int fd;

    (void)state;
    begin(&it);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/left", make_directory());
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
    assert_int_equal(gp_broker_announce(it.plugin, 1, "unix", address.sun_path, NULL), 0);
    assert_int_equal(gp_broker_announce(it.plugin, 2, "unix", file, NULL), 0);
    expect_failure(gp_broker_dial(it.host, 2, LONG, NULL, &channel, &err), &err,
                   "connection 2 of the plugin cannot be dialled: cannot connect to /");
    gp_broker_close(it.host);
    assert_int_equal(lstat(address.sun_path, &status), 0);
    remove_left(it.host);
    assert_true(lstat(address.sun_path, &status) < 0);
    assert_int_equal(lstat(file, &status), 0);
    end(&it);
    remove_directory();
}

/*
 * Of many announced sockets, those that are gone are forgotten, without asking the file system on
 * the polling thread.
 */
static void
few_sockets_are_remembered(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    gp_error err = GP_ERROR_INIT;
    gp_channel *channel;
    struct stat status;
    brokered it;
    int fd;

    (void)state;
    begin(&it);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/left", make_directory());
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
    assert_int_equal(gp_broker_announce(it.plugin, 1, "unix", address.sun_path, NULL), 0);
    for (unsigned id = 2; id < 600; id++) {
        assert_int_equal(gp_broker_announce(it.plugin, id, "unix", "/nonexistent/socket", NULL), 0);
    }
    expect_failure(gp_broker_dial(it.host, 599, LONG, NULL, &channel, &err), &err,
                   "connection 599 of the plugin cannot be dialled: cannot connect to /");
    assert_in_range(it.host->sockets_count, 1, 300);
    gp_broker_close(it.host);
    remove_left(it.host);
    assert_true(lstat(address.sun_path, &status) < 0);
    end(&it);
    remove_directory();
}

/* ---- Plugins that a runner has launched ---- */

/* It knows paths of the plugin's as "/inside/...", and the host's as they are. */
static int
to_host(void *ctx, gp_runner_address *address, gp_error *err)
{
    const size_t prefix = strlen("/inside");

    (void)ctx;
    if (strcmp(address->address, "/inside/lost") == 0) {
        return gp_error_set(err, GP_EHANDSHAKE, "no such place");
    }
    if (strcmp(address->address, "/inside/coop") == 0) {
        snprintf(address->network, sizeof(address->network), "pigeon");
    }
    memmove(address->address, address->address + prefix, strlen(address->address) + 1 - prefix);
    return 0;
}

static int
to_plugin(void *ctx, gp_runner_address *address, gp_error *err)
{
    (void)ctx;
    if (strcmp(address->address, "/lost") == 0) {
        return gp_error_set(err, GP_EHANDSHAKE, "no such place");
    }
    /* The plugin of these tests is in this process: "/outside" is where it finds what it dials. */
    memmove(address->address, address->address + strlen("/outside"),
            strlen(address->address) + 1 - strlen("/outside"));
    return 0;
}

static void
addresses_are_translated(void **state)
{
    gp_error err = GP_ERROR_INIT;
    gp_channel *channel;
    gp_broker *plugin;
    gp_broker *host;
    fixture rpc;
    char path[320];
    char far_away[320];
    idle_runner it;

    (void)state;
    idle_runner_start(&it, to_host, to_plugin);
    fixture_start(&rpc, 2, 0);
    plugin = rpc.broker;
    assert_int_equal(gp__broker_open(&host, rpc.channel, NULL, NULL, it.process, NULL, NULL), 0);

    snprintf(path, sizeof(path), "/inside%s", rpc.target + 5);
    assert_int_equal(gp_broker_announce(plugin, 1, "unix", path, NULL), 0);
    call_under(host, 1);
    snprintf(path, sizeof(path), "/outside%s", rpc.target + 5);
    assert_int_equal(gp_broker_announce(host, 2, "unix", path, NULL), 0);
    call_under(plugin, 2);

    assert_int_equal(gp_broker_announce(plugin, 3, "unix", "/inside/lost", NULL), 0);
    expect_failure(gp_broker_dial(host, 3, LONG, NULL, &channel, &err), &err,
                   "connection 3 is at /inside/lost, which cannot be put into the host's terms: "
                   "no such place");
    assert_int_equal(gp_broker_announce(plugin, 4, "unix", "/inside/coop", NULL), 0);
    expect_failure(gp_broker_dial(host, 4, LONG, NULL, &channel, &err), &err,
                   "the network pigeon, not unix or tcp");
    memset(far_away, 'a', sizeof(far_away) - 1);
    far_away[sizeof(far_away) - 1] = '\0';
    assert_int_equal(gp_broker_announce(plugin, 5, "unix", far_away, NULL), 0);
    expect_failure(gp_broker_dial(host, 5, LONG, NULL, &channel, &err), &err, "it is too long");
    expect_failure(gp_broker_announce(host, 6, "unix", "/lost", &err), &err,
                   "cannot be put into the plugin's terms: no such place");

    gp_broker_close(host);
    gp_broker_unref(host);
    fixture_stop(&rpc);
    idle_runner_stop(&it);
}

static void
nothing_in_a_forked_child(void **state)
{
    gp_channel *channel;
    brokered it;
    int status;
    pid_t pid;

    (void)state;
    begin(&it);
    pid = fork();
    if (pid == 0) {
        bool refused = gp_broker_dial(it.host, 1, LONG, NULL, &channel, NULL) == GP_EFORKED &&
                       gp_broker_announce(it.host, 1, "unix", "/x", NULL) == GP_EFORKED;

        gp_broker_close(it.host);
        gp_broker_unref(it.host);
        /* No exit: what only other threads' stacks refer to would be a leak of the child's. */
        execl(refused ? "/bin/true" : "/bin/false", "", (char *)NULL);
        _exit(2);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    end(&it);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(either_side_announces),
        cmocka_unit_test(ids_are_different),
        cmocka_unit_test(what_cannot_be_dialled),
        cmocka_unit_test(plugins_without_a_broker),
        cmocka_unit_test(what_is_not_dialled_is_dropped),
        cmocka_unit_test(announcements_without_end),
        cmocka_unit_test(the_other_side_goes),
        cmocka_unit_test(closed_while_a_thread_waits),
        cmocka_unit_test(sockets_left_behind),
        cmocka_unit_test(few_sockets_are_remembered),
        cmocka_unit_test(nothing_in_a_forked_child),
        cmocka_unit_test(addresses_are_translated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
