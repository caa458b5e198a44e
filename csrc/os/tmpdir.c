#include "os/tmpdir.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/text.h"
#include "base/utf8.h"
#include "os/path.h"
#include "os/socket_dir.h"

#if defined(__linux__) && !defined(GP_PORTABLE)
#include <sys/random.h>
#endif

const char *
gp__tmpdir(void)
{
    const char *directory = getenv("TMPDIR");

    return directory != NULL && directory[0] != '\0' ? directory : GP__SHORT_TMPDIR;
}

const char *
gp__socket_base(const char *directory)
{
    if (directory == NULL) {
        directory = getenv("PLUGIN_UNIX_SOCKET_DIR");
    }
    return directory != NULL && directory[0] != '\0' ? directory : gp__tmpdir();
}

const char *
gp__socket_misfit(const char *directory, size_t room)
{
    size_t len = strlen(directory);

    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)directory[i];

        if (c < 0x20 || c == 0x7f || c == '|') {
            return "its path holds a bar or a control character, which no handshake line can";
        }
    }
    if (!gp__utf8_valid(directory, len)) {
        return "its path is not UTF-8";
    }
    return len + 1 + room >= sizeof(((struct sockaddr_un *)NULL)->sun_path)
               ? "its path is too long for a unix socket"
               : NULL;
}

int
gp__socket_directory(char **out, bool *made, const char *directory, const char *group, size_t room,
                     gp_error *err)
{
    const char *base = gp__socket_base(directory);
    char *absolute = gp__path_absolute(base, strlen(base), NULL);
    char quoted[GP__QUOTED];
    const char *misfit;
    int rc;

    *made = false;
    if (absolute == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a directory for sockets");
    }
    misfit = gp__socket_misfit(absolute, room);
    if (misfit == NULL) {
        *out = absolute;
        return 0;
    }
    rc = gp__socket_dir_make(out, GP__SHORT_TMPDIR, group, err);
    *made = rc == 0;
    if (rc < 0) {
        gp_error_prefix(err, "no unix socket can be created in %s (%s)",
                        gp__quote(quoted, absolute, strlen(absolute)), misfit);
    }
    gp__free(absolute);
    return rc;
}

/* Fill |out| from the system's source of randomness. Returns false if there is none. */
static bool
fill_from_system(unsigned char *out, size_t len)
{
    ssize_t got = -1;
    int fd;

#if defined(__linux__) && !defined(GP_PORTABLE)
    got = getrandom(out, len, 0);
#endif
    if (got != (ssize_t)len) {
        fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            got = read(fd, out, len);
            close(fd);
        }
    }
    return got == (ssize_t)len;
}

/* The fallback: predictable, but different for each call on this machine. */
static void
fill_from_clock(unsigned char *out, size_t len)
{
    static atomic_uint counter;
    struct timespec now;
    uint64_t seed;

    clock_gettime(CLOCK_REALTIME, &now);
    seed = (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 30 ^ (uint64_t)getpid() << 44 ^
           atomic_fetch_add(&counter, 1);
    for (size_t i = 0; i < len; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        out[i] = (unsigned char)(seed >> 56);
    }
}

static void
fill_random(void *out, size_t len)
{
    if (!fill_from_system(out, len)) {
        fill_from_clock(out, len);
    }
}

void
gp__random_name(char out[GP__RANDOM_NAME + 1])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
    unsigned char bytes[GP__RANDOM_NAME];

    fill_random(bytes, sizeof(bytes));
    for (size_t i = 0; i < GP__RANDOM_NAME; i++) {
        out[i] = letters[bytes[i] % 32];
    }
    out[GP__RANDOM_NAME] = '\0';
}

unsigned
gp__random_number(void)
{
    unsigned number;

    fill_random(&number, sizeof(number));
    return number;
}
