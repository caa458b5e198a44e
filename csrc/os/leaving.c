#include "gp/leaving.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "gp/listen.h"
#include "gp/lock.h"

/* Those that end a process by default and that people send on purpose. */
static const int fatal[] = {SIGTERM, SIGHUP, SIGQUIT};

enum { PLACES = 16, SIGNALS = sizeof(fatal) / sizeof(fatal[0]) };

static gp_mutex lock = GP_MUTEX_INIT; /* guards what the handler does not need */
static int used;
static pid_t owner;
static char paths[PLACES][GP_LISTEN_PATH];
static char directories[PLACES][GP_LISTEN_PATH]; /* "": none */
static atomic_bool taken[PLACES];                /* for the handler: the path is whole */

static void
on_signal(int number)
{
    int saved = errno;

    if (getpid() == owner) {
        for (int i = 0; i < PLACES; i++) {
            if (atomic_load(&taken[i])) {
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

static void
replace(void (*from)(int), void (*to)(int))
{
    for (int i = 0; i < SIGNALS; i++) {
        struct sigaction action;

        if (sigaction(fatal[i], NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO) &&
            action.sa_handler == from) {
            memset(&action, 0, sizeof(action));
            sigemptyset(&action.sa_mask);
            action.sa_flags = SA_RESTART;
            action.sa_handler = to;
            sigaction(fatal[i], &action, NULL);
        }
    }
}

int
gp_leaving_add(const char *path, const char *directory, gp_error *err)
{
    size_t len = strlen(path);
    size_t directory_len = directory != NULL ? strlen(directory) : 0;
    int place = 0;

    if (len >= GP_LISTEN_PATH || directory_len >= GP_LISTEN_PATH) {
        return gp_error_set(err, GP_EINVAL, "%s: too long for a socket", path);
    }
    gp_mutex_lock(&lock);
    while (place < PLACES && atomic_load(&taken[place])) {
        place++;
    }
    if (place < PLACES) {
        memcpy(paths[place], path, len + 1);
        memcpy(directories[place], directory != NULL ? directory : "", directory_len + 1);
        owner = getpid();
        atomic_store(&taken[place], true);
        if (used++ == 0) {
            replace(SIG_DFL, on_signal);
        }
    }
    gp_mutex_unlock(&lock);
    return place < PLACES ? place
                          : gp_error_set(err, GP_ENOMEM, "more than %d sockets to remove", PLACES);
}

void
gp_leaving_drop(int place)
{
    gp_mutex_lock(&lock);
    if (atomic_exchange(&taken[place], false) && --used == 0) {
        replace(on_signal, SIG_DFL);
    }
    gp_mutex_unlock(&lock);
}
