#include "os/tmpdir.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

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

/* From the system's source of randomness; false if there is none to be had. */
static bool
system_random(unsigned char *out, size_t len)
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

/* Without one, at least no two calls on this machine give the same. */
static void
poor_random(unsigned char *out, size_t len)
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
    if (!system_random(out, len)) {
        poor_random(out, len);
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
