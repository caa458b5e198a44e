#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gp/listen.h"
#include "os/socket.h"
#include "support.h"

static int
listen_unix(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 5), 0);
    return fd;
}

/* On any free port of 127.0.0.1. */
static int
listen_tcp(int *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    *port = ntohs(at.sin_port);
    return fd;
}

static void
paths(void **state)
{
    const char *directory = make_directory();
    char one[GP_LISTEN_PATH];
    char two[GP_LISTEN_PATH];
    char prefix[200];
    int fd;

    (void)state;
    snprintf(prefix, sizeof(prefix), "%s/plugin", directory);
    assert_int_equal(gp_listen_path(one, directory, NULL), 0);
    assert_int_equal(gp_listen_path(two, directory, NULL), 0);
    assert_int_equal(strncmp(one, prefix, strlen(prefix)), 0);
    assert_string_not_equal(one, two);
    assert_int_equal(access(one, F_OK), -1);
    fd = listen_unix(one);
    close(fd);
    unlink(one);
    assert_int_equal(access(one, F_OK), -1);
}

static void
directories(void **state)
{
    const char *directory = make_directory();
    char path[GP_LISTEN_PATH];

    (void)state;
    setenv("PLUGIN_UNIX_SOCKET_DIR", directory, 1);
    assert_int_equal(gp_listen_path(path, NULL, NULL), 0);
    assert_int_equal(strncmp(path, directory, strlen(directory)), 0);
    unsetenv("PLUGIN_UNIX_SOCKET_DIR");
    setenv("TMPDIR", directory, 1);
    assert_int_equal(gp_listen_path(path, NULL, NULL), 0);
    assert_int_equal(strncmp(path, directory, strlen(directory)), 0);
    setenv("TMPDIR", "/", 1);
    assert_int_equal(gp_listen_path(path, NULL, NULL), 0);
    assert_int_equal(strncmp(path, "/plugin", 7), 0);
    unsetenv("TMPDIR");
    assert_int_equal(gp_listen_path(path, NULL, NULL), 0);
    assert_int_equal(strncmp(path, "/tmp/plugin", 11), 0);
}

static void
directories_that_will_not_do(void **state)
{
    gp_error err = GP_ERROR_INIT;
    char path[GP_LISTEN_PATH];
    char longest[200];

    (void)state;
    assert_int_equal(gp_listen_path(path, "/nonexistent", &err), GP_EOS);
    assert_non_null(strstr(gp_error_message(&err), "/nonexistent"));
    assert_int_equal(gp_listen_path(path, "/dev/null", &err), GP_EOS);
    snprintf(longest, sizeof(longest), "%s/%0100d", make_directory(), 0);
    assert_int_equal(mkdir(longest, 0700), 0);
    assert_int_equal(gp_listen_path(path, longest, &err), GP_EINVAL);
    assert_non_null(strstr(gp_error_message(&err), "too long for a unix socket"));
    assert_non_null(strstr(gp_error_message(&err), "TMPDIR"));
    gp_error_release(&err);
}

static void
protection(void **state)
{
    gp_error err = GP_ERROR_INIT;
    char path[GP_LISTEN_PATH];
    char group[20];
    struct stat file;
    int fd;

    (void)state;
    assert_int_equal(gp_listen_path(path, make_directory(), NULL), 0);
    fd = listen_unix(path);
    assert_int_equal(gp_listen_protect(path, NULL, NULL), 0);
    assert_int_equal(stat(path, &file), 0);
    assert_int_equal(file.st_mode & 0777, 0600);
    snprintf(group, sizeof(group), "%ld", (long)getegid());
    assert_int_equal(gp_listen_protect(path, group, NULL), 0);
    assert_int_equal(stat(path, &file), 0);
    assert_int_equal(file.st_mode & 0777, 0660);
    assert_int_equal(file.st_gid, getegid());
    if (getegid() == 0) {
        assert_int_equal(gp_listen_protect(path, "root", NULL), 0);
    }
    assert_int_equal(gp_listen_protect(path, "no such group", &err), GP_EINVAL);
    assert_non_null(strstr(gp_error_message(&err), "no such group"));
    close(fd);
    unlink(path);
    assert_int_equal(gp_listen_protect(path, "", &err), GP_EOS);
    gp_error_release(&err);
}

/* Whoever may write to the directory puts a link, or a file of this user's, in the socket's place. */
static void
what_was_swapped_keeps_its_mode(void **state)
{
    const char *secret = make_file("secret", "text", 0600);
    gp_error err = GP_ERROR_INIT;
    char path[GP_LISTEN_PATH];
    char group[20];
    struct stat file;

    (void)state;
    snprintf(group, sizeof(group), "%ld", (long)getegid());
    assert_int_equal(gp_listen_path(path, make_directory(), NULL), 0);
    assert_int_equal(symlink(secret, path), 0);
    assert_int_equal(gp_listen_protect(path, group, &err), GP_EOS);
    assert_int_equal(gp_listen_protect(path, NULL, NULL), GP_EOS);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(link(secret, path), 0);
    assert_int_equal(gp_listen_protect(path, group, NULL), GP_EOS);
    assert_int_equal(stat(secret, &file), 0);
    assert_int_equal(file.st_mode & 07777, 0600);
    unlink(path);
    gp_error_release(&err);
}

