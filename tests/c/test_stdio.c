#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "gp/container.h"
#include "gp/lock.h"
#include "gp/services.h"
#include "gp/stdio.h"
#include "os/fd.h"
#include "os/reactor.h"
#include "os/stdio_state.h"
#include "plugin/output.h"
#include "plugin/stdio_stream.h"
#include "support.h"

/* ---- A plugin and a host in one process ---- */

static int
no_method(void *ctx, gp_server_call *call, void **data)
{
    (void)ctx;
    (void)call;
    (void)data;
    return -1;
}

/* The output that the host's writers got. */
typedef struct collected {
    gp_mutex lock;
    gp_cond changed;
    gp__buf by_channel[3];
    bool blocked;
    int released;
} collected;

typedef struct peers {
    gp_server *server;
    gp_stdio *stdio;
    gp_channel *channel;
    gp__output *output;
    gp__stdio_stream *stream;
    collected got;
    char target[64];
} peers;

static void
collect(void *ctx, int channel, const char *bytes, size_t len)
{
    collected *got = ctx;

    gp_mutex_lock(&got->lock);
    while (got->blocked) {
        gp_cond_wait(&got->changed, &got->lock);
    }
    gp__buf_append(&got->by_channel[channel], bytes, len);
    gp_cond_broadcast(&got->changed);
    gp_mutex_unlock(&got->lock);
}

static void
on_release(void *ctx)
{
    collected *got = ctx;

    gp_mutex_lock(&got->lock);
    got->released++;
    gp_cond_broadcast(&got->changed);
    gp_mutex_unlock(&got->lock);
}

static void
await_output(collected *got, int channel, size_t len)
{
    gp_mutex_lock(&got->lock);
    while (got->by_channel[channel].len < len) {
        assert_int_equal(gp_cond_wait_until(&got->changed, &got->lock, patience()), 0);
    }
    gp_mutex_unlock(&got->lock);
}

static void
set_blocked(collected *got, bool blocked)
{
    gp_mutex_lock(&got->lock);
    got->blocked = blocked;
    gp_cond_broadcast(&got->changed);
    gp_mutex_unlock(&got->lock);
}

static void
connect_host(peers *it)
{
    const gp_output_sink sink = {collect, on_release, &it->got};

    assert_int_equal(gp_channel_open(&it->channel, it->target, NULL, NULL), 0);
    assert_int_equal(gp__output_new(&it->output, &sink, NULL), 0);
    assert_int_equal(gp__stdio_stream_open(&it->stream, it->channel, it->output, NULL), 0);
}

static void
disconnect_host(peers *it)
{
    int before = it->got.released;

    gp_channel_close(it->channel);
    gp__stdio_stream_close(it->stream);
    gp__output_unref(it->output);
    gp_channel_unref(it->channel);
    gp_mutex_lock(&it->got.lock);
    while (it->got.released == before) {
        assert_int_equal(gp_cond_wait_until(&it->got.changed, &it->got.lock, patience()), 0);
    }
    gp_mutex_unlock(&it->got.lock);
}

static void
begin(peers *it)
{
    static int number;
    const gp_server_options options = {.handler = {.begin = no_method}, .max_workers = 1};

    *it = (peers){0};
    gp_mutex_init(&it->got.lock);
    gp_cond_init(&it->got.changed);
    snprintf(it->target, sizeof(it->target), "unix:/tmp/gp-stdio-%d-%d", (int)getpid(), number++);
    assert_int_equal(gp_stdio_new(&it->stdio, NULL), 0);
    assert_int_equal(gp_server_new(&it->server, &options, NULL), 0);
    assert_int_equal(gp_server_add_stdio(it->server, it->stdio, NULL), 0);
    assert_int_equal(gp_server_listen(it->server, it->target, NULL, NULL), 0);
    assert_int_equal(gp_server_start(it->server, NULL), 0);
}

static void
finish(peers *it)
{
    gp_server_stop(it->server, 0);
    assert_int_equal(gp_server_join(it->server, PATIENCE_MS, NULL), 0);
    gp_server_release(it->server);
    gp_stdio_unref(it->stdio);
    for (int i = 0; i < 3; i++) {
        gp__buf_release(&it->got.by_channel[i]);
    }
    gp_cond_release(&it->got.changed);
    gp_mutex_release(&it->got.lock);
}

