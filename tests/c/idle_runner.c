#include "idle_runner.h"

static int
runner_start(void *ctx, const char *const *env, int *out_fd, int *err_fd, gp_error *err)
{
    (void)ctx;
    (void)env;
    *out_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    *err_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return *out_fd >= 0 && *err_fd >= 0 ? 0 : gp_error_set(err, GP_ESTART, "no descriptors");
}

static int
runner_wait(void *ctx)
{
    char byte;

    assert_int_equal(read(((idle_runner *)ctx)->alive[0], &byte, 1), 1);
    return 0;
}

static void
runner_kill(void *ctx)
{
    assert_int_equal(write(((idle_runner *)ctx)->alive[1], "", 1), 1);
}

static void
runner_release(void *ctx)
{
    atomic_fetch_add(&((idle_runner *)ctx)->releases, 1);
}

void
idle_runner_start(idle_runner *it, address_translation *plugin_to_host,
                  address_translation *host_to_plugin)
{
    static const char *const env[] = {NULL};
    const gp_runner runner = {.start = runner_start,
                              .wait = runner_wait,
                              .kill = runner_kill,
                              .plugin_to_host = plugin_to_host,
                              .host_to_plugin = host_to_plugin,
                              .release = runner_release,
                              .ctx = it};

    *it = (idle_runner){.releases = 0};
    assert_int_equal(pipe(it->alive), 0);
    assert_int_equal(gp__process_run(&it->process, &runner, env, &it->fds[0], &it->fds[1], NULL),
                     0);
}

void
idle_runner_stop(idle_runner *it)
{
    int64_t deadline = patience();

    gp__process_kill(it->process);
    assert_int_equal(gp__process_wait(it->process, deadline, NULL), 0);
    gp__process_unref(it->process);
    while (atomic_load(&it->releases) == 0) {
        assert_true(gp__now() < deadline);
        sched_yield();
    }
    for (int i = 0; i < 2; i++) {
        close(it->fds[i]);
        close(it->alive[i]);
    }
}
