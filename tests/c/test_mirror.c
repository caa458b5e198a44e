#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "os/fd.h"
#include "plugin/delivery.h"
#include "plugin/lines.h"
#include "plugin/mirror.h"
#include "support.h"

/* A mirror, the writing end of its pipe, and the sink that records. */
typedef struct mirrored {
    gp__mirror *mirror;
    gp__tail tail;
    int in;
    recorder rec;
} mirrored;

static void
open_with(mirrored *it, int level, bool want_raw, size_t buffer_size)
{
    gp_log_sink sink;
    int ends[2];

    recorder_init(&it->rec, level);
    sink = recorder_sink(&it->rec, want_raw);
    assert_int_equal(gp__fd_pipe(ends, NULL), 0);
    gp__fd_set_nonblocking(ends[0]);
    it->in = ends[1];
    gp__tail_init(&it->tail);
    assert_int_equal(gp__mirror_open(&it->mirror, ends[0], &it->tail, &sink, buffer_size, NULL), 0);
    assert_false(gp__tail_is_whole(&it->tail));
}

static void
close_mirrored(mirrored *it)
{
    gp__fd_close(&it->in);
    gp__mirror_close(it->mirror);
    recorder_await_released(&it->rec);
    assert_int_equal(it->rec.released, 1);
    assert_true(gp__tail_is_whole(&it->tail));
    gp__tail_release(&it->tail);
    recorder_release(&it->rec);
}

static void
write_text(mirrored *it, const char *text)
{
    size_t len = strlen(text);

    assert_int_equal(write(it->in, text, len), (ssize_t)len);
}

static void
assert_recorded(mirrored *it, size_t at, int level, const char *message)
{
    gp_mutex_lock(&it->rec.lock);
    assert_true(at < it->rec.count);
    assert_int_equal(it->rec.records[at].level, level);
    assert_string_equal(it->rec.records[at].message, message);
    gp_mutex_unlock(&it->rec.lock);
}

static void
finish_and_flush(mirrored *it)
{
    gp__mirror_finish(it->mirror);
    assert_int_equal(gp__mirror_flush(it->mirror, patience(), NULL), 0);
}

/* ---- Lines ---- */

static void
lines_become_records(void **state)
{
    mirrored it;

    (void)state;
    open_with(&it, GP_TRACE, false, 0);
    write_text(&it, "one\n[WARN] two\r\n\n{\"@level\":\"info\",\"@message\":\"three\",\"k\":1}\n");
    recorder_await_count(&it.rec, 4);
    assert_recorded(&it, 0, GP_DEBUG, "one");
    assert_recorded(&it, 1, GP_WARN, "[WARN] two");
    assert_recorded(&it, 2, GP_DEBUG, "");
    assert_recorded(&it, 3, GP_INFO, "three");
    assert_int_equal(it.rec.records[3].fields, 1);
    write_text(&it, "par");
    write_text(&it, "tial\n");
    recorder_await_count(&it.rec, 5);
    assert_recorded(&it, 4, GP_DEBUG, "partial");
    close_mirrored(&it);
}

static void
the_last_line_needs_no_end(void **state)
{
    mirrored it;

    (void)state;
    open_with(&it, GP_TRACE, false, 0);
    write_text(&it, "one\nlast line");
    gp__fd_close(&it.in);
    recorder_await_count(&it.rec, 2);
    assert_recorded(&it, 1, GP_DEBUG, "last line");
    finish_and_flush(&it);
    assert_int_equal(it.rec.count, 2);
    close_mirrored(&it);
}

