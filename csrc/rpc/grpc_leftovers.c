#include "rpc/grpc_leftovers.h"

#if defined(__linux__)

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "rpc/grpc_symbols.h"

enum { MOST_WATCHED = 16 };

/* A descriptor in an epoll set. */
typedef struct watched {
    int fd;
    struct epoll_event event;
} watched;

/* Whether |address| is that of a variable in gRPC's library. */
static bool
is_grpc_address(uint64_t address)
{
    Dl_info core;
    Dl_info found;
    void *function;

    *(int (**)(void))&function = grpc_is_initialized;
    return dladdr(function, &core) != 0 && dladdr((const void *)(uintptr_t)address, &found) != 0 &&
           core.dli_fbase == found.dli_fbase;
}

/*
 * Read the descriptors in the epoll set |fd| into |all|. Returns their count; 0 if the set is not
 * gRPC's.
 */
static int
read_watched(int fd, watched *all)
{
    char line[256];
    int count = 0;
    bool ours = false;
    FILE *info;

    snprintf(line, sizeof(line), "/proc/self/fdinfo/%d", fd);
    info = fopen(line, "re");
    while (info != NULL && count < MOST_WATCHED && fgets(line, sizeof(line), info) != NULL) {
        unsigned long long data;
        unsigned events;
        int target;

        if (sscanf(line, "tfd: %d events: %x data: %llx", &target, &events, &data) == 3) {
            all[count++] = (watched){
                target, {.events = events & ~(unsigned)(EPOLLERR | EPOLLHUP), .data.u64 = data}};
            ours = ours || is_grpc_address(data);
        }
    }
    if (info != NULL) {
        fclose(info);
    }
    return ours ? count : 0;
}

/* Make |fd| a duplicate of |made|, and close |made|. Returns whether that was possible. */
static bool
replace_fd(int fd, int made)
{
    bool done = made >= 0 && dup3(made, fd, O_CLOEXEC) == fd;

    if (made >= 0) {
        close(made);
    }
    return done;
}

/* Replace |fd| and the eventfds in it, if it is gRPC's epoll set. */
static void
renew_epoll_set(int fd)
{
    watched all[MOST_WATCHED];
    int count = read_watched(fd, all);

    if (count == 0 || !replace_fd(fd, epoll_create1(EPOLL_CLOEXEC))) {
        return;
    }
    for (int i = 0; i < count; i++) {
        if (replace_fd(all[i].fd, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))) {
            epoll_ctl(fd, EPOLL_CTL_ADD, all[i].fd, &all[i].event);
        }
    }
}

static bool
is_epoll_set(int directory, const char *name)
{
    static const char kind[] = "anon_inode:[eventpoll]";
    char target[sizeof(kind)];
    ssize_t len = readlinkat(directory, name, target, sizeof(target));

    return len == (ssize_t)sizeof(kind) - 1 && memcmp(target, kind, sizeof(kind) - 1) == 0;
}

void
gp__grpc_renew_epoll_set(void)
{
    DIR *all = opendir("/proc/self/fd");
    struct dirent *entry;

    while (all != NULL && (entry = readdir(all)) != NULL) {
        if (is_epoll_set(dirfd(all), entry->d_name)) {
            renew_epoll_set(atoi(entry->d_name));
        }
    }
    if (all != NULL) {
        closedir(all);
    }
}

/* Whether |task|, a thread of this process, has the name of one of gRPC's threads. */
static bool
is_grpc_thread(const char *task)
{
    static const char *const names[] = {"default-executo", "resolver-execut", "grpc_global_tim",
                                        "lifeguard",       "event_engine",    "timer_manager",
                                        "grpc_shutdown"};
    char path[300];
    char name[32] = "";
    bool found = false;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/self/task/%s/comm", task);
    file = fopen(path, "re");
    if (file != NULL && fgets(name, sizeof(name), file) != NULL) {
        name[strcspn(name, "\n")] = '\0';
    }
    if (file != NULL) {
        fclose(file);
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !found; i++) {
        found = strcmp(name, names[i]) == 0;
    }
    return found;
}

bool
gp__grpc_has_threads(void)
{
    DIR *all = opendir("/proc/self/task");
    struct dirent *entry;
    bool found = false;

    while (all != NULL && !found && (entry = readdir(all)) != NULL) {
        found = is_grpc_thread(entry->d_name);
    }
    if (all != NULL) {
        closedir(all);
    }
    return found;
}

#else

void
gp__grpc_renew_epoll_set(void)
{
}

bool
gp__grpc_has_threads(void)
{
    return false;
}

#endif
