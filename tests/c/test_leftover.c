#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "os/leftover.h"
#include "os/socket_dir.h"
#include "process_fixture.h"

/* A user that owns no file of these tests. */
enum { NOBODY = 65534 };

/* Make a socket at |directory|/|name|, which listens if |listening|. Returns its descriptor. */
static int
make_socket(char out[108], const char *directory, const char *name, bool listening)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(at.sun_path, sizeof(at.sun_path), "%s/%s", directory, name);
    assert_int_equal(bind(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listening ? listen(fd, 1) : 0, 0);
    memcpy(out, at.sun_path, 108);
    return fd;
}

static bool
is_there(const char *path)
{
    struct stat file;

    return lstat(path, &file) == 0;
}

/* A process of |uid| that has ended. */
static gp__process *
dead_process(uid_t uid)
{
    gp__process *process;
    int ready[2];
    pid_t pid;
    char byte;

    assert_int_equal(pipe(ready), 0);
    pid = fork();
    if (pid == 0) {
        if (setuid(uid) < 0 || write(ready[1], "", 1) < 0) {
            _exit(1);
        }
        for (;;) {
            pause();
        }
    }
    assert_true(pid > 0);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(gp__process_attach(&process, pid, 0, NULL), 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_int_equal(gp__process_wait(process, patience(), NULL), 0);
    close(ready[0]);
    close(ready[1]);
    return process;
}

/*
 * Remove the socket at |path| of a dead plugin of |uid|, which was given the directory |given|
 * (NULL: none). Returns whether it is still there.
 */
static bool
stays(uid_t uid, const char *given, const char *path)
{
    gp__process *process = dead_process(uid);
    gp__leftover left;

    gp__leftover_init(&left, process);
    if (given != NULL) {
        gp__leftover_add(&left, given, NULL);
    }
    gp__leftover_remove(&left, path);
    gp__leftover_release(&left);
    gp__process_unref(process);
    return is_there(path);
}

static void
a_socket_is_removed(void **state)
{
    const char *directory = make_directory();
    char path[108];

    (void)state;
    close(make_socket(path, directory, "given", false));
    assert_false(stays(geteuid(), directory, path));
    assert_false(stays(geteuid(), directory, path));  /* removed already */
    close(make_socket(path, directory, "own", true)); /* a directory of the plugin's user */
    assert_false(stays(geteuid(), NULL, path));
}

static void
a_socket_in_use_stays(void **state)
{
    const char *directory = make_directory();
    char path[108];
    int fd = make_socket(path, directory, "used", true);

    (void)state;
    assert_true(stays(geteuid(), directory, path));
    close(fd);
    assert_false(stays(geteuid(), directory, path));
}

static void
a_file_that_is_no_socket_stays(void **state)
{
    const char *directory = make_directory();
    const char *file = make_file("file", "text", 0600);
    char path[108];
    char *link = gp__format("%s/link", directory);

    (void)state;
    close(make_socket(path, directory, "socket", false));
    assert_int_equal(symlink(path, link), 0);
    assert_true(stays(geteuid(), directory, link));
    assert_true(stays(geteuid(), directory, file));
    assert_true(is_there(path));
    assert_false(stays(geteuid(), directory, "relative"));
    assert_false(stays(geteuid(), directory, "@abstract"));
    unlink(link);
    unlink(path);
    gp__free(link);
}

static void
a_private_directory_is_removed_with_its_sockets(void **state)
{
    const char *base = make_directory();
    char *private;
    char paths[2][108];
    int held;
    int fd;

    (void)state;
    assert_int_equal(gp__socket_dir_make_claimed(&private, &held, base, NULL), 0);
    close(make_socket(paths[0], private, "plugin1", false));
    fd = make_socket(paths[1], private, "main", true);
    assert_true(stays(geteuid(), base, paths[0])); /* a running process has claimed it */
    close(held);
    assert_false(stays(geteuid(), base, paths[0]));
    assert_true(is_there(paths[1])); /* it listens */
    close(fd);
    assert_false(stays(geteuid(), base, paths[1]));
    assert_false(is_there(private));
    gp__free(private);
}

/* A plugin of another user cannot have root's sockets removed. */
static void
a_socket_that_the_plugin_may_not_remove_stays(void **state)
{
    const char *base = make_directory();
    char *theirs = gp__format("%s/theirs", base);
    char *link = gp__format("%s/theirs/link", base);
    char *through_link = gp__format("%s/theirs/link/root", base);
    char *common = gp__format("%s/common", base);
    char paths[5][108];
    char *private;

    (void)state;
    assert_int_equal(mkdir(theirs, 0755), 0);
    assert_int_equal(mkdir(common, 0700), 0);
    assert_int_equal(chmod(common, 01777), 0);
    assert_int_equal(symlink(base, link), 0);
    assert_int_equal(gp__socket_dir_make(&private, base, NULL, NULL), 0);
    close(make_socket(paths[0], base, "root", false));
    close(make_socket(paths[1], common, "root", false));
    close(make_socket(paths[2], private, "root", false));
    close(make_socket(paths[3], common, "unused", false));
    close(make_socket(paths[4], theirs, "unused", false));
    if (geteuid() == 0) {
        assert_int_equal(chown(theirs, NOBODY, (gid_t)-1), 0);
        assert_int_equal(chown(paths[3], NOBODY, (gid_t)-1), 0);
        assert_int_equal(chown(paths[4], NOBODY, (gid_t)-1), 0);
        assert_true(stays(NOBODY, base, paths[0]));
        assert_true(stays(NOBODY, common, paths[1]));
        assert_true(stays(NOBODY, base, paths[2]));
        assert_true(stays(NOBODY, base, through_link));
        assert_int_equal(chown(paths[0], NOBODY, (gid_t)-1), 0);
        assert_true(stays(NOBODY, base, paths[0])); /* it may not write to that directory */
        assert_true(stays(NOBODY, NULL, paths[3])); /* it was not given that directory */
        assert_false(stays(NOBODY, common, paths[3]));
        assert_false(stays(NOBODY, NULL, paths[4]));
    }
    for (int i = 0; i < 5; i++) {
        unlink(paths[i]);
    }
    unlink(link);
    gp__socket_dir_remove(private);
    gp__free(private);
    gp__free(through_link);
    gp__free(link);
    gp__free(common);
    gp__free(theirs);
}

static void
abandoned_directories_are_swept(void **state)
{
    const char *base = make_directory();
    gp__leftover left;
    gp__process *process = dead_process(geteuid());
    char *paths[2];
    int held[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(gp__socket_dir_make_claimed(&paths[i], &held[i], base, NULL), 0);
    }
    close(held[1]);
    gp__leftover_init(&left, process);
    gp__leftover_add(&left, "relative", base);
    gp__leftover_add(&left, base, NULL);
    gp__leftover_add(&left, base, "/anywhere"); /* the same directory again */
    assert_int_equal(left.count, 2);
    gp__leftover_sweep(&left);
    assert_true(is_there(paths[0]));
    assert_false(is_there(paths[1]));
    gp__socket_dir_remove(paths[0]);
    close(held[0]);
    gp__leftover_release(&left);
    gp__process_unref(process);
    gp__free(paths[0]);
    gp__free(paths[1]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_socket_is_removed),
        cmocka_unit_test(a_socket_in_use_stays),
        cmocka_unit_test(a_file_that_is_no_socket_stays),
        cmocka_unit_test(a_private_directory_is_removed_with_its_sockets),
        cmocka_unit_test(a_socket_that_the_plugin_may_not_remove_stays),
        cmocka_unit_test(abandoned_directories_are_swept),
    };

    return cmocka_run_group_tests(tests, NULL, tear_down_directory);
}