static void
nothing_is_lost_when_the_process_is_dead(void **state)
{
    mirrored it;
    char text[GP__TAIL + 1];
    size_t len;

    (void)state;
    open_with(&it, GP_TRACE, false, 0);
    for (int i = 0; i < 1000; i++) {
        dprintf(it.in, "line %d\n", i);
    }
    write_text(&it, "end");
    /* The pipe stays open, as a grandchild may keep it. */
    finish_and_flush(&it);
    assert_int_equal(it.rec.count, 1001);
    assert_recorded(&it, 999, GP_DEBUG, "line 999");
    assert_recorded(&it, 1000, GP_DEBUG, "end");
    len = strlen(gp__tail_text(&it.tail, text));
    assert_int_equal(len, GP__TAIL);
    assert_string_equal(text + len - 12, "line 999\nend");
    gp__mirror_finish(it.mirror);
    close_mirrored(&it);
}

static void
long_lines_come_in_pieces(void **state)
{
    mirrored it;

    (void)state;
    open_with(&it, GP_TRACE, false, 10);
    write_text(&it, "0123456789\n0123456789a\n[ERROR] 789abcdefghij0123456789\nshort\n");
    recorder_await_count(&it.rec, 8);
    assert_recorded(&it, 0, GP_DEBUG, "0123456789");
    assert_recorded(&it, 1, GP_DEBUG, "0123456789");
    assert_recorded(&it, 2, GP_DEBUG, "a");
    assert_recorded(&it, 3, GP_DEBUG, "[ERROR] 78");
    assert_recorded(&it, 4, GP_DEBUG, "9abcdefghi");
    assert_recorded(&it, 5, GP_DEBUG, "j012345678");
    assert_recorded(&it, 6, GP_DEBUG, "9");
    assert_recorded(&it, 7, GP_DEBUG, "short");
    close_mirrored(&it);
}

static void
raw_bytes_are_copied(void **state)
{
    static const char whole[] = "one\r\n{\"@level\":\"error\"}\n\x01partial";
    mirrored it;

    (void)state;
    open_with(&it, GP_ERROR + 1, true, 0);
    write_text(&it, "one\r\n{\"@level\":\"error\"}\n\x01par");
    write_text(&it, "tial");
    finish_and_flush(&it);
    assert_int_equal(it.rec.count, 0);
    assert_int_equal(it.rec.raw_len, sizeof(whole) - 1);
    assert_memory_equal(it.rec.raw, whole, sizeof(whole) - 1);
    close_mirrored(&it);
}

static void
the_sink_sets_the_level(void **state)
{
    mirrored it;
    char text[GP__TAIL + 1];

    (void)state;
    open_with(&it, GP_WARN, false, 0);
    it.rec.level = GP_TRACE; /* from the first delivery on */
    write_text(&it, "debug\n[WARN] warn\n");
    recorder_await_count(&it.rec, 1);
    assert_recorded(&it, 0, GP_WARN, "[WARN] warn");
    assert_true(it.rec.skipped);
    assert_int_equal(gp__mirror_flush(it.mirror, patience(), NULL), 0);
    write_text(&it, "debug again\n");
    recorder_await_count(&it.rec, 2);
    finish_and_flush(&it);
    assert_string_equal(gp__tail_text(&it.tail, text), "debug\n[WARN] warn\ndebug again");
    close_mirrored(&it);
}

/* A sink that wants nothing is called all the same, or it could never lower its level again. */
static void
a_sink_that_wants_nothing_can_change_its_level(void **state)
{
    mirrored it;

    (void)state;
    open_with(&it, GP_ERROR + 1, false, 0);
    it.rec.level = GP_DEBUG;
    write_text(&it, "this is discarded\n");
    recorder_await_entered(&it.rec);
    assert_int_equal(gp__mirror_flush(it.mirror, patience(), NULL), 0);
    write_text(&it, "heard\n");
    recorder_await_count(&it.rec, 1);
    assert_recorded(&it, 0, GP_DEBUG, "heard");
    close_mirrored(&it);
}

/* ---- Pressure ---- */

static void *
write_much(void *arg)
{
    static char line[1000];
    mirrored *it = arg;

    memset(line, 'x', sizeof(line));
    line[sizeof(line) - 1] = '\n';
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(write(it->in, line, sizeof(line)), sizeof(line));
    }
    return NULL;
}

