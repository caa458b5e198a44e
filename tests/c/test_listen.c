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

#include "base/alloc.h"
#include "gp/listen.h"
#include "os/path.h"
#include "os/share.h"
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

/* Listens on a free port of 127.0.0.1. */
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

static gp_place *
place_in(const char *directory, const char *group)
{
    gp_error err = GP_ERROR_INIT;
    gp_place *place;

    if (gp_place_new(&place, directory, group, &err) < 0) {
        fail_msg("%s", gp_error_message(&err));
    }
    return place;
}

static void
remove_twice_and_release(gp_place *place)
{
    gp_place_remove(place);
    gp_place_remove(place);
    gp_place_release(place);
}

/* The place is in that directory. */
static void
expect_in(const char *directory, const char *given)
{
    gp_place *place = place_in(given, NULL);
    char *parent = gp__path_parent(gp_place_path(place));

    assert_string_equal(parent, directory);
    assert_null(gp_place_directory(place));
    assert_string_equal(gp_place_bind(place), gp_place_path(place));
    gp__free(parent);
    remove_twice_and_release(place);
}

static void
a_path_of_its_own(void **state)
{
    gp_place *one = place_in(make_directory(), NULL);
    gp_place *two = place_in(make_directory(), NULL);
    struct stat file;
    int fd;

    (void)state;
    assert_string_not_equal(gp_place_path(one), gp_place_path(two));
    assert_int_equal(strncmp(gp__path_name(gp_place_path(one)), "plugin", 6), 0);
    fd = listen_unix(gp_place_bind(one));
    assert_int_equal(gp_place_publish(one, NULL), 0);
    assert_int_equal(stat(gp_place_path(one), &file), 0);
    assert_int_equal(file.st_mode & 0777, 0600);
    gp_place_remove(one);
    assert_int_equal(stat(gp_place_path(one), &file), -1);
    close(fd);
    remove_twice_and_release(one);
    remove_twice_and_release(two);
}

static void
directories(void **state)
{
    const char *directory = make_directory();
    char here[4096];

    (void)state;
    expect_in(directory, directory);
    setenv("PLUGIN_UNIX_SOCKET_DIR", directory, 1);
    expect_in(directory, NULL);
    unsetenv("PLUGIN_UNIX_SOCKET_DIR");
    setenv("TMPDIR", directory, 1);
    expect_in(directory, NULL);
    setenv("TMPDIR", "/", 1);
    expect_in("/", NULL);
    unsetenv("TMPDIR");
    expect_in("/tmp", NULL);
    assert_non_null(getcwd(here, sizeof(here)));
    assert_int_equal(chdir(directory), 0);
    expect_in(directory, "."); /* absolute, since it is announced to other processes */
    assert_int_equal(chdir(here), 0);
}

static void
directories_that_do_not_exist(void **state)
{
    gp_error err = GP_ERROR_INIT;
    gp_place *place;

    (void)state;
    assert_int_equal(gp_place_new(&place, "/nonexistent", NULL, &err), GP_EOS);
    assert_non_null(strstr(gp_error_message(&err), "/nonexistent"));
    assert_int_equal(gp_place_new(&place, "/dev/null", NULL, &err), GP_EOS);
    gp_error_release(&err);
}

/* The path would be too long for a socket, or could not be in a handshake line. */
static void
another_directory_where_no_path_fits(void **state)
{
    static const char *const names[] = {"a|b", "a\nb", "\xff"};
    char *paths[4];
    struct stat file;

    (void)state;
    for (int i = 0; i < 3; i++) {
        paths[i] = gp__format("%s/%s", make_directory(), names[i]);
    }
    paths[3] = gp__format("%s/%0100d", make_directory(), 0);
    for (int i = 0; i < 4; i++) {
        gp_place *place;
        const char *made;
        int fd;

        assert_int_equal(mkdir(paths[i], 0700), 0);
        place = place_in(paths[i], NULL);
        made = gp_place_directory(place);
        assert_int_equal(strncmp(gp_place_path(place), "/tmp/plugin-dir", 15), 0);
        assert_int_equal(strncmp(gp_place_path(place), made, strlen(made)), 0);
        assert_int_equal(stat(made, &file), 0);
        assert_int_equal(file.st_mode & 0777, 0700);
        fd = listen_unix(gp_place_bind(place));
        assert_int_equal(gp_place_publish(place, NULL), 0);
        close(fd);
        gp_place_remove(place);
        assert_int_equal(stat(made, &file), -1);
        remove_twice_and_release(place);
        rmdir(paths[i]);
        gp__free(paths[i]);
    }
}

