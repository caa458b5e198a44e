#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "process_fixture.h"

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
    child_await_exit(&it);
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
    assert_int_equal(child_spawn_with(&it, argv, env, "/usr", NULL), 0);
    output = read_all(it.out);
    assert_int_equal(strncmp(output, "b c\n/usr\n", 9), 0);
    child_await_exit(&it);
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
    /* One descriptor may be that of the listing, which ls opens. */
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
signals_have_their_defaults(void **state)
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
    /* Signals 32 and 33 are the C library's own, and cannot be changed. */
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
    child_await_exit(&it);
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
    assert_int_equal(child_spawn_with(&it, relative, no_path, directory, NULL), 0);
    assert_string_equal(read_all(it.out), "found\n");
    child_await_exit(&it);
    child_release(&it);
    /* The PATH is that of the child's environment, not of ours. */
    snprintf(path, sizeof(path), "PATH=/nonexistent:%s:/bin", directory);
    assert_int_equal(child_spawn_with(&it, bare, env, NULL, NULL), 0);
    assert_string_equal(read_all(it.out), "found\n");
    child_await_exit(&it);
    child_release(&it);
    /* An empty entry is the working directory, which is |directory|. */
    snprintf(path, sizeof(path), "PATH=/nonexistent:");
    assert_int_equal(child_spawn_with(&it, bare, env, directory, NULL), 0);
    child_await_exit(&it);
    child_release(&it);
    assert_int_equal(child_spawn_with(&it, list, no_path, NULL, NULL), 0);
    child_await_exit(&it);
    assert_int_equal(gp__process_status(it.process), 0);
    child_release(&it);
}

static void
expect_refusal(const char *program, const char *directory, const char *env_entry, const char *words)
{
    const char *const argv[] = {program, NULL};
    const char *const env[] = {env_entry, NULL};
    gp_error err = GP_ERROR_INIT;
    child it;

    assert_int_equal(child_spawn_with(&it, argv, env, directory, &err), GP_ESTART);
    assert_int_equal(err.code, GP_ESTART);
    if (strstr(gp_error_message(&err), words) == NULL ||
        strstr(gp_error_message(&err), "cannot start") == NULL) {
        fail_msg("no \"%s\" in: %s", words, gp_error_message(&err));
    }
    gp_error_release(&err);
}

static void
failures_are_explained(void **state)
{
    char loop[200];

    (void)state;
    expect_refusal("/nonexistent/plugin", NULL, NULL, "there is no file /nonexistent/plugin");
    expect_refusal("nosuchprogram", NULL, "PATH=/bin:/usr/bin",
                   "no such program in PATH (/bin:/usr/bin)");
    expect_refusal("./nosuch", "/usr", NULL, "there is no file /usr/./nosuch");
    expect_refusal("/bin/sh", "/nonexistent", NULL, "working directory /nonexistent");
    expect_refusal(make_directory(), NULL, NULL, "is a directory");
    expect_refusal(make_file("plain", "text\n", 0644), NULL, NULL, "is not executable");
    expect_refusal(make_file("plain", "text\n", 0644), NULL, NULL, "-rw-r--r--");
    expect_refusal(make_file("empty", "", 0755), NULL, NULL, "is empty");
    expect_refusal(make_file("text", "hello\n", 0755), NULL, NULL, "neither a program");
    expect_refusal("missing", make_directory(), "PATH=.", "no such program in PATH (.)");
    snprintf(loop, sizeof(loop), "%s/loop", make_directory());
    assert_int_equal(symlink("loop", loop), 0);
    expect_refusal(loop, NULL, NULL, strerror(ELOOP)); /* as any other error of the kernel */
    unlink(loop);
}

/* Errors that the kernel finds in exec. Under valgrind, exec does not fail. */
static void
refusals_of_the_kernel_are_explained(void **state)
{
    /* The head of an ELF file; its machine, in bytes 18 and 19, is LoongArch. */
    static const char elf[] = "\177ELF\2\1\1.........\2.\2\1............................";

    (void)state;
    if (under_valgrind()) {
        skip();
    }
    expect_refusal(make_file("elf", elf, 0755), NULL, NULL,
                   "is built for LoongArch, this machine is ");
    expect_refusal(make_file("script", "#!/no/such/python3\n", 0755), NULL, NULL,
                   "interpreter \"/no/such/python3\"");
    expect_refusal(make_file("spaces", "#!  /no/such/python3  -u\n", 0755), NULL, NULL,
                   "interpreter \"/no/such/python3\"");
    expect_refusal(make_file("windows", "#!/bin/sh\r\n", 0755), NULL, NULL, "CR LF");
    expect_refusal(make_file("dir", "#!/tmp\n", 0755), NULL, NULL, "is not an executable file");
    make_file("broken", "#!/no/such/perl\n", 0755);
    expect_refusal("broken", make_directory(), "PATH=.", "interpreter \"/no/such/perl\"");
}

static void
a_failed_start_leaves_no_child_and_no_descriptor(void **state)
{
    int lowest = open("/dev/null", O_RDONLY);
    int after;

    (void)state;
    close(lowest);
    expect_refusal("/nonexistent/plugin", NULL, NULL, "no file");
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    after = open("/dev/null", O_RDONLY);
    assert_int_equal(after, lowest);
    close(after);
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
    gp__reactor_stop(); /* it may still be freeing memory of the last test */
    for (size_t i = 0; i < 3; i++) {
        long failing = 0;
        bool failed;

        do {
            gp_error err = GP_ERROR_INIT;
            child it = {NULL, -1, -1};
            int rc;

            alloc_begin(failing++);
            rc = child_spawn_with(&it, all[i], env, NULL, &err);
            failed = alloc_failures() > 0;
            assert_true(rc == 0 || rc == GP_ENOMEM || rc == GP_ESTART);
            if (rc == 0) {
                child_await_exit(&it);
                child_release(&it);
            }
            gp_error_release(&err);
            alloc_end();
        } while (failed);
    }
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
        cmocka_unit_test(signals_have_their_defaults),
        cmocka_unit_test(the_process_group_is_the_hosts),
        cmocka_unit_test(programs_are_found_as_subprocess_finds_them),
        cmocka_unit_test(failures_are_explained),
        cmocka_unit_test(refusals_of_the_kernel_are_explained),
        cmocka_unit_test(a_failed_start_leaves_no_child_and_no_descriptor),
        cmocka_unit_test(every_allocation_fails),
    };

    return cmocka_run_group_tests(tests, NULL, tear_down_processes);
}
