#include "rpc/grpc_library.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fork.h"
#include "base/thread.h"
#include "gp/grpc.h"
#include "gp/lock.h"
#include "gp/log.h"
#include "gp/runtime.h"
#include "os/rlimit.h"
#include "rpc/convert.h"
#include "rpc/grpc_leftovers.h"
#include "rpc/grpc_symbols.h"

/* The same as gRPC's gpr_log_func_args, which newer versions do not have: see listen_to_grpc(). */
typedef struct log_args {
    const char *file;
    int line;
    gpr_log_severity severity;
    const char *message;
} log_args;

/*
 * How many descriptors must be free to start gRPC: for two epoll sets, two eventfds, and two to
 * spare.
 */
enum { NEEDED = 6 };

static struct {
    gp_mutex lock; /* comes before the locks of the engine and that of base/fork.c */
    bool running GP_GUARDED_BY(&lock);
    bool inherited GP_GUARDED_BY(&lock); /* a parent process may have run gRPC before */
    /*
     * Owned; NULL while gRPC does not run. A channel without a connection, which keeps gRPC's event
     * engine alive: gRPC frees that with its last channel, and aborts if it cannot open descriptors
     * for a new one.
     */
    grpc_channel *engine_keeper GP_GUARDED_BY(&lock);
} process = {.lock = GP_MUTEX_INIT};

static _Atomic(void (*)(int, const char *)) log_line;

void
gp_grpc_set_log(void (*line)(int level, const char *text))
{
    atomic_store(&log_line, line);
}

static void
on_grpc_log(log_args *args)
{
    void (*line)(int, const char *) = atomic_load(&log_line);
    int level = args->severity == GPR_LOG_SEVERITY_ERROR  ? GP_ERROR
                : args->severity == GPR_LOG_SEVERITY_INFO ? GP_INFO
                                                          : GP_DEBUG;

    if (line != NULL) {
        line(level, args->message);
    }
}

/*
 * gRPC 1.66 and newer versions do not have gpr_set_log_function(): they log through abseil, which
 * writes to stderr. The static core always has it (scripts/core.d/log_function.cc).
 */
static void
listen_to_grpc(void)
{
    void (*set_log_function)(void (*)(log_args *));

    *(void **)&set_log_function = gp__grpc_find("gpr_set_log_function");
    if (set_log_function != NULL) {
        set_log_function(on_grpc_log);
    }
}

/*
 * Distributions build abseil with its assertions, and with them a lock-order checker that costs 9 %
 * of a unary call. The function that turns the checker off can only be found under its mangled
 * name, which has abseil's release in it. A core that is built without assertions has no checker.
 */
static void
disable_abseil_deadlock_detection(void)
{
    static const char *const releases[] = {
        "debian3",      "lts_20220623", "lts_20230125", "lts_20230802",
        "lts_20240116", "lts_20240722", "lts_20250127", "lts_20250512",
        "lts_20250814", "lts_20260107", "lts_20260526",
    };
    enum { IGNORE = 0 };

    for (size_t i = 0; i < sizeof(releases) / sizeof(releases[0]); i++) {
        char name[100];
        void (*set_mode)(int);

        snprintf(name, sizeof(name),
                 "_ZN4absl%zu%s29SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE",
                 strlen(releases[i]), releases[i]);
        *(void **)&set_mode = gp__grpc_find(name);
        if (set_mode != NULL) {
            set_mode(IGNORE);
            return;
        }
    }
}

/* ---- Starting and stopping ---- */

static void
reset_after_fork(void) GP_NO_THREAD_SAFETY_ANALYSIS /* the only thread of a forked child */
{
    gp_mutex_init(&process.lock);
    process.inherited = true;
}

int
gp_grpc_load(gp_error *err)
{
    return gp__grpc_load(err);
}

static gp_fork_part part = {.reset = reset_after_fork};

