#include "gp/socket_cleanup.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "gp/listen.h"
#include "gp/lock.h"

/* The signals that end a process by default and that people send on purpose. */
static const int signals[] = {SIGTERM, SIGHUP, SIGQUIT};

enum { MOST_SOCKETS = 16, SIGNALS = sizeof(signals) / sizeof(signals[0]) };

static gp_mutex lock = GP_MUTEX_INIT;
static int used_count GP_GUARDED_BY(&lock);

/*
 * Read by the signal handler, without the lock. Written with the lock held: an entry while its
 * |in_use| is false, the owner before the first |in_use| becomes true.
 */
static pid_t owner;
static char paths[MOST_SOCKETS][GP_LISTEN_PATH];
static char directories[MOST_SOCKETS][GP_LISTEN_PATH]; /* "": none */
static atomic_bool in_use[MOST_SOCKETS];

static void
remove_sockets_and_die(int number)
{
    int saved = errno;

    if (getpid() == owner) {
        for (int i = 0; i < MOST_SOCKETS; i++) {
            if (atomic_load(&in_use[i])) {
                unlink(paths[i]);
                if (directories[i][0] != '\0') {
                    rmdir(directories[i]);
                }
            }
        }
    }
    signal(number, SIG_DFL);
    kill(getpid(), number);
    errno = saved;
}

/* Replace the handler |from| by |to|, for each signal that has it. */
static void
replace_handlers(void (*from)(int), void (*to)(int))
{
    for (int i = 0; i < SIGNALS; i++) {
        struct sigaction action;

        if (sigaction(signals[i], NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO) &&
            action.sa_handler == from) {
            memset(&action, 0, sizeof(action));
            sigemptyset(&action.sa_mask);
            action.sa_flags = SA_RESTART;
            action.sa_handler = to;
            sigaction(signals[i], &action, NULL);
        }
    }
}

int
gp_socket_cleanup_add(const char *path, const char *directory, gp_error *err)
{
    size_t len = strlen(path);
    size_t directory_len = directory != NULL ? strlen(directory) : 0;
    int number = 0;

    if (len >= GP_LISTEN_PATH || directory_len >= GP_LISTEN_PATH) {
        return gp_error_set(err, GP_EINVAL, "%s: too long for a socket", path);
    }
    gp_mutex_lock(&lock);
    while (number < MOST_SOCKETS && atomic_load(&in_use[number])) {
        number++;
    }
    if (number < MOST_SOCKETS) {
        memcpy(paths[number], path, len + 1);
        memcpy(directories[number], directory != NULL ? directory : "", directory_len + 1);
        owner = getpid();
        atomic_store(&in_use[number], true);
        if (used_count++ == 0) {
            replace_handlers(SIG_DFL, remove_sockets_and_die);
        }
    }
    gp_mutex_unlock(&lock);
    return number < MOST_SOCKETS
               ? number
               : gp_error_set(err, GP_ENOMEM, "more than %d sockets to remove", MOST_SOCKETS);
}

void
gp_socket_cleanup_drop(int number)
{
    gp_mutex_lock(&lock);
    if (atomic_exchange(&in_use[number], false) && --used_count == 0) {
        replace_handlers(remove_sockets_and_die, SIG_DFL);
    }
    gp_mutex_unlock(&lock);
}