static void
a_slow_sink_slows_its_plugin_down(void **state)
{
    mirrored it;
    mirrored other;
    pthread_t writer;
    struct pollfd full;
    int64_t deadline = patience();

    (void)state;
    open_with(&it, GP_TRACE, false, 0);
    open_with(&other, GP_TRACE, false, 0);
    recorder_block(&it.rec, true);
    assert_int_equal(pthread_create(&writer, NULL, write_much, &it), 0);
    recorder_await_entered(&it.rec);
    /* 5 MB do not fit: the pipe becomes full and stays full. */
    full = (struct pollfd){.fd = it.in, .events = POLLOUT};
    while (poll(&full, 1, 20) > 0) {
        assert_true(gp__now() < deadline);
    }
    assert_int_equal(gp__mirror_flush(it.mirror, gp_deadline_in(10), NULL), GP_ETIMEOUT);
    assert_int_equal(gp__mirror_flush(it.mirror, patience(), &interrupt_now), GP_EUSER);
    /* Another plugin's pipe is read all the same, although nothing of it can be delivered. */
    write_text(&other, "other\n");
    full.fd = other.in;
    assert_int_equal(gp__fd_poll(&full, 1, patience()), 1);
    recorder_block(&it.rec, false);
    pthread_join(writer, NULL);
    recorder_await_count(&it.rec, 5000);
    recorder_await_count(&other.rec, 1);
    finish_and_flush(&it);
    close_mirrored(&it);
    close_mirrored(&other);
}

static void
a_mirror_can_be_closed_while_its_sink_blocks(void **state)
{
    mirrored it;

    (void)state;
    open_with(&it, GP_TRACE, false, 0);
    recorder_block(&it.rec, true);
    write_text(&it, "one\n");
    recorder_await_entered(&it.rec);
    write_text(&it, "two\n");
    gp__mirror_finish(it.mirror);
    gp__mirror_close(it.mirror);
    it.mirror = NULL;
    recorder_block(&it.rec, false);
    recorder_await_released(&it.rec);
    assert_int_equal(it.rec.count, 2); /* delivered before the release */
    close_mirrored(&it);
}

static void
many_plugins_share_the_threads(void **state)
{
    enum { PLUGINS = 20 };
    mirrored them[PLUGINS];

    (void)state;
    for (int i = 0; i < PLUGINS; i++) {
        open_with(&them[i], GP_TRACE, i % 2 == 0, 0);
    }
    for (int turn = 0; turn < 100; turn++) {
        for (int i = 0; i < PLUGINS; i++) {
            write_text(&them[i], "line\n");
        }
    }
    for (int i = 0; i < PLUGINS; i++) {
        finish_and_flush(&them[i]);
        assert_int_equal(them[i].rec.count, 100);
        close_mirrored(&them[i]);
    }
}

/* ---- From within the sink, and at the end ---- */

typedef struct closer {
    recorder rec;
    gp__mirror *mirror;
    gp__tail tail;
    bool closed;
} closer;

/* A log sink that finishes and closes its own mirror. */
static int
finish_from_deliver(void *ctx, const gp_log_batch *batch)
{
    closer *it = ctx;

    (void)batch;
    gp_mutex_lock(&it->rec.lock);
    if (!it->closed && it->mirror != NULL) {
        gp__mirror_finish(it->mirror);
        assert_int_equal(gp__mirror_flush(it->mirror, patience(), NULL), 0);
        gp__mirror_close(it->mirror);
        it->closed = true;
    }
    gp_mutex_unlock(&it->rec.lock);
    return GP_TRACE;
}

static void
released(void *ctx)
{
    closer *it = ctx;

    gp_mutex_lock(&it->rec.lock);
    it->rec.released++;
    gp_cond_broadcast(&it->rec.changed);
    gp_mutex_unlock(&it->rec.lock);
}