static void
ports(void **state)
{
    gp_error err = GP_ERROR_INIT;
    int port;
    int taken = listen_tcp(&port);
    int chosen = gp_listen_port(20000, 30000, &err);

    (void)state;
    assert_true(chosen >= 20000 && chosen <= 30000);
    assert_int_equal(gp_listen_port(port, port, &err), GP_EOS);
    assert_non_null(strstr(gp_error_message(&err), "no free TCP port"));
    close(taken);
    assert_int_equal(gp_listen_port(port, port, &err), port);
    assert_int_equal(gp_listen_port(2000, 1000, &err), GP_EINVAL);
    assert_non_null(strstr(gp_error_message(&err), "PLUGIN_MIN_PORT value of 2000"));
    assert_int_equal(gp_listen_port(0, 10, &err), GP_EINVAL);
    assert_int_equal(gp_listen_port(1, 65536, &err), GP_EINVAL);
    gp_error_release(&err);
}

static void
probing(void **state)
{
    gp_error err = GP_ERROR_INIT;
    char path[GP_LISTEN_PATH];
    char address[40];
    int listener;
    int port;
    int fd;

    (void)state;
    assert_int_equal(gp_listen_path(path, make_directory(), NULL), 0);
    assert_int_equal(gp__socket_probe("unix", path, NULL, patience(), NULL, &err), GP_EREATTACH);
    assert_non_null(strstr(gp_error_message(&err), "process not found"));
    fd = listen_unix(path);
    assert_int_equal(gp__socket_probe("unix", path, &listener, patience(), NULL, &err), 0);
#ifndef GP_PORTABLE
    assert_int_equal(listener, getpid());
#endif
    close(fd);
    assert_int_equal(gp__socket_probe("unix", path, NULL, patience(), NULL, &err), GP_EREATTACH);
    unlink(path);

    fd = listen_tcp(&port);
    snprintf(address, sizeof(address), "127.0.0.1:%d", port);
    assert_int_equal(gp__socket_probe("tcp", address, &listener, patience(), NULL, &err), 0);
    assert_int_equal(listener, 0);
    snprintf(address, sizeof(address), "localhost:%d", port);
    assert_int_equal(gp__socket_probe("tcp", address, NULL, patience(), NULL, &err), 0);
    close(fd);
    assert_int_equal(gp__socket_probe("tcp", address, NULL, patience(), NULL, &err), GP_EREATTACH);
    assert_int_equal(gp__socket_probe("tcp", "no port", NULL, patience(), NULL, &err),
                     GP_EREATTACH);
    assert_int_equal(gp__socket_probe("tcp", "[::zz]:1", NULL, patience(), NULL, &err),
                     GP_EREATTACH);
    gp_error_release(&err);
}

static void
abstract_names(void **state)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char name[60];
    int len;

    (void)state;
    len = snprintf(name, sizeof(name), "@gp-test-%ld", (long)getpid());
    memcpy(at.sun_path + 1, name + 1, (size_t)len - 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&at,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)len)),
                     0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(gp__socket_probe("unix", name, NULL, patience(), NULL, NULL), 0);
    close(fd);
    assert_int_equal(gp__socket_probe("unix", name, NULL, patience(), NULL, NULL), GP_EREATTACH);
}

static int
finish(void **state)
{
    (void)state;
    remove_directory();
    return 0;
}

static void *
choose_again_and_again(void *done)
{
    while (!atomic_load((atomic_bool *)done)) {
        gp_listen_port(20000, 30000, NULL);
    }
    return NULL;
}

/* Or a program that is started meanwhile holds the port for as long as it runs. */
static void
nobody_inherits_a_port_that_is_tried(void **state)
{
    atomic_bool done = false;
    pthread_t chooser;

    (void)state;
#ifdef GP_PORTABLE
    skip(); /* POSIX cannot make such a socket in one step */
#endif
    assert_int_equal(pthread_create(&chooser, NULL, choose_again_and_again, &done), 0);
    for (int i = 0; i < 200; i++) {
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        for (int fd = 3; pid == 0 && fd < 64; fd++) {
            struct stat file;

            if (fstat(fd, &file) == 0 && S_ISSOCK(file.st_mode) &&
                (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0) {
                _exit(1);
            }
        }
        if (pid == 0) {
            _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
    atomic_store(&done, true);
    pthread_join(chooser, NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths),
        cmocka_unit_test(directories),
        cmocka_unit_test(directories_that_will_not_do),
        cmocka_unit_test(protection),
        cmocka_unit_test(what_was_swapped_keeps_its_mode),
        cmocka_unit_test(ports),
        cmocka_unit_test(probing),
        cmocka_unit_test(abstract_names),
        cmocka_unit_test(nobody_inherits_a_port_that_is_tried),
    };

    return cmocka_run_group_tests(tests, NULL, finish);
}
