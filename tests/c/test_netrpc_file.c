#include "netrpc/netrpc_file.h"

#include <pthread.h>
#include <string.h>

#include "base/alloc.h"
#include "gp/container.h"
#include "transport_fixture.h"

/* Two files that are the ends of one stream. */
typedef struct pair {
    end ends[2];
    gp_netrpc_file *files[2];
} pair;

static void
open_pair(pair *it, carrier how)
{
    line *lines[2];

    ends_open(it->ends, how, NULL);
    lines_open(it->ends, lines);
    for (int i = 0; i < 2; i++) {
        gp_mutex_lock(&it->ends[i].transport->lock);
        assert_int_equal(gp__netrpc_file_new_locked(&it->files[i], lines[i]->stream, NULL), 0);
        gp_mutex_unlock(&it->ends[i].transport->lock);
        gp__free(lines[i]);
    }
}

static void
close_pair(pair *it)
{
    gp_netrpc_file_free(it->files[0]);
    gp_netrpc_file_free(it->files[1]);
    ends_release(it->ends);
}

static void
expect_read(gp_netrpc_file *file, const char *text)
{
    char bytes[64];
    size_t len = strlen(text);
    size_t got = 0;

    while (got < len) {
        ptrdiff_t some = gp_netrpc_file_read(file, bytes + got, len - got, patience(), NULL, NULL);

        assert_true(some > 0);
        got += (size_t)some;
    }
    assert_memory_equal(bytes, text, len);
}

static void
expect_end(gp_netrpc_file *file)
{
    char byte;

    assert_int_equal(gp_netrpc_file_read(file, &byte, 1, patience(), NULL, NULL), 0);
}

static void
write_text(gp_netrpc_file *file, const char *text)
{
    size_t written;

    assert_int_equal(
        gp_netrpc_file_write(file, text, strlen(text), &written, patience(), NULL, NULL), 0);
    assert_int_equal(written, strlen(text));
}

static carrier
carrier_of(void **state)
{
    return *(const carrier *)*state;
}

/* ---- Reading and writing --------------------------------------------------------------------- */

static void
what_is_written_is_read(void **state)
{
    pair it;

    open_pair(&it, carrier_of(state));
    write_text(it.files[0], "one");
    write_text(it.files[1], "two");
    expect_read(it.files[1], "on");
    expect_read(it.files[1], "e");
    expect_read(it.files[0], "two");
    write_text(it.files[0], "last");
    gp_netrpc_file_shutdown(it.files[0]);
    expect_read(it.files[1], "last");
    expect_end(it.files[1]);
    expect_end(it.files[1]);
    write_text(it.files[1], "back");
    gp_netrpc_file_close(it.files[1]);
    expect_read(it.files[0], "back");
    expect_end(it.files[0]);
    close_pair(&it);
}

enum { LARGE = 5 * 1024 * 1024 };

static unsigned char
byte_at(size_t at)
{
    return (unsigned char)(at * 7 + at / 253);
}

static void *
write_much(void *arg)
{
    unsigned char *bytes = gp__malloc(LARGE);
    size_t written;

    for (size_t i = 0; i < LARGE; i++) {
        bytes[i] = byte_at(i);
    }
    assert_int_equal(gp_netrpc_file_write(arg, bytes, LARGE, &written, patience(), NULL, NULL), 0);
    gp_netrpc_file_shutdown(arg);
    gp__free(bytes);
    return NULL;
}

static void *
read_much(void *arg)
{
    unsigned char *bytes = gp__malloc(LARGE);
    size_t at = 0;
    ptrdiff_t got;

    while ((got = gp_netrpc_file_read(arg, bytes + at, LARGE - at, patience(), NULL, NULL)) > 0) {
        for (size_t until = at + (size_t)got; at < until; at++) {
            assert_int_equal(bytes[at], byte_at(at));
        }
        if (at == LARGE) {
            break;
        }
    }
    assert_int_equal(at, LARGE);
    expect_end(arg);
    gp__free(bytes);
    return NULL;
}

