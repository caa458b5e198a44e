#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "os/path.h"
#include "os/socket.h"
#include "rpc/target.h"
#include "support.h"

static void
expect(const char *network, const char *address, const char *text)
{
    gp__target target;

    assert_int_equal(gp__target_init(&target, network, address, NULL), 0);
    assert_string_equal(target.text, text);
    assert_int_equal(target.fd, -1);
    gp__target_release(&target);
    gp__target_release(&target);
}

static void
what_gRPC_understands(void **state)
{
    (void)state;
    expect("unix", "/tmp/x", "unix:/tmp/x");
    expect("unix", "/a b%20c#d?e/\xc3\xa9\xff", "unix:/a%20b%2520c%23d%3Fe/%C3%A9%FF");
    expect("unix", "@x y", "unix-abstract:x%20y");
    expect("tcp", "127.0.0.1:80", "127.0.0.1:80");
    expect("tcp", "[::1]:80", "[::1]:80");
    expect("tcp", ":80", "127.0.0.1:80");
}

/* A socket at a path that no sockaddr_un has room for, by way of its directory. */
static int
listen_at(const char *path)
{
    char *directory = gp__path_parent(path);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(mkdir(directory, 0700), 0);
    assert_int_equal(chdir(directory), 0);
    snprintf(at.sun_path, sizeof(at.sun_path), "%s", gp__path_name(path));
    assert_int_equal(bind(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(fchdir(here), 0);
    close(here);
    gp__free(directory);
    return fd;
}

static void
remove_at(const char *path, int fd)
{
    char *directory = gp__path_parent(path);

    close(fd);
    unlink(path);
    rmdir(directory);
    gp__free(directory);
}

/*
 * Paths that a target cannot express, or a sockaddr_un cannot hold, are reached by a descriptor.
 */
static void
paths_that_need_a_descriptor(void **state)
{
    const char *names[] = {"a,b",
                           "0123456789012345678901234567890123456789012345678901234567890123456"
                           "78901234567890123456789012345678901234567890123456789"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        char *path = gp__format("%s/%s/socket", make_directory(), names[i]);
        int listener = listen_at(path);
        gp__target target;
        int fd;

#ifndef GP_PORTABLE
        assert_int_equal(gp__target_init(&target, "unix", path, NULL), 0);
        assert_true(target.fd >= 0);
        assert_int_equal(strncmp(target.text, "unix:/proc/self/fd/", 19), 0);
        assert_int_equal(gp__socket_reach(&fd, "unix", target.text + 5, patience(), NULL, NULL), 0);
        close(fd);
        gp__target_release(&target);
        assert_int_equal(gp__socket_reach(&fd, "unix", path, patience(), NULL, NULL), 0);
        close(fd);
#else
        fd = gp__target_init(&target, "unix", path, NULL);
        assert_int_equal(fd, GP_EOS);
#endif
        remove_at(path, listener);
        gp__free(path);
    }
}

static void
what_cannot_be_reached(void **state)
{
    gp_error err = GP_ERROR_INIT;
    gp__target target;

    (void)state;
    assert_int_equal(gp__target_init(&target, "unix", "@a,b", &err), GP_EINVAL);
    assert_non_null(strstr(gp_error_message(&err), "the abstract socket \"@a,b\""));
    assert_int_equal(gp__target_init(&target, "unix", "/nowhere/a,b", &err), GP_EOS);
    gp_error_release(&err);
}

static void
expect_absolute(const char *path, const char *directory, const char *expected)
{
    char *absolute = gp__path_absolute(path, strlen(path), directory);

    assert_string_equal(absolute, expected);
    gp__free(absolute);
}

static void
paths(void **state)
{
    char here[4096];
    char *expected;

    (void)state;
    assert_non_null(getcwd(here, sizeof(here)));
    expect_absolute("/a//b/./c/", NULL, "/a/b/c");
    expect_absolute("/", NULL, "/");
    expect_absolute("b", "/a/", "/a/b");
    expect_absolute("./../b", "/a", "/a/../b");
    expected = gp__format("%s/a/b", here);
    expect_absolute("b", "a", expected);
    expect_absolute("a/b", NULL, expected);
    gp__free(expected);
}

static void
escapes(void **state)
{
    char all[256];
    char *text;
    char *back;

    (void)state;
    for (int i = 1; i < 256; i++) {
        all[i - 1] = (char)i;
    }
    all[255] = '\0';
    text = gp__path_escape(all);
    back = gp__path_unescape(text);
    assert_string_equal(back, all);
    gp__free(text);
    gp__free(back);
    back = gp__path_unescape("/50%/%zz%4");
    assert_string_equal(back, "/50%/%zz%4");
    gp__free(back);
}

static void
memory_runs_out(void **state)
{
    (void)state;
    for (long failing = 0;; failing++) {
        gp__target target;
        int rc;

        alloc_begin(failing);
        rc = gp__target_init(&target, "unix", "/tmp/x y", NULL);
        assert_int_equal(rc, alloc_failures() > 0 ? GP_ENOMEM : 0);
        gp__target_release(&target);
        alloc_end();
        if (rc == 0) {
            break;
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_gRPC_understands),
        cmocka_unit_test(paths_that_need_a_descriptor),
        cmocka_unit_test(what_cannot_be_reached),
        cmocka_unit_test(paths),
        cmocka_unit_test(escapes),
        cmocka_unit_test(memory_runs_out),
    };

    return cmocka_run_group_tests(tests, NULL, tear_down_directory);
}
