/*
 * Children with the ends of their pipes, and who is told of their end, for the tests of
 * os/process.c and os/spawn.c.
 */
#ifndef PROCESS_FIXTURE_H
#define PROCESS_FIXTURE_H

#include <errno.h>
#include <unistd.h>

#include "base/buf.h"
#include "gp/lock.h"
#include "os/fd.h"
#include "os/process.h"
#include "os/reactor.h"
#include "support.h"

extern char **environ;

/* A child and the ends of its pipes. */
typedef struct child {
    gp__process *process;
    int out;
    int err;
} child;

static inline int
spawn_with(child *it, const char *const *argv, const char *const *env, const char *directory,
           gp_error *err)
{
    const gp__process_spec spec = {.argv = argv, .env = env, .directory = directory};

    return gp__process_spawn(&it->process, &spec, &it->out, &it->err, err);
}

static inline void
spawn(child *it, const char *const *argv)
{
    gp_error err = GP_ERROR_INIT;

    if (spawn_with(it, argv, (const char *const *)environ, NULL, &err) < 0) {
        fail_msg("%s", gp_error_message(&err));
    }
}

#define SHELL(it, script) spawn((it), (const char *const[]){"/bin/sh", "-c", (script), NULL})

static inline void
child_release(child *it)
{
    gp__fd_close(&it->out);
    gp__fd_close(&it->err);
    gp__process_unref(it->process);
}

static inline void
await_exit(child *it)
{
    assert_int_equal(gp__process_wait(it->process, patience(), NULL), 0);
}

/* All that comes out of |fd| until its end, as a string that lives until the next call. */
static inline const char *
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

static inline const char *
output_of(const char *script)
{
    const char *output;
    child it;

    SHELL(&it, script);
    output = read_all(it.out);
    await_exit(&it);
    child_release(&it);
    return output;
}

/* ---- Who is told ---- */

typedef struct noticed {
    gp_mutex lock;
    gp_cond changed;
    int count;
} noticed;

static inline void
notice(void *ctx)
{
    noticed *it = ctx;

    gp_mutex_lock(&it->lock);
    it->count++;
    gp_cond_broadcast(&it->changed);
    gp_mutex_unlock(&it->lock);
}

static inline void
noticed_init(noticed *it)
{
    gp_mutex_init(&it->lock);
    gp_cond_init(&it->changed);
    it->count = 0;
}

static inline void
await_notice(noticed *it)
{
    int64_t deadline = patience();

    gp_mutex_lock(&it->lock);
    while (it->count == 0) {
        assert_int_equal(gp__cond_wait_until(&it->changed, &it->lock, deadline), 0);
    }
    gp_mutex_unlock(&it->lock);
}

/* ---- The end ---- */

static inline int
finish(void **state)
{
    (void)state;
    gp__reactor_stop();
    remove_directory();
    return 0;
}

#endif
