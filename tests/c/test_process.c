#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "gp/client.h"
#include "os/diagnose.h"
#include "os/fd.h"
#include "os/process.h"
#include "os/procstat.h"
#include "os/reactor.h"
#include "support.h"

extern char **environ;

/* A child and the ends of its pipes. */
typedef struct child {
    gp__process *process;
    int out;
    int err;
} child;

static int
spawn_with(child *it, const char *const *argv, const char *const *env, const char *directory,
           gp_error *err)
{
    const gp__process_spec spec = {.argv = argv, .env = env, .directory = directory};

    return gp__process_spawn(&it->process, &spec, &it->out, &it->err, err);
}

static void
spawn(child *it, const char *const *argv)
{
    gp_error err = GP_ERROR_INIT;

    if (spawn_with(it, argv, (const char *const *)environ, NULL, &err) < 0) {
        fail_msg("%s", gp_error_message(&err));
    }
}

#define SHELL(it, script) spawn((it), (const char *const[]){"/bin/sh", "-c", (script), NULL})

static void
child_release(child *it)
{
    gp__fd_close(&it->out);
    gp__fd_close(&it->err);
    gp__process_unref(it->process);
}

static void
await_exit(child *it)
{
    assert_int_equal(gp__process_wait(it->process, patience(), NULL), 0);
}

/* All that comes out of |fd| until its end, as a string that lives until the next call. */
static const char *
read_all(int fd)
{
    static gp__buf buf;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    char chunk[1024];
    ssize_t got;

    buf.len = 0;
    do {
        assert_int_equal(gp__fd_poll(&ready, 1, patience()), 1);
        got = read(fd, chunk, sizeof(chunk));
        assert_true(got >= 0 || errno == EAGAIN);
        if (got > 0) {
            gp__buf_append(&buf, chunk, (size_t)got);
        }
    } while (got != 0);
    gp__buf_append(&buf, "", 1);
    return buf.data;
}

static const char *
output_of(const char *script)
{
    const char *output;
    child it;

    SHELL(&it, script);
    output = read_all(it.out);
    await_exit(&it);
    child_release(&it);
    return output;
}

/* ---- Starting ---- */

static void
output_and_status(void **state)
{
    child it;

    (void)state;
    SHELL(&it, "echo out; echo err >&2; exit 7");
    assert_true(gp__process_pid(it.process) > 0);
    assert_string_equal(read_all(it.out), "out\n");
    assert_string_equal(read_all(it.err), "err\n");
    await_exit(&it);
    assert_true(gp__process_gone(it.process));
    assert_int_equal(gp__process_status(it.process), 7);
    child_release(&it);
}

static void
environment_and_directory(void **state)
{
    static const char *const argv[] = {"/bin/sh", "-c", "echo $A; pwd; env | wc -l", NULL};
    static const char *const env[] = {"A=b c", "PATH=/bin:/usr/bin", NULL};
    const char *output;
    child it;

    (void)state;
    assert_int_equal(spawn_with(&it, argv, env, "/usr", NULL), 0);
    output = read_all(it.out);
    assert_int_equal(strncmp(output, "b c\n/usr\n", 9), 0);
    await_exit(&it);
    child_release(&it);
}

static void
stdin_is_the_hosts(void **state)
{
    int before = dup(STDIN_FILENO);
    int ends[2];

    (void)state;
    assert_int_equal(gp__fd_pipe(ends, NULL), 0);
    assert_int_equal(write(ends[1], "typed\n", 6), 6);
    dup2(ends[0], STDIN_FILENO);
    assert_string_equal(output_of("read line; echo got $line"), "got typed\n");
    dup2(before, STDIN_FILENO);
    close(before);
    close(ends[0]);
    close(ends[1]);
}

static void
no_descriptor_is_inherited(void **state)
{
    int low = open("/dev/null", O_RDONLY);
    int high = fcntl(low, F_DUPFD, 200);

    (void)state;
    assert_true(low >= 0 && high >= 200);
    /* The listing itself may show up, as the one descriptor that ls opens. */
    assert_string_equal(output_of("ls /proc/self/fd | grep -v '^[0-3]$'; echo end"), "end\n");
    close(low);
    close(high);
}

