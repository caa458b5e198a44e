#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "os/process/process.h"
#include "os/process/sealed.h"
#include "support.h"

extern char **environ;

static char seen[200000];
static size_t seen_len;

static void
keep_seen(void *ctx, const void *bytes, size_t len)
{
    (void)ctx;
    assert_true(seen_len + len <= sizeof(seen));
    memcpy(seen + seen_len, bytes, len);
    seen_len += len;
}

static int
copy_seen_by(gp__sealed *out, const char *path, gp__sealed_reader reader, gp_error *err)
{
    int rc = gp__sealed_open(out, path, sizeof(seen), err);

    seen_len = 0;
    if (rc == 0) {
        reader.deadline = GP__FOREVER;
        rc = gp__sealed_copy(out, &reader, err);
    }
    if (rc < 0) {
        gp__sealed_release(out);
    }
    return rc;
}

static int
copy_of(gp__sealed *out, const char *path, gp_error *err)
{
    return copy_seen_by(out, path, (gp__sealed_reader){.see = keep_seen}, err);
}

/* Run the copy with one argument. Returns its exit status; its output is in |seen|. */
static int
run(const gp__sealed *image, const char *name)
{
    const char *argv[] = {name, "argument", NULL};
    const gp__process_spec spec = {
        .argv = argv, .env = (const char *const *)environ, .image = image};
    struct pollfd printed = {.events = POLLIN};
    gp_error err = GP_ERROR_INIT;
    gp__process *process;
    int out_fd;
    int err_fd;
    int status;
    ssize_t got = 1;

    if (gp__process_spawn(&process, &spec, &out_fd, &err_fd, &err) < 0) {
        fail_msg("%s", gp_error_message(&err));
    }
    printed.fd = out_fd;
    for (seen_len = 0; got > 0; seen_len += got > 0 ? (size_t)got : 0) {
        assert_true(poll(&printed, 1, PATIENCE_MS) > 0);
        got = read(out_fd, seen + seen_len, sizeof(seen) - seen_len - 1);
    }
    seen[seen_len] = '\0';
    assert_int_equal(gp__process_wait(process, patience(), NULL), 0);
    status = gp__process_status(process);
    gp__process_unref(process);
    close(out_fd);
    close(err_fd);
    return status;
}

static void
a_script_runs(void **state)
{
    const char *text = "#!/bin/sh\necho it runs: $1\nexit 3\n";
    const char *path = make_file("script", text, 0755);
    gp__sealed image;

    (void)state;
    assert_int_equal(copy_of(&image, path, NULL), 0);
    assert_int_equal(seen_len, strlen(text));
    assert_memory_equal(seen, text, seen_len);
    assert_true(image.script);
    assert_string_equal(image.origin, path);
    assert_int_equal(run(&image, "script"), 3);
    assert_string_equal(seen, "it runs: argument\n");
    gp__sealed_release(&image);
    gp__sealed_release(&image);
}

static void
a_binary_runs(void **state)
{
    gp__sealed image;

    (void)state;
    seen_len = 0;
    assert_int_equal(copy_of(&image, "/bin/echo", NULL), 0);
    assert_true(seen_len > 10000);
    assert_false(image.script);
    assert_int_equal(run(&image, "echo"), 0);
    assert_string_equal(seen, "argument\n");
    gp__sealed_release(&image);
}

/* Overwrite the original, then replace it by another file. */
static void
change(void *ctx, const void *bytes, size_t len)
{
    const char *path = ctx;
    const char *other = make_file("other", "#!/bin/sh\necho the third\n", 0755);
    int fd = open(path, O_WRONLY | O_TRUNC);

    (void)bytes;
    (void)len;
    assert_true(fd >= 0);
    assert_true(write(fd, "#!/bin/sh\necho another\n", 23) == 23);
    close(fd);
    assert_int_equal(rename(other, path), 0);
}

static void
later_changes_have_no_effect(void **state)
{
    const char *path = make_file("changing", "#!/bin/sh\necho the first\n", 0755);
    gp__sealed image;

    (void)state;
    assert_int_equal(copy_seen_by(&image, path,
                                  (gp__sealed_reader){change, (void *)(uintptr_t)path, 0, NULL},
                                  NULL),
                     0);
    assert_int_equal(run(&image, "changing"), 0);
    assert_string_equal(seen, "the first\n");
    if (image.fd >= 0) {
        assert_true(write(image.fd, "x", 1) < 0);
        assert_int_equal(errno, EPERM);
        assert_true(ftruncate(image.fd, 0) < 0);
    }
    gp__sealed_release(&image);
}

static void
the_copy_cannot_be_changed_by_others(void **state)
{
    const char *path = make_file("private", "#!/bin/sh\n", 0755);
    struct stat file;
    gp__sealed image;
    char *copied;

    (void)state;
    assert_int_equal(copy_of(&image, path, NULL), 0);
    if (image.fd < 0) { /* a system without files in memory */
        assert_int_equal(stat(image.path, &file), 0);
        assert_int_equal(file.st_mode & 0777, 0500);
        *strrchr(image.path, '/') = '\0';
        assert_int_equal(stat(image.path, &file), 0);
        assert_int_equal(file.st_mode & 0777, 0700);
        image.path[strlen(image.path)] = '/';
        copied = gp__strdup(image.path);
        gp__sealed_release(&image);
        assert_int_equal(access(copied, F_OK), -1);
        *strrchr(copied, '/') = '\0';
        assert_int_equal(access(copied, F_OK), -1);
        gp__free(copied);
    } else {
        assert_true(image.fd > 2);
        assert_true((fcntl(image.fd, F_GETFD) & FD_CLOEXEC) != 0);
        gp__sealed_release(&image);
    }
}

