#include "gp/runtime.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>

#include "gp/error.h"

/* Written in the forked child before any other thread can exist, and read everywhere. */
static volatile bool forked;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int installed;

static void
in_child(void)
{
    forked = true;
}

static void
install(void)
{
    installed = pthread_atfork(NULL, NULL, in_child) == 0 ? 0 : GP_EOS;
}

int
gp_runtime_init(void)
{
    pthread_once(&once, install);
    return installed;
}

bool
gp_runtime_forked(void)
{
    return forked;
}

void
gp_runtime_block_signals(void *before)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    sigset_t blocked;

    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        sigdelset(&blocked, faults[i]);
    }
    pthread_sigmask(SIG_SETMASK, &blocked, before);
}