static void
write_text(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void
assert_got(peers *it, int channel, const char *text)
{
    assert_int_equal(it->got.by_channel[channel].len, strlen(text));
    assert_memory_equal(it->got.by_channel[channel].data, text, strlen(text));
}

/* Descriptors 1 and 2 of the test program, which are pipes of ours during a test. */
typedef struct original {
    int kept[2];
    int read[2];
} original;

static void
replace_original(original *it)
{
    for (int i = 0; i < 2; i++) {
        int ends[2];

        it->kept[i] = fcntl(1 + i, F_DUPFD_CLOEXEC, 10);
        assert_int_equal(gp__fd_pipe(ends, NULL), 0);
        gp__fd_set_nonblocking(ends[0]);
        dup2(ends[1], 1 + i);
        gp__fd_close(&ends[1]);
        it->read[i] = ends[0];
    }
}

static void
restore_original(original *it)
{
    for (int i = 0; i < 2; i++) {
        dup2(it->kept[i], 1 + i);
        gp__fd_close(&it->kept[i]);
    }
}

static void
assert_original(original *it, int i, const char *text)
{
    char bytes[256];
    ssize_t got = read(it->read[i], bytes, sizeof(bytes));

    assert_int_equal(got, (ssize_t)strlen(text));
    assert_memory_equal(bytes, text, strlen(text));
    gp__fd_close(&it->read[i]);
}

/* ---- Tests ---- */

static const gp_bytes line = {"line\n", 5};

static void
output_reaches_the_host(void **state)
{
    original before;
    peers it;

    (void)state;
    begin(&it);
    connect_host(&it);
    replace_original(&before);
    assert_int_equal(gp_stdio_open(it.stdio, line, NULL), 0);
    write_text(1, "out");
    write_text(2, "err");
    await_output(&it.got, GP_STDOUT, 3);
    await_output(&it.got, GP_STDERR, 3);
    write_text(1, "put");
    assert_int_equal(gp_stdio_end(it.stdio, PATIENCE_MS, NULL), 0);
    write_text(2, "later");
    restore_original(&before);
    assert_int_equal(gp__stdio_stream_await_end(it.stream, patience(), NULL), 0);
    assert_int_equal(gp__output_flush(it.output, patience(), NULL), 0);
    assert_got(&it, GP_STDOUT, "output");
    assert_got(&it, GP_STDERR, "err");
    assert_original(&before, 0, "line\n");
    assert_original(&before, 1, "later");
    disconnect_host(&it);
    finish(&it);
}

static void
the_end_of_the_server_ends_the_output(void **state)
{
    original before;
    peers it;

    (void)state;
    begin(&it);
    connect_host(&it);
    replace_original(&before);
    assert_int_equal(gp_stdio_open(it.stdio, line, NULL), 0);
    write_text(1, "o");
    await_output(&it.got, GP_STDOUT, 1);
    write_text(1, "ut");
    gp_server_stop(it.server, PATIENCE_MS);
    assert_int_equal(gp_server_wait(it.server, PATIENCE_MS, NULL), 0);
    write_text(1, "later");
    restore_original(&before);
    assert_int_equal(gp__stdio_stream_await_end(it.stream, patience(), NULL), 0);
    assert_int_equal(gp__output_flush(it.output, patience(), NULL), 0);
    assert_got(&it, GP_STDOUT, "out");
    assert_original(&before, 0, "line\nlater");
    gp__fd_close(&before.read[1]);
    disconnect_host(&it);
    finish(&it);
}

static void
output_without_a_consumer_goes_to_the_original_descriptors(void **state)
{
    original before;
    peers it;

    (void)state;
    begin(&it);
    replace_original(&before);
    assert_int_equal(gp_stdio_open(it.stdio, line, NULL), 0);
    write_text(1, "out");
    write_text(2, "err");
    assert_int_equal(gp_stdio_end(it.stdio, PATIENCE_MS, NULL), 0);
    restore_original(&before);
    assert_original(&before, 0, "line\nout");
    assert_original(&before, 1, "err");
    finish(&it);
}

static void
the_next_host_gets_the_rest(void **state)
{
    original before;
    peers it;

    (void)state;
    begin(&it);
    connect_host(&it);
    replace_original(&before);
    assert_int_equal(gp_stdio_open(it.stdio, line, NULL), 0);
    write_text(1, "one");
    await_output(&it.got, GP_STDOUT, 3);
    disconnect_host(&it);
    connect_host(&it);
    /* Output that is given to the first host before its end is noticed is lost. */
    gp_mutex_lock(&it.got.lock);
    for (int64_t deadline = patience(); it.got.by_channel[GP_STDOUT].len == 3;) {
        write_text(1, "x");
        gp_cond_wait_until(&it.got.changed, &it.got.lock, gp_deadline_in(10));
        assert_true(gp__now() < deadline);
    }
    gp_mutex_unlock(&it.got.lock);
    assert_int_equal(gp_stdio_end(it.stdio, PATIENCE_MS, NULL), 0);
    restore_original(&before);
    for (int i = 0; i < 2; i++) {
        gp__fd_close(&before.read[i]);
    }
    disconnect_host(&it);
    finish(&it);
}

/* More bytes than pipes, flow control and the host's queue hold. */
enum { FLOOD = 4 * 1024 * 1024 };

static void *
flood(void *unused)
{
    static char zeros[64 * 1024];

    (void)unused;
    for (size_t done = 0; done < FLOOD;) {
        ssize_t put_now = write(1, zeros, sizeof(zeros));

        assert_true(put_now > 0);
        done += (size_t)put_now;
    }
    return NULL;
}

static void
a_host_that_does_not_read_blocks_the_writer_and_not_the_end(void **state)
{
    original before;
    pthread_t thread;
    peers it;

    (void)state;
    begin(&it);
    connect_host(&it);
    set_blocked(&it.got, true);
    replace_original(&before);
    assert_int_equal(gp_stdio_open(it.stdio, line, NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, flood, NULL), 0);
    set_blocked(&it.got, false);
    await_output(&it.got, GP_STDOUT, FLOOD);
    pthread_join(thread, NULL);
    set_blocked(&it.got, true);
    write_text(1, "more");
    assert_int_equal(gp_stdio_end(it.stdio, 100, NULL), 0);
    restore_original(&before);
    set_blocked(&it.got, false);
    for (int i = 0; i < 2; i++) {
        gp__fd_close(&before.read[i]);
    }
    disconnect_host(&it);
    finish(&it);
}

static void
descriptors_are_replaced_once_at_a_time(void **state)
{
    gp_error err = GP_ERROR_INIT;
    gp_stdio *first;
    gp_stdio *second;
    original before;
    int again;
    int other;

    (void)state;
    assert_int_equal(gp_stdio_new(&first, NULL), 0);
    assert_int_equal(gp_stdio_new(&second, NULL), 0);
    replace_original(&before);
    assert_int_equal(gp_stdio_open(first, line, NULL), 0);
    again = gp_stdio_open(first, line, NULL);
    other = gp_stdio_open(second, line, &err);
    gp_stdio_end(first, 0, NULL);
    restore_original(&before);
    assert_int_equal(again, GP_EINVAL);
    assert_int_equal(other, GP_EINVAL);
    assert_string_equal(gp_error_message(&err), "stdout and stderr have been replaced already");
    gp_error_release(&err);
    gp_stdio_unref(first);
    gp_stdio_unref(second);
    for (int i = 0; i < 2; i++) {
        gp__fd_close(&before.read[i]);
    }
}

static void
the_second_reader_follows_the_first(void **state)
{
    static const unsigned char message[] = {1 << 3, GP_STDERR, 2 << 3 | 2, 3, 'e', 'r', 'r'};
    gp_stdio_reader *first;
    gp_stdio_reader *second;
    gp_stdio *stdio;
    gp_bytes bytes;
    original before;
    int got;

    (void)state;
    assert_int_equal(gp_stdio_new(&stdio, NULL), 0);
    assert_int_equal(gp_stdio_reader_new(&first, stdio, NULL), 0);
    assert_int_equal(gp_stdio_reader_new(&second, stdio, NULL), 0);
    replace_original(&before);
    assert_int_equal(gp_stdio_open(stdio, line, NULL), 0);
    write_text(2, "err");
    got = gp_stdio_reader_next(first, &bytes, NULL);
    write_text(1, "o");
    gp_stdio_reader_close(first);
    assert_int_equal(got, 1);
    assert_int_equal(bytes.len, sizeof(message));
    assert_memory_equal(bytes.data, message, sizeof(message));
    assert_int_equal(gp_stdio_reader_next(first, &bytes, NULL), 0);
    assert_int_equal(gp_stdio_reader_next(second, &bytes, NULL), 1);
    assert_int_equal(bytes.len, 5);
    gp_stdio_finish(stdio, PATIENCE_MS);
    assert_int_equal(gp_stdio_reader_next(second, &bytes, NULL), 0);
    restore_original(&before);
    gp_stdio_reader_free(first);
    gp_stdio_reader_free(second);
    gp_stdio_unref(stdio);
    for (int i = 0; i < 2; i++) {
        gp__fd_close(&before.read[i]);
    }
}

/*
 * A consumer whose end, on the reactor's thread, waits until the test has dropped its references.
 */
typedef struct last_holder {
    gp__stdio_consumer consumer;
    gp_mutex lock;
    gp_cond changed;
    bool ending;
    bool dropped;
    bool freed;
} last_holder;

static bool
give_nothing(gp__stdio_consumer *self, const gp__stdio_chunk *chunk)
{
    (void)self;
    (void)chunk;
    return false;
}

static void
set_flag(last_holder *holder, bool *flag)
{
    gp_mutex_lock(&holder->lock);
    *flag = true;
    gp_cond_broadcast(&holder->changed);
    gp_mutex_unlock(&holder->lock);
}

static void
await_flag(last_holder *holder, const bool *flag)
{
    gp_mutex_lock(&holder->lock);
    while (!*flag) {
        assert_int_equal(gp_cond_wait_until(&holder->changed, &holder->lock, patience()), 0);
    }
    gp_mutex_unlock(&holder->lock);
}

static void
end_last_holder(gp__stdio_consumer *self, bool busy)
{
    last_holder *holder = gp_container_of(self, last_holder, consumer);

    (void)busy;
    set_flag(holder, &holder->ending);
    await_flag(holder, &holder->dropped);
}

static void
free_last_holder(gp__stdio_consumer *self)
{
    last_holder *holder = gp_container_of(self, last_holder, consumer);

    set_flag(holder, &holder->freed);
}

static void
the_last_consumer_may_have_the_last_reference(void **state)
{
    last_holder holder = {
        .consumer = {
            .busy = true, .give = give_nothing, .end = end_last_holder, .free = free_last_holder}};
    gp_stdio *stdio;
    original before;

    (void)state;
    gp_mutex_init(&holder.lock);
    gp_cond_init(&holder.changed);
    assert_int_equal(gp_stdio_new(&stdio, NULL), 0);
    replace_original(&before);
    assert_int_equal(gp_stdio_open(stdio, line, NULL), 0);
    gp_mutex_lock(&stdio->lock);
    holder.consumer.stdio = gp_stdio_ref(stdio);
    gp__stdio_append_locked(stdio, &holder.consumer);
    gp_mutex_unlock(&stdio->lock);
    gp_stdio_finish(stdio, PATIENCE_MS);
    restore_original(&before);
    gp_mutex_lock(&stdio->lock);
    holder.consumer.busy = false; /* noticed by the reactor's thread, at its next look */
    gp_mutex_unlock(&stdio->lock);
    await_flag(&holder, &holder.ending);
    gp_stdio_unref(stdio);
    set_flag(&holder, &holder.dropped);
    await_flag(&holder, &holder.freed);
    gp__reactor_stop(); /* waits until the callback has returned */
    gp_cond_release(&holder.changed);
    gp_mutex_release(&holder.lock);
    for (int i = 0; i < 2; i++) {
        gp__fd_close(&before.read[i]);
    }
}

static void
memory_may_be_short(void **state)
{
    gp_stdio_reader *reader;
    gp_stdio *stdio;

    (void)state;
    gp_runtime_init();
    for (long failing = 0; failing < 2; failing++) {
        int rc;

        alloc_begin(failing);
        rc = gp_stdio_new(&stdio, NULL);
        if (rc == 0) {
            assert_int_equal(gp_stdio_reader_new(&reader, stdio, NULL), GP_ENOMEM);
            gp_stdio_unref(stdio);
        } else {
            assert_int_equal(rc, GP_ENOMEM);
        }
        alloc_end();
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_reaches_the_host),
        cmocka_unit_test(the_end_of_the_server_ends_the_output),
        cmocka_unit_test(output_without_a_consumer_goes_to_the_original_descriptors),
        cmocka_unit_test(the_next_host_gets_the_rest),
        cmocka_unit_test(a_host_that_does_not_read_blocks_the_writer_and_not_the_end),
        cmocka_unit_test(descriptors_are_replaced_once_at_a_time),
        cmocka_unit_test(the_second_reader_follows_the_first),
        cmocka_unit_test(the_last_consumer_may_have_the_last_reference),
        cmocka_unit_test(memory_may_be_short),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    gp_log_shutdown();
    return failed;
}