static void
expect_refusal(const char *path, const char *words)
{
    gp_error err = GP_ERROR_INIT;
    gp__sealed image;

    assert_int_equal(copy_of(&image, path, &err), GP_ESTART);
    assert_int_equal(err.code, GP_ESTART);
    if (strstr(gp_error_message(&err), words) == NULL) {
        fail_msg("no \"%s\" in: %s", words, gp_error_message(&err));
    }
    assert_int_equal(seen_len, 0);
    gp_error_release(&err);
}

static void
files_that_cannot_run_are_refused(void **state)
{
    char *pipe_path = gp__format("%s/pipe", make_directory());

    (void)state;
    expect_refusal("/nowhere/plugin", "/nowhere/plugin");
    expect_refusal(make_directory(), "directory");
    expect_refusal(make_file("data", "x", 0644), "data");
    assert_int_equal(mkfifo(pipe_path, 0755), 0);
    expect_refusal(pipe_path, pipe_path);
    gp__free(pipe_path);
}

/* ---- What ends the reading early ---- */

/* A sparse file, which takes long to read. */
static const char *
make_vast_file(void)
{
    const char *path = make_file("vast", "#!/bin/sh\n", 0755);

    assert_int_equal(truncate(path, (off_t)1 << 40), 0);
    return path;
}

static void
count(void *ctx, const void *bytes, size_t len)
{
    (void)bytes;
    *(uint64_t *)ctx += len;
}

static int
stop_later(void *ctx)
{
    int *left = ctx;

    return --*left <= 0;
}

static void
reading_can_be_interrupted(void **state)
{
    int left = 2;
    const gp_interrupt interrupt = {.check = stop_later, .ctx = &left};
    uint64_t total = 0;
    gp__sealed_reader reader = {count, &total, GP__FOREVER, &interrupt};
    gp__sealed file;

    (void)state;
    assert_int_equal(gp__sealed_open(&file, make_vast_file(), UINT64_MAX, NULL), 0);
    assert_true(file.size == UINT64_C(1) << 40);
    assert_int_equal(gp__sealed_look(&file, &reader, NULL), GP_EUSER);
    assert_int_equal(left, 0);
    assert_true(total > 0);
    reader.interrupt = NULL;
    reader.deadline = gp_deadline_in(20);
    assert_int_equal(gp__sealed_look(&file, &reader, NULL), GP_ETIMEOUT);
    reader.deadline = gp__now();
    assert_int_equal(gp__sealed_copy(&file, &reader, NULL), GP_ETIMEOUT);
    gp__sealed_release(&file);
}

static void
expect_too_large(int rc, const gp_error *err)
{
    assert_int_equal(rc, GP_ESTART);
    assert_non_null(strstr(gp_error_message(err), "more than 16 bytes"));
}

static void
a_file_beyond_the_limit_is_refused(void **state)
{
    const char *path = make_file("growing", "#!/bin/sh\n", 0755);
    uint64_t total = 0;
    const gp__sealed_reader reader = {count, &total, GP__FOREVER, NULL};
    gp_error err = GP_ERROR_INIT;
    gp__sealed file;

    (void)state;
    expect_too_large(gp__sealed_open(&file, make_vast_file(), 16, &err), &err);
    assert_int_equal(file.original, -1);
    assert_int_equal(gp__sealed_open(&file, path, 16, &err), 0);
    assert_int_equal(truncate(path, (off_t)1 << 40), 0);
    expect_too_large(gp__sealed_look(&file, &reader, &err), &err);
    expect_too_large(gp__sealed_copy(&file, &reader, &err), &err);
    assert_true(total < 1 << 20);
    gp__sealed_release(&file);
    gp_error_release(&err);
}

static void
a_second_look_starts_at_the_beginning(void **state)
{
    uint64_t total = 0;
    const gp__sealed_reader reader = {count, &total, GP__FOREVER, NULL};
    gp__sealed file;

    (void)state;
    assert_int_equal(gp__sealed_open(&file, make_file("twice", "0123456789", 0755), 16, NULL), 0);
    assert_int_equal(gp__sealed_look(&file, &reader, NULL), 0);
    assert_int_equal(gp__sealed_look(&file, &reader, NULL), 0);
    assert_null(file.path);
    assert_int_equal(gp__sealed_copy(&file, &reader, NULL), 0);
    assert_int_equal(total, 30);
    gp__sealed_release(&file);
}

static void
when_memory_is_short(void **state)
{
    const char *path = make_file("short", "#!/bin/sh\n", 0755);
    gp__sealed image;
    long failing = 0;
    long used;
    int rc;

    (void)state;
    do {
        seen_len = 0;
        alloc_begin(failing++);
        rc = copy_of(&image, path, NULL);
        assert_int_equal(rc, alloc_failures() > 0 ? GP_ENOMEM : 0);
        if (rc == 0) {
            gp__sealed_release(&image);
        }
        used = alloc_end();
    } while (failing <= used);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_script_runs),
        cmocka_unit_test(a_binary_runs),
        cmocka_unit_test(later_changes_have_no_effect),
        cmocka_unit_test(the_copy_cannot_be_changed_by_others),
        cmocka_unit_test(files_that_cannot_run_are_refused),
        cmocka_unit_test(reading_can_be_interrupted),
        cmocka_unit_test(a_file_beyond_the_limit_is_refused),
        cmocka_unit_test(a_second_look_starts_at_the_beginning),
        cmocka_unit_test(when_memory_is_short),
    };

    return cmocka_run_group_tests(tests, NULL, tear_down_directory);
}