static void
much_is_written_and_read_at_once(void **state)
{
    pthread_t threads[4];
    pair it;

    open_pair(&it, carrier_of(state));
    for (int i = 0; i < 2; i++) {
        pthread_create(&threads[2 * i], NULL, write_much, it.files[i]);
        pthread_create(&threads[2 * i + 1], NULL, read_much, it.files[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    close_pair(&it);
}

/* ---- Waits that end -------------------------------------------------------------------------- */

static void
a_reader_that_does_not_come_blocks_the_writer(void **state)
{
    unsigned char *bytes = gp__calloc(1, LARGE);
    gp_error err = GP_ERROR_INIT;
    size_t written = 0;
    size_t first;
    pair it;

    open_pair(&it, carrier_of(state));
    assert_int_equal(gp_netrpc_file_write(it.files[0], bytes, LARGE, &first, 0, NULL, NULL),
                     GP_ETIMEOUT);
    assert_true(first > 0 && first < LARGE);
    assert_int_equal(
        gp_netrpc_file_write(it.files[0], bytes, LARGE, &written, gp_deadline_in(30), NULL, &err),
        GP_ETIMEOUT);
    assert_true(first + written < LARGE);
    assert_string_equal(gp_error_message(&err), "timed out");
    gp_error_release(&err);
    close_pair(&it);
    gp__free(bytes);
}

static void
reads_time_out(void **state)
{
    char byte;
    pair it;

    open_pair(&it, carrier_of(state));
    assert_int_equal(gp_netrpc_file_read(it.files[0], &byte, 1, 0, NULL, NULL), GP_ETIMEOUT);
    assert_int_equal(gp_netrpc_file_read(it.files[0], &byte, 1, gp_deadline_in(5), NULL, NULL),
                     GP_ETIMEOUT);
    write_text(it.files[1], "x");
    expect_read(it.files[0], "x");
    close_pair(&it);
}

static void *
read_until_closed(void *arg)
{
    char byte;

    assert_int_equal(gp_netrpc_file_read(arg, &byte, 1, patience(), NULL, NULL), GP_ECLOSED);
    return NULL;
}

static void *
write_until_closed(void *arg)
{
    unsigned char *bytes = gp__calloc(1, LARGE);
    size_t written;

    assert_int_equal(gp_netrpc_file_write(arg, bytes, LARGE, &written, patience(), NULL, NULL),
                     GP_ECLOSED);
    assert_true(written < LARGE);
    gp__free(bytes);
    return NULL;
}

/* The reader closes while the window is used up: the writer must not wait for room for ever. */
static void
a_reader_that_closes_ends_the_writer(void **state)
{
    unsigned char *bytes = gp__calloc(1, LARGE);
    size_t written;
    pthread_t thread;
    pair it;

    open_pair(&it, carrier_of(state));
    assert_int_equal(
        gp_netrpc_file_write(it.files[0], bytes, LARGE, &written, gp_deadline_in(30), NULL, NULL),
        GP_ETIMEOUT);
    pthread_create(&thread, NULL, write_until_closed, it.files[0]);
    gp_netrpc_file_close(it.files[1]);
    pthread_join(thread, NULL);
    close_pair(&it);
    gp__free(bytes);
}

typedef enum closing { CLOSE_FILE, CLOSE_TRANSPORT, CLOSE_OTHER_SIDE } closing;

static void
closing_ends_reads_and_writes(void **state)
{
    for (closing how = CLOSE_FILE; how <= CLOSE_OTHER_SIDE; how++) {
        pthread_t threads[2];
        gp_error err = GP_ERROR_INIT;
        char byte;
        pair it;

        open_pair(&it, carrier_of(state));
        pthread_create(&threads[0], NULL, read_until_closed, it.files[0]);
        pthread_create(&threads[1], NULL, write_until_closed, it.files[0]);
        if (how == CLOSE_FILE) {
            gp_netrpc_file_close(it.files[0]);
        } else {
            gp__transport_close(it.ends[how == CLOSE_TRANSPORT ? 0 : 1].transport, NULL, 0);
        }
        pthread_join(threads[0], NULL);
        pthread_join(threads[1], NULL);
        assert_int_equal(gp_netrpc_file_read(it.files[0], &byte, 1, patience(), NULL, &err),
                         GP_ECLOSED);
        assert_string_equal(gp_error_message(&err),
                            how == CLOSE_FILE        ? "this side has closed the stream"
                            : how == CLOSE_TRANSPORT ? "this side has closed the connection"
                                                     : "the other side has closed the connection");
        gp_error_release(&err);
        close_pair(&it);
    }
}

/* ---- Event loops ----------------------------------------------------------------------------- */

typedef struct loop_wait {
    gp_mutex lock;
    gp_cond changed;
    int runs GP_GUARDED_BY(&lock);
} loop_wait;

static void
count_run(void *ctx)
{
    loop_wait *it = ctx;

    gp_mutex_lock(&it->lock);
    it->runs++;
    gp_cond_broadcast(&it->changed);
    gp_mutex_unlock(&it->lock);
}

static void
await_runs(loop_wait *it, int count)
{
    int64_t deadline = patience();

    gp_mutex_lock(&it->lock);
    while (it->runs < count) {
        assert_int_equal(gp_cond_wait_until(&it->changed, &it->lock, deadline), 0);
    }
    assert_int_equal(it->runs, count);
    gp_mutex_unlock(&it->lock);
}

static void
event_loops_are_told_when_to_try_again(void **state)
{
    unsigned char *bytes = gp__calloc(1, LARGE);
    loop_wait reading = {0};
    bool writing = false;
    size_t written;
    pair it;

    gp_mutex_init(&reading.lock);
    gp_cond_init(&reading.changed);
    open_pair(&it, carrier_of(state));
    for (int i = 1; i < 4; i++) {
        assert_int_equal(gp_netrpc_file_when_ready(it.files[0], writing, count_run, &reading), 1);
        write_text(it.files[1], "x");
        await_runs(&reading, i);
        assert_int_equal(gp_netrpc_file_when_ready(it.files[0], writing, count_run, &reading), 0);
        expect_read(it.files[0], "x");
    }

    writing = true;
    assert_int_equal(gp_netrpc_file_when_ready(it.files[0], writing, count_run, &reading), 0);
    assert_int_equal(gp_netrpc_file_write(it.files[0], bytes, LARGE, &written, 0, NULL, NULL),
                     GP_ETIMEOUT);
    assert_int_equal(gp_netrpc_file_when_ready(it.files[0], writing, count_run, &reading), 1);
    while (written > 0) {
        ptrdiff_t got =
            gp_netrpc_file_read(it.files[1], bytes, LARGE, gp_deadline_in(5), NULL, NULL);

        if (got == GP_ETIMEOUT) {
            break; /* the rest is held up until the event loop is told */
        }
        assert_true(got > 0);
        written -= (size_t)got;
    }
    await_runs(&reading, 4);

    writing = false;
    assert_int_equal(gp_netrpc_file_when_ready(it.files[0], writing, count_run, &reading), 1);
    gp_netrpc_file_close(it.files[0]);
    await_runs(&reading, 5);
    gp_mutex_lock(&it.ends[0].transport->lock);
    assert_int_equal(it.ends[0].transport->role.urgent, 0);
    gp_mutex_unlock(&it.ends[0].transport->lock);
    close_pair(&it);
    gp_cond_release(&reading.changed);
    gp_mutex_release(&reading.lock);
    gp__free(bytes);
}

#define WITH(test, how)                               \
    {                                                 \
        #test ": " #how, test, NULL, NULL, &(carrier) \
        {                                             \
            how                                       \
        }                                             \
    }
#define BOTH(test) WITH(test, PLAIN), WITH(test, SECURE)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(what_is_written_is_read),
        BOTH(much_is_written_and_read_at_once),
        WITH(much_is_written_and_read_at_once, RAW),
        BOTH(a_reader_that_does_not_come_blocks_the_writer),
        BOTH(reads_time_out),
        BOTH(a_reader_that_closes_ends_the_writer),
        BOTH(closing_ends_reads_and_writes),
        BOTH(event_loops_are_told_when_to_try_again),
    };

    return cmocka_run_group_tests(tests, transport_make_tls, transport_free_tls);
}
