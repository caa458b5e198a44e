#include "gp/runtime.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "gp/error.h"

/* Written in the forked child before any other thread can exist, and read everywhere. */
static volatile bool forked;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int installed;

/* The mask that the program's own threads have had of late: bit n - 1 for signal n. */
enum { SIGNALS = 64 };
static atomic_uint_least64_t program_mask;

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

static void
fill_but_faults(sigset_t *set)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};

    sigfillset(set);
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        sigdelset(set, faults[i]);
    }
}

void
gp_runtime_block_signals(void *before)
{
    sigset_t blocked;

    fill_but_faults(&blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, before);
}

/* Whether |mask| is that of gp_runtime_block_signals(): nobody else blocks this much. */
static bool
is_blocked(const sigset_t *mask)
{
    sigset_t blocked;

    fill_but_faults(&blocked);
    for (int number = 1; number <= SIGNALS; number++) {
        /* The kernel takes these two out of every mask. */
        if (number != SIGKILL && number != SIGSTOP && sigismember(&blocked, number) == 1 &&
            sigismember(mask, number) != 1) {
            return false;
        }
    }
    return true;
}

static void
remember_mask(const sigset_t *mask)
{
    uint_least64_t bits = 0;

    for (int number = 1; number <= SIGNALS; number++) {
        if (sigismember(mask, number) == 1) {
            bits |= UINT64_C(1) << (number - 1);
        }
    }
    atomic_store(&program_mask, bits);
}

static void
recall_mask(sigset_t *mask)
{
    uint_least64_t bits = atomic_load(&program_mask);

    sigemptyset(mask);
    for (int number = 1; number <= SIGNALS; number++) {
        if ((bits >> (number - 1) & 1) != 0) {
            sigaddset(mask, number);
        }
    }
}

void
gp_runtime_user_signals(void *before)
{
    sigset_t mask;
    sigset_t now;

    pthread_sigmask(SIG_SETMASK, NULL, &now);
    if (before != NULL) {
        *(sigset_t *)before = now;
    }
    if (is_blocked(&now)) {
        recall_mask(&mask);
        pthread_sigmask(SIG_SETMASK, &mask, NULL);
    } else {
        remember_mask(&now);
    }
}
