#include <fcntl.h>
#include <grp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "os/socket_dir.h"
#include "support.h"

static mode_t
mode_of(const char *path)
{
    struct stat file;

    assert_int_equal(stat(path, &file), 0);
    return file.st_mode & 07777;
}

static void
make_socket(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
    assert_int_equal(bind(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
    close(fd);
}

static void
a_directory_for_this_user_alone(void **state)
{
    char *path;

    (void)state;
    assert_int_equal(gp__socket_dir_make(&path, make_directory(), NULL, NULL), 0);
    assert_int_equal(mode_of(path), 0700);
    assert_non_null(strstr(path, "/plugin-dir"));
    gp__socket_dir_remove(path);
    assert_int_equal(access(path, F_OK), -1);
    gp__free(path);
}

static void
a_directory_for_a_group(void **state)
{
    char number[32];
    struct stat file;
    char *path;

    (void)state;
    snprintf(number, sizeof(number), "%ld", (long)getegid());
    assert_int_equal(gp__socket_dir_make(&path, make_directory(), number, NULL), 0);
    assert_int_equal(mode_of(path), 0770);
    assert_int_equal(stat(path, &file), 0);
    assert_int_equal(file.st_gid, getegid());
    gp__socket_dir_remove(path);
    gp__free(path);
}

static void
sockets_go_with_their_directory(void **state)
{
    char *path;
    char *inside;

    (void)state;
    assert_int_equal(gp__socket_dir_make(&path, make_directory(), "", NULL), 0);
    inside = gp__format("%s/plugin1", path);
    make_socket(inside);
    gp__socket_dir_remove(path);
    assert_int_equal(access(path, F_OK), -1);
    gp__free(inside);
    gp__free(path);
}

/* Make the sockets plugin1 and main in |directory|. */
static void
make_two_sockets(char *out[2], const char *directory)
{
    out[0] = gp__format("%s/plugin1", directory);
    out[1] = gp__format("%s/main", directory);
    make_socket(out[0]);
    make_socket(out[1]);
}

static void
free_two_paths(char *paths[2])
{
    gp__free(paths[0]);
    gp__free(paths[1]);
}

/* A plugin that was given a directory has made another one in it. */
static void
private_directories_go_with_the_one_around_them(void **state)
{
    char *outer;
    char *inner;
    char *elsewhere;
    char *link;
    char *paths[2];
    char *others[2];

    (void)state;
    assert_int_equal(gp__socket_dir_make(&outer, make_directory(), NULL, NULL), 0);
    assert_int_equal(gp__socket_dir_make(&inner, outer, NULL, NULL), 0);
    assert_int_equal(gp__socket_dir_make(&elsewhere, make_directory(), NULL, NULL), 0);
    link = gp__format("%s/plugin-dirabcdef", outer);
    assert_int_equal(symlink(elsewhere, link), 0);
    make_two_sockets(paths, inner);
    make_two_sockets(others, elsewhere);
    gp__socket_dir_remove(outer);
    assert_int_equal(access(inner, F_OK), -1);
    assert_int_equal(access(others[0], F_OK), 0); /* a link is not followed */
    assert_int_equal(access(outer, F_OK), 0);
    unlink(link);
    gp__socket_dir_remove(outer);
    assert_int_equal(access(outer, F_OK), -1);
    gp__socket_dir_remove(elsewhere);
    free_two_paths(paths);
    free_two_paths(others);
    gp__free(link);
    gp__free(elsewhere);
    gp__free(inner);
    gp__free(outer);
}

static void
claimed_directories_do_not_outlive_their_process(void **state)
{
    const char *base = make_directory();
    char *living;
    char *dead;
    char *unclaimed;
    char *paths[2];
    int held[2];

    (void)state;
    assert_int_equal(gp__socket_dir_make_claimed(&living, &held[0], base, NULL), 0);
    assert_int_equal(gp__socket_dir_make_claimed(&dead, &held[1], base, NULL), 0);
    assert_int_equal(gp__socket_dir_make(&unclaimed, base, NULL, NULL), 0);
    assert_int_equal(mode_of(living), 0700);
    make_two_sockets(paths, dead);
    gp__socket_dir_sweep(base, geteuid());
    assert_int_equal(access(paths[0], F_OK), 0);
    close(held[1]);
    gp__socket_dir_sweep(base, geteuid());
    assert_int_equal(access(dead, F_OK), -1);
    assert_int_equal(access(living, F_OK), 0);
    assert_int_equal(access(unclaimed, F_OK), 0); /* as those that go-plugin makes */
    gp__socket_dir_sweep("/nonexistent", geteuid());
    /* The process that has claimed it removes it together with the claim. */
    gp__socket_dir_remove(living);
    assert_int_equal(access(living, F_OK), -1);
    close(held[0]);
    gp__socket_dir_remove(unclaimed);
    free_two_paths(paths);
    gp__free(living);
    gp__free(dead);
    gp__free(unclaimed);
}

static void *
sweep_until_done(void *done)
{
    while (!atomic_load((atomic_bool *)done)) {
        gp__socket_dir_sweep(make_directory(), geteuid());
    }
    return NULL;
}

/* Other threads sweep while a directory is made, and remove none that is in use. */
static void
no_sweep_removes_a_directory_that_is_being_made(void **state)
{
    atomic_bool done = false;
    pthread_t sweepers[2];

    (void)state;
    make_directory(); /* before other threads call it */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&sweepers[i], NULL, sweep_until_done, &done), 0);
    }
    for (int left = rounds(500); left > 0; left--) {
        char *paths[2];
        char *path;
        int held;

        assert_int_equal(gp__socket_dir_make_claimed(&path, &held, make_directory(), NULL), 0);
        assert_true(held >= 0);
        make_two_sockets(paths, path);
        assert_int_equal(access(paths[1], F_OK), 0);
        gp__socket_dir_remove(path);
        assert_int_equal(access(path, F_OK), -1);
        close(held);
        free_two_paths(paths);
        gp__free(path);
    }
    atomic_store(&done, true);
    for (int i = 0; i < 2; i++) {
        pthread_join(sweepers[i], NULL);
    }
}

