#include "rpc/runtime.h"

#include <dlfcn.h>
#include <grpc/grpc.h>
#include <grpc/support/log.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "gp/grpc.h"
#include "gp/log.h"
#include "gp/runtime.h"

/* gRPC's gpr_log_func_args, with all that belongs to it gone from 1.66 on: see listen_to_grpc(). */
typedef struct log_args {
    const char *file;
    int line;
    gpr_log_severity severity;
    const char *message;
} log_args;

static struct {
    pthread_mutex_t lock;
    bool running;
} process = {.lock = PTHREAD_MUTEX_INITIALIZER};

static _Atomic(void (*)(int, const char *)) log_line;

const char *
gp_grpc_version(void)
{
    return grpc_version_string();
}

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

/* Versions from 1.66 on log through abseil alone, which writes to stderr. */
static void
listen_to_grpc(void)
{
    void (*set_log_function)(void (*)(log_args *));

    *(void **)&set_log_function = dlsym(RTLD_DEFAULT, "gpr_set_log_function");
    if (set_log_function != NULL) {
        set_log_function(on_grpc_log);
    }
}

/*
 * Distributions build abseil with its assertions, and with them a lock-order checker that costs 9 %
 * of a unary call. It is a setting of abseil's, reachable only under its mangled names.
 */
static void
quieten_abseil(void)
{
    static const char *const names[] = {
        "_ZN4absl7debian329SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE",
        "_ZN4absl12lts_2022062329SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE",
        "_ZN4absl12lts_2023012529SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE",
        "_ZN4absl12lts_2023080229SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE",
        "_ZN4absl12lts_2024011629SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE",
        "_ZN4absl12lts_2024072229SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE",
        "_ZN4absl12lts_2025012729SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE",
    };
    enum { IGNORE = 0 };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        void (*set_mode)(int);

        *(void **)&set_mode = dlsym(RTLD_DEFAULT, names[i]);
        if (set_mode != NULL) {
            set_mode(IGNORE);
            return;
        }
    }
}

int
gp__grpc_start(gp_error *err)
{
    if (gp_runtime_forked()) {
        return gp_error_set(err, GP_EFORKED,
                            "gRPC cannot be used in a forked child: start the process with the "
                            "'spawn' or 'forkserver' method instead of 'fork'");
    }
    pthread_mutex_lock(&process.lock);
    if (!process.running) {
        listen_to_grpc();
        grpc_init();
        quieten_abseil();
        process.running = true;
    }
    pthread_mutex_unlock(&process.lock);
    return 0;
}