/*
 * gRPC makes two epoll sets and two eventfds, half of them with the first object, and ends the
 * process if it cannot. So we check that enough descriptors are free, have gRPC open all of them at
 * once, and keep the object. There are two to spare, for other threads that open descriptors in
 * between.
 */
static int
check_descriptors(gp_error *err)
{
    int taken[NEEDED];
    int count = 0;
    int failed = 0;

    while (count < NEEDED && failed == 0) {
        taken[count] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        failed = taken[count] < 0 ? errno : 0;
        count += failed == 0;
    }
    for (int i = 0; i < count; i++) {
        close(taken[i]);
    }
    if (failed == 0) {
        return 0;
    }
    return gp_error_set_errno(
        err, failed,
        "gRPC needs %d descriptors to start, and there are only %d left: raise "
        "the limit (ulimit -n), or close some",
        NEEDED, count);
}

static grpc_channel *
make_engine_keeper(void)
{
    return grpc_lame_client_channel_create("", GRPC_STATUS_UNAVAILABLE, "");
}

static int
start_grpc_locked(gp_error *err) GP_REQUIRES(&process.lock)
{
    int rc = check_descriptors(err);

    if (rc < 0 || (rc = gp__grpc_load(err)) < 0) {
        return rc;
    }
    gp_runtime_on_fork(&part);
    if (process.inherited) {
        gp__grpc_renew_epoll_set();
        process.inherited = false;
    }
    gp__fork_hold();
    gp__limit_arenas();
    listen_to_grpc();
    grpc_init();
    gp__grpc_measure_clock();
    disable_abseil_deadlock_detection();
    gp__fork_add(GP__FORK_CORE);
    gp__fork_release();
    process.engine_keeper = make_engine_keeper();
    process.running = true;
    return 0;
}

/* Start gRPC if it does not run. If |use| is not NULL, count one more use of that kind. */
static int
ensure_started(const gp__fork_use *use, gp_error *err)
{
    int rc = 0;

    if (gp_runtime_forked()) {
        return gp_runtime_refuse_fork(err);
    }
    gp_mutex_lock(&process.lock);
    if (!process.running) {
        rc = start_grpc_locked(err);
    }
    if (rc == 0 && use != NULL) {
        gp__fork_add(*use);
    }
    gp_mutex_unlock(&process.lock);
    return rc;
}

int
gp__grpc_start(gp_error *err)
{
    return ensure_started(NULL, err);
}

int
gp__grpc_use(gp__fork_use use, gp_error *err)
{
    return ensure_started(&use, err);
}

void
gp__grpc_drop(gp__fork_use use)
{
    gp__fork_drop(use);
}

/*
 * Drop our reference to gRPC and wait until gRPC has shut down. Channels keep it running until they
 * are destroyed, which may be later. Afterwards gRPC has ended its threads and dropped its timers;
 * for what it leaves behind there is gp__grpc_renew_epoll_set().
 */
static bool
shut_down_locked(int64_t deadline) GP_REQUIRES(&process.lock)
{
    bool stopped;

    gp__fork_hold();
    grpc_channel_destroy(process.engine_keeper);
    process.engine_keeper = NULL;
    grpc_shutdown();
    while (!(stopped = !grpc_is_initialized() && !gp__grpc_has_threads()) && gp__now() < deadline) {
        usleep(500);
    }
    if (stopped) {
        gp__fork_drop(GP__FORK_CORE);
    } else {
        grpc_init();
        process.engine_keeper = make_engine_keeper();
    }
    gp__fork_release();
    return stopped;
}

void
gp__grpc_stop(bool (*suspend_engine)(int64_t deadline), int64_t deadline)
{
    gp_mutex_lock(&process.lock);
    if (process.running && gp__fork_users() == 0 && suspend_engine(deadline)) {
        process.running = !shut_down_locked(deadline);
    }
    gp_mutex_unlock(&process.lock);
}
