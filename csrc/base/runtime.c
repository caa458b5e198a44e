#include "gp/runtime.h"
#include "gp/lock.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/fork.h"

/* Written in the forked child before any other thread can exist, and read everywhere. */
static volatile bool forked;
static volatile unsigned generation;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int installed;

/* The mask that the program's own threads have had of late: bit n - 1 for signal n. */
enum { SIGNALS = 64 };
static atomic_uint_least64_t program_mask;
static gp_mutex fork_lock = GP_MUTEX_INIT; /* held across forks */
static gp_mutex parts_lock = GP_MUTEX_INIT;
static gp_fork_part *_Atomic parts;
static atomic_int uses[GP__FORK_USES];

/* ---- Forks ---- */

static void
before_fork(void)
{
    gp_mutex_lock(&fork_lock);
}

static void
in_parent(void)
{
    gp_mutex_unlock(&fork_lock);
}

static void
in_child(void)
{
    gp_mutex_init(&fork_lock);
    gp_mutex_init(&parts_lock);
    generation++;
    forked = forked || gp__fork_count(GP__FORK_CORE) > 0 || gp__fork_count(GP__FORK_WATCH) > 0;
    if (forked) {
        return;
    }
    for (gp_fork_part *part = atomic_load(&parts); part != NULL; part = part->next) {
        part->reset();
    }
}

static void
install(void)
{
    installed = pthread_atfork(before_fork, in_parent, in_child) == 0 ? 0 : GP_EOS;
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

unsigned
gp_runtime_generation(void)
{
    return generation;
}

void
gp__fork_hold(void)
{
    gp_mutex_lock(&fork_lock);
}

void
gp__fork_release(void)
{
    gp_mutex_unlock(&fork_lock);
}

void
gp__fork_add(gp__fork_use use)
{
    atomic_fetch_add(&uses[use], 1);
}

void
gp__fork_drop(gp__fork_use use)
{
    atomic_fetch_sub(&uses[use], 1);
}

int
gp__fork_count(gp__fork_use use)
{
    return atomic_load(&uses[use]);
}

void
gp_runtime_on_fork(gp_fork_part *part)
{
    gp_mutex_lock(&parts_lock);
    if (!part->known) {
        part->known = true;
        part->next = atomic_load(&parts);
        atomic_store(&parts,
                     part); /* a fork in this very moment sees it or not, and it is unused yet */
    }
    gp_mutex_unlock(&parts_lock);
}

int
gp__fork_users(void)
{
    return gp__fork_count(GP__FORK_CONNECTION) + gp__fork_count(GP__FORK_SERVER) +
           gp__fork_count(GP__FORK_CREDENTIALS);
}

int
gp_runtime_refuse_fork(gp_error *err)
{
    if (!forked) {
        return gp_error_set(
            err, GP_EFORKED,
            "it was made before this process was forked, and is the parent's: make a "
            "new one here");
    }
    return gp_error_set(
        err, GP_EFORKED,
        "this process is a fork of one in which gRPC was %s (connections: %d, servers: %d, "
        "credentials: %d), whose threads did not come along and whose descriptors are not to be "
        "shared. Fork before anything of pygo_plugin is started, or after all of it has been "
        "killed, stopped and closed, with its calls, their errors and its credentials no longer "
        "referenced; "
        "or start this process with the method 'spawn' or 'forkserver' of multiprocessing",
        gp__fork_users() > 0 ? "in use" : "running, though unused, and could not be ended",
        gp__fork_count(GP__FORK_CONNECTION), gp__fork_count(GP__FORK_SERVER),
        gp__fork_count(GP__FORK_CREDENTIALS));
}

/* ---- Signals ---- */

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
