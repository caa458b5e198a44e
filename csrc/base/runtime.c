#include "gp/runtime.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/fork.h"
#include "gp/lock.h"

/* Written in a forked child before it has other threads; read by any thread. */
static volatile bool forked;
static volatile unsigned generation;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int installed;

/* The signal mask that the program's own threads had when last seen: bit n - 1 for signal n. */
enum { SIGNALS = 64 };
static atomic_uint_least64_t program_mask;

/* Held across a fork, and by a thread while no other one may fork. */
static gp_mutex fork_lock = GP_MUTEX_INIT;

static gp_mutex parts_lock = GP_MUTEX_INIT; /* taken to add a part; reading needs no lock */
static gp_fork_part *_Atomic parts;
static atomic_int uses[GP__FORK_USES];

/* ---- Forks ----------------------------------------------------------------------------------- */

static void before_fork(void) GP_ACQUIRE(&fork_lock);
static void after_fork_in_parent(void) GP_RELEASE(&fork_lock);
/* As declared in base/fork.h, which does not know the lock. */
void gp__fork_hold(void) GP_ACQUIRE(&fork_lock);
void gp__fork_release(void) GP_RELEASE(&fork_lock);

static void
before_fork(void)
{
    gp_mutex_lock(&fork_lock);
}

static void
after_fork_in_parent(void)
{
    gp_mutex_unlock(&fork_lock);
}

static void
after_fork_in_child(void)
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
install_fork_handlers(void)
{
    installed =
        pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) == 0 ? 0 : GP_EOS;
}

int
gp_runtime_init(void)
{
    pthread_once(&once, install_fork_handlers);
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
        /* A fork at this moment may miss the part: it has nothing to reset yet. */
        atomic_store(&parts, part);
    }
    gp_mutex_unlock(&parts_lock);
}

int
gp__fork_users(void)
{
    return gp__fork_count(GP__FORK_CONNECTION) + gp__fork_count(GP__FORK_SERVER) +
           gp__fork_count(GP__FORK_CREDENTIALS);
}

/* What the parent had in use, from the counts as they were at the fork. */
static void
describe_use(char *out, size_t size)
{
    if (gp__fork_users() > 0) {
        snprintf(out, size, "gRPC was in use (connections: %d, servers: %d, credentials: %d)",
                 gp__fork_count(GP__FORK_CONNECTION), gp__fork_count(GP__FORK_SERVER),
                 gp__fork_count(GP__FORK_CREDENTIALS));
    } else if (gp__fork_count(GP__FORK_CORE) > 0) {
        snprintf(out, size, "gRPC was running, though unused, and could not be ended");
    } else {
        snprintf(out, size, "plugins were starting or running, or were served");
    }
}

int
gp_runtime_refuse_fork(gp_error *err)
{
    char use[128];

    if (!forked) {
        return gp_error_set(
            err, GP_EFORKED,
            "it was made before this process was forked, and is the parent's: make a "
            "new one here");
    }
    describe_use(use, sizeof(use));
    return gp_error_set(
        err, GP_EFORKED,
        "this process was forked from one in which %s. The threads of pygo_plugin do not exist in "
        "the child, and its descriptors must not be shared. Fork before anything of pygo_plugin is "
        "started, or after all of it has been killed, stopped and closed, with its calls, their "
        "errors and its credentials no longer referenced; or start this process with the method "
        "'spawn' or 'forkserver' of multiprocessing",
        use);
}

/* ---- Signals --------------------------------------------------------------------------------- */

/* All signals except those that report a fault of the thread itself. */
static void
fill_except_faults(sigset_t *set)
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

    fill_except_faults(&blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, before);
}

/*
 * Whether |mask| is that of gp_runtime_block_signals(): no thread of the program blocks as many
 * signals.
 */
static bool
is_blocking_mask(const sigset_t *mask)
{
    sigset_t blocked;

    fill_except_faults(&blocked);
    for (int number = 1; number <= SIGNALS; number++) {
        /* The kernel removes SIGKILL and SIGSTOP from every mask. */
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
    if (is_blocking_mask(&now)) {
        recall_mask(&mask);
        pthread_sigmask(SIG_SETMASK, &mask, NULL);
    } else {
        remember_mask(&now);
    }
}