static void
a_sink_can_finish_its_mirror(void **state)
{
    closer it = {.closed = false};
    const gp_log_sink sink = {finish_from_deliver, released, &it, false, GP_TRACE};
    int ends[2];

    (void)state;
    recorder_init(&it.rec, GP_TRACE);
    gp__tail_init(&it.tail);
    assert_int_equal(gp__fd_pipe(ends, NULL), 0);
    gp__fd_set_nonblocking(ends[0]);
    gp_mutex_lock(&it.rec.lock);
    assert_int_equal(gp__mirror_open(&it.mirror, ends[0], &it.tail, &sink, 0, NULL), 0);
    gp_mutex_unlock(&it.rec.lock);
    assert_int_equal(write(ends[1], "x\n", 2), 2);
    recorder_await_released(&it.rec);
    gp__fd_close(&ends[1]);
    gp__tail_release(&it.tail);
    recorder_release(&it.rec);
}

static void
shutdown_delivers_what_is_queued(void **state)
{
    mirrored it;

    (void)state;
    open_with(&it, GP_TRACE, false, 0);
    for (int i = 0; i < 50; i++) {
        write_text(&it, "line\n");
    }
    gp__mirror_finish(it.mirror);
    gp_log_shutdown();
    assert_int_equal(it.rec.count, 50);
    gp_log_shutdown();
    close_mirrored(&it);
    /* The threads can be started again. */
    open_with(&it, GP_TRACE, false, 0);
    write_text(&it, "line\n");
    recorder_await_count(&it.rec, 1);
    gp_log_shutdown();
    write_text(&it, "late\n");
    gp__mirror_finish(it.mirror);
    assert_int_equal(gp__mirror_flush(it.mirror, patience(), NULL), 0);
    assert_int_equal(it.rec.count, 1); /* discarded */
    close_mirrored(&it);
}

/* ---- Chunks ---- */

static char *
flatten(const gp__batch *batch)
{
    gp__buf text = GP__BUF_INIT;

    for (size_t i = 0; i < batch->count; i++) {
        gp__buf_printf(&text, "%d ", batch->records[i].level);
        gp__buf_append(&text, batch->records[i].message, batch->records[i].message_len);
        gp__buf_append(&text, "\n", 1);
    }
    gp__buf_append(&text, "", 1);
    return text.data;
}

static char *
feed(const char *text, size_t len, size_t chunk, size_t limit)
{
    gp__batch *batch = gp__batch_new();
    gp__lines lines;
    char *flat;

    gp__lines_init(&lines, limit);
    for (size_t at = 0; at < len; at += chunk) {
        gp__lines_feed(&lines, batch, text + at, len - at < chunk ? len - at : chunk, GP_TRACE);
    }
    gp__lines_finish(&lines, batch, GP_TRACE);
    flat = flatten(batch);
    gp__lines_release(&lines);
    gp__batch_free(batch);
    return flat;
}

static void
chunks_make_no_difference(void **state)
{
    static const char text[] =
        "one\n\n[INFO] two\r\nTraceback (most recent call last):\n  f\nE: x\n"
        "{\"@level\":\"warn\",\"@message\":\"m\"}\nplain\r\r\nlast";

    (void)state;
    for (size_t limit = 1; limit < 60; limit += 7) {
        char *whole = feed(text, sizeof(text) - 1, sizeof(text), limit);

        for (size_t chunk = 1; chunk < sizeof(text); chunk++) {
            char *parts = feed(text, sizeof(text) - 1, chunk, limit);

            assert_string_equal(parts, whole);
            gp__free(parts);
        }
        gp__free(whole);
    }
}

/* ---- Allocation ---- */

