#include "process_fixture.h"

int
child_spawn_with(child *it, const char *const *argv, const char *const *env, const char *directory,
                 gp_error *err)
{
    const gp__process_spec spec = {.argv = argv, .env = env, .directory = directory};

    return gp__process_spawn(&it->process, &spec, &it->out, &it->err, err);
}

void
child_spawn(child *it, const char *const *argv)
{
    gp_error err = GP_ERROR_INIT;

    if (child_spawn_with(it, argv, (const char *const *)environ, NULL, &err) < 0) {
        fail_msg("%s", gp_error_message(&err));
    }
}

void
child_release(child *it)
{
    gp__fd_close(&it->out);
    gp__fd_close(&it->err);
    gp__process_unref(it->process);
}

void
child_await_exit(child *it)
{
    assert_int_equal(gp__process_wait(it->process, patience(), NULL), 0);
}

const char *
read_all(int fd)
{
    static gp__buf buf;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    char chunk[1024];
    ssize_t got;

    buf.len = 0;
    do {
        assert_int_equal(gp__fd_poll(&ready, 1, patience()), 1);
        got = read(fd, chunk, sizeof(chunk));
        assert_true(got >= 0 || errno == EAGAIN);
        if (got > 0) {
            gp__buf_append(&buf, chunk, (size_t)got);
        }
    } while (got != 0);
    gp__buf_append(&buf, "", 1);
    return buf.data;
}

const char *
output_of(const char *script)
{
    const char *output;
    child it;

    SHELL(&it, script);
    output = read_all(it.out);
    child_await_exit(&it);
    child_release(&it);
    return output;
}

int
tear_down_processes(void **state)
{
    (void)state;
    gp__reactor_stop();
    remove_directory();
    return 0;
}