static void
standard_descriptors_may_be_closed(void **state)
{
    int saved[3];

    (void)state;
    for (int fd = 0; fd < 3; fd++) {
        saved[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 10);
        close(fd);
    }
    {
        static const char *const argv[] = {"/bin/sh", "-c", "echo out; echo err >&2", NULL};
        const gp__process_spec spec = {.argv = argv, .env = (const char *const *)environ};
        gp__process *process = NULL;
        char out[16] = "";
        int out_fd = -1;
        int err_fd = -1;
        int rc = gp__process_spawn(&process, &spec, &out_fd, &err_fd, NULL);
        int waited = rc == 0 ? gp__process_wait(process, patience(), NULL) : rc;
        ssize_t got = rc == 0 ? read(out_fd, out, sizeof(out)) : -1;

        for (int fd = 0; fd < 3; fd++) {
            dup2(saved[fd], fd);
            close(saved[fd]);
        }
        assert_int_equal(rc, 0);
        assert_int_equal(waited, 0);
        assert_int_equal(got, 4);
        assert_true(out_fd > 2 && err_fd > 2);
        close(out_fd);
        close(err_fd);
        gp__process_unref(process);
    }
}

static void
signals_are_as_new(void **state)
{
    sigset_t blocked;
    sigset_t before;
    const char *status;
    unsigned long long kept_blocked;
    unsigned long long ignored;

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    status = output_of("grep -E '^Sig(Blk|Ign)' /proc/self/status");
    assert_int_equal(sscanf(status, "SigBlk: %llx SigIgn: %llx", &kept_blocked, &ignored), 2);
    assert_int_equal(kept_blocked, 0);
    /* Signals 32 and 33 are the C library's own: it lets nobody change them. */
    assert_int_equal(ignored & 0x7fffffff, 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
}

static void
the_process_group_is_the_hosts(void **state)
{
    child it;

    (void)state;
    SHELL(&it, "exec sleep 1000");
    assert_int_equal(getpgid(gp__process_pid(it.process)), getpgrp());
    gp__process_kill(it.process);
    await_exit(&it);
    child_release(&it);
}

/* ---- Finding the program ---- */

static void
programs_are_found_as_subprocess_finds_them(void **state)
{
    const char *directory = make_directory();
    const char *const relative[] = {"./prog", NULL};
    const char *const bare[] = {"prog", NULL};
    char path[200];
    const char *env[] = {path, NULL};
    const char *const no_path[] = {NULL};
    const char *const list[] = {"ls", "/dev/null", NULL};
    child it;

    (void)state;
    make_file("prog", "#!/bin/sh\necho found\n", 0755);
    assert_int_equal(spawn_with(&it, relative, no_path, directory, NULL), 0);
    assert_string_equal(read_all(it.out), "found\n");
    await_exit(&it);
    child_release(&it);
    /* The PATH of the child's environment, not of ours. */
    snprintf(path, sizeof(path), "PATH=/nonexistent:%s:/bin", directory);
    assert_int_equal(spawn_with(&it, bare, env, NULL, NULL), 0);
    assert_string_equal(read_all(it.out), "found\n");
    await_exit(&it);
    child_release(&it);
    /* An empty entry is the working directory, which is |directory|. */
    snprintf(path, sizeof(path), "PATH=/nonexistent:");
    assert_int_equal(spawn_with(&it, bare, env, directory, NULL), 0);
    await_exit(&it);
    child_release(&it);
    assert_int_equal(spawn_with(&it, list, no_path, NULL, NULL), 0);
    await_exit(&it);
    assert_int_equal(gp__process_status(it.process), 0);
    child_release(&it);
}

static void
refuse(const char *program, const char *directory, const char *env_entry, const char *words)
{
    const char *const argv[] = {program, NULL};
    const char *const env[] = {env_entry, NULL};
    gp_error err = GP_ERROR_INIT;
    child it;

    assert_int_equal(spawn_with(&it, argv, env, directory, &err), GP_ESTART);
    assert_int_equal(err.code, GP_ESTART);
    if (strstr(gp_error_message(&err), words) == NULL ||
        strstr(gp_error_message(&err), "cannot start") == NULL) {
        fail_msg("no \"%s\" in: %s", words, gp_error_message(&err));
    }
    gp_error_release(&err);
}

static void
what_is_wrong_is_said(void **state)
{
    char loop[200];

    (void)state;
    refuse("/nonexistent/plugin", NULL, NULL, "there is no file /nonexistent/plugin");
    refuse("nosuchprogram", NULL, "PATH=/bin:/usr/bin", "no such program in PATH (/bin:/usr/bin)");
    refuse("./nosuch", "/usr", NULL, "there is no file /usr/./nosuch");
    refuse("/bin/sh", "/nonexistent", NULL, "working directory /nonexistent");
    refuse(make_directory(), NULL, NULL, "is a directory");
    refuse(make_file("plain", "text\n", 0644), NULL, NULL, "is not executable");
    refuse(make_file("plain", "text\n", 0644), NULL, NULL, "-rw-r--r--");
    refuse(make_file("empty", "", 0755), NULL, NULL, "is empty");
    refuse(make_file("text", "hello\n", 0755), NULL, NULL, "neither a program");
    refuse("missing", make_directory(), "PATH=.", "no such program in PATH (.)");
    snprintf(loop, sizeof(loop), "%s/loop", make_directory());
    assert_int_equal(symlink("loop", loop), 0);
    refuse(loop, NULL, NULL, strerror(ELOOP)); /* like whatever else the kernel may say */
    unlink(loop);
}

/* What only the kernel finds out, after valgrind has let the exec pass. */
static void
what_the_kernel_refuses_is_said(void **state)
{
    /* The head of an ELF file; its machine, in bytes 18 and 19, is LoongArch. */
    static const char elf[] = "\177ELF\2\1\1.........\2.\2\1............................";

    (void)state;
    if (under_valgrind()) {
        skip();
    }
    refuse(make_file("elf", elf, 0755), NULL, NULL, "is built for LoongArch, this machine is ");
    refuse(make_file("script", "#!/no/such/python3\n", 0755), NULL, NULL,
           "interpreter \"/no/such/python3\"");
    refuse(make_file("spaces", "#!  /no/such/python3  -u\n", 0755), NULL, NULL,
           "interpreter \"/no/such/python3\"");
    refuse(make_file("windows", "#!/bin/sh\r\n", 0755), NULL, NULL, "CR LF");
    refuse(make_file("dir", "#!/tmp\n", 0755), NULL, NULL, "is not an executable file");
    make_file("broken", "#!/no/such/perl\n", 0755);
    refuse("broken", make_directory(), "PATH=.", "interpreter \"/no/such/perl\"");
}

static void
nothing_is_left_of_a_failed_start(void **state)
{
    int lowest = open("/dev/null", O_RDONLY);
    int after;

    (void)state;
    close(lowest);
    refuse("/nonexistent/plugin", NULL, NULL, "no file");
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    after = open("/dev/null", O_RDONLY);
    assert_int_equal(after, lowest);
    close(after);
}

/* ---- Ending ---- */

static void
killing(void **state)
{
    child it;
    char fate[96];

    (void)state;
    SHELL(&it, "exec sleep 1000");
    assert_false(gp__process_gone(it.process));
    assert_int_equal(gp__process_status(it.process), GP_STATUS_UNKNOWN);
    gp__process_kill(it.process);
    await_exit(&it);
    assert_int_equal(gp__process_status(it.process), -SIGKILL);
    assert_non_null(strstr(gp__process_fate(-SIGKILL, fate, sizeof(fate)), "killed by signal 9"));
    gp__process_kill(it.process); /* nobody is there to be hit */
    child_release(&it);
}

static void
waiting_has_an_end(void **state)
{
    child it;

    (void)state;
    SHELL(&it, "exec sleep 1000");
    assert_int_equal(gp__process_wait(it.process, gp__deadline_in(20), NULL), GP_ETIMEOUT);
    assert_int_equal(gp__process_wait(it.process, patience(), &interrupt_now), GP_EUSER);
    gp__process_kill(it.process);
    assert_int_equal(gp__process_wait(it.process, GP__FOREVER, NULL), 0);
    child_release(&it);
}

static void
a_host_that_ignores_sigchld(void **state)
{
    child it;
    char fate[96];

    (void)state;
    signal(SIGCHLD, SIG_IGN);
    SHELL(&it, "exit 3");
    await_exit(&it);
    signal(SIGCHLD, SIG_DFL);
    assert_int_equal(gp__process_status(it.process), GP_STATUS_UNKNOWN);
    assert_non_null(strstr(gp__process_fate(GP_STATUS_UNKNOWN, fate, sizeof(fate)), "unknown"));
    gp__process_kill(it.process);
    child_release(&it);
}

static void
a_host_that_reaps_our_children(void **state)
{
    child it;

    (void)state;
    SHELL(&it, "exec sleep 1000");
    kill(gp__process_pid(it.process), SIGKILL);
    assert_int_equal(waitpid(gp__process_pid(it.process), NULL, 0), gp__process_pid(it.process));
    gp__process_kill(it.process);
    await_exit(&it);
    assert_int_equal(gp__process_status(it.process), GP_STATUS_UNKNOWN);
    child_release(&it);
}

static void
dying(void **state)
{
    gp__process *joined;
    gp__procstat own;
    child it;

    (void)state;
    SHELL(&it, "exec sleep 1000");
    assert_int_equal(gp__process_inspect(it.process), GP__PROCESS_WELL);
    /* A dead child of ours that is not reaped yet, seen by one that only joined it. */
    assert_int_equal(gp__process_attach(&joined, gp__process_pid(it.process), 0, NULL), 0);
    gp__process_kill(it.process);
    while (gp__process_inspect(joined) == GP__PROCESS_WELL) {
        sched_yield();
    }
    await_exit(&it);
    assert_int_equal(gp__process_wait(joined, patience(), NULL), 0);
    gp__process_unref(joined);
    assert_int_equal(gp__process_inspect(it.process), GP__PROCESS_GONE);
    child_release(&it);
    assert_true(gp__procstat_read(getpid(), &own));
    assert_false(own.dying);
    assert_true(own.start_time > 0);
}

/* ---- Watching ---- */

typedef struct noticed {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int count;
} noticed;

static void
notice(void *ctx)
{
    noticed *it = ctx;

    pthread_mutex_lock(&it->lock);
    it->count++;
    pthread_cond_broadcast(&it->changed);
    pthread_mutex_unlock(&it->lock);
}

static void
noticed_init(noticed *it)
{
    pthread_mutex_init(&it->lock, NULL);
    gp__cond_init(&it->changed);
    it->count = 0;
}

static void
await_notice(noticed *it)
{
    int64_t deadline = patience();

    pthread_mutex_lock(&it->lock);
    while (it->count == 0) {
        assert_int_equal(gp__cond_wait_until(&it->changed, &it->lock, deadline), 0);
    }
    pthread_mutex_unlock(&it->lock);
}

static void
deaths_are_noticed(void **state)
{
    child children[20];
    noticed seen[20];

    (void)state;
    for (int i = 0; i < 20; i++) {
        noticed_init(&seen[i]);
        SHELL(&children[i], i % 2 == 0 ? "exit 5" : "exec sleep 1000");
        assert_int_equal(gp__process_watch(children[i].process, notice, &seen[i], NULL), 0);
    }
    for (int i = 1; i < 20; i += 2) {
        gp__process_kill(children[i].process);
    }
    for (int i = 0; i < 20; i++) {
        await_notice(&seen[i]);
        assert_int_equal(gp__process_status(children[i].process), i % 2 == 0 ? 5 : -SIGKILL);
        gp__process_unwatch(children[i].process);
        assert_int_equal(seen[i].count, 1);
        child_release(&children[i]);
    }
}

static void
unwatched_deaths_are_not(void **state)
{
    child it;
    noticed seen;

    (void)state;
    noticed_init(&seen);
    SHELL(&it, "exec sleep 1000");
    assert_int_equal(gp__process_watch(it.process, notice, &seen, NULL), 0);
    gp__process_unwatch(it.process);
    gp__process_unwatch(it.process);
    gp__process_kill(it.process);
    await_exit(&it);
    assert_int_equal(seen.count, 0);
    child_release(&it);
}

/* ---- Joining ---- */

static void
joining_a_process(void **state)
{
    gp__process *joined;
    noticed seen;
    child it;

    (void)state;
    noticed_init(&seen);
    SHELL(&it, "exec sleep 1000");
    assert_int_equal(gp__process_attach(&joined, gp__process_pid(it.process), 0, NULL), 0);
    assert_int_equal(gp__process_watch(joined, notice, &seen, NULL), 0);
    assert_false(gp__process_gone(joined));
    assert_int_equal(gp__process_wait(joined, gp__deadline_in(10), NULL), GP_ETIMEOUT);
    gp__process_kill(joined); /* not before it is recognised */
    assert_int_equal(gp__process_wait(joined, gp__deadline_in(10), NULL), GP_ETIMEOUT);
    assert_false(gp__process_recognise(joined, getpid()));
    assert_true(gp__process_recognise(joined, gp__process_pid(it.process)));
    gp__process_kill(joined);
    await_exit(&it);
    assert_int_equal(gp__process_status(it.process), -SIGKILL); /* whose child it is reaps it */
    assert_int_equal(gp__process_wait(joined, patience(), NULL), 0);
    await_notice(&seen);
    assert_int_equal(gp__process_status(joined), GP_STATUS_UNKNOWN);
    gp__process_kill(joined);
    gp__process_unwatch(joined);
    gp__process_unref(joined);
    child_release(&it);
}

static void
a_pid_with_its_start_time(void **state)
{
    gp_error err = GP_ERROR_INIT;
    gp__process *joined;
    unsigned long long started;
    child it;

    (void)state;
    SHELL(&it, "exec sleep 1000");
    started = gp__process_start_time(it.process);
    assert_true(started > 0);
    assert_int_equal(gp__process_attach(&joined, gp__process_pid(it.process), started + 1, &err),
                     GP_EREATTACH);
    assert_non_null(strstr(gp_error_message(&err), "another process"));
    assert_int_equal(gp__process_attach(&joined, gp__process_pid(it.process), started, &err), 0);
    assert_int_equal(gp__process_start_time(joined), started);
    gp__process_kill(joined);
    await_exit(&it);
    assert_int_equal(gp__process_wait(joined, patience(), NULL), 0);
    gp__process_unref(joined);
    child_release(&it);
    gp_error_release(&err);
}

/* A wrapper is what was launched, and what it runs is what listens. */
static void
a_descendant_is_recognised(void **state)
{
    gp__process *joined;
    child it;
    char line[32] = "";
    size_t len = 0;

    (void)state;
    SHELL(&it, "sh -c 'echo $$; exec sleep 1000'; :");
    while (strchr(line, '\n') == NULL) {
        ssize_t got = read(it.out, line + len, sizeof(line) - 1 - len);

        len += got > 0 ? (size_t)got : 0;
        sched_yield();
    }
    assert_int_equal(gp__process_attach(&joined, gp__process_pid(it.process), 0, NULL), 0);
    assert_true(gp__process_recognise(joined, atoi(line)));
    gp__process_kill(joined);
    await_exit(&it);
    assert_int_equal(kill(atoi(line), SIGKILL), 0);
    gp__process_unref(joined);
    child_release(&it);
}

static void
joining_nobody(void **state)
{
    gp_error err = GP_ERROR_INIT;
    gp__process *joined;
    child it;
    int pid;

    (void)state;
    SHELL(&it, "exit 0");
    await_exit(&it);
    pid = gp__process_pid(it.process);
    child_release(&it);
    assert_int_equal(gp__process_attach(&joined, pid, 0, &err), GP_EREATTACH);
    assert_non_null(strstr(gp_error_message(&err), "process not found"));
    assert_int_equal(gp__process_attach(&joined, 0, 0, &err), GP_EREATTACH);
    assert_int_equal(gp__process_attach(&joined, -1, 0, &err), GP_EREATTACH);
    gp_error_release(&err);
}

/* ---- Elsewhere ---- */

/* A runner of nothing: it has ended once somebody writes to |end|. */
typedef struct nothing {
    int end[2];
    int fails;
    int kills;
    atomic_int releases; /* counted last, by whichever thread */
} nothing;

static int
start_nothing(void *ctx, const char *const *env, int *out_fd, int *err_fd, gp_error *err)
{
    const nothing *it = ctx;

    assert_string_equal(env[0], "A=b");
    if (it->fails) {
        return gp_error_set(err, GP_ESTART, "no luck");
    }
    *out_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    *err_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return 0;
}

static int
wait_for_nothing(void *ctx)
{
    const nothing *it = ctx;
    char status = 0;

    assert_int_equal(read(it->end[0], &status, 1), 1);
    return status;
}

static void
kill_nothing(void *ctx)
{
    nothing *it = ctx;

    it->kills++;
    assert_int_equal(write(it->end[1], "\x07", 1), 1);
}

static void
release_nothing(void *ctx)
{
    nothing *it = ctx;

    gp__fd_close(&it->end[0]);
    gp__fd_close(&it->end[1]);
    atomic_fetch_add(&it->releases, 1);
}

static void
run_by_a_runner(void **state)
{
    static const char *const env[] = {"A=b", NULL};

    (void)state;
    for (int fails = 0; fails < 2; fails++) {
        nothing it = {.fails = fails};
        const gp_runner runner = {.start = start_nothing,
                                  .wait = wait_for_nothing,
                                  .kill = kill_nothing,
                                  .release = release_nothing,
                                  .ctx = &it};
        gp_error err = GP_ERROR_INIT;
        gp__process *process;
        child fds = {NULL, -1, -1};
        noticed seen;
        int rc;

        noticed_init(&seen);
        assert_int_equal(gp__fd_pipe(it.end, NULL), 0);
        rc = gp__process_run(&process, &runner, env, &fds.out, &fds.err, &err);
        assert_int_equal(rc, fails ? GP_ESTART : 0);
        if (rc == 0) {
            assert_ptr_equal(gp__process_runner(process)->ctx, &it);
            assert_int_equal(gp__process_pid(process), -1);
            assert_int_equal(gp__process_watch(process, notice, &seen, NULL), 0);
            assert_false(gp__process_gone(process));
            assert_int_equal(gp__process_wait(process, gp__deadline_in(10), NULL), GP_ETIMEOUT);
            gp__process_kill(process);
            gp__process_kill(process);
            assert_int_equal(gp__process_wait(process, patience(), NULL), 0);
            await_notice(&seen);
            assert_int_equal(gp__process_status(process), 7);
            gp__process_unwatch(process);
            gp__process_unref(process);
            gp__fd_close(&fds.out);
            gp__fd_close(&fds.err);
        }
        /* The last reference may be that of a thread that is about to end. */
        for (int64_t deadline = patience(); atomic_load(&it.releases) == 0;) {
            assert_true(gp__now() < deadline);
            sched_yield();
        }
        assert_int_equal(it.kills, fails ? 0 : 1);
        gp_error_release(&err);
    }
}

/* ---- Allocation ---- */

static void
every_allocation_fails(void **state)
{
    static const char *const good[] = {"/bin/true", NULL};
    static const char *const bad[] = {"/nonexistent/plugin", NULL};
    static const char *const nowhere[] = {"nosuchprogram", NULL};
    static const char *const env[] = {"PATH=/bin", NULL};
    static const char *const *const all[] = {good, bad, nowhere};

    (void)state;
    gp__reactor_stop(); /* which may be freeing yet what the last test left */
    for (size_t i = 0; i < 3; i++) {
        long failing = 0;
        bool failed;

        do {
            gp_error err = GP_ERROR_INIT;
            child it = {NULL, -1, -1};
            int rc;

            alloc_begin(failing++);
            rc = spawn_with(&it, all[i], env, NULL, &err);
            failed = alloc_failures() > 0;
            assert_true(rc == 0 || rc == GP_ENOMEM || rc == GP_ESTART);
            if (rc == 0) {
                await_exit(&it);
                child_release(&it);
            }
            gp_error_release(&err);
            alloc_end();
        } while (failed);
    }
}

static int
finish(void **state)
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
        cmocka_unit_test(output_and_status),
        cmocka_unit_test(environment_and_directory),
        cmocka_unit_test(stdin_is_the_hosts),
        cmocka_unit_test(no_descriptor_is_inherited),
        cmocka_unit_test(standard_descriptors_may_be_closed),
        cmocka_unit_test(signals_are_as_new),
        cmocka_unit_test(the_process_group_is_the_hosts),
        cmocka_unit_test(programs_are_found_as_subprocess_finds_them),
        cmocka_unit_test(what_is_wrong_is_said),
        cmocka_unit_test(what_the_kernel_refuses_is_said),
        cmocka_unit_test(nothing_is_left_of_a_failed_start),
        cmocka_unit_test(killing),
        cmocka_unit_test(waiting_has_an_end),
        cmocka_unit_test(a_host_that_ignores_sigchld),
        cmocka_unit_test(a_host_that_reaps_our_children),
        cmocka_unit_test(dying),
        cmocka_unit_test(deaths_are_noticed),
        cmocka_unit_test(unwatched_deaths_are_not),
        cmocka_unit_test(joining_a_process),
        cmocka_unit_test(a_pid_with_its_start_time),
        cmocka_unit_test(a_descendant_is_recognised),
        cmocka_unit_test(joining_nobody),
        cmocka_unit_test(run_by_a_runner),
        cmocka_unit_test(every_allocation_fails),
    };

    return cmocka_run_group_tests(tests, NULL, finish);
}