static void
every_allocation_may_fail(void **state)
{
    long failing = 0;
    bool failed;

    (void)state;
    gp_log_shutdown();
    do {
        gp__mirror *mirror = NULL;
        gp_log_sink sink;
        gp__tail tail;
        recorder rec;
        int ends[2];
        int rc;

        recorder_init(&rec, GP_TRACE);
        gp__tail_init(&tail);
        sink = recorder_sink(&rec, true);
        assert_int_equal(gp__fd_pipe(ends, NULL), 0);
        gp__fd_set_nonblocking(ends[0]);
        assert_int_equal(write(ends[1], "one\n{\"@level\":\"info\"}\nthree", 27), 27);
        alloc_begin(failing++);
        rc = gp__mirror_open(&mirror, ends[0], &tail, &sink, 8, NULL);
        assert_true(rc == 0 || rc == GP_ENOMEM);
        if (rc == 0) {
            gp__mirror_finish(mirror);
            gp__mirror_add(mirror, "the host's"); /* the reader has finished */
            assert_int_equal(gp__mirror_flush(mirror, patience(), NULL), 0);
            gp__mirror_close(mirror);
            recorder_await_released(&rec);
        } else {
            gp__fd_close(&ends[0]);
            assert_int_equal(rec.released, 0);
        }
        gp_log_shutdown();
        failed = alloc_failures() > 0;
        alloc_end();
        gp__fd_close(&ends[1]);
        if (!failed) {
            assert_int_equal(rec.raw_len, 27);
        }
        gp__tail_release(&tail);
        recorder_release(&rec);
    } while (failed);
}

static void
lost_lines_are_counted(void **state)
{
    gp__batch *batch = gp__batch_new();
    gp__lines lines;

    (void)state;
    gp__lines_init(&lines, 0);
    lines.lost = 3;
    gp__lines_feed(&lines, batch, "next\n", 5, GP_TRACE);
    assert_int_equal(batch->count, 2);
    assert_int_equal(batch->records[0].level, GP_WARN);
    assert_memory_equal(batch->records[0].message, "3 lines", 7);
    assert_int_equal(lines.lost, 0);
    gp__lines_release(&lines);
    gp__batch_free(batch);
}

/* The host's line comes between the plugin's lines, as a warning, if the level lets it through. */
static void
the_host_can_add_a_line(void **state)
{
    gp__batch *batch = gp__batch_new();
    mirrored it;
    gp__lines lines;

    (void)state;
    gp__lines_init(&lines, 0);
    gp__lines_feed(&lines, batch, "par", 3, GP_TRACE);
    gp__lines_add(&lines, batch, "the host's", GP_TRACE);
    gp__lines_feed(&lines, batch, "tial\n", 5, GP_TRACE);
    assert_int_equal(batch->count, 2);
    assert_int_equal(batch->records[0].level, GP_WARN);
    assert_memory_equal(batch->records[0].message, "the host's", 10);
    assert_memory_equal(batch->records[1].message, "partial", 7);
    gp__lines_add(&lines, batch, "the host's", GP_ERROR);
    assert_int_equal(batch->count, 2);
    gp__lines_release(&lines);
    gp__batch_free(batch);

    open_with(&it, GP_TRACE, false, 0);
    gp__mirror_add(it.mirror, "the host's");
    recorder_await_count(&it.rec, 1);
    assert_recorded(&it, 0, GP_WARN, "the host's");
    close_mirrored(&it);
}

static int
finish(void **state)
{
    (void)state;
    gp_log_shutdown();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_become_records),
        cmocka_unit_test(the_last_line_needs_no_end),
        cmocka_unit_test(nothing_is_lost_when_the_process_is_dead),
        cmocka_unit_test(long_lines_come_in_pieces),
        cmocka_unit_test(raw_bytes_are_copied),
        cmocka_unit_test(the_sink_sets_the_level),
        cmocka_unit_test(a_sink_that_wants_nothing_can_change_its_level),
        cmocka_unit_test(a_slow_sink_slows_its_plugin_down),
        cmocka_unit_test(a_mirror_can_be_closed_while_its_sink_blocks),
        cmocka_unit_test(many_plugins_share_the_threads),
        cmocka_unit_test(a_sink_can_finish_its_mirror),
        cmocka_unit_test(shutdown_delivers_what_is_queued),
        cmocka_unit_test(chunks_make_no_difference),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(the_host_can_add_a_line),
        cmocka_unit_test(lost_lines_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, finish);
}
