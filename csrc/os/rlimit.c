#include "os/rlimit.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

/* The size of the process's address space in bytes; 0 if the system does not say. */
static size_t
address_space_size(void)
{
    char text[32] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t len = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

    if (fd >= 0) {
        close(fd);
    }
    return len > 0 ? (size_t)strtoull(text, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

size_t
gp__memory_left(void)
{
    struct rlimit limit;
    size_t used;

    if (getrlimit(RLIMIT_AS, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY ||
        limit.rlim_cur >= SIZE_MAX) {
        return SIZE_MAX;
    }
    used = address_space_size();
    return limit.rlim_cur > used ? (size_t)limit.rlim_cur - used : 0;
}

void
gp__limit_arenas(void)
{
#ifdef __GLIBC__
    enum { ARENAS = 4 };
    const char *tunables = getenv("GLIBC_TUNABLES");

    if (gp__memory_left() != SIZE_MAX && getenv("MALLOC_ARENA_MAX") == NULL &&
        (tunables == NULL || strstr(tunables, "glibc.malloc.arena_max") == NULL)) {
        mallopt(M_ARENA_MAX, ARENAS);
    }
#endif
}