static void
a_file_that_is_no_socket_stays(void **state)
{
    char *path;
    char *inside;
    FILE *file;

    (void)state;
    assert_int_equal(gp__socket_dir_make(&path, make_directory(), NULL, NULL), 0);
    inside = gp__format("%s/data", path);
    file = fopen(inside, "w");
    assert_non_null(file);
    fclose(file);
    gp__socket_dir_remove(path);
    assert_int_equal(access(inside, F_OK), 0);
    unlink(inside);
    gp__socket_dir_remove(path);
    gp__socket_dir_remove(path); /* gone already */
    gp__free(inside);
    gp__free(path);
}

/* Another user has replaced a directory by a symbolic link. */
static void
a_link_to_a_directory_is_not_followed(void **state)
{
    char *real;
    char *link;
    char *paths[2];

    (void)state;
    assert_int_equal(gp__socket_dir_make(&real, make_directory(), NULL, NULL), 0);
    make_two_sockets(paths, real);
    link = gp__format("%s/plugin-dir000000", make_directory());
    assert_int_equal(symlink(real, link), 0);
    gp__socket_dir_remove(link);
    gp__socket_dir_sweep(make_directory(), geteuid());
    assert_int_equal(gp__socket_dir_open(AT_FDCWD, "plugin-dir000000", link, geteuid()), -1);
    assert_int_equal(access(paths[0], F_OK), 0);
    unlink(link);
    gp__socket_dir_remove(real);
    free_two_paths(paths);
    gp__free(link);
    gp__free(real);
}

static void
expect_failure(const char *base, const char *group, int code, const char *words)
{
    gp_error err = GP_ERROR_INIT;
    char *path = NULL;

    assert_int_equal(gp__socket_dir_make(&path, base, group, &err), code);
    assert_non_null(strstr(gp_error_message(&err), words));
    assert_null(path);
    gp_error_release(&err);
}

static void
failures_name_the_directory_or_the_group(void **state)
{
    (void)state;
    expect_failure("/nowhere", NULL, GP_EOS, "no directory for sockets can be made in /nowhere");
    expect_failure(make_directory(), "no such group", GP_EINVAL, "there is no group no such group");
    expect_failure(make_directory(), "-1", GP_EINVAL, "there is no group -1");
}

static void
when_memory_is_short(void **state)
{
    struct group *own = getgrgid(getegid());
    const char *directory = make_directory();
    long failing = 0;
    long used;
    char *path;
    int rc;

    (void)state;
    assert_non_null(own);
    do {
        alloc_begin(failing++);
        rc = gp__socket_dir_make(&path, directory, own->gr_name, NULL);
        assert_int_equal(rc, alloc_failures() > 0 ? GP_ENOMEM : 0);
        if (rc == 0) {
            gp__socket_dir_remove(path);
            rmdir(path);
            gp__free(path);
        }
        used = alloc_end();
    } while (failing <= used);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_directory_for_this_user_alone),
        cmocka_unit_test(a_directory_for_a_group),
        cmocka_unit_test(sockets_go_with_their_directory),
        cmocka_unit_test(private_directories_go_with_the_one_around_them),
        cmocka_unit_test(claimed_directories_do_not_outlive_their_process),
        cmocka_unit_test(no_sweep_removes_a_directory_that_is_being_made),
        cmocka_unit_test(a_file_that_is_no_socket_stays),
        cmocka_unit_test(a_link_to_a_directory_is_not_followed),
        cmocka_unit_test(failures_name_the_directory_or_the_group),
        cmocka_unit_test(when_memory_is_short),
    };

    return cmocka_run_group_tests(tests, NULL, tear_down_directory);
}
