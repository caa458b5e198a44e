#include <string.h>

#include "base/alloc.h"
#include "plugin/preamble.h"
#include "support.h"
#include "wire/handshake.h"

#define LINE "1|1|unix|/tmp/plugin|grpc\n"

typedef struct stage {
    gp__preamble preamble;
    gp__buf output;
    gp_error err;
} stage;

static void
set_up(stage *it, size_t most)
{
    *it = (stage){.preamble = {.most = most}, .err = GP_ERROR_INIT};
}

static void
tear_down(stage *it)
{
    gp__preamble_release(&it->preamble);
    gp__buf_release(&it->output);
    gp_error_release(&it->err);
}

static int
print(stage *it, const char *text)
{
    assert_int_equal(gp__buf_append(&it->output, text, strlen(text)), 0);
    return gp__preamble_skip(&it->preamble, &it->output, &it->err);
}

static void
expect_output(const stage *it, const char *text)
{
    assert_int_equal(it->output.len, strlen(text));
    assert_memory_equal(it->output.data, text, it->output.len);
}

static void
expect_description(const stage *it, const char *text)
{
    char *description = gp__preamble_describe(&it->preamble);

    assert_string_equal(description, text);
    gp__free(description);
}

static void
lines_are_skipped_until_there_is_a_handshake(void **state)
{
    stage it;

    (void)state;
    set_up(&it, 3);
    assert_null(gp__preamble_describe(&it.preamble));
    assert_int_equal(print(&it, "loa"), 0);
    expect_output(&it, "loa");
    assert_int_equal(print(&it, "ding\r\n\n1|1|un"), 0);
    expect_output(&it, "1|1|un");
    assert_int_equal(print(&it, "ix|/tmp/plugin|grpc"), 0);
    assert_int_equal(print(&it, "\nmore\n"), 1);
    expect_output(&it, LINE "more\n");
    expect_description(&it, "2 lines on its stdout: \"loading\", \"\"");
    tear_down(&it);
}

static void
text_before_a_handshake_in_its_line_is_skipped(void **state)
{
    stage it;

    (void)state;
    set_up(&it, 2);
    assert_int_equal(print(&it, "version 1|2\nloading 11|..." LINE), 1);
    expect_output(&it, LINE);
    expect_description(&it, "2 lines on its stdout: \"version 1|2\", \"loading 11|...\"");
    tear_down(&it);
}

static void
too_many_lines_are_an_error(void **state)
{
    stage it;

    (void)state;
    set_up(&it, 2);
    assert_int_equal(print(&it, "one\ntwo\n" LINE), 1);
    tear_down(&it);
    set_up(&it, 2);
    assert_int_equal(print(&it, "one\ntwo\nthree\n" LINE), GP_EHANDSHAKE);
    assert_non_null(strstr(gp_error_message(&it.err),
                           "after 2 lines on its stdout: \"one\", \"two\"; then there was "
                           "\"three\", and no more than 2 may be skipped"));
    assert_string_equal(it.err.detail, "three");
    tear_down(&it);
}

static void
the_first_ten_are_quoted(void **state)
{
    stage it;

    (void)state;
    set_up(&it, 100);
    for (int i = 0; i < 12; i++) {
        assert_int_equal(print(&it, "x\n"), 0);
    }
    expect_description(&it, "12 lines on its stdout: \"x\", \"x\", \"x\", \"x\", \"x\", \"x\", "
                            "\"x\", \"x\", \"x\", \"x\" and 2 more");
    tear_down(&it);
}

/* A line may have any length, and takes no more memory for that. */
static void
long_lines_are_skipped(void **state)
{
    char piece[4097];
    stage it;

    (void)state;
    memset(piece, 'x', sizeof(piece) - 1);
    piece[sizeof(piece) - 1] = '\0';
    set_up(&it, 1);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(print(&it, piece), 0);
        assert_true(it.output.cap <= 4 * GP__HANDSHAKE_MAX);
    }
    assert_int_equal(it.preamble.lines, 1);
    assert_int_equal(print(&it, "the end\n" LINE), 1);
    expect_output(&it, LINE);
    assert_true(it.preamble.quoted.len < GP__QUOTED);
    tear_down(&it);
}

static void
nothing_is_skipped_without_the_option(void **state)
{
    stage it;

    (void)state;
    set_up(&it, 0);
    assert_int_equal(print(&it, "hello"), 0);
    assert_int_equal(print(&it, "\n" LINE), 1);
    expect_output(&it, "hello\n" LINE);
    tear_down(&it);
}

static void
what_is_meant_to_be_a_handshake(void **state)
{
    static const char *const likely[] = {
        LINE, "2|1|tcp|x", "1|-1|unix|\r\n", "1|1|unix|/x|netrpc|rubbish", " 1 | 1 | tcp | :1 ",
    };
    static const char *const unlikely[] = {
        "", "\n", "hello", "1|1|unix", "a|1|unix|/x", "1||unix|/x", "1|1|pipe|/x", "x1|1|unix|/x",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(likely) / sizeof(likely[0]); i++) {
        assert_true(gp__handshake_is_likely(likely[i], strlen(likely[i])));
    }
    for (size_t i = 0; i < sizeof(unlikely) / sizeof(unlikely[0]); i++) {
        assert_false(gp__handshake_is_likely(unlikely[i], strlen(unlikely[i])));
    }
}

static void
when_memory_is_short(void **state)
{
    long failing = 0;
    long used;

    (void)state;
    do {
        stage it;
        int rc;

        set_up(&it, 2);
        alloc_begin(failing++);
        rc = gp__buf_append(&it.output, "a\nb\nc\n", 6);
        if (rc == 0) {
            rc = gp__preamble_skip(&it.preamble, &it.output, &it.err);
            assert_true(rc == GP_EHANDSHAKE || (rc == GP_ENOMEM && alloc_failures() > 0));
        }
        gp__free(gp__preamble_describe(&it.preamble));
        tear_down(&it);
        used = alloc_end();
    } while (failing <= used);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_skipped_until_there_is_a_handshake),
        cmocka_unit_test(text_before_a_handshake_in_its_line_is_skipped),
        cmocka_unit_test(too_many_lines_are_an_error),
        cmocka_unit_test(the_first_ten_are_quoted),
        cmocka_unit_test(long_lines_are_skipped),
        cmocka_unit_test(nothing_is_skipped_without_the_option),
        cmocka_unit_test(what_is_meant_to_be_a_handshake),
        cmocka_unit_test(when_memory_is_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