/* In a directory of other users, the socket appears only once it has its mode and its group. */
static void
a_private_place_to_bind_in(void **state)
{
    char *shared = gp__format("%s/shared", make_directory());
    char group[20];
    struct stat file;

    (void)state;
    assert_int_equal(mkdir(shared, 0700), 0);
    snprintf(group, sizeof(group), "%ld", (long)getegid());
    for (int i = 0; i < 3; i++) {
        const char *whose = i == 0 ? group : NULL;
        gp_place *place;
        int fd;

        assert_int_equal(chmod(shared, i == 0 ? 0700 : i == 1 ? 0777 : 01777), 0);
        place = place_in(shared, whose);
        assert_int_equal(strcmp(gp_place_bind(place), gp_place_path(place)) == 0, i == 2);
        fd = listen_unix(gp_place_bind(place));
        assert_int_equal(lstat(gp_place_path(place), &file), i == 2 ? 0 : -1);
        /* Another user tries to connect. */
        assert_int_equal(i == 2 ? 0 : symlink("/dev/null", gp_place_path(place)), 0);
        assert_int_equal(gp_place_publish(place, NULL), 0);
        assert_int_equal(lstat(gp_place_path(place), &file), 0);
        assert_true(S_ISSOCK(file.st_mode));
        assert_int_equal(file.st_mode & 0777, i == 0 ? 0660 : 0600);
        assert_int_equal(file.st_gid, getegid());
        close(fd);
        remove_twice_and_release(place);
        assert_int_equal(rmdir(shared), 0); /* nothing else is left in it */
        assert_int_equal(mkdir(shared, 0700), 0);
    }
    rmdir(shared);
    gp__free(shared);
}

/* Another user replaces the socket by a link, or by a file of this user. */
static void
a_file_in_the_place_of_the_socket_keeps_its_mode(void **state)
{
    const char *secret = make_file("secret", "text", 0600);
    gp_error err = GP_ERROR_INIT;
    char *path = gp__format("%s/socket", make_directory());
    char group[20];
    struct stat file;

    (void)state;
    snprintf(group, sizeof(group), "%ld", (long)getegid());
    assert_int_equal(symlink(secret, path), 0);
    assert_int_equal(gp__share_socket(path, group, &err), GP_EOS);
    assert_int_equal(gp__share_socket(path, NULL, NULL), GP_EOS);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(link(secret, path), 0);
    assert_int_equal(gp__share_socket(path, group, NULL), GP_EOS);
    assert_int_equal(stat(secret, &file), 0);
    assert_int_equal(file.st_mode & 07777, 0600);
    unlink(path);
    gp__free(path);
    gp_error_release(&err);
}

static void
groups(void **state)
{
    gp_error err = GP_ERROR_INIT;
    gp_place *place = place_in(make_directory(), "no such group");
    int fd = listen_unix(gp_place_bind(place));

    (void)state;
    assert_int_equal(gp_place_publish(place, &err), GP_EINVAL);
    assert_non_null(strstr(gp_error_message(&err), "no such group"));
    close(fd);
    remove_twice_and_release(place);
    gp_error_release(&err);
}

static void
every_allocation_fails(void **state)
{
    (void)state;
    for (long failing = 0;; failing++) {
        gp_place *place = NULL;
        int rc;

        alloc_begin(failing);
        rc = gp_place_new(&place, make_directory(), "0", NULL);
        assert_int_equal(rc, alloc_failures() > 0 ? GP_ENOMEM : 0);
        if (rc == 0) {
            remove_twice_and_release(place);
        }
        alloc_end();
        if (rc == 0) {
            break;
        }
    }
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
    char *path = gp__format("%s/socket", make_directory());
    char address[40];
    gp__socket_found found;
    int port;
    int fd;

    (void)state;
    assert_int_equal(gp__socket_probe("unix", path, NULL, patience(), NULL, &err), GP_EREATTACH);
    assert_non_null(strstr(gp_error_message(&err), "process not found"));
    fd = listen_unix(path);
    assert_int_equal(gp__socket_probe("unix", path, &found, patience(), NULL, &err), 0);
#ifndef GP_PORTABLE
    assert_int_equal(found.listener, getpid());
#endif
    close(fd);
    assert_int_equal(gp__socket_probe("unix", path, NULL, patience(), NULL, &err), GP_EREATTACH);
    unlink(path);
    gp__free(path);

    fd = listen_tcp(&port);
    snprintf(address, sizeof(address), "127.0.0.1:%d", port);
    assert_int_equal(gp__socket_probe("tcp", address, &found, patience(), NULL, &err), 0);
    assert_int_equal(found.listener, 0);
    assert_string_equal(found.peer, address);
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

/* A program that inherited the descriptor would hold the port for as long as it runs. */
static void
no_child_inherits_a_port_that_is_tried(void **state)
{
    atomic_bool done = false;
    pthread_t chooser;

    (void)state;
#ifdef GP_PORTABLE
    skip(); /* POSIX cannot make such a socket in one step */
#endif
    assert_int_equal(pthread_create(&chooser, NULL, choose_again_and_again, &done), 0);
    for (int left = rounds(200); left > 0; left--) {
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
        cmocka_unit_test(a_path_of_its_own),
        cmocka_unit_test(directories),
        cmocka_unit_test(directories_that_do_not_exist),
        cmocka_unit_test(another_directory_where_no_path_fits),
        cmocka_unit_test(a_private_place_to_bind_in),
        cmocka_unit_test(groups),
        cmocka_unit_test(every_allocation_fails),
        cmocka_unit_test(a_file_in_the_place_of_the_socket_keeps_its_mode),
        cmocka_unit_test(ports),
        cmocka_unit_test(probing),
        cmocka_unit_test(abstract_names),
        cmocka_unit_test(no_child_inherits_a_port_that_is_tried),
    };

    return cmocka_run_group_tests(tests, NULL, finish);
}
