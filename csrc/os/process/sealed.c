#include "os/process/sealed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "os/fd.h"
#include "os/process/diagnosis.h"
#include "os/tmpdir.h"

#if defined(__linux__) && !defined(GP_PORTABLE)
#include <sys/mman.h>
#define HAVE_MEMFD 1
#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U /* since Linux 6.3; before, all of them may be executed */
#endif
#endif

enum { PIECE = 64 * 1024 };

/* Open the file to be copied. Returns its descriptor or a GP_E* code. */
static int
open_original(const char *path, struct stat *file, gp_error *err)
{
    /* Without O_NONBLOCK, opening a named pipe would block. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        return gp__cannot_start(err, path, path, errno);
    }
    if (fstat(fd, file) < 0 || !S_ISREG(file->st_mode) || access(path, X_OK) < 0) {
        gp__fd_close(&fd);
        return gp__cannot_start(err, path, path, EACCES);
    }
    return fd;
}

static int
set_too_large(const gp__sealed *sealed, gp_error *err)
{
    return gp_error_set(err, GP_ESTART,
                        "cannot start %s: it has more than %llu bytes, which is the most that is "
                        "checked; raise the max_size of its SecureConfig if that is right",
                        sealed->origin, (unsigned long long)sealed->most);
}

int
gp__sealed_open(gp__sealed *out, const char *path, uint64_t most, gp_error *err)
{
    struct stat file;
    int rc;

    *out = (gp__sealed)GP__SEALED_INIT;
    out->most = most;
    if ((rc = open_original(path, &file, err)) < 0) {
        return rc;
    }
    out->original = rc;
    out->size = (uint64_t)file.st_size;
    out->origin = gp__strdup(path);
    if (out->origin == NULL) {
        rc = gp_error_set(err, GP_ENOMEM, "out of memory to start %s", path);
    } else {
        rc = out->size > most ? set_too_large(out, err) : 0;
    }
    if (rc < 0) {
        gp__sealed_release(out);
    }
    return rc;
}

/* ---- Where the copy goes --------------------------------------------------------------------- */

/* Make a file in memory. Returns its descriptor, or -1. */
static int
open_memory(gp__sealed *out)
{
#ifdef HAVE_MEMFD
    out->fd = memfd_create("plugin", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    if (out->fd < 0 && errno == EINVAL) {
        out->fd = memfd_create("plugin", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    }
    if (out->fd >= 0 && out->fd <= STDERR_FILENO) {
        /* The child replaces the standard descriptors. */
        int low = out->fd;

        out->fd = fcntl(low, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        close(low);
    }
#else
    (void)out;
#endif
    return out->fd;
}

/*
 * Make a file in a new directory, both for this user alone. Returns its descriptor or a GP_E* code.
 */
static int
open_file(gp__sealed *out, gp_error *err)
{
    const char *slash = strrchr(out->origin, '/');
    char *directory = gp__format("%s/plugin-XXXXXX", gp__tmpdir());
    int fd = -1;

    if (directory == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory to start %s", out->origin);
    }
    if (mkdtemp(directory) == NULL) {
        gp_error_set_errno(err, errno, "no private directory can be made in %s", gp__tmpdir());
        gp__free(directory);
        return GP_EOS;
    }
    out->path = gp__format("%s/%s", directory, slash != NULL ? slash + 1 : out->origin);
    if (out->path != NULL) {
        fd = open(out->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0500);
    }
    if (fd < 0) {
        fd = out->path == NULL ? gp_error_set(err, GP_ENOMEM, "out of memory to start a plugin")
                               : gp_error_set_errno(err, errno, "cannot write %s", out->path);
        rmdir(directory);
    }
    gp__free(directory);
    return fd;
}

/*
 * End the writing: seal what is in memory, which then cannot even be written by us, or close the
 * file. Returns 0 or errno.
 */
static int
seal_copy(gp__sealed *out, int to)
{
#ifdef HAVE_MEMFD
    if (to == out->fd) {
        const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

        return fcntl(to, F_ADD_SEALS, seals) == 0 ? 0 : errno;
    }
#endif
    (void)out;
    return close(to) == 0 ? 0 : errno;
}

/* ---- Reading and copying --------------------------------------------------------------------- */

static int
write_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t some = write(fd, bytes, len);

        if (some < 0 && errno == EINTR) {
            continue;
        }
        if (some < 0) {
            return errno;
        }
        bytes += some;
        len -= (size_t)some;
    }
    return 0;
}

/* Returns 0 to go on, GP_ETIMEOUT, or GP_EUSER; the interrupt is asked after each |*slice|. */
static int
check_limits(const gp__sealed_reader *reader, int64_t *slice)
{
    int64_t now = gp__now();

    if (now >= reader->deadline) {
        return GP_ETIMEOUT;
    }
    if (now < *slice) {
        return 0;
    }
    *slice = gp__slice(reader->deadline, reader->interrupt);
    return gp__interrupted(reader->interrupt);
}

/* Read all of the original, and write it to |to| unless that is -1. */
static int
read_through(gp__sealed *sealed, int to, const gp__sealed_reader *reader, gp_error *err)
{
    char *piece = gp__malloc(PIECE);
    int64_t slice = gp__slice(reader->deadline, reader->interrupt);
    uint64_t total = 0;
    ssize_t got = 1;
    int failed;
    int rc = 0;

    if (piece == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory to start %s", sealed->origin);
    }
    if (lseek(sealed->original, 0, SEEK_SET) < 0) {
        rc = gp__cannot_start(err, sealed->origin, sealed->origin, errno);
    }
    while (rc == 0 && got > 0) {
        got = gp__fd_read(sealed->original, piece, PIECE);
        if (got < 0) {
            rc = gp__cannot_start(err, sealed->origin, sealed->origin, errno);
        } else if (got > 0) {
            if (total == 0) {
                sealed->script = got >= 2 && piece[0] == '#' && piece[1] == '!';
            }
            total += (uint64_t)got;
            reader->see(reader->ctx, piece, (size_t)got);
            failed = to >= 0 ? write_all(to, piece, (size_t)got) : 0;
            if (failed != 0) {
                rc = gp_error_set_errno(err, failed, "%s cannot be copied to be checked",
                                        sealed->origin);
            } else {
                rc = total > sealed->most ? set_too_large(sealed, err)
                                          : check_limits(reader, &slice);
            }
        }
    }
    gp__free(piece);
    return rc;
}

int
gp__sealed_look(gp__sealed *sealed, const gp__sealed_reader *reader, gp_error *err)
{
    return read_through(sealed, -1, reader, err);
}

int
gp__sealed_copy(gp__sealed *sealed, const gp__sealed_reader *reader, gp_error *err)
{
    int to = open_memory(sealed);
    int failed;
    int rc = 0;

    if (to >= 0) {
        sealed->path = gp__format("/proc/self/fd/%d", to);
        rc = sealed->path != NULL ? 0
                                  : gp_error_set(err, GP_ENOMEM, "out of memory to start a plugin");
    } else {
        to = open_file(sealed, err);
        rc = to < 0 ? to : 0;
    }
    if (rc == 0) {
        rc = read_through(sealed, to, reader, err);
        failed = rc == 0 ? seal_copy(sealed, to) : 0;
        if (rc < 0 && to != sealed->fd) {
            close(to);
        }
        if (failed != 0) {
            rc = gp_error_set_errno(err, failed, "%s cannot be copied to be checked",
                                    sealed->origin);
        }
    }
    gp__fd_close(&sealed->original);
    return rc;
}

void
gp__sealed_release(gp__sealed *sealed)
{
    char *slash;

    if (sealed->fd < 0 && sealed->path != NULL) {
        unlink(sealed->path);
        slash = strrchr(sealed->path, '/');
        *slash = '\0';
        rmdir(sealed->path);
    }
    gp__fd_close(&sealed->fd);
    gp__fd_close(&sealed->original);
    gp__free(sealed->path);
    gp__free(sealed->origin);
    sealed->path = NULL;
    sealed->origin = NULL;
}
